package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/workload"
)

// drain sets the drain of a cluster, nil for none.
func (w *world) drain(name string, drain *v1alpha1.ClusterDrain) {
	w.change(name, func(c *v1alpha1.ClusterRegistration) {
		c.Spec.Drain = drain
		c.ResourceVersion = w.next()
	})
}

// drained is the condition Drained of a cluster, and what its status says of the drain.
func (w *world) drained(name string) string {
	for _, c := range w.clusters {
		if c.Name != name {
			continue
		}
		condition := conditions.Get(c, v1alpha1.DrainedCondition)
		if condition == nil || c.Status.Drain == nil {
			return fmt.Sprintf("no condition: %t, no drain: %t", condition == nil, c.Status.Drain == nil)
		}
		d := c.Status.Drain
		text := strings.TrimSpace(fmt.Sprintf("%s %s", condition.Status, condition.Reason)) + fmt.Sprintf(": %d remain", d.Remaining)
		if len(d.Workloads) > 0 {
			text += fmt.Sprintf(", %s: %s", d.Workloads[0].Workload.Name, d.Workloads[0].Reason)
		}
		return text
	}
	return "no cluster"
}

func (w *world) drainIs(name, want string) {
	w.Helper()
	if got := w.drained(name); got != want {
		w.Errorf("drain of %s: %s\nwant: %s", name, got, want)
	}
}

// TestDrain: workloads leave a drained cluster at the pace of the budget, and the registration says how many remain and why.
func TestDrain(t *testing.T) {
	w := withBrake(t)
	w.drain("a", &v1alpha1.ClusterDrain{})
	for remain := 30; remain > 0; remain -= 10 {
		w.pass()
		w.on(fmt.Sprint(remain, " ", 40-remain))
		w.drainIs("a", fmt.Sprintf("False Draining: %d remain, w%d: Paced", remain, 40-remain))
		w.elapse(time.Minute)
	}
	w.pass()
	w.on("0 40")
	w.drainIs("a", "True: 0 remain")
	if told := append(w.eventsOf("Draining"), w.eventsOf("Drained")...); len(told) != 2 {
		t.Errorf("events %q", told)
	}

	// It is over: nothing is left of it, and nothing returns by itself.
	w.drain("a", nil)
	w.pass()
	w.on("0 40")
	w.drainIs("a", "no condition: true, no drain: true")
	w.writes = nil
	if w.pass(); len(w.writes) > 0 {
		t.Errorf("written: %q", w.writes)
	}
}

// TestDrainDeadline: until the deadline workloads leave at the pace of the budget. Then all that can leave do at once, and that uses
// none of the budget up. What has no other place stays all the same, and the registration says so.
func TestDrainDeadline(t *testing.T) {
	w := withBrake(t)
	w.change("b", func(c *v1alpha1.ClusterRegistration) { *c = *testCluster("b", "35") })
	deadline := metav1.NewTime(w.clock.Add(90 * time.Second))
	w.drain("a", &v1alpha1.ClusterDrain{Deadline: &deadline})
	w.pass()
	w.on("30 10")
	w.elapse(80 * time.Second)
	w.on("20 20")
	w.elapse(9 * time.Second)
	w.on("20 20")
	w.elapse(time.Second)
	w.pass()
	w.on("5 35")
	w.drainIs("a", "False DeadlineExceeded: 5 remain, w35: NoBetterPlace")
	if told := w.eventsOf("DeadlineExceeded"); len(told) != 1 || !strings.Contains(told[0], "what has none stays") {
		t.Errorf("events %q", told)
	}
	w.change("b", func(c *v1alpha1.ClusterRegistration) { *c = *testCluster("b", "40") })
	w.pass()
	w.on("0 40")
	w.drainIs("a", "True: 0 remain")
}

