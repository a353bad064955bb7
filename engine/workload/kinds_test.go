package workload_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
)

// pod is a pod template with one container that requests as much CPU, in flow style.
func pod(cpu int) string {
	return fmt.Sprintf(`{spec: {containers: [{name: c, resources: {requests: {cpu: %d, memory: 1Gi}}}]}}`, cpu)
}

// TestKinds has an object of each kind in the shape in which its own documentation shows it.
func TestKinds(t *testing.T) {
	seen := map[schema.GroupKind]bool{}
	for _, test := range []struct {
		name, apiVersion, kind string
		// spec and status of the object.
		spec, status string
		replicas     int64
		// cpu is what all pods request, largest what one does; memory is a GiB for each.
		cpu, largest int64
		end          workload.End
	}{
		{name: "a pod is one of its own", apiVersion: "v1", kind: "Pod", spec: `{containers: [{name: c, resources: {requests: {cpu: 2, memory: 1Gi}}}]}`, replicas: 1, cpu: 2, largest: 2},
		{name: "a pod that waits for its gates", apiVersion: "v1", kind: "Pod", spec: `{schedulingGates: [{name: kueue.x-k8s.io/admission}], containers: [{name: c}]}`, replicas: 1, end: workload.Suspended},
		{name: "a pod that is done", apiVersion: "v1", kind: "Pod", spec: `{containers: [{name: c}]}`, status: `{phase: Succeeded}`, replicas: 1, end: workload.HasFinished},
		{name: "a replication controller", apiVersion: "v1", kind: "ReplicationController", spec: `{replicas: 2, template: ` + pod(1) + `}`, replicas: 2, cpu: 2, largest: 1},
		{name: "replicas of a deployment", apiVersion: "apps/v1", kind: "Deployment", spec: `{replicas: 3, template: ` + pod(1) + `}`, replicas: 3, cpu: 3, largest: 1},
		{name: "replicas that are null", apiVersion: "apps/v1", kind: "Deployment", spec: `{replicas: null, template: ` + pod(1) + `}`, replicas: 1, cpu: 1, largest: 1},
		{name: "a condition of a Job on something else", apiVersion: "apps/v1", kind: "Deployment", spec: `{template: ` + pod(1) + `}`, status: `{conditions: [{type: Complete, status: "True"}]}`, replicas: 1, cpu: 1, largest: 1},
		{name: "a replica set", apiVersion: "apps/v1", kind: "ReplicaSet", spec: `{replicas: 3, template: ` + pod(1) + `}`, replicas: 3, cpu: 3, largest: 1},
		{name: "a stateful set", apiVersion: "apps/v1", kind: "StatefulSet", spec: `{replicas: 3, template: ` + pod(1) + `}`, replicas: 3, cpu: 3, largest: 1},
		{name: "a daemon set has a pod on each node", apiVersion: "apps/v1", kind: "DaemonSet", spec: `{template: ` + pod(1) + `}`, replicas: 1, cpu: 1, largest: 1},

		{name: "a job runs one pod", apiVersion: "batch/v1", kind: "Job", spec: `{template: ` + pod(4) + `}`, replicas: 1, cpu: 4, largest: 4},
		{name: "a job with a queue of its own", apiVersion: "batch/v1", kind: "Job", spec: `{parallelism: 3, template: ` + pod(4) + `}`, replicas: 3, cpu: 12, largest: 4},
		{name: "more parallel than there are completions", apiVersion: "batch/v1", kind: "Job", spec: `{parallelism: 50, completions: 2, template: ` + pod(4) + `}`, replicas: 2, cpu: 8, largest: 4},
		{name: "more completions than are parallel", apiVersion: "batch/v1", kind: "Job", spec: `{parallelism: 2, completions: 50, template: ` + pod(4) + `}`, replicas: 2, cpu: 8, largest: 4},
		{name: "completions, one after another", apiVersion: "batch/v1", kind: "Job", spec: `{completions: 5, template: ` + pod(4) + `}`, replicas: 1, cpu: 4, largest: 4},
		{name: "what has succeeded is not run again", apiVersion: "batch/v1", kind: "Job", spec: `{parallelism: 4, completions: 6, template: ` + pod(4) + `}`, status: `{active: 2, succeeded: 4}`, replicas: 2, cpu: 8, largest: 4},
		{name: "an index that has failed for good is not run again", apiVersion: "batch/v1", kind: "Job", spec: `{completionMode: Indexed, backoffLimitPerIndex: 1, parallelism: 8, completions: 10, template: ` + pod(4) + `}`, status: `{active: 1, succeeded: 3, completedIndexes: "0-1,9", failedIndexes: "2,4-7"}`, replicas: 2, cpu: 8, largest: 4},
		{name: "a job that meets its success policy, whose other pods terminate", apiVersion: "batch/v1", kind: "Job", spec: `{completionMode: Indexed, successPolicy: {rules: [{succeededCount: 1}]}, parallelism: 8, completions: 8, template: ` + pod(4) + `}`, status: `{succeeded: 1, terminating: 7, conditions: [{type: SuccessCriteriaMet, status: "True"}]}`, replicas: 7, cpu: 28, largest: 4, end: workload.HasFinished},
		{name: "a job that is to fail, whose pods terminate", apiVersion: "batch/v1", kind: "Job", spec: `{backoffLimit: 0, parallelism: 2, template: ` + pod(4) + `}`, status: `{failed: 1, terminating: 1, conditions: [{type: FailureTarget, status: "True"}]}`, replicas: 2, cpu: 8, largest: 4, end: workload.HasFinished},
		{name: "all have succeeded", apiVersion: "batch/v1", kind: "Job", spec: `{parallelism: 4, completions: 6, template: ` + pod(4) + `}`, status: `{succeeded: 7}`},
		{name: "a queue that is empty starts no more pods", apiVersion: "batch/v1", kind: "Job", spec: `{parallelism: 4, template: ` + pod(4) + `}`, status: `{active: 3, succeeded: 1}`, replicas: 3, cpu: 12, largest: 4},
		{name: "a job that is paused by its parallelism", apiVersion: "batch/v1", kind: "Job", spec: `{parallelism: 0, completions: 3, template: ` + pod(4) + `}`},
		{name: "a job that Kueue has not admitted", apiVersion: "batch/v1", kind: "Job", spec: `{suspend: true, parallelism: 10, template: ` + pod(4) + `}`, replicas: 10, cpu: 40, largest: 4, end: workload.Suspended},
		{name: "a job that is done", apiVersion: "batch/v1", kind: "Job", spec: `{template: ` + pod(4) + `}`, status: `{conditions: [{type: Complete, status: "True"}]}`, replicas: 1, cpu: 4, largest: 4, end: workload.HasFinished},
		{name: "a job that has failed while it was suspended", apiVersion: "batch/v1", kind: "Job", spec: `{suspend: true, template: ` + pod(4) + `}`, status: `{conditions: [{type: Failed, status: "True"}]}`, replicas: 1, cpu: 4, largest: 4, end: workload.HasFinished},
		{name: "the conditions of a job that do not hold yet", apiVersion: "batch/v1", kind: "Job", spec: `{template: ` + pod(4) + `}`, status: `{conditions: [{type: SuccessCriteriaMet, status: "False"}, {type: Suspended, status: "True"}]}`, replicas: 1, cpu: 4, largest: 4},
		{name: "a condition that does not hold", apiVersion: "batch/v1", kind: "Job", spec: `{template: ` + pod(4) + `}`, status: `{conditions: [{type: Failed, status: "False"}]}`, replicas: 1, cpu: 4, largest: 4},

		{name: "a cron job is worth one job", apiVersion: "batch/v1", kind: "CronJob", spec: `{schedule: "0 1 * * *", jobTemplate: {spec: {parallelism: 3, template: ` + pod(4) + `}}}`, replicas: 3, cpu: 12, largest: 4},
		{name: "runs that overlap", apiVersion: "batch/v1", kind: "CronJob", spec: `{schedule: "* * * * *", jobTemplate: {spec: {parallelism: 3, completions: 2, template: ` + pod(4) + `}}}`, status: `{active: [{name: a}, {name: b}]}`, replicas: 4, cpu: 16, largest: 4},
		{name: "runs that may not overlap", apiVersion: "batch/v1", kind: "CronJob", spec: `{schedule: "* * * * *", concurrencyPolicy: Forbid, jobTemplate: {spec: {template: ` + pod(4) + `}}}`, status: `{active: [{name: a}, {name: b}]}`, replicas: 1, cpu: 4, largest: 4},
		{name: "a cron job that is suspended", apiVersion: "batch/v1", kind: "CronJob", spec: `{suspend: true, schedule: "* * * * *", jobTemplate: {spec: {template: ` + pod(4) + `}}}`, replicas: 1, cpu: 4, largest: 4, end: workload.Suspended},

		{
			name: "a driver and workers", apiVersion: "jobset.x-k8s.io/v1alpha2", kind: "JobSet",
			spec:     `{replicatedJobs: [{name: driver, template: {spec: {template: ` + pod(1) + `}}}, {name: workers, replicas: 2, template: {spec: {parallelism: 4, completions: 4, template: ` + pod(4) + `}}}]}`,
			replicas: 9, cpu: 33, largest: 4,
		},
		{
			name: "jobs of a set that have succeeded", apiVersion: "jobset.x-k8s.io/v1alpha2", kind: "JobSet",
			spec:     `{replicatedJobs: [{name: a, replicas: 3, template: {spec: {template: ` + pod(1) + `}}}, {name: b, template: {spec: {template: ` + pod(4) + `}}}]}`,
			status:   `{replicatedJobsStatus: [{name: a, succeeded: 2}, {name: b, succeeded: 0}]}`,
			replicas: 2, cpu: 5, largest: 4,
		},
		{name: "a set of jobs that is done", apiVersion: "jobset.x-k8s.io/v1alpha2", kind: "JobSet", spec: `{replicatedJobs: []}`, status: `{conditions: [{type: Completed, status: "True"}]}`, end: workload.HasFinished},
		{name: "workers that lead themselves", apiVersion: "leaderworkerset.x-k8s.io/v1", kind: "LeaderWorkerSet", spec: `{replicas: 2, leaderWorkerTemplate: {size: 4, workerTemplate: ` + pod(4) + `}}`, replicas: 8, cpu: 32, largest: 4},
		{name: "leaders and workers", apiVersion: "leaderworkerset.x-k8s.io/v1", kind: "LeaderWorkerSet", spec: `{replicas: 2, leaderWorkerTemplate: {size: 4, leaderTemplate: ` + pod(8) + `, workerTemplate: ` + pod(1) + `}}`, replicas: 8, cpu: 22, largest: 8},
		{name: "leaders alone", apiVersion: "leaderworkerset.x-k8s.io/v1", kind: "LeaderWorkerSet", spec: `{leaderWorkerTemplate: {workerTemplate: ` + pod(1) + `}}`, replicas: 1, cpu: 1, largest: 1},

		{
			name: "a head and workers", apiVersion: "ray.io/v1", kind: "RayCluster",
			spec:     `{headGroupSpec: {rayStartParams: {}, template: ` + pod(2) + `}, workerGroupSpecs: [{groupName: g, replicas: 3, rayStartParams: {}, template: ` + pod(4) + `}]}`,
			replicas: 4, cpu: 14, largest: 4,
		},
		{
			name: "groups of every size", apiVersion: "ray.io/v1alpha1", kind: "RayCluster",
			spec: `{headGroupSpec: {template: ` + pod(1) + `}, workerGroupSpecs: [{replicas: 1, minReplicas: 2, template: ` + pod(1) + `}, {replicas: 9, maxReplicas: 3, template: ` + pod(1) + `},
				{replicas: 2, numOfHosts: 4, template: ` + pod(1) + `}, {replicas: 5, suspend: true, template: ` + pod(1) + `}, {template: ` + pod(1) + `}]}`,
			replicas: 14, cpu: 14, largest: 1,
		},
		{
			name: "a job on a cluster of its own", apiVersion: "ray.io/v1", kind: "RayJob",
			spec:     `{entrypoint: python a.py, rayClusterSpec: {headGroupSpec: {template: ` + pod(2) + `}, workerGroupSpecs: [{replicas: 2, template: ` + pod(4) + `}]}, submitterPodTemplate: ` + pod(1) + `}`,
			status:   `{jobDeploymentStatus: Complete}`, // the cluster stays
			replicas: 4, cpu: 11, largest: 4,
		},
		{name: "a job on a cluster that is there", apiVersion: "ray.io/v1", kind: "RayJob", spec: `{entrypoint: python a.py, clusterSelector: {ray.io/cluster: a}}`},
		{
			name: "a job whose cluster is shut down", apiVersion: "ray.io/v1", kind: "RayJob", spec: `{shutdownAfterJobFinishes: true, rayClusterSpec: {headGroupSpec: {template: ` + pod(2) + `}}}`,
			status: `{jobDeploymentStatus: Failed}`, replicas: 1, cpu: 2, largest: 2, end: workload.HasFinished,
		},
		{
			name: "a service", apiVersion: "ray.io/v1", kind: "RayService", spec: `{rayClusterConfig: {headGroupSpec: {template: ` + pod(2) + `}, workerGroupSpecs: [{replicas: 1, template: ` + pod(4) + `}]}}`,
			replicas: 2, cpu: 6, largest: 4,
		},

		{name: "a launcher and workers", apiVersion: "kubeflow.org/v2beta1", kind: "MPIJob", spec: `{mpiReplicaSpecs: {Launcher: {template: ` + pod(1) + `}, Worker: {replicas: 4, template: ` + pod(2) + `}}}`, replicas: 5, cpu: 9, largest: 2},
		{name: "workers that are not asked for", apiVersion: "kubeflow.org/v2beta1", kind: "MPIJob", spec: `{runPolicy: {suspend: true}, mpiReplicaSpecs: {Launcher: {template: ` + pod(1) + `}, Worker: {template: ` + pod(2) + `}}}`, replicas: 1, cpu: 1, largest: 1, end: workload.Suspended},
		{name: "a master and workers", apiVersion: "kubeflow.org/v1", kind: "PyTorchJob", spec: `{pytorchReplicaSpecs: {Master: {template: ` + pod(1) + `}, Worker: {replicas: 4, template: ` + pod(2) + `}}}`, replicas: 5, cpu: 9, largest: 2},
		{name: "a training job that is done", apiVersion: "kubeflow.org/v1", kind: "PyTorchJob", spec: `{pytorchReplicaSpecs: {Master: {template: ` + pod(1) + `}}}`, status: `{conditions: [{type: Running, status: "False"}, {type: Succeeded, status: "True"}]}`, replicas: 1, cpu: 1, largest: 1, end: workload.HasFinished},
		{name: "parameter servers and workers", apiVersion: "kubeflow.org/v1", kind: "TFJob", spec: `{tfReplicaSpecs: {PS: {replicas: 2, template: ` + pod(1) + `}, Worker: {replicas: 4, template: ` + pod(2) + `}}}`, replicas: 6, cpu: 10, largest: 2},
		{name: "xgboost", apiVersion: "kubeflow.org/v1", kind: "XGBoostJob", spec: `{xgbReplicaSpecs: {Master: {replicas: 1, template: ` + pod(1) + `}}}`, replicas: 1, cpu: 1, largest: 1},
		{name: "paddle", apiVersion: "kubeflow.org/v1", kind: "PaddleJob", spec: `{paddleReplicaSpecs: {Worker: {replicas: 2, template: ` + pod(1) + `}}}`, replicas: 2, cpu: 2, largest: 1},
		{name: "jax", apiVersion: "kubeflow.org/v1", kind: "JAXJob", spec: `{jaxReplicaSpecs: {Worker: {replicas: 2, template: ` + pod(1) + `}}}`, replicas: 2, cpu: 2, largest: 1},

		{
			name: "a job of another group", apiVersion: "batch.volcano.sh/v1alpha1", kind: "Job",
			spec:     `{minAvailable: 3, schedulerName: volcano, tasks: [{name: ps, replicas: 1, template: ` + pod(1) + `}, {name: worker, replicas: 3, template: ` + pod(4) + `}]}`,
			status:   `{state: {phase: Running}, taskStatusCount: {worker: {phase: {Running: 2, Succeeded: 1}}}}`,
			replicas: 3, cpu: 9, largest: 4,
		},
		{name: "a job of another group that is done", apiVersion: "batch.volcano.sh/v1alpha1", kind: "Job", spec: `{tasks: []}`, status: `{state: {phase: Completed}}`, end: workload.HasFinished},
		{name: "a job of another group that was stopped", apiVersion: "batch.volcano.sh/v1alpha1", kind: "Job", spec: `{tasks: []}`, status: `{state: {phase: Aborted}}`, end: workload.Suspended},
		{name: "a rollout", apiVersion: "argoproj.io/v1alpha1", kind: "Rollout", spec: `{replicas: 5, strategy: {canary: {}}, template: ` + pod(1) + `}`, replicas: 5, cpu: 5, largest: 1},
	} {
		t.Run(test.kind+" "+test.name, func(t *testing.T) {
			if test.status == "" {
				test.status = "{}"
			}
			object := parse(t, fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: a}, spec: %s, status: %s}", test.apiVersion, test.kind, test.spec, test.status))
			seen[object.GroupVersionKind().GroupKind()] = true
			got, err := workload.FromObject(object)
			if err != nil {
				t.Fatal(err)
			}
			if got.Replicas != test.replicas || got.Requests.CPU != 1000*test.cpu || got.Replica().CPU != 1000*test.largest || got.End != test.end {
				t.Errorf("%d replicas, requests %+v, the largest %+v, end %q", got.Replicas, got.Requests, got.Replica(), got.End)
			}
			if want := test.replicas << 30; test.cpu > 0 && got.Requests.Memory != want {
				t.Errorf("%d bytes of memory, want %d", got.Requests.Memory, want)
			}
		})
	}
	for _, d := range workload.Kinds().All() {
		if !seen[d.GroupKind()] {
			t.Errorf("%s has no test", d.GroupKind())
		}
	}
}

