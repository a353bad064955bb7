package delivery_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubectl/pkg/polymorphichelpers"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// world is a workload in its workspace, and what is to run and runs of it in clusters.
type world struct {
	kind       schema.GroupVersionKind
	generation int64
	spec       map[string]any
	status     []byte
	divided    bool
	state      delivery.State
	targets    []delivery.Target
	copies     map[string]*delivery.Copy
	clusters   map[string]*delivery.Cluster
	problems   []delivery.Problem
	now        time.Time
}

func newWorld(kind string, replicas any) *world {
	w := &world{
		kind: appsv1.SchemeGroupVersion.WithKind(kind), generation: 1, status: []byte("{}"), state: delivery.Decided, now: start,
		spec: map[string]any{}, copies: map[string]*delivery.Copy{}, clusters: map[string]*delivery.Cluster{},
	}
	if kind == "Job" {
		w.kind = batchv1.SchemeGroupVersion.WithKind(kind)
	}
	if replicas != nil {
		w.spec["replicas"] = replicas
	}
	if kind == "StatefulSet" || kind == "DaemonSet" {
		w.spec["updateStrategy"] = map[string]any{"type": "RollingUpdate"}
	}
	if kind == "DaemonSet" {
		delete(w.spec, "replicas")
	}
	return w
}

// on has the workload decided for a cluster.
func (w *world) on(cluster string, replicas int32) {
	w.clusters[cluster] = &delivery.Cluster{Name: cluster, Delivers: true}
	w.targets = append(w.targets, delivery.Target{Cluster: cluster, Replicas: replicas})
}

// runs has a cluster say how a revision made of a generation fares there.
func (w *world) runs(cluster string, generation int64, health v1alpha1.Health, counts v1alpha1.WorkloadCounts) *v1alpha1.ManifestStatus {
	revision := fmt.Sprint("r", generation)
	status := &v1alpha1.ManifestStatus{Revision: revision, Health: health, Counts: &counts}
	w.copies[cluster] = &delivery.Copy{Manifest: &v1alpha1.Manifest{Revision: revision, Generation: generation}, Status: status}
	return status
}

func (w *world) rollout() *delivery.Rollout {
	object := map[string]any{"apiVersion": w.kind.GroupVersion().String(), "kind": w.kind.Kind, "spec": w.spec}
	manifest, _ := json.Marshal(object)
	placement := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	if w.divided {
		placement.Spec.ReplicaScheduling = &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided}
	}
	return &delivery.Rollout{
		Assignment: &delivery.Assignment{
			Source: &delivery.Source{
				Reference:  workload.Reference{APIVersion: w.kind.GroupVersion().String(), Kind: w.kind.Kind, Namespace: "default", Name: "web", UID: "u"},
				Generation: w.generation, Manifest: manifest, Status: w.status,
			},
			State: w.state, Placement: placement, Targets: w.targets,
		},
		Copies: w.copies, Clusters: w.clusters, Problems: w.problems,
	}
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// write brings the status up to date, and fails where doing so once more would write again.
func (w *world) write(t failer) {
	t.Helper()
	u := w.rollout().Status(w.now)
	if u.Status == nil {
		return
	}
	patch, err := json.Marshal(u.Status)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if w.status, err = jsonpatch.MergePatch(w.status, patch); err != nil {
		t.Fatalf("%v", err)
	}
	if again := w.rollout().Status(w.now); again.Status != nil {
		t.Fatalf("an unchanged world is written again: %v after %s", again.Status, w.status)
	}
}

func (w *world) object(t failer) *unstructured.Unstructured {
	t.Helper()
	status := map[string]any{}
	if err := json.Unmarshal(w.status, &status); err != nil {
		t.Fatalf("%v", err)
	}
	content, _ := json.Marshal(map[string]any{
		"apiVersion": w.kind.GroupVersion().String(), "kind": w.kind.Kind,
		"metadata": map[string]any{"name": "web", "generation": w.generation}, "spec": w.spec, "status": status,
	})
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(content); err != nil {
		t.Fatalf("%v", err)
	}
	return u
}

