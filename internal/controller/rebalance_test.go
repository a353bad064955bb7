package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/internal/decode"
)

// moves makes a plan of moves such as "1 web a b": wave, workload, from, to.
func moves(name string, lines ...string) *v1alpha1.RebalancePlan {
	plan := &v1alpha1.RebalancePlan{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "0", Generation: 1}}
	for _, line := range lines {
		m := v1alpha1.RebalanceMove{Workload: v1alpha1.NamespacedWorkloadReference{Namespace: "default", APIVersion: "apps/v1", Kind: "Deployment"}}
		if _, err := fmt.Sscan(line, &m.Wave, &m.Workload.Name, &m.From, &m.To); err != nil {
			panic(err)
		}
		plan.Spec.Moves = append(plan.Spec.Moves, m)
	}
	return plan
}

// rebalancedWorld has web and api on a, and shop on b.
func rebalancedWorld(t testing.TB) *world {
	w := newWorld(t)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.workloads = []*workloadObject{testWorkload("api", 2000), testWorkload("web", 2000)}
	w.pass()
	w.clusters = append(w.clusters, testCluster("b", "4"), testCluster("c", "4"))
	w.show()
	w.pass()
	w.expect(map[string]string{"api": "a", "web": "a"})
	w.events = nil
	return w
}

