package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
)

// tiered has placements of three priorities, of which the highest may take the place of others.
func (w *world) tiered() {
	w.placements = nil
	for name, priority := range map[string]int32{"low": -1, "usual": 0, "urgent": 10} {
		p := testPlacement(one)
		p.Name, p.UID, p.Spec.Priority = name, types.UID(name), priority
		p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": name}}
		if name == "urgent" {
			p.Spec.Preemption.Policy = corev1.PreemptLowerPriority
		}
		w.placements = append(w.placements, p)
	}
}

func (w *world) add(tier string, o *workloadObject) {
	o.workload.Labels = map[string]string{"tier": tier}
	w.workloads = append(w.workloads, o)
}

// promisedOnce fails where the durable decisions promise more of a cluster than it has.
func (w *world) promisedOnce() {
	w.Helper()
	promised := map[string]int64{}
	for _, slice := range w.stored {
		for _, d := range slice.Decisions {
			for _, c := range d.Clusters {
				reserved := d.Reserved
				if len(c.Reserved) > 0 {
					reserved = c.Reserved
				}
				promised[c.Name] += reserved.Cpu().MilliValue()
			}
		}
	}
	for _, c := range w.clusters {
		if promised[c.Name] > c.Status.Allocatable.Cpu().MilliValue() {
			w.Errorf("%d promised on %s: %v", promised[c.Name], c.Name, w.where())
		}
	}
}

// TestPreemption: a workload of higher priority takes the place of the least important, which waits then and says for whom it has made
// room. What it gives up is nobody else's, however the passes are killed between two writes.
func TestPreemption(t *testing.T) {
	for kills := range 6 {
		t.Run(fmt.Sprintf("killed at write %d", kills), func(t *testing.T) {
			w := newWorld(t)
			w.tiered()
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
			w.add("low", testWorkload("batch", 2000))
			w.add("usual", testWorkload("web", 2000))
			w.pass()
			w.expect(map[string]string{"batch": "a", "web": "a"})
			w.show()

			w.add("urgent", testWorkload("now", 2000))
			w.add("usual", testWorkload("another", 1000))
			write, left := w.workspace.writeDecision, kills
			w.workspace.writeDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
				if left--; left == 0 {
					return nil, errors.New("killed")
				}
				written, err := write(ctx, d)
				w.promisedOnce()
				return written, err
			}
			if kills > 0 {
				for range 3 {
					if w.reconcile() != nil {
						break
					}
				}
				w.restart()
				w.show()
			}
			w.pass()
			w.promisedOnce()
			w.expect(map[string]string{"now": "a", "web": "a"})
			if kills > 0 {
				return
			}
			told := strings.Join(w.events, "\n")
			for _, want := range []string{"batch: Preempted: makes room on a for Deployment default/now of priority 10", "now: Nominated: waits until Deployment default/batch have made room on a"} {
				if !strings.Contains(told, want) {
					t.Errorf("no event %q in\n%s", want, told)
				}
			}
			if len(w.workspace.nominations) > 0 || len(w.workspace.heldReservations) > 0 {
				t.Errorf("left: %v, %v", w.workspace.nominations, w.workspace.heldReservations)
			}
			// It has its place again once there is room, and knows what has been.
			w.clusters = append(w.clusters, testCluster("b", "4"))
			w.pass()
			w.expect(map[string]string{"now": "a", "web": "a", "batch": "b", "another": "b"})
			for _, slice := range w.stored {
				for _, d := range slice.Decisions {
					if d.Workload.Name == "batch" && (len(d.History) < 2 || d.History[1].Reason != v1alpha1.ChangePreempted) {
						t.Errorf("history %+v", d.History)
					}
				}
			}
		})
	}
}

// TestPreemptionHoldsWhatIsFreeToo: a workload that takes what others give up and what was free besides gets both. If a victim could
// come back to what was free, it would be a victim again, for ever.
func TestPreemptionHoldsWhatIsFreeToo(t *testing.T) {
	w := newWorld(t)
	w.tiered()
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "10")}
	w.add("low", testWorkload("batch", 3000))
	w.add("usual", testWorkload("web", 3000))
	w.pass()
	w.add("urgent", testWorkload("now", 6000))
	w.show()
	for range 5 {
		w.pass()
		w.promisedOnce()
		w.show()
	}
	w.expect(map[string]string{"now": "a", "web": "a"})
	if told := w.eventsOf(string(v1alpha1.ChangePreempted)); len(told) != 1 {
		t.Errorf("events %q", told)
	}
	if free := w.workspace.engine.Snapshot("ws").Row("a").Free.CPU; free != 1000 {
		t.Errorf("%d free: what was held is still held", free)
	}
}