// rolloutStatus is what kubectl rollout status says, and whether it says that all is done.
func (w *world) rolloutStatus(t failer) (string, bool) {
	t.Helper()
	viewer, err := polymorphichelpers.StatusViewerFor(w.kind.GroupKind())
	if err != nil {
		t.Fatalf("%v", err)
	}
	text, done, err := viewer.Status(w.object(t), 0)
	if err != nil {
		return err.Error(), false
	}
	return text, done
}

// waits is whether kubectl wait --for=condition goes on waiting: it counts a condition only where the generation is observed.
func (w *world) waits(t failer, condition string) bool {
	t.Helper()
	o := w.object(t)
	if observed, found, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); found && observed < w.generation {
		return true
	}
	return w.condition(t, condition)["status"] != "True"
}

func (w *world) condition(t failer, kind string) map[string]any {
	t.Helper()
	all, _, _ := unstructured.NestedSlice(w.object(t).Object, "status", "conditions")
	for _, c := range all {
		if c := c.(map[string]any); c["type"] == kind {
			return c
		}
	}
	return nil
}

// isDone is the truth, said in another way than by the code: every decided cluster has this generation and runs exactly what
// is decided, that is what the spec asks for, and nothing runs elsewhere.
func (w *world) isDone() bool {
	sum := int32(0)
	for _, t := range w.targets {
		c := w.copies[t.Cluster]
		if c == nil || c.Manifest == nil || c.Status == nil || c.Status.Counts == nil || c.Manifest.Generation != w.generation ||
			c.Status.Revision != c.Manifest.Revision || c.Status.Health != v1alpha1.HealthCurrent {
			return false
		}
		n := c.Status.Counts
		switch w.kind.Kind {
		case "Deployment":
			if max(n.Replicas, 0) != t.Replicas || max(n.Updated, 0) < t.Replicas || max(n.Ready, 0) < t.Replicas || max(n.Available, 0) < t.Replicas {
				return false
			}
		case "StatefulSet":
			if max(n.Replicas, 0) != t.Replicas || max(n.Updated, 0) < t.Replicas || max(n.Ready, 0) < t.Replicas {
				return false
			}
		case "DaemonSet":
			if least := max(n.Desired, 0); max(n.Replicas, 0) < least || max(n.Updated, 0) < least || max(n.Ready, 0) < least || max(n.Available, 0) < least {
				return false
			}
		}
		if !w.divided && w.kind.Kind != "DaemonSet" && int64(t.Replicas) != w.spec["replicas"].(int64) {
			return false
		}
		sum += t.Replicas
	}
	if w.divided && w.kind.Kind != "DaemonSet" && int64(sum) != w.spec["replicas"].(int64) {
		return false
	}
	return len(w.targets) > 0
}

// runsElsewhere says whether clusters that are not decided run any of it.
func (w *world) runsElsewhere() bool {
	for cluster, c := range w.copies {
		decided := false
		for _, t := range w.targets {
			decided = decided || t.Cluster == cluster
		}
		if !decided && c.Status != nil && c.Status.Counts != nil && *c.Status.Counts != (v1alpha1.WorkloadCounts{}) {
			return true
		}
	}
	return false
}

