package controller

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
)

// aJob is one that is delivered, with pods of one CPU each.
func aJob(t *testing.T, parallelism, completions, succeeded int64) *workloadObject {
	t.Helper()
	content := fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"namespace":"default","name":"job","uid":"job"},
		"spec":{"parallelism":%d,"completions":%d,"template":{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]}}}`, parallelism, completions)
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(fmt.Appendf(nil, `%s,"status":{"succeeded":%d}}`, content, succeeded), &object.Object); err != nil {
		t.Fatal(err)
	}
	w, err := workload.FromObject(object)
	if err != nil {
		t.Fatal(err)
	}
	return &workloadObject{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "job", UID: "job"},
		workload: w, source: &delivery.Source{Reference: w.Reference, Manifest: []byte(content + "}")},
	}
}

// runsJob makes the Work of a cluster have a copy of the Job, of whose pods so many have succeeded.
func (d *delivered) runsJob(cluster string, parallelism, completions int64, succeeded int32) {
	d.runs(cluster, false)
	work := d.works[len(d.works)-1]
	work.Spec.Manifests = []v1alpha1.Manifest{{Revision: "1", WorkloadUID: "job", Object: runtime.RawExtension{Raw: fmt.Appendf(nil,
		`{"apiVersion":"batch/v1","kind":"Job","metadata":{"namespace":"default","name":"job"},"spec":{"parallelism":%d,"completions":%d,"template":{"spec":{"containers":[{"name":"c"}]}}}}`, parallelism, completions)}}}
	work.Status.Manifests = []v1alpha1.ManifestStatus{{
		ManifestReference: v1alpha1.ManifestReference{APIVersion: "batch/v1", Kind: "Job", Namespace: "default", Name: "job", WorkloadUID: "job"},
		Revision:          "1", Health: v1alpha1.HealthInProgress, Counts: &v1alpha1.WorkloadCounts{Succeeded: succeeded},
	}}
}

// has is where the Job is, and what is reserved there: "a 2 2000m, b 2 1000m".
func (d *delivered) has() string {
	var all []string
	for _, c := range d.clusters {
		allocatable := c.Status.Allocatable.Cpu().MilliValue()
		for _, slice := range d.stored {
			for _, on := range slice.Decisions[0].Clusters {
				if on.Name == c.Name {
					all = append(all, fmt.Sprintf("%s %d %dm", c.Name, on.Replicas, allocatable-d.free(c.Name)))
				}
			}
		}
	}
	return strings.Join(all, ", ")
}

// TestTheClustersOfAJobKeepTheirShares while its pods succeed and when it is scaled down, since each has completions of its own, and
// ask for less where pods have succeeded. When a cluster is lost, what it had to complete waits for one that has none.
func TestTheClustersOfAJobKeepTheirShares(t *testing.T) {
	d := newDelivered(t, testCluster("a", "8"), testCluster("b", "8"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided}})}
	expect := func(when, want string) {
		t.Helper()
		d.pass()
		d.show()
		d.pass()
		if got := d.has(); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	d.workloads = []*workloadObject{aJob(t, 4, 10, 0)}
	expect("as it begins", "a 2 2000m, b 2 2000m")
	d.runsJob("a", 2, 5, 4)
	d.runsJob("b", 2, 5, 3)
	d.workloads = []*workloadObject{aJob(t, 4, 10, 7)}
	expect("with 3 of 10 to go", "a 2 1000m, b 2 2000m")
	d.runsJob("a", 2, 5, 5)
	d.runsJob("b", 2, 5, 4)
	d.workloads = []*workloadObject{aJob(t, 4, 10, 9)}
	expect("with the last pod", "a 2 0m, b 2 1000m")
	d.runsJob("a", 2, 5, 1)
	d.workloads = []*workloadObject{aJob(t, 1, 10, 5)}
	expect("scaled to 1", "a 1 1000m, b 1 1000m")
	d.workloads = []*workloadObject{aJob(t, 0, 10, 5)}
	expect("paused", "a 0 0m, b 0 0m")
	d.workloads = []*workloadObject{aJob(t, 6, 10, 5)}
	expect("resumed", "a 3 3000m, b 3 1000m")

	d.works, d.clusters = d.works[:len(d.works)-1], d.clusters[:1]
	d.workloads = []*workloadObject{aJob(t, 6, 10, 1)}
	d.works = nil
	d.runsJob("a", 3, 5, 1)
	expect("b is gone", "a 3 3000m")
	c := testCluster("c", "8")
	c.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
	d.clusters = append(d.clusters, c)
	expect("c has come", "a 3 3000m, c 3 3000m")
}

// TestEachCopyOfAJobCounts: with all replicas on each of two clusters, what has succeeded on one is no reason to reserve less on the other.
func TestEachCopyOfAJobCounts(t *testing.T) {
	d := newDelivered(t, testCluster("a", "8"), testCluster("b", "8"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{})}
	d.workloads = []*workloadObject{aJob(t, 4, 6, 0)}
	d.pass()
	d.runsJob("a", 4, 6, 5)
	d.runsJob("b", 4, 6, 1)
	d.workloads = []*workloadObject{aJob(t, 4, 6, 6)}
	d.show()
	d.pass()
	if got, want := d.has(), "a 4 1000m, b 4 4000m"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
