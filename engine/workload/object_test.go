package workload_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
)

func TestFromObject(t *testing.T) {
	for _, test := range []struct {
		name, object string
		replicas     int64
		requests     capacity.Resources
		err          string
	}{
		{
			name:     "replicas times the pod's requests",
			object:   `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 3, template: {spec: {containers: [{name: a, resources: {requests: {cpu: 250m, memory: 1Gi}}}, {name: b, resources: {requests: {cpu: 1, nvidia.com/gpu: 1}}}]}}}}`,
			replicas: 3, requests: capacity.Resources{CPU: 3750, Memory: 3 << 30, Extended: map[string]int64{"nvidia.com/gpu": 3}},
		},
		{
			name:     "the largest init container counts, and overhead",
			object:   `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {overhead: {cpu: 100m}, initContainers: [{name: i, resources: {requests: {cpu: 2}}}], containers: [{name: a, resources: {requests: {cpu: 1}}}]}}}}`,
			replicas: 1, requests: capacity.Resources{CPU: 2100},
		},
		{
			name:     "a sidecar counts beside the containers",
			object:   `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {initContainers: [{name: i, restartPolicy: Always, resources: {requests: {cpu: 2}}}], containers: [{name: a, resources: {requests: {cpu: 1}}}]}}}}`,
			replicas: 1, requests: capacity.Resources{CPU: 3000},
		},
		{
			name:     "parallelism of a Job",
			object:   `{apiVersion: batch/v1, kind: Job, spec: {parallelism: 4, template: {spec: {containers: [{name: a, resources: {requests: {memory: 1Ki}}}]}}}}`,
			replicas: 4, requests: capacity.Resources{Memory: 4096},
		},
		{
			name:     "no requests",
			object:   `{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 2, template: {spec: {containers: [{name: a}]}}}}`,
			replicas: 2,
		},
		{name: "scaled to nothing", object: `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 0, template: {spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}}}}`},
		{name: "no pod template", object: `{apiVersion: apps/v1, kind: Deployment, spec: {}}`, err: "spec.template: there is no pod template in this Deployment"},
		{name: "negative replicas", object: `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: -1, template: {spec: {}}}}`, err: "spec.replicas: -1 is not a count"},
		{name: "replicas of the wrong type", object: `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: "3", template: {spec: {}}}}`, err: `spec.replicas: "3" is not a count`},
		{
			name:   "a negative request that hides in the sum",
			object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [{name: a, resources: {requests: {cpu: -1}}}, {name: b, resources: {requests: {cpu: 2}}}]}}}}`,
			err:    "spec.template.spec.containers[a].resources.requests.cpu: -1 is negative",
		},
		{
			name:   "absurd requests",
			object: `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1000000000, template: {spec: {containers: [{name: a, resources: {requests: {memory: 100Gi}}}]}}}}`,
			err:    "spec.template: requests of 1000000000 pods: memory: 1000000000 times 100Gi is too large",
		},
		{
			name:   "a quantity that would take minutes to parse",
			object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [{name: a, resources: {limits: {memory: "1e-99999999"}}}]}}}}`,
			err:    "spec.template.spec.containers[0].resources.limits.memory: 1e-99999999 is out of proportion",
		},
		{
			name:   "a quantity that would take minutes to compare",
			object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {overhead: {memory: "1E+0099999999"}, containers: [{name: a}]}}}}`,
			err:    "spec.template.spec.overhead.memory: 1E+0099999999 is out of proportion",
		},
		{
			name:     "quantities that nobody asks for",
			object:   `{apiVersion: apps/v1, kind: Deployment, spec: {template: {status: {containerStatuses: [{allocatedResources: {cpu: "1e-99999999"}}]}, spec: {volumes: [{emptyDir: {sizeLimit: "1e-99999999"}}], containers: [{name: a, env: [{valueFrom: {resourceFieldRef: {divisor: "1e-99999999"}}}], resources: {requests: {cpu: 1}}}]}}}}`,
			replicas: 1, requests: capacity.Resources{CPU: 1000},
		},
		{
			name:     "requests of the pod as a whole",
			object:   `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {resources: {requests: {cpu: 3}}, containers: [{name: a, resources: {requests: {cpu: 1}}}]}}}}`,
			replicas: 1, requests: capacity.Resources{CPU: 3000},
		},
		{name: "a template of the wrong type", object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: []}}`, err: "spec.template: must be an object, is a list"},
		{name: "containers of the wrong type", object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [a]}}}}`, err: "spec.template.spec.containers[0]: must be an object, is a string"},
		{name: "more replicas than there can be", object: `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 99999999999, template: {spec: {}}}}`, err: "spec.replicas: 99999999999 is not a count"},
		{
			name:   "a quantity that is none",
			object: `{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [{name: a, resources: {requests: {cpu: lots}}}]}}}}`,
			err:    "spec.template.spec.containers[0].resources.requests.cpu: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := workload.FromObject(parse(t, test.object))
			if test.err != "" || err != nil {
				if fmt.Sprint(err) != test.err {
					t.Fatalf("error %q, want %q", fmt.Sprint(err), test.err)
				}
				return
			}
			if got.Replicas != test.replicas || !got.Requests.Equal(test.requests) {
				t.Errorf("got %d replicas, %+v", got.Replicas, got.Requests)
			}
		})
	}
}

func TestFromObjectHidesBookkeeping(t *testing.T) {
	object := parse(t, `{apiVersion: apps/v1, kind: Deployment,
		metadata: {name: web, namespace: shop, uid: u1, labels: {tier: front}, annotations: {
			deployment.kubernetes.io/revision: "7", kubectl.kubernetes.io/last-applied-configuration: "{}", mine: kept}},
		spec: {template: {spec: {}}}}`)
	got, err := workload.FromObject(object)
	if err != nil {
		t.Fatal(err)
	}
	want := &workload.Workload{
		Reference:   workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u1"},
		Labels:      map[string]string{"tier": "front"},
		Annotations: map[string]string{"mine": "kept"},
		Replicas:    1,
		Divisible:   true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(object.GetAnnotations()) != 3 {
		t.Error("the object itself must stay as it was")
	}
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	json, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	// As from the API: whole numbers become int64.
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(json); err != nil {
		t.Fatal(err)
	}
	return object
}