// TestKubectlSaysTheTruth holds what people read against what is so: whatever clusters say and in whatever order, kubectl rollout
// status says that a rollout is done only where it is done on every cluster, and says it then.
func TestKubectlSaysTheTruth(t *testing.T) {
	said := 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.SampledFrom([]string{"Deployment", "StatefulSet", "DaemonSet"}).Draw(t, "kind"), int64(3))
		w.divided = rapid.Bool().Draw(t, "divided")
		clusters := []string{"dublin", "paris", "oslo"}
		count := rapid.OneOf(rapid.Int32Range(0, 4), rapid.SampledFrom([]int32{3, 3, -1, math.MaxInt32, math.MinInt32}))
		decide := func() {
			w.targets, w.state = nil, delivery.Waiting
			for _, c := range clusters {
				if rapid.Bool().Draw(t, "decided") {
					w.on(c, rapid.SampledFrom([]int32{3, 3, 1, 2}).Draw(t, "replicas"))
					w.state = delivery.Decided
				}
			}
		}
		decide()
		actions := map[string]func(*rapid.T){
			"decide": func(*rapid.T) { decide() },
			"edit":   func(*rapid.T) { w.generation++ },
			"scale": func(t *rapid.T) {
				if w.generation++; w.kind.Kind == "DaemonSet" {
					return
				}
				w.spec["replicas"] = rapid.Int64Range(0, 4).Draw(t, "replicas")
			},
			"scaled as decided": func(*rapid.T) {
				if w.kind.Kind == "DaemonSet" {
					return
				}
				for i := range w.targets {
					w.targets[i].Replicas = int32(w.spec["replicas"].(int64))
				}
			},
			"deliver": func(t *rapid.T) {
				c := rapid.SampledFrom(clusters).Draw(t, "cluster")
				copied := &delivery.Copy{Manifest: &v1alpha1.Manifest{Revision: fmt.Sprint("r", w.generation), Generation: w.generation}}
				if before := w.copies[c]; before != nil {
					copied.Status = before.Status
				}
				w.copies[c] = copied
			},
			"report": func(t *rapid.T) {
				c := w.copies[rapid.SampledFrom(clusters).Draw(t, "cluster")]
				if c == nil || c.Manifest == nil {
					return
				}
				c.Status = &v1alpha1.ManifestStatus{
					Revision: rapid.SampledFrom([]string{c.Manifest.Revision, c.Manifest.Revision, "r1", ""}).Draw(t, "revision"),
					Health:   rapid.SampledFrom([]v1alpha1.Health{"", "Pending", "InProgress", "Current", "Current", "Failed", "Terminating"}).Draw(t, "health"),
					Counts: &v1alpha1.WorkloadCounts{Desired: count.Draw(t, "desired"), Replicas: count.Draw(t, "replicas"), Updated: count.Draw(t, "updated"),
						Ready: count.Draw(t, "ready"), Available: count.Draw(t, "available")},
				}
			},
			"get ready": func(*rapid.T) {
				for _, target := range w.targets {
					n := target.Replicas
					w.runs(target.Cluster, w.generation, v1alpha1.HealthCurrent, v1alpha1.WorkloadCounts{Desired: n, Replicas: n, Updated: n, Ready: n, Available: n})
				}
			},
			"leave": func(t *rapid.T) { delete(w.copies, rapid.SampledFrom(clusters).Draw(t, "cluster")) },
			"remove": func(t *rapid.T) {
				if c := w.copies[rapid.SampledFrom(clusters).Draw(t, "cluster")]; c != nil {
					c.Manifest, c.Status = nil, nil
				}
			},
			"fall silent": func(t *rapid.T) {
				if c := w.clusters[rapid.SampledFrom(clusters).Draw(t, "cluster")]; c != nil {
					c.Silent = !c.Silent
				}
			},
			"wait": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 700).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) {
				w.write(t)
				text, done := w.rolloutStatus(t)
				switch {
				case done && !w.isDone():
					t.Fatalf("kubectl says %q of %s", text, w.status)
				case !done && w.isDone() && !w.runsElsewhere():
					t.Fatalf("kubectl says %q though all is done: %s", text, w.status)
				case done:
					said++
				}
				w.obeysValidation(t)
			},
		}
		t.Repeat(actions)
	})
	if said == 0 {
		t.Error("no rollout was ever done")
	}
}

// obeysValidation: what is written has the fields of the kind, and passes the validation of Kubernetes.
func (w *world) obeysValidation(t failer) {
	t.Helper()
	typed := map[string]any{"Deployment": &appsv1.Deployment{}, "StatefulSet": &appsv1.StatefulSet{}, "DaemonSet": &appsv1.DaemonSet{}}[w.kind.Kind]
	o := w.object(t)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true); err != nil {
		t.Fatalf("a field is not one of the kind: %v", err)
	}
	n := map[string]int64{}
	for field, value := range o.Object["status"].(map[string]any) {
		if count, ok := value.(int64); ok {
			if n[field] = count; count < 0 {
				t.Fatalf("%s is negative: %s", field, w.status)
			}
		}
	}
	for _, pair := range [][2]string{{"updatedReplicas", "replicas"}, {"readyReplicas", "replicas"}, {"availableReplicas", "readyReplicas"}, {"currentReplicas", "replicas"}} {
		if n[pair[0]] > n[pair[1]] {
			t.Fatalf("%s exceeds %s: %s", pair[0], pair[1], w.status)
		}
	}
	if n["observedGeneration"] > w.generation {
		t.Fatalf("it observes what is not there yet: %s", w.status)
	}
}

