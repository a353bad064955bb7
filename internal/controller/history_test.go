package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// history of a workload as its stored decision has it, the last change first.
func (w *world) history(name string) (changes []string) {
	for _, slice := range w.stored {
		for _, d := range slice.Decisions {
			if d.Workload.Name != name {
				continue
			}
			for _, c := range d.History {
				changes = append(changes, fmt.Sprintf("%s %s>%s", c.Reason, strings.Join(c.From, ","), strings.Join(c.To, ",")))
			}
		}
	}
	return changes
}

// TestHistory: a decision says how the clusters of its workload came to change, and why, in the write that it is made by. What changes
// no cluster is no change. It is bounded, outlives a restart, and goes on where the workload had no cluster for a while.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "4")}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	taint := func(i int, taints ...corev1.Taint) {
		w.clusters[i] = w.clusters[i].DeepCopy()
		w.clusters[i].Spec.Taints = taints
	}
	asks := func(spec v1alpha1.WorkloadPlacementSpec) {
		p := testPlacement(spec)
		p.ResourceVersion = w.next()
		w.placements = []*v1alpha1.WorkloadPlacement{p}
	}
	noExecute := corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoExecute}
	for _, step := range []struct {
		what   string
		do     func()
		writes int
		want   string
	}{
		{"it comes", func() {}, 1, "Placed >a"},
		{"it asks for more", func() { w.workloads = []*workloadObject{testWorkload("w", 2000)} }, 1, "Placed >a"},
		{"the cluster does not want it any more", func() { taint(0, noExecute) }, 1, "Evicted a>b; Placed >a"},
		{"the controller starts anew", w.restart, 0, "Evicted a>b; Placed >a"},
		{"the placement asks for another", func() {
			taint(0)
			asks(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: one.NumberOfClusters, Constraints: []v1alpha1.Constraint{{Name: "c", Expression: `cluster.name == "a"`}}})
		}, 1, "Rescheduled b>a; Evicted a>b; Placed >a"},
		{"and for two", func() {
			asks(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(2))})
		}, 1, "ClustersAdded >b; Rescheduled b>a; Evicted a>b; Placed >a"},
		{"and for one", func() { asks(one) }, 1,
			"Scaled b>; ClustersAdded >b; Rescheduled b>a; Evicted a>b; Placed >a"},
		{"the cluster is lost, and no other wants it", func() {
			w.clusters[0] = w.clusters[0].DeepCopy()
			conditions.MarkFalse(w.clusters[0], v1alpha1.ReadyCondition, v1alpha1.ClusterLostReason, conditionsv1alpha1.ConditionSeverityError, "")
			taint(1, noExecute)
		}, 1, ""},
		{"one does", func() { taint(1) }, 1, "Placed >b; Failover a>; Scaled b>; ClustersAdded >b; Rescheduled b>a"},
		{"the cluster is drained", func() {
			w.clusters[0] = testCluster("a", "8")
			w.clusters[1] = w.clusters[1].DeepCopy()
			w.clusters[1].Spec.Drain = &v1alpha1.ClusterDrain{}
		}, 1, "Drained b>a; Placed >b; Failover a>; Scaled b>; ClustersAdded >b"},
	} {
		w.sleep(time.Minute)
		step.do()
		w.writes = nil
		w.pass()
		w.show()
		if got := strings.Join(w.history("w"), "; "); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
		writes := 0
		for _, write := range w.writes {
			if strings.Contains(write, "p-0") {
				writes++
			}
		}
		if writes != step.writes {
			t.Errorf("%s: %v", step.what, w.writes)
		}
	}
	for _, slice := range w.stored {
		if message := slice.Decisions[0].History[2].Message; !strings.HasPrefix(message, "a: ") {
			t.Errorf("the failover says %q", message)
		}
	}
}