// TestScaledOnceADrainIsOverdue: a divided workload that leaves a drained cluster after the deadline, and at the same time another for which it
// has no replica left, uses none of the budget up.
func TestScaledOnceADrainIsOverdue(t *testing.T) {
	w := newWorld(t)
	w.workspace.brake.Budget = disruption.Budget{Minimum: 1, Interval: time.Minute}
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "3"), testCluster("c", "2")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{
		NumberOfClusters: ptr.To(intstr.FromInt32(3)), ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided},
	})}
	scaled := func(replicas int64) {
		o := testWorkload("w", 0)
		o.workload.Divisible, o.workload.Replicas, o.workload.Requests = true, replicas, capacity.Resources{CPU: 1000 * replicas}
		w.workloads = []*workloadObject{o}
		w.pass()
	}
	scaled(3)
	w.expect(map[string]string{"w": "a,b,c"})
	w.drain("a", &v1alpha1.ClusterDrain{Deadline: &metav1.Time{Time: w.clock}})
	scaled(1)
	w.expect(map[string]string{"w": "b"})
	if left := w.workspace.brake.Left(w.clock, 1); left != 1 {
		t.Errorf("%d more may lose a cluster now, want 1", left)
	}
}

// TestWhatRunsNowhereDelaysNoDrain: a Job that has finished or is suspended stays where it was placed, and the cluster is drained all the
// same. What cannot be decided on is named with the reason.
func TestWhatRunsNowhereDelaysNoDrain(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	ends := func(finished, suspended, deleted workload.End) {
		w.workloads = nil
		for name, end := range map[string]workload.End{"finished": finished, "suspended": suspended, "deleted": deleted} {
			o := testWorkload(name, 1000)
			o.end = end
			o.workload.End = end
			w.workloads = append(w.workloads, o)
		}
		w.pass()
	}
	ends("", "", "")
	ends(workload.HasFinished, workload.Suspended, workload.BeingDeleted)
	w.clusters = append(w.clusters, testCluster("b", "4"))
	w.drain("a", &v1alpha1.ClusterDrain{})
	w.pass()
	w.expect(map[string]string{"finished": "a", "suspended": "a", "deleted": "a"})
	w.drainIs("a", "False Draining: 1 remain, deleted: NotDecided")

	w.workloads = slices.DeleteFunc(w.workloads, func(o *workloadObject) bool { return o.Name == "deleted" })
	w.pass()
	w.drainIs("a", "True: 0 remain")

	t.Log("what is resumed leaves")
	ends(workload.HasFinished, "", workload.BeingDeleted)
	w.pass()
	w.expect(map[string]string{"finished": "a", "suspended": "b"})
}

// TestDrainInOrder: those of the highest priority leave first, and among equals the oldest.
func TestDrainInOrder(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	low, high := testPlacement(one), testPlacement(one)
	low.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "low"}}
	high.Name, high.UID, high.Spec.Priority = "high", "high", 10
	high.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "high"}}
	w.placements = []*v1alpha1.WorkloadPlacement{low, high}
	for _, name := range []string{"old low", "new low", "new high"} {
		o := testWorkload(name, 1000)
		o.Labels = map[string]string{"tier": strings.Fields(name)[1]}
		o.workload.Labels = o.Labels
		o.CreationTimestamp = metav1.NewTime(w.clock.Add(map[string]time.Duration{"old": 0, "new": time.Hour}[strings.Fields(name)[0]]))
		w.workloads = append(w.workloads, o)
	}
	w.pass()
	w.expect(map[string]string{"old low": "a", "new low": "a", "new high": "a"})
	w.clusters = append(w.clusters, testCluster("b", "1"))
	w.drain("a", &v1alpha1.ClusterDrain{})
	w.pass()
	w.expect(map[string]string{"old low": "a", "new low": "a", "new high": "b"})
	w.change("b", func(c *v1alpha1.ClusterRegistration) { *c = *testCluster("b", "2") })
	w.pass()
	w.expect(map[string]string{"old low": "b", "new low": "a", "new high": "b"})
}

// TestDrainOfAll: what is to run everywhere loses a drained cluster, which is a disruption, and the last one is kept.
func TestDrainOfAll(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromString(v1alpha1.AllClusters))})}
	w.workloads = []*workloadObject{testWorkload("everywhere", 1000)}
	w.pass()
	w.expect(map[string]string{"everywhere": "a,b"})
	w.drain("a", &v1alpha1.ClusterDrain{})
	w.pass()
	w.expect(map[string]string{"everywhere": "b"})
	w.drainIs("a", "True: 0 remain")
	w.drain("b", &v1alpha1.ClusterDrain{})
	w.pass()
	w.expect(map[string]string{"everywhere": "b"})
	w.drainIs("b", "False Draining: 1 remain, everywhere: NoBetterPlace")
}