// TestJobsEndOnce: a Job is Complete or Failed once it is over on every cluster, and nothing changes that afterwards.
func TestJobsEndOnce(t *testing.T) {
	ended := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld("Job", nil)
		clusters := []string{"dublin", "paris"}[:rapid.IntRange(1, 2).Draw(t, "clusters")]
		for _, c := range clusters {
			w.on(c, 1)
		}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				counts := v1alpha1.WorkloadCounts{Active: rapid.Int32().Draw(t, "active"), Ready: rapid.Int32().Draw(t, "ready"), Succeeded: rapid.Int32Range(-1, 2).Draw(t, "succeeded")}
				at := func(name string) *metav1.Time {
					if rapid.Bool().Draw(t, name) {
						return &metav1.Time{Time: w.now.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "seconds")) * time.Second)}
					}
					return nil
				}
				counts.StartTime, counts.CompletionTime = at("start"), at("completion")
				w.runs(rapid.SampledFrom(clusters).Draw(t, "cluster"), 1, rapid.SampledFrom([]v1alpha1.Health{"InProgress", "Current", "Failed"}).Draw(t, "health"), counts)
			},
			"": func(t *rapid.T) {
				over := !w.waits(t, "Complete") || !w.waits(t, "Failed")
				before := string(w.status)
				w.write(t)
				if over {
					if before != string(w.status) {
						t.Fatalf("what is over changes from %s to %s", before, w.status)
					}
					return
				}
				complete, failed := !w.waits(t, "Complete"), !w.waits(t, "Failed")
				succeeded, gaveUp := 0, 0
				for _, c := range w.copies {
					switch {
					case c.Status.Health == v1alpha1.HealthFailed:
						gaveUp++
					case c.Status.Health == v1alpha1.HealthCurrent && c.Status.Counts.CompletionTime != nil:
						succeeded++
					}
				}
				if complete && succeeded < len(clusters) || failed && (succeeded+gaveUp < len(clusters) || gaveUp == 0) {
					t.Fatalf("%d succeeded and %d failed of %d, and it is %s", succeeded, gaveUp, len(clusters), w.status)
				}
				var job batchv1.Job
				if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(w.object(t).Object, &job, true); err != nil {
					t.Fatalf("%v", err)
				}
				if complete {
					ended["Complete"]++
					if job.Status.CompletionTime == nil || job.Status.CompletionTime.Before(job.Status.StartTime) || job.Status.Active > 0 {
						t.Fatalf("the API server would refuse %s", w.status)
					}
				}
				if failed {
					ended["Failed"]++
				}
			},
		})
	})
	if ended["Complete"] == 0 || ended["Failed"] == 0 {
		t.Errorf("ended: %v", ended)
	}
}