// TestWhole: a workload of which pods have ended is told as it was before as well, since so begins every copy of it. What its
// status can add, runs of a CronJob that overlap, is no less by that.
func TestWhole(t *testing.T) {
	for _, test := range []struct {
		apiVersion, kind, spec, status string
		now, whole                     int64
	}{
		{"batch/v1", "Job", `{parallelism: 4, completions: 6, template: ` + pod(4) + `}`, `{active: 2, succeeded: 4}`, 2, 4},
		{"batch/v1", "Job", `{parallelism: 4, completions: 6, template: ` + pod(4) + `}`, `{succeeded: 6}`, 0, 4},
		{"batch/v1", "Job", `{parallelism: 4, template: ` + pod(4) + `}`, `{active: 1, succeeded: 3}`, 1, 4},
		{"batch/v1", "Job", `{parallelism: 4, completions: 6, template: ` + pod(4) + `}`, `{active: 4}`, 4, 4},
		{"batch/v1", "CronJob", `{jobTemplate: {spec: {parallelism: 2, template: ` + pod(4) + `}}}`, `{active: [{name: a}, {name: b}]}`, 4, 4},
		{"batch.volcano.sh/v1alpha1", "Job", `{tasks: [{name: a, replicas: 3, template: ` + pod(4) + `}]}`, `{taskStatusCount: {a: {phase: {Succeeded: 2}}}}`, 1, 3},
		{"apps/v1", "Deployment", `{replicas: 3, template: ` + pod(4) + `}`, `{replicas: 1}`, 3, 3},
	} {
		w, err := workload.FromObject(parse(t, fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: a}, spec: %s, status: %s}", test.apiVersion, test.kind, test.spec, test.status)))
		if err != nil {
			t.Fatal(err)
		}
		if whole := w.Whole(); w.Replicas != test.now || whole.Replicas != test.whole || whole.Requests.CPU != 4000*test.whole {
			t.Errorf("%s %s with status %s: %d pods now, %d in all, which ask for %+v", test.kind, test.spec, test.status, w.Replicas, whole.Replicas, whole.Requests)
		}
	}
}