// TestPreemptionWhileItsOwnPodsRun: a workload that takes what others give up gets that, though pods of its own, of before it lost its place,
// still run there, and the victim's pods use more than it asks for. What is held must not count these as what is promised: a victim could come
// back, and be a victim again, for ever.
func TestPreemptionWhileItsOwnPodsRun(t *testing.T) {
	w := newWorld(t)
	w.tiered()
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "9")}
	w.add("low", testWorkload("batch", 2000))
	w.pass()
	w.add("urgent", testWorkload("now", 6000))
	w.reports("a", "9", map[string]string{"batch": "3", "now": "2"})
	w.show()
	for range 3 {
		w.pass()
		w.expect(map[string]string{})
		w.show()
	}
	w.reports("a", "9", map[string]string{"now": "2"})
	w.pass()
	w.expect(map[string]string{"now": "a", "batch": "a"}) // of which its pods use 2 by now
	if told := w.eventsOf(string(v1alpha1.ChangePreempted)); len(told) != 1 {
		t.Errorf("events %q", told)
	}
}

// TestPreemptionInVain: where others have made room in vain, since the cluster has shrunk before it was free, nobody makes room again at once,
// however the cluster changes.
func TestPreemptionInVain(t *testing.T) {
	w := newWorld(t)
	w.tiered()
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.add("usual", testWorkload("web", 2000))
	w.add("low", testWorkload("batch", 1000))
	w.pass()
	w.add("urgent", testWorkload("now", 2000))
	small, large := map[string]string{"web": "2"}, map[string]string{"web": "2", "batch": "1"}
	reports := func(allocatable string, counted map[string]string) {
		w.reports("a", allocatable, counted)
		w.pass()
	}
	flap := func() {
		reports("4", large)
		reports("3", small)
		w.expect(map[string]string{"web": "a", "batch": "a"})
	}
	for times, rest := range []time.Duration{0, restAfterVain, 2 * restAfterVain} {
		w.sleep(rest)
		flap()
		flap()
		if told := w.eventsOf(string(v1alpha1.ChangePreempted)); len(told) != times+1 {
			t.Fatalf("after %s: events %q", rest, told)
		}
		w.expect(map[string]string{"web": "a", "batch": "a"})
	}
	w.sleep(4 * restAfterVain)
	reports("4", large)
	reports("4", small)
	w.expect(map[string]string{"web": "a", "now": "a"})
}

// TestPreemptionByWhoMay: only where the placement asks for it, never of what is pinned or as important, never in vain, and never more
// than the budget of disruptions allows.
func TestPreemptionByWhoMay(t *testing.T) {
	for name, test := range map[string]struct {
		change func(w *world)
		cpu    int64
		want   map[string]string
		says   string
	}{
		"never":             {func(w *world) { w.placements[w.named("urgent")].Spec.Preemption.Policy = "" }, 2000, map[string]string{"batch": "a", "web": "a"}, ""},
		"pinned":            {func(w *world) { w.workloads[0].Annotations = map[string]string{v1alpha1.AnnotationPinned: "true"} }, 2000, map[string]string{"batch": "a", "now": "a"}, ""},
		"as important":      {func(w *world) { w.placements[w.named("urgent")].Spec.Priority = -1 }, 2000, map[string]string{"batch": "a", "web": "a"}, ""},
		"too large":         {func(*world) {}, 5000, map[string]string{"batch": "a", "web": "a"}, ""},
		"beyond the budget": {func(w *world) { w.workspace.brake.Budget = disruption.Budget{Minimum: 1, Interval: time.Hour} }, 3000, map[string]string{"batch": "a", "web": "a"}, ""},
		"the budget is used": {func(w *world) {
			w.workspace.brake = disruption.Brake{Budget: disruption.Budget{Minimum: 2, Interval: time.Minute}}
			w.workspace.brake.Disrupted(w.clock)
		}, 3000, map[string]string{"batch": "a", "web": "a"}, "takes the place of 2 others once the disruption budget lets them go"},
		"two of them": {func(*world) {}, 3000, map[string]string{"now": "a"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.tiered()
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
			w.add("low", testWorkload("batch", 2000))
			w.add("usual", testWorkload("web", 2000))
			test.change(w)
			w.pass()
			w.add("urgent", testWorkload("now", test.cpu))
			w.pass()
			w.expect(test.want)
			if said := w.conditionOf("urgent", string(v1alpha1.ScheduledCondition)); !strings.Contains(said, test.says) {
				t.Errorf("says %q, want %q", said, test.says)
			}
			if name == "the budget is used" {
				w.show()
				w.pass()
				w.sleep(10 * time.Second)
				w.workspace.index.add(w.workspace.index.get(keyOf(w.workloads[2].workload.Reference)), leftOver) // it is looked at in between
				if again := w.pass().after; again != 50*time.Second {
					t.Errorf("the next pass is after %s", again)
				}
				w.sleep(50 * time.Second)
				w.pass()
				w.expect(map[string]string{"now": "a"})
			}
		})
	}
}