// TestRolloutStatus tells what people see while a Deployment is rolled out over two clusters.
func TestRolloutStatus(t *testing.T) {
	counts := func(replicas, updated, available int32) v1alpha1.WorkloadCounts {
		return v1alpha1.WorkloadCounts{Desired: 3, Replicas: replicas, Updated: updated, Ready: available, Available: available}
	}
	w := newWorld("Deployment", int64(3))
	w.on("dublin", 3)
	w.on("paris", 3)
	says := func(want string) {
		t.Helper()
		w.write(t)
		if text, _ := w.rolloutStatus(t); !strings.Contains(text, want) {
			t.Errorf("kubectl rollout status says %q, not %q: %s", text, want, w.status)
		}
	}
	says("spec update to be observed") // nothing is delivered

	// 3 of 3 replicas run on dublin, so the sums read as if all were done; paris has only begun.
	w.runs("dublin", 1, v1alpha1.HealthCurrent, counts(3, 3, 3))
	says("spec update to be observed")
	w.runs("paris", 1, v1alpha1.HealthInProgress, counts(0, 0, 0))
	says("spec update to be observed")
	if !w.waits(t, "Available") {
		t.Error("it is available before paris runs any")
	}
	w.runs("paris", 1, v1alpha1.HealthInProgress, counts(3, 3, 2))
	says("5 of 6 updated replicas are available")
	w.runs("paris", 1, v1alpha1.HealthCurrent, counts(3, 3, 3))
	says("successfully rolled out")
	if w.waits(t, "Available") {
		t.Error("it is not available")
	}

	// A new generation counts only where it is applied.
	w.generation = 2
	says("spec update to be observed")
	w.runs("dublin", 2, v1alpha1.HealthCurrent, counts(3, 3, 3))
	says("spec update to be observed")
	w.runs("paris", 2, v1alpha1.HealthInProgress, counts(4, 1, 3))
	says("3 old replicas are pending termination")
	w.runs("paris", 2, v1alpha1.HealthCurrent, counts(3, 3, 3))
	says("successfully rolled out")

	// It leaves paris for oslo: the old copy counts until it is gone.
	w.targets = nil
	w.on("dublin", 3)
	w.on("oslo", 3)
	says("spec update to be observed")
	w.runs("oslo", 2, v1alpha1.HealthCurrent, counts(3, 3, 3))
	says("3 old replicas are pending termination")
	delete(w.copies, "paris")
	says("successfully rolled out")

	// A cluster that refuses the next generation has kubectl give up after the deadline, and not before.
	w.generation = 3
	w.runs("dublin", 3, v1alpha1.HealthCurrent, counts(3, 3, 3))
	w.copies["oslo"].Manifest = &v1alpha1.Manifest{Revision: "r3", Generation: 3}
	w.copies["oslo"].Status.Message, w.copies["oslo"].Status.Wrong = `exceeded quota: compute`, true
	says("spec update to be observed")
	if u := w.rollout().Status(w.now); u.Again != 600*time.Second {
		t.Errorf("it is looked at again after %s", u.Again)
	}
	w.now = w.now.Add(599 * time.Second)
	says("spec update to be observed")
	w.now = w.now.Add(time.Second)
	says("exceeded its progress deadline")
	if message := w.condition(t, "Progressing")["message"].(string); !strings.Contains(message, "oslo: exceeded quota: compute") {
		t.Error(message)
	}
	w.runs("oslo", 3, v1alpha1.HealthCurrent, counts(3, 3, 3))
	says("successfully rolled out")
}