func TestVolumeClaims(t *testing.T) {
	got, err := workload.FromObject(parse(t, `{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 3,
		template: {spec: {containers: [{name: c, resources: {requests: {ephemeral-storage: 1Gi}}}],
			volumes: [{name: a, ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Ti}}}}}}, {name: b, emptyDir: {}}]}},
		volumeClaimTemplates: [{spec: {resources: {requests: {storage: 1Ti}}}}, {spec: {resources: {requests: {storage: 2Ti}}}}, {spec: {}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := capacity.Resources{Storage: 12 << 40, Extended: map[string]int64{"ephemeral-storage": 3 << 30}}
	if !got.Requests.Equal(want) {
		t.Errorf("requests %+v, want %+v", got.Requests, want)
	}
	if want.Storage, want.Extended["ephemeral-storage"] = 0, 1<<30; !got.Replica().Equal(want) {
		t.Errorf("one node needs %+v, want %+v: volumes are not on nodes", got.Replica(), want)
	}
}

// TestRequestOfZero: policies ask whether a resource is in workload.requests.
func TestRequestOfZero(t *testing.T) {
	got, err := workload.FromObject(parse(t, `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [{name: c, resources: {requests: {cpu: 1, nvidia.com/gpu: 0}}}]}}}}`))
	if err != nil || len(got.Requests.Extended) > 0 {
		t.Errorf("requests %+v, %v", got.Requests, err)
	}
}

func TestUnreadableKinds(t *testing.T) {
	for object, want := range map[string]string{
		`{apiVersion: ray.io/v1, kind: RayCluster, spec: {headGroupSpec: {template: {spec: {}}}, workerGroupSpecs: [{template: {spec: {}}}, {replicas: -2, template: {spec: {}}}]}}`: "",
		`{apiVersion: ray.io/v1, kind: RayCluster, spec: {headGroupSpec: {template: {spec: {}}}, workerGroupSpecs: [{replicas: x, template: {spec: {}}}]}}`:                          "spec.workerGroupSpecs[0].suspend, spec.workerGroupSpecs[0].replicas",
		`{apiVersion: ray.io/v1, kind: RayCluster, spec: {headGroupSpec: {template: {spec: {}}}, workerGroupSpecs: [{replicas: 1}]}}`:                                                "spec.workerGroupSpecs[0].template: there is no pod template in this RayCluster",
		`{apiVersion: ray.io/v1, kind: RayCluster, spec: {workerGroupSpecs: []}}`:                                                                                                    "spec.headGroupSpec.template: there is no pod template in this RayCluster",
		`{apiVersion: ray.io/v1, kind: RayCluster, spec: {headGroupSpec: 3}}`:                                                                                                        "spec.headGroupSpec: must be an object",
		`{apiVersion: ray.io/v1, kind: RayCluster, spec: {headGroupSpec: {template: {spec: {}}}, workerGroupSpecs: 3}}`:                                                              "spec.workerGroupSpecs: must be a list or an object",
		`{apiVersion: kubeflow.org/v1, kind: PyTorchJob, spec: {pytorchReplicaSpecs: {Worker: {replicas: 2147483648, template: {spec: {}}}}}}`:                                       "spec.pytorchReplicaSpecs[Worker].replicas: 2147483648 is not a count",
		`{apiVersion: kubeflow.org/v1, kind: PyTorchJob, spec: {pytorchReplicaSpecs: {Worker: {template: {spec: {containers: [{name: c, resources: {requests: {cpu: -1}}}]}}}}}}`:    "spec.pytorchReplicaSpecs[Worker].template.spec.containers[c].resources.requests.cpu: -1 is negative",
		`{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, resources: {requests: {cpu: -1}}}]}}`:                                                                             "spec.containers[c].resources.requests.cpu: -1 is negative",
		`{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, resources: {requests: {cpu: lots}}}]}}`:                                                                           "spec.containers[0].resources.requests.cpu: quantities must match",
		`{apiVersion: apps/v1, kind: StatefulSet, spec: {template: {spec: {}}, volumeClaimTemplates: [{spec: {resources: {requests: {storage: -1}}}}]}}`:                             "spec.volumeClaimTemplates[0].spec.resources.requests.storage: -1 is negative",
		`{apiVersion: apps/v1, kind: StatefulSet, spec: {template: {spec: {}}, volumeClaimTemplates: [{spec: {resources: {requests: {storage: "1e-99999999"}}}}]}}`:                  "spec.volumeClaimTemplates[0].spec.resources.requests.storage: 1e-99999999 is out of proportion",
		`{apiVersion: batch/v1, kind: Job, spec: {suspend: maybe, template: {spec: {}}}}`:                                                                                            `spec.suspend: "maybe" is neither true nor false`,
		`{apiVersion: batch/v1, kind: Job, spec: 3}`:                                                                                            "spec: must be an object",
		`{apiVersion: batch/v1, kind: Job, spec: {template: {spec: {}}}, status: {conditions: Complete}}`:                                       "status.conditions: ",
		`{apiVersion: batch/v1, kind: Job, spec: {completions: 9, template: {spec: {}}}, status: {failedIndexes: "1,x"}}`:                       `spec.completions, spec.parallelism, status.succeeded, status.failedIndexes, status.active: "x" is neither an index nor a range of indexes`,
		`{apiVersion: batch/v1, kind: Job, spec: {completions: 9, template: {spec: {}}}, status: {failedIndexes: "3-1"}}`:                       `spec.completions, spec.parallelism, status.succeeded, status.failedIndexes, status.active: "3-1" is neither`,
		`{apiVersion: batch/v1, kind: Job, spec: {completions: 9, template: {spec: {}}}, status: {failedIndexes: "0-99999999999999999999999"}}`: `spec.completions, spec.parallelism, status.succeeded, status.failedIndexes, status.active: "0-99999999999999999999999" is neither`,
		`{apiVersion: batch/v1, kind: Job, spec: {completions: 9, template: {spec: {}}}, status: {failedIndexes: [1]}}`:                         "spec.completions, spec.parallelism, status.succeeded, status.failedIndexes, status.active: no such overload",
		`{apiVersion: apps/v1, kind: Deployement, spec: {}}`:                                                                                    "kind: Deployement of apps/v1 is not a kind of workload, did you mean Deployment of apps/v1?",
		`{apiVersion: extensions/v1beta1, kind: Deployment, spec: {}}`:                                                                          "kind: Deployment of extensions/v1beta1 is not a kind of workload, did you mean Deployment of apps/v1?",
		`{apiVersion: apps/v1, kind: Job, spec: {}}`:                                                                                            "kind: Job of apps/v1 is not a kind of workload, did you mean Job of batch/v1?",
		`{apiVersion: kubevirt.io/v1, kind: VirtualMachine, spec: {}}`:                                                                          "kind: VirtualMachine of kubevirt.io/v1 is not a kind of workload: kubectl placement kinds lists them, and --kinds-file adds more",
		`{apiVersion: example.com/v1, kind: deployment, spec: {}}`:                                                                              "kind: deployment of example.com/v1 is not a kind of workload, did you mean Deployment of apps/v1?",
	} {
		_, err := workload.FromObject(parse(t, object))
		if want == "" && err != nil || want != "" && !strings.HasPrefix(fmt.Sprint(err), want) {
			t.Errorf("%s:\n%v, want %s", object, err, want)
		}
	}
}

// TestIndexedJob: an Indexed Job runs as many pods as the Job controller makes, which takes the first indexes that have neither
// succeeded nor failed for good, up to parallelism.
func TestIndexedJob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		completions, parallelism := rapid.IntRange(0, 40).Draw(t, "completions"), rapid.IntRange(0, 12).Draw(t, "parallelism")
		succeeded, running := 0, 0
		var failed []string
		first := -1 // of a range of indexes that have failed
		for index := range completions + 1 {
			state := "end"
			if index < completions {
				state = rapid.SampledFrom([]string{"succeeded", "failed", "failed", "pending"}).Draw(t, "state")
			}
			switch {
			case state == "succeeded":
				succeeded++
			case state == "pending" && running < parallelism:
				running++
			}
			switch {
			case state == "failed" && first < 0:
				first = index
			case state == "failed" || first < 0:
			case first == index-1:
				failed, first = append(failed, fmt.Sprint(first)), -1
			default:
				failed, first = append(failed, fmt.Sprintf("%d-%d", first, index-1)), -1
			}
		}
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "batch/v1", "kind": "Job",
			"spec": map[string]any{
				"completions": int64(completions), "parallelism": int64(parallelism), "completionMode": "Indexed",
				"template": map[string]any{"spec": map[string]any{}},
			},
			"status": map[string]any{"succeeded": int64(succeeded), "failedIndexes": strings.Join(failed, ",")},
		}}
		if got, err := workload.FromObject(object); err != nil || got.Replicas != int64(running) {
			t.Fatalf("%d pods of %v, %v", got.Replicas, object.Object, err)
		}
	})
}

// TestHugeObject: the expressions of a table are fixed, and objects are not. However large one is, counting it is bounded.
func TestHugeObject(t *testing.T) {
	failed := make([]string, 50_000)
	for i := range failed {
		failed[i] = fmt.Sprint(2 * i)
	}
	indexed := parse(t, `{apiVersion: batch/v1, kind: Job, spec: {completions: 100000, parallelism: 60000, template: {spec: {}}}}`)
	indexed.Object["status"] = map[string]any{"failedIndexes": strings.Join(failed, ",")} // as many as a Job may have
	if got, err := workload.FromObject(indexed); err != nil || got.Replicas != 50_000 {
		t.Error(got.Replicas, err)
	}
	object := parse(t, `{apiVersion: batch/v1, kind: Job, spec: {template: {spec: {}}}}`)
	conditions := make([]any, 1_000_000)
	for i := range conditions {
		conditions[i] = map[string]any{"type": "Complete", "status": "False"}
	}
	object.Object["status"] = map[string]any{"conditions": conditions}
	if _, err := workload.FromObject(object); err == nil || err.Error() != "status.conditions: there is so much of it that counting costs more than 100000, the limit" {
		t.Error(err)
	}
}

func TestEnd(t *testing.T) {
	const controlled = `metadata: {name: a, ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: u, controller: true}]`
	for object, want := range map[string]struct {
		end        workload.End
		controller string
	}{
		`{apiVersion: batch/v1, kind: Job, ` + controlled + `}, spec: {template: {spec: {}}}}`:                                                         {workload.Controlled, "CronJob nightly"},
		`{apiVersion: batch/v1, kind: Job, ` + controlled + `}, spec: {template: {spec: {}}}, status: {conditions: [{type: Failed, status: "True"}]}}`: {workload.HasFinished, "CronJob nightly"},
		`{apiVersion: batch/v1, kind: Job, ` + controlled + `, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {template: {spec: {}}}}`:              {workload.BeingDeleted, "CronJob nightly"},
		`{apiVersion: batch/v1, kind: Job, metadata: {ownerReferences: [{apiVersion: v1, kind: A, name: b, uid: u}]}, spec: {template: {spec: {}}}}`:   {},
	} {
		got, err := workload.FromObject(parse(t, object))
		if err != nil || got.End != want.end || got.Controller != want.controller {
			t.Errorf("%s: %q, controlled by %q, %v", object, got.End, got.Controller, err)
		}
	}
}

// TestTables: whoever writes a table is told what is wrong, where.
func TestTables(t *testing.T) {
	const good = `{group: example.com, kind: Thing, resource: things, versions: [v1], podSets: [{template: spec.template}]}`
	for text, want := range map[string]string{
		`kinds: [` + good + `]`: "",
		`kinds: {`:              "t.yaml: yaml: line 1: did not find expected node content",
		`kinds: 3`:              "t.yaml: json: cannot unmarshal number into Go struct field .kinds of type []json.RawMessage",
		`{}`:                    "t.yaml: kinds: there are none",
		`kinds: [3]`:            "t.yaml: kinds[0]: json: cannot unmarshal number into Go value of type workload.Definition",
		`kinds: [{group: example.com, kind: Thing, resource: things, versions: [v1], podSet: []}]`: `t.yaml: kinds[0]: json: unknown field "podSet"`,
		`kinds: [` + good + `, ` + good + `]`:                                                      "t.yaml: kinds[1] (Thing.example.com): is there twice",
		`kinds: [{}]`:                                                                              "t.yaml: kinds[0]: kind: \"\", must be for example Deployment\nt.yaml: kinds[0]: resource: \"\", must be for example deployments\nt.yaml: kinds[0]: versions: there are none, must be for example [v1]\nt.yaml: kinds[0]: podSets: there are none",
		`kinds: [{group: A/v1, kind: thing, resource: Things, versions: [a/v1], podSets: [{}]}]`:                                                                                                "t.yaml: kinds[0] (thing.A/v1): kind: \"thing\", must be for example Deployment\nt.yaml: kinds[0] (thing.A/v1): group: \"A/v1\", must be for example apps\nt.yaml: kinds[0] (thing.A/v1): resource: \"Things\", must be for example deployments\nt.yaml: kinds[0] (thing.A/v1): versions[0]: \"a/v1\", must be for example v1\nt.yaml: kinds[0] (thing.A/v1): podSets[0].template: \"\", must be for example spec.template",
		`kinds: [{group: e.com, kind: T, resource: t, versions: [v1], podSets: [{template: "spec.a[0]"}]}]`:                                                                                     "t.yaml: kinds[0] (T.e.com): podSets[0].template: \"spec.a[0]\", must be for example spec.template",
		`kinds: [{group: e.com, kind: T, resource: t, versions: [v1], podSets: [{template: spec.template, count: "object.spec.replicas +"}]}]`:                                                  "t.yaml: kinds[0] (T.e.com): podSets[0].count: 1:23: Syntax error: mismatched input",
		`kinds: [{group: e.com, kind: T, resource: t, versions: [v1], podSets: [{template: spec.template, count: "workload.replicas"}]}]`:                                                       "t.yaml: kinds[0] (T.e.com): podSets[0].count: 1:1: undeclared reference to 'workload'",
		`kinds: [{group: e.com, kind: T, resource: t, versions: [v1], podSets: [{template: spec.template, count: "true"}]}]`:                                                                    "t.yaml: kinds[0] (T.e.com): podSets[0].count: gives bool, must give int",
		`kinds: [{group: e.com, kind: T, resource: t, versions: [v1], podSets: [{template: spec.template}], finished: "3"}]`:                                                                    "t.yaml: kinds[0] (T.e.com): finished: gives int, must give bool",
		`kinds: [{group: e.com, kind: T, resource: t, versions: [v1], podSets: [{template: spec.template}], suspended: "object.a.all(x, object.b.all(y, object.c.all(z, x == y && y == z)))"}]`: "t.yaml: kinds[0] (T.e.com): suspended: may cost",
	} {
		_, err := workload.ParseKinds("t.yaml", []byte(text))
		if want == "" && err != nil || want != "" && !strings.HasPrefix(fmt.Sprint(err), want) {
			t.Errorf("%s:\n%v\nwant\n%s", text, err, want)
		}
	}
}

// TestMoreKinds: a file adds kinds, and replaces those that it knows better.
func TestMoreKinds(t *testing.T) {
	more, err := workload.ParseKinds("t.yaml", []byte(`
kinds:
  - {group: example.com, kind: Thing, resource: things, versions: [v1], podSets: [{template: spec.pod, count: object.spec.size}]}
  - {group: apps, kind: Deployment, resource: deployments, versions: [v1], podSets: [{template: spec.template, count: "7"}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	table := workload.Kinds().With(more)
	if len(table.All()) != len(workload.Kinds().All())+1 {
		t.Errorf("%d kinds", len(table.All()))
	}
	for object, replicas := range map[string]int64{
		`{apiVersion: example.com/v1, kind: Thing, spec: {size: 4, pod: {spec: {}}}}`:         4,
		`{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 3, template: {spec: {}}}}`:  7,
		`{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 3, template: {spec: {}}}}`: 3,
	} {
		if got, err := table.FromObject(parse(t, object)); err != nil || got.Replicas != replicas {
			t.Errorf("%s: %d replicas, %v", object, got.Replicas, err)
		}
	}
	if d := table.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"}); d == nil || d.Kind != "Thing" {
		t.Errorf("the resource is %v", d)
	}
	if d := table.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v2", Resource: "things"}); d != nil {
		t.Errorf("the other version is %v", d)
	}
}

// TestDocs: the page names every kind, and its example is a table.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/workloads.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range workload.Kinds().All() {
		if !strings.Contains(string(page), d.Kind) {
			t.Errorf("the page says nothing of %s", d.Kind)
		}
	}
	_, example, _ := strings.Cut(string(page), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	table, err := workload.ParseKinds("docs/workloads.md", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	got, err := table.FromObject(parse(t, `{apiVersion: example.com/v1, kind: Farm, spec: {paused: true, gateway: {spec: {}}, pools: [{size: 3, template: {spec: {}}}, {template: {spec: {}}}]}}`))
	if err != nil || got.Replicas != 5 || got.End != workload.Suspended {
		t.Errorf("%+v, %v", got, err)
	}
}