func (w *world) named(placement string) int {
	for i, p := range w.placements {
		if p.Name == placement {
			return i
		}
	}
	w.Fatalf("no placement %s", placement)
	return -1
}

func (w *world) conditionOf(placement, kind string) string {
	for _, c := range w.placements[w.named(placement)].Status.Conditions {
		if string(c.Type) == kind {
			return c.Message
		}
	}
	return ""
}

// withBatch is a world in which a workload of low priority runs on a cluster that it fills.
func withBatch(t *testing.T) *delivered {
	d := newDelivered(t, testCluster("a", "4"))
	d.tiered()
	d.add("low", delivers("batch", 4000))
	d.pass()
	d.runs("a", false, "batch")
	d.sleep(time.Minute)
	d.pass()
	return d
}

// TestPreemptionWithDelivery: the room is free only once the victim's copy is gone. Until then it is held for the one that is nominated:
// nobody else takes it, not even the victim, and a restart gives it to nobody either.
func TestPreemptionWithDelivery(t *testing.T) {
	d := withBatch(t)
	d.expectRound("batch", "decided a")

	d.add("urgent", delivers("now", 2000))
	d.pass()
	d.expect(map[string]string{})
	d.expectRound("batch", "waiting")
	d.add("usual", delivers("other", 1000))
	d.add("low", delivers("more", 1000))
	d.sleep(2 * WriteWithin)
	d.pass()
	d.expect(map[string]string{})
	if said := d.conditionOf("urgent", string(v1alpha1.ScheduledCondition)); !strings.Contains(said, "waits until Deployment default/batch have made room on a") {
		t.Errorf("says %q", said)
	}

	d.runs("a", true) // the agent has not seen it yet
	d.pass()
	d.expect(map[string]string{})
	d.runs("a", false)
	d.pass()
	d.expect(map[string]string{"now": "a", "other": "a", "more": "a"})
	if len(d.workspace.nominations) > 0 {
		t.Errorf("left: %v", d.workspace.nominations)
	}
}

// TestAVictimThatMovesOnLeavesItsPlace: a victim that has another place in the same pass leaves the one that it gave up, and what is reserved
// there stays so until its copy is gone.
func TestAVictimThatMovesOnLeavesItsPlace(t *testing.T) {
	d := withBatch(t)

	p := d.placements[d.named("urgent")].DeepCopy()
	p.Spec.Constraints = []v1alpha1.Constraint{{Name: "a", Expression: `cluster.name == "a"`}}
	p.ResourceVersion = d.next()
	d.placements = replace(d.placements, p)
	b := testCluster("b", "4")
	b.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
	d.clusters = append(d.clusters, b)
	d.add("urgent", delivers("now", 2000))
	d.pass()
	d.expect(map[string]string{"batch": "b"})
	for _, slice := range d.stored {
		for _, decision := range slice.Decisions {
			if decision.Workload.Name == "batch" && (len(decision.Leaving) != 1 || decision.Leaving[0].Name != "a") {
				t.Errorf("leaves %v", decision.Leaving)
			}
		}
	}
}

// TestVoidNomination: where the workload for which others make room goes, or finds another place, what they have given up is theirs
// again.
func TestVoidNomination(t *testing.T) {
	for name, test := range map[string]struct {
		change func(d *delivered)
		want   map[string]string
	}{
		"it goes": {func(d *delivered) { d.workloads = d.workloads[:1] }, map[string]string{"batch": "a"}},
		"it may not any more": {func(d *delivered) {
			p := d.placements[d.named("urgent")].DeepCopy()
			p.Spec.Preemption.Policy = ""
			p.ResourceVersion = d.next()
			d.placements = replace(d.placements, p)
		}, map[string]string{"now": "a"}},
		"another place": {func(d *delivered) { d.clusters = append(d.clusters, testCluster("b", "2")) }, map[string]string{"batch": "a", "now": "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := withBatch(t)
			d.add("urgent", delivers("now", 2000))
			d.pass()
			d.expect(map[string]string{})
			test.change(d)
			d.pass()
			if got := d.where(); !maps.Equal(got, test.want) {
				t.Errorf("placed %v, want %v", got, test.want)
			}
			if len(d.workspace.nominations) > 0 {
				t.Errorf("left: %v", d.workspace.nominations)
			}
		})
	}
}