// TestStatusOfOthersStays: what other controllers write, and workloads that are not delivered, stay as they are.
func TestStatusOfOthersStays(t *testing.T) {
	w := newWorld("Deployment", int64(1))
	w.on("dublin", 1)
	w.status = []byte(`{"collisionCount": 3, "conditions": [{"type": "Approved", "status": "True"}, "odd"]}`)
	w.runs("dublin", 1, v1alpha1.HealthCurrent, v1alpha1.WorkloadCounts{Replicas: 1, Updated: 1, Ready: 1, Available: 1})
	w.write(t)
	for _, want := range []string{`"collisionCount":3`, `{"status":"True","type":"Approved"},"odd",`} {
		if !strings.Contains(strings.ReplaceAll(string(w.status), " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("%s is not in %s", want, w.status)
		}
	}
	w.clusters["dublin"].Delivers, w.copies = false, nil
	w.status = []byte("{}")
	if u := w.rollout().Status(w.now); u.Status != nil {
		t.Errorf("others deliver it, and its status is written: %v", u.Status)
	}
	w.status = []byte(`{"observedGeneration": 1, "conditions": [{"type": "Delivered", "status": "True", "reason": "Ready"}]}`)
	w.write(t)
	if got := w.condition(t, "Delivered")["reason"]; got != "DeliveredByOthers" {
		t.Errorf("Delivered says %s", w.status)
	}
	w.status = []byte("{}")
	w.state, w.targets = delivery.Waiting, nil
	if u := w.rollout().Status(w.now); u.Status != nil {
		t.Errorf("it has never been delivered, and its status is written: %v", u.Status)
	}
}

// TestDeliveredSaysWhatIsWrong: condition Delivered names the first thing that is wrong, worst first, on the clusters in their order.
func TestDeliveredSaysWhatIsWrong(t *testing.T) {
	ready := v1alpha1.WorkloadCounts{Replicas: 1, Updated: 1, Ready: 1, Available: 1}
	for _, test := range []struct {
		name   string
		change func(w *world)
		want   string
	}{
		{"nothing", func(*world) {}, "True Ready: on dublin, paris"},
		{"not written yet", func(w *world) { delete(w.copies, "paris") }, "False InProgress: on its way to paris"},
		{"waits", func(w *world) {
			w.runs("paris", 1, v1alpha1.HealthInProgress, v1alpha1.WorkloadCounts{}).Message = "0 of 1 replicas are ready"
		},
			"False InProgress: on its way to paris: paris: 0 of 1 replicas are ready"},
		{"refused", func(w *world) {
			s := w.copies["dublin"].Status
			s.Revision, s.Message, s.Wrong = "r0", "denied by webhook \"policy\"", true
		}, `False NotApplied: dublin: denied by webhook "policy"`},
		{"waits for a wave", func(w *world) {
			w.copies["dublin"].Status.Revision, w.copies["dublin"].Status.Message = "", "it waits for wave -1"
		}, "False InProgress: on its way to dublin: dublin: it waits for wave -1"},
		{"pods that do not start", func(w *world) {
			s := w.runs("paris", 1, v1alpha1.HealthInProgress, v1alpha1.WorkloadCounts{})
			s.Message, s.Wrong = "pod web-1: ErrImagePull", true
		}, "False Unhealthy: paris: pod web-1: ErrImagePull"},
		{"given up", func(w *world) {
			s := w.copies["dublin"].Status
			s.Revision, s.Message, s.Wrong = "r0", "denied", true
			w.runs("paris", 1, v1alpha1.HealthFailed, ready).Message = "Progress deadline exceeded"
		}, "False Failed: paris: Progress deadline exceeded"},
		{"silent", func(w *world) { w.clusters["paris"].Silent = true },
			"Unknown ClusterSilent: paris: the agent of the cluster is silent, and this is the state that it told last"},
		{"a Secret is missing", func(w *world) {
			w.clusters["paris"].Silent = true
			w.problems = []delivery.Problem{{Reason: v1alpha1.MissingReferenceReason, Message: "Secret db is not there"}}
		}, "False MissingReference: Secret db is not there"},
		{"an agent that lies about its counts", func(w *world) { w.runs("paris", 1, v1alpha1.HealthCurrent, v1alpha1.WorkloadCounts{Replicas: 1}) },
			"False InProgress: on its way to paris"},
		{"an agent that writes to the terminal", func(w *world) {
			w.runs("paris", 1, v1alpha1.HealthFailed, ready).Message = "\x1b[2J\u202egone\n\tfor good\x00 " + strings.Repeat("é", 2000)
		}, "False Failed: paris: [2Jgone for good éé"},
		{"no cluster", func(w *world) { w.state, w.targets = delivery.Waiting, nil },
			"False NotPlaced: no cluster is found for it: WorkloadPlacement p says why; what runs is being removed from dublin, paris"},
		{"no placement", func(w *world) { w.state, w.targets = delivery.Unselected, nil },
			"Unknown Unselected: no placement selects it: it is kept as it was on dublin, paris"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld("Deployment", int64(1))
			for _, c := range []string{"dublin", "paris"} {
				w.on(c, 1)
				w.runs(c, 1, v1alpha1.HealthCurrent, ready)
			}
			test.change(w)
			w.write(t)
			c := w.condition(t, v1alpha1.DeliveredCondition)
			got := fmt.Sprintf("%s %s: %s", c["status"], c["reason"], c["message"])
			cut := strings.Contains(test.want, "éé") && strings.HasPrefix(got, test.want)
			if got != test.want && !cut || len(c["message"].(string)) > 2000 {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