// plan is how far a plan is.
func (w *world) plan(name string) string {
	w.Helper()
	i := slices.IndexFunc(w.plans, func(p *v1alpha1.RebalancePlan) bool { return p.Name == name })
	if i < 0 {
		return "gone"
	}
	p := w.plans[i]
	s := &p.Status
	text := fmt.Sprintf("wave %d, %d of %d moved, %d skipped", s.Wave, s.Moved, s.Moves, s.Skipped)
	for _, m := range s.SkippedMoves {
		text += fmt.Sprintf("; %s %s: %s", m.Workload.Name, m.Reason, m.Message)
	}
	for _, c := range s.Conditions {
		if c.Status == corev1.ConditionTrue || c.Reason != v1alpha1.OverReason {
			text += fmt.Sprintf("; %s %s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return strings.ReplaceAll(text, " : ", ": ")
}

func (w *world) expectPlan(name, want string) {
	w.Helper()
	if got := w.plan(name); got != want {
		w.Errorf("plan %s: %s\nwant %s", name, got, want)
	}
}

// TestPlanIsCarriedOut: the moves of a plan are made, wave by wave, each through the engine; who asks finds the plan in the history
// of the decisions. Then nothing more is written.
func TestPlanIsCarriedOut(t *testing.T) {
	w := rebalancedWorld(t)
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", "2 web a c", "1 api a b")}
	w.pass()
	w.expect(map[string]string{"api": "b", "web": "c"})
	w.expectPlan("p1", "wave 2, 2 of 2 moved, 0 skipped; Complete True: 2 of 2 moves are done")
	if got, want := fmt.Sprint(w.history("web")[:1]), "[Rebalanced a>c]"; got != want {
		t.Errorf("history %s, want %s", got, want)
	}
	if told := w.eventsOf("Complete"); len(told) != 1 {
		t.Errorf("events %q", w.events)
	}
	w.show()
	w.sleep(time.Minute)
	w.pass()
	w.writes = nil
	w.pass()
	w.restart()
	w.pass()
	if len(w.writes) > 0 {
		t.Errorf("writes after the end: %q", w.writes)
	}
	w.expect(map[string]string{"api": "b", "web": "c"})
}

// TestPlanIsKilled: a controller that is killed before or after any of its writes leaves a plan that the next one carries on, to the
// same end. No move of a wave is made before those of the earlier ones.
func TestPlanIsKilled(t *testing.T) {
	for kill := 0; ; kill++ {
		w := rebalancedWorld(t)
		w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 api a b", "2 web a c", "3 api b a")}
		w.writes = nil
		killed := false
		for passes := 0; !w.plans[0].IsOver(); passes++ {
			if passes > 100 {
				t.Fatalf("killed at write %d: %s", kill, w.plan("p1"))
			}
			if !killed && len(w.writes) >= kill/2 {
				if killed = true; kill%2 == 1 {
					w.failNext = errors.New("killed before it")
					_ = w.reconcile()
				}
				w.failNext = nil
				w.show()
				w.restart()
			}
			if err := w.reconcile(); err != nil {
				t.Fatal(err)
			}
			if where := w.where(); where["web"] == "c" && w.plans[0].Status.Wave < 2 || where["web"] == "a" && w.plans[0].Status.Wave > 2 {
				t.Fatalf("killed at write %d: in wave %d they are at %v", kill, w.plans[0].Status.Wave, where)
			}
		}
		w.expect(map[string]string{"api": "a", "web": "c"})
		w.expectPlan("p1", "wave 3, 3 of 3 moved, 0 skipped; Complete True: 3 of 3 moves are done")
		if !killed {
			return
		}
	}
}

// TestMovesThatDoNotApply: whatever a plan asks for that cannot be, or is not so any more, is skipped, and the rest of it is made.
func TestMovesThatDoNotApply(t *testing.T) {
	for _, test := range []struct {
		name, move, want string
		change           func(w *world)
	}{
		{"a workload that there is not", "1 nobody a b", "nobody WorkloadGone: there is no such workload any more", nil},
		{"another of that name", "1 web a b", "web WorkloadGone: there is no such workload any more", func(w *world) { w.plans[0].Spec.Moves[0].Workload.UID = "former" }},
		{"another namespace", "1 web a b", "web WorkloadGone: there is no such workload any more", func(w *world) { w.plans[0].Spec.Moves[0].Workload.Namespace = "other" }},
		{"a cluster that there is not", "1 web a nowhere", "web NotAdmitted: there is no cluster nowhere", nil},
		{"where it is", "1 web a a", "web Invalid: it is to leave a cluster for the same", nil},
		{"from where it is not", "1 web b c", "web MovedMeanwhile: it is on a", nil},
		{"one that is not placed", "1 huge a b", "huge NotPlaced: it is not placed", func(w *world) { w.workloads = append(w.workloads, testWorkload("huge", 9000)) }},
		{"one that is pinned", "1 web a b", "web NotAdmitted: it has the annotation tmc.kcp.io/pinned", func(w *world) {
			w.workloads[1].Annotations = map[string]string{v1alpha1.AnnotationPinned: "true"}
		}},
		{"where its placement does not let it", "1 web a b", "web NotAdmitted: b does not admit it: ClusterSelector: not among clusterSelector.clusterNames", func(w *world) {
			w.edit(func(p *v1alpha1.WorkloadPlacement) {
				p.Spec.ClusterSelector = &v1alpha1.ClusterSelector{ClusterNames: []string{"a", "c"}}
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := rebalancedWorld(t)
			w.plans = []*v1alpha1.RebalancePlan{moves("p1", test.move, "2 api a c")}
			if test.change != nil {
				test.change(w)
			}
			w.pass()
			w.sleep(confirmWithin) // what it names may be shown later than the plan
			w.pass()
			w.expectPlan("p1", "wave 2, 1 of 2 moved, 1 skipped; "+test.want+"; Complete True: 1 of 2 moves are done, 1 do not apply any more")
			w.expect(map[string]string{"api": "c", "web": "a"})
		})
	}
}

// TestAPlanIsShownFirst: a plan may be shown before the cluster that it names.
func TestAPlanIsShownFirst(t *testing.T) {
	w := rebalancedWorld(t)
	later := w.clusters[1]
	w.clusters = slices.Delete(slices.Clone(w.clusters), 1, 2)
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 web a b")}
	w.pass()
	w.expect(map[string]string{"api": "a", "web": "a"})
	w.clusters = append(w.clusters, later)
	w.pass()
	w.expect(map[string]string{"api": "a", "web": "b"})
	w.expectPlan("p1", "wave 1, 1 of 1 moved, 0 skipped; Complete True: 1 of 1 moves are done")
}

// TestOneWorkloadTwiceInAWave: the first of its moves counts.
func TestOneWorkloadTwiceInAWave(t *testing.T) {
	w := rebalancedWorld(t)
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 web a b", "1 web a c", "1 web b a")}
	w.pass()
	w.expect(map[string]string{"api": "a", "web": "b"})
	w.expectPlan("p1", "wave 1, 1 of 3 moved, 2 skipped; web Twice: the wave has another move of the workload; web Twice: the wave has another move of the workload; Complete True: 1 of 3 moves are done, 2 do not apply any more")
}

// TestMovesWaitForRoom: a move waits for room as long as a move may take, and is skipped then.
func TestMovesWaitForRoom(t *testing.T) {
	w := rebalancedWorld(t)
	w.change("b", func(c *v1alpha1.ClusterRegistration) { c.Status.Allocated = c.Status.Allocatable.DeepCopy() })
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 web a b")}
	w.elapse(10*time.Minute - time.Second)
	w.pass()
	w.expectPlan("p1", "wave 1, 0 of 1 moved, 0 skipped; Progressing True CarriedOut: wave 1 is carried out: Deployment default/web: b does not admit it: Capacity: asks for 2 cpu, 0 free")
	other := w.plans[0].DeepCopy()
	w.elapse(time.Second)
	w.pass()
	w.expectPlan("p1", "wave 1, 0 of 1 moved, 1 skipped; web NotAdmitted: b does not admit it: Capacity: asks for 2 cpu, 0 free; Complete True: 0 of 1 moves are done, 1 do not apply any more")

	// With room in time it moves.
	w.clock = w.clock.Add(-time.Minute)
	w.plans = []*v1alpha1.RebalancePlan{other}
	w.change("b", func(c *v1alpha1.ClusterRegistration) { c.Status.Allocated = nil })
	w.restart()
	w.pass()
	w.expect(map[string]string{"api": "a", "web": "b"})
}

// TestPlanIsStoppedByHand: a plan that is suspended or deleted stops before its next wave and goes on when it may; what has moved stays.
func TestPlanIsStoppedByHand(t *testing.T) {
	w := rebalancedWorld(t)
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 api a b", "2 web a c")}
	suspend := func(is bool) {
		p := w.plans[0].DeepCopy()
		p.Spec.Suspend, p.ResourceVersion = is, w.next()
		w.plans = []*v1alpha1.RebalancePlan{p}
	}
	for w.where()["api"] != "b" {
		if err := w.reconcile(); err != nil {
			t.Fatal(err)
		}
	}
	suspend(true)
	w.pass()
	w.sleep(time.Hour)
	w.pass()
	w.expect(map[string]string{"api": "b", "web": "a"})
	if got := w.plan("p1"); !strings.Contains(got, "Progressing False Suspended: spec.suspend is true: what has moved stays where it is") {
		t.Error(got)
	}
	suspend(false)
	w.pass()
	w.expect(map[string]string{"api": "b", "web": "c"})

	w = rebalancedWorld(t)
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 api a b", "2 web a c")}
	for w.where()["api"] != "b" {
		if err := w.reconcile(); err != nil {
			t.Fatal(err)
		}
	}
	w.plans = nil
	w.pass()
	w.expect(map[string]string{"api": "b", "web": "a"})
}

// TestOnePlanAtATime: the oldest plan that is not over nor suspended is carried out, the others say so.
func TestOnePlanAtATime(t *testing.T) {
	w := rebalancedWorld(t)
	w.change("b", func(c *v1alpha1.ClusterRegistration) { c.Status.Allocated = c.Status.Allocatable.DeepCopy() })
	older, younger := moves("zebra", "1 web a b"), moves("ant", "1 api a c")
	older.CreationTimestamp, younger.CreationTimestamp = metav1.NewTime(w.clock.Add(-time.Hour)), metav1.NewTime(w.clock)
	w.plans = []*v1alpha1.RebalancePlan{younger, older}
	w.pass()
	w.expectPlan("ant", "wave 0, 0 of 1 moved, 0 skipped; Progressing False WaitsForPlan: RebalancePlan zebra is carried out first")
	w.expect(map[string]string{"api": "a", "web": "a"})
	w.change("b", func(c *v1alpha1.ClusterRegistration) { c.Status.Allocated = nil })
	w.pass()
	w.expect(map[string]string{"api": "c", "web": "b"})
	w.expectPlan("ant", "wave 1, 1 of 1 moved, 0 skipped; Complete True: 1 of 1 moves are done")
}

// TestPlanHalts: a plan stops by itself, for good, when things have got worse since it began.
func TestPlanHalts(t *testing.T) {
	for _, test := range []struct {
		name, want string
		worse      func(w *world)
	}{
		{"more workloads wait", "Halted True MoreWorkloadsWait: 1 workloads wait for a cluster, 0 did when the plan began", func(w *world) {
			w.workloads = append(w.workloads, testWorkload("huge", 9000))
		}},
		{"a cluster is lost", "Halted True ClusterLostSince: cluster c has been lost since the plan began", func(w *world) {
			w.change("c", func(c *v1alpha1.ClusterRegistration) {
				c.Status.Conditions[0].Status, c.Status.Conditions[0].Reason = corev1.ConditionFalse, v1alpha1.ClusterLostReason
				c.Status.Conditions[0].LastTransitionTime = metav1.NewTime(w.clock)
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := rebalancedWorld(t)
			w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 api a b", "2 web a b", "3 web b a")}
			w.change("b", func(c *v1alpha1.ClusterRegistration) { c.Status.Allocatable["cpu"] = resource.MustParse("3") })
			w.pass() // there is no room for web
			w.sleep(time.Second)
			test.worse(w)
			w.pass()
			w.change("b", func(c *v1alpha1.ClusterRegistration) { c.Status.Allocatable["cpu"] = resource.MustParse("4") })
			w.pass()
			if got := w.plan("p1"); !strings.Contains(got, test.want) {
				t.Errorf("%s, want %s", got, test.want)
			}
			w.workloads = w.workloads[:2]
			w.sleep(time.Hour)
			w.pass()
			w.expect(map[string]string{"api": "b", "web": "a"})
			if told := w.eventsOf("Halted"); len(told) != 1 {
				t.Errorf("events %q", w.events)
			}
		})
	}
}

// TestPlanKeepsTheBudget: no more workloads move within an interval than the disruption budget lets, whatever a plan says.
func TestPlanKeepsTheBudget(t *testing.T) {
	w := newWorld(t)
	w.workspace.brake.Budget = disruption.Default
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	var lines []string
	for i := range 40 {
		name := fmt.Sprintf("w%02d", i)
		w.workloads, lines = append(w.workloads, testWorkload(name, 1000)), append(lines, "1 "+name+" a b")
	}
	w.pass()
	w.clusters = append(w.clusters, testCluster("b", "40"))
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", lines...)}
	w.pass()
	w.elapse(10 * time.Second)
	w.on("30 10")
	if got := w.plan("p1"); !strings.HasPrefix(got, "wave 1, 10 of 40 moved, 0 skipped; Progressing True CarriedOut: wave 1 is carried out: Deployment default/w10: it waits for its turn to leave a; ") {
		t.Error(got)
	}
	for _, want := range []string{"20 20", "10 30", "0 40"} {
		w.elapse(time.Minute)
		w.pass()
		w.on(want)
	}
	w.expectPlan("p1", "wave 1, 40 of 40 moved, 0 skipped; Complete True: 40 of 40 moves are done")
}

// TestMovesAreVerified: where agents deliver, a move is done once the workload is ready in its new place and gone from the old one, and
// the next wave begins then. A plan of which that does not come true in time halts.
func TestMovesAreVerified(t *testing.T) {
	begun := func(t *testing.T) *delivered {
		d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"), testCluster("c", "4"))
		d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
		d.taint("b", corev1.Taint{Key: "later", Effect: corev1.TaintEffectNoSchedule})
		d.taint("c", corev1.Taint{Key: "later", Effect: corev1.TaintEffectNoSchedule})
		d.workloads = []*workloadObject{delivers("api", 2000), delivers("web", 2000)}
		d.pass()
		d.runs("a", false, "api", "web")
		d.taint("b")
		d.taint("c")
		d.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 api a b", "2 web a c")}
		d.show()
		d.pass()
		d.expect(map[string]string{"api": "b", "web": "a"})
		return d
	}
	t.Run("in time", func(t *testing.T) {
		d := begun(t)
		d.runs("b", false, "api")
		d.saysOn("b", v1alpha1.HealthCurrent, "")
		d.sleep(time.Minute)
		d.pass()
		d.expect(map[string]string{"api": "b", "web": "a"})
		d.expectPlan("p1", "wave 1, 0 of 2 moved, 0 skipped; Progressing True CarriedOut: wave 1 is carried out: Deployment default/api: it is not gone from a yet")
		d.restart()
		d.pass()
		d.expect(map[string]string{"api": "b", "web": "a"})
		d.runs("a", false, "web")
		d.saysOn("b", v1alpha1.HealthCurrent, "")
		d.show()
		d.pass()
		d.show()
		d.pass()
		d.expect(map[string]string{"api": "b", "web": "c"})
	})
	t.Run("too late", func(t *testing.T) {
		d := begun(t)
		d.sleep(10 * time.Minute)
		d.show()
		d.pass()
		d.expect(map[string]string{"api": "b", "web": "a"})
		if got := d.plan("p1"); !strings.Contains(got, "Halted True MoveTimedOut: 1 workloads have moved and are not where they should be after 10m0s: Deployment default/api: it is not gone from a yet") {
			t.Error(got)
		}
	})
}

// TestHostilePlans: a plan that nobody would write moves nothing and stops nobody else.
func TestHostilePlans(t *testing.T) {
	w := rebalancedWorld(t)
	var lines []string
	for i := range v1alpha1.MaxRebalanceMoves {
		lines = append(lines, fmt.Sprintf("%d web%d a b", 1+i%v1alpha1.MaxRebalanceWaves, i))
	}
	unreadable := moves("unreadable", "1 web a b")
	w.unreadable = map[types.UID]decode.Problems{"unreadable": {{Field: "spec.moves[0].wave", Message: "is no number"}}}
	empty := moves("empty")
	w.plans = []*v1alpha1.RebalancePlan{moves("a-large-one", lines...), empty, unreadable, moves("honest", "1 web a b")}
	w.pass()
	w.sleep(confirmWithin)
	w.pass()
	w.expect(map[string]string{"api": "a", "web": "b"})
	if got := w.plan("a-large-one"); !strings.Contains(got, "0 of 1000 moved, 1000 skipped") || len(w.plans[0].Status.SkippedMoves) > v1alpha1.MaxRebalanceSkipped {
		t.Error(got)
	}
	for _, p := range w.plans {
		if !p.IsOver() {
			t.Errorf("%s: %s", p.Name, w.plan(p.Name))
		}
	}
	if c := conditions.Get(w.plans[slices.IndexFunc(w.plans, func(p *v1alpha1.RebalancePlan) bool { return p.Name == "unreadable" })], v1alpha1.HaltedCondition); c == nil || c.Reason != v1alpha1.InvalidPlanReason {
		t.Error(w.plan("unreadable"))
	}
}

// TestPlanMovesOnce: a plan has workloads leave the group of clusters that they return to. Each is moved once: were it moved again, it
// would go to and fro, and use up the budget of disruptions that the others of its wave wait for.
func TestPlanMovesOnce(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("own", "4"), testCluster("rented", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1)), Fallback: []v1alpha1.ClusterGroup{
		{Name: "own", ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"own"}}, ReturnAfter: &metav1.Duration{Duration: 5 * time.Second}}, {Name: "any"},
	}})}
	w.workloads = []*workloadObject{testWorkload("api", 1000), testWorkload("web", 1000)}
	w.pass()
	w.expect(map[string]string{"api": "own", "web": "own"})
	w.workspace.brake.Budget = disruption.Budget{Minimum: 1, Interval: time.Minute}
	w.plans = []*v1alpha1.RebalancePlan{moves("p1", "1 api own rented", "1 web own rented")}
	for range 10 {
		w.pass()
		w.sleep(time.Minute)
	}
	w.expectPlan("p1", "wave 1, 1 of 2 moved, 1 skipped; api MovedMeanwhile: it has made the move, and is on own by now; Complete True: 1 of 2 moves are done, 1 do not apply any more")
}
