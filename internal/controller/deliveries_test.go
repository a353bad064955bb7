package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/internal/delivery"
)

// delivered is a world in which works are delivered: round is what the last pass has handed over.
type delivered struct {
	*world
	round delivery.Round
}

func newDelivered(t testing.TB, clusters ...*v1alpha1.ClusterRegistration) *delivered {
	d := &delivered{world: newWorld(t)}
	for _, c := range clusters {
		c.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
	}
	d.clusters = clusters
	d.restart()
	return d
}

func (d *delivered) restart() {
	d.world.restart()
	d.workspace.handOver = func(r delivery.Round) { d.round = r }
}

// handedOver is what was handed over on a workload.
func (d *delivered) handedOver(name string) string {
	for _, a := range d.round.Assignments {
		if a.Name == name {
			var on []string
			for _, target := range a.Targets {
				on = append(on, target.Cluster)
			}
			return strings.TrimSpace([]string{"unknown", "decided", "waiting", "unselected"}[a.State] + " " + strings.Join(on, ","))
		}
	}
	return "gone"
}

func (d *delivered) expectRound(name, want string) {
	d.Helper()
	if got := d.handedOver(name); got != want {
		d.Errorf("%s is handed over as %s, want %s", name, got, want)
	}
}

// runs makes the Works of a cluster have these workloads. An agent that is behind has not carried that out.
func (d *delivered) runs(cluster string, behind bool, names ...string) {
	namespace := v1alpha1.WorkNamespace(cluster)
	work := &v1alpha1.Work{}
	if i := slices.IndexFunc(d.works, func(w *v1alpha1.Work) bool { return w.Namespace == namespace }); i >= 0 {
		work = d.works[i].DeepCopy()
		d.works = slices.Delete(slices.Clone(d.works), i, i+1)
	}
	work.Name, work.Namespace = "w", namespace
	work.Generation++
	work.Spec.Manifests = nil
	for _, name := range names {
		work.Spec.Manifests = append(work.Spec.Manifests, v1alpha1.Manifest{Revision: "1", WorkloadUID: types.UID(name), Object: runtime.RawExtension{
			Raw: fmt.Appendf(nil, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"namespace":"default","name":%q},"spec":{"replicas":2}}`, name),
		}})
	}
	if !behind {
		work.Status.ObservedGeneration = work.Generation
	}
	d.works = append(d.works, work)
}

func (d *delivered) free(cluster string) int64 {
	return d.workspace.engine.Snapshot("ws").Row(cluster).Free.CPU
}

func delivers(name string, cpu int64) *workloadObject {
	o := testWorkload(name, cpu)
	o.source = &delivery.Source{Reference: o.workload.Reference}
	return o
}

// TestWhatIsLeftStaysReserved: what a workload leaves stays reserved until it is gone there, through restarts too.
func TestWhatIsLeftStaysReserved(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
	d.workloads = []*workloadObject{pin(delivers("web", 2000), "a")}
	d.pass()
	d.expectRound("web", "decided a")
	d.runs("a", false, "web")

	d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")}
	d.pass()
	d.expectRound("web", "decided b")
	reserved := func(when string, a, b int64) {
		t.Helper()
		if gotA, gotB := 4000-d.free("a"), 4000-d.free("b"); gotA != a || gotB != b {
			t.Errorf("%s: %d reserved on a and %d on b, want %d and %d", when, gotA, gotB, a, b)
		}
	}
	reserved("after the move", 2000, 2000)
	d.runs("b", false, "web")
	d.sleep(time.Minute)
	d.show()
	d.pass()
	reserved("while it runs on both", 2000, 2000)
	d.restart()
	d.pass()
	reserved("after a restart", 2000, 2000)
	d.runs("a", true)
	d.pass()
	reserved("before the agent has removed it", 2000, 2000)
	d.runs("a", false)
	d.pass()
	reserved("once it is gone", 0, 2000)
	d.show()
	d.writes = nil
	d.pass()
	for _, slice := range d.stored {
		if leaving := slice.Decisions[0].Leaving; len(leaving) > 0 {
			t.Errorf("leaving %v", leaving)
		}
	}
}

// TestWhatMayStillRunStaysReserved: a workload that asks for less keeps what it has until the agent says that the cluster runs no more of it,
// through a restart too. The report need not count all pods: those that were evicted or have not started yet may still come.
func TestWhatMayStillRunStaysReserved(t *testing.T) {
	t.Run("one cluster", func(t *testing.T) { whatMayStillRunStaysReserved(t, one) })
	t.Run("divided among more clusters than there are", func(t *testing.T) {
		whatMayStillRunStaysReserved(t, v1alpha1.WorkloadPlacementSpec{ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided}})
	})
}

func whatMayStillRunStaysReserved(t *testing.T, spec v1alpha1.WorkloadPlacementSpec) {
	scaled := func(replicas, cpu, generation int64) *workloadObject {
		w := delivers("web", replicas*cpu)
		w.workload.Divisible, w.workload.Replicas, w.source.Generation = true, replicas, generation
		return w
	}
	for name, c := range map[string]struct {
		after *workloadObject
		// still are what the cluster says while more runs there, released once the last of them is not.
		still []v1alpha1.WorkloadCounts
		then  v1alpha1.WorkloadCounts
		at    int64
	}{
		"fewer replicas": {
			scaled(1, 1000, 2),
			[]v1alpha1.WorkloadCounts{{Replicas: 4, Updated: 4}, {Replicas: 2, Updated: 2}}, v1alpha1.WorkloadCounts{Replicas: 1, Updated: 1}, 1000,
		},
		"less for each": {
			scaled(4, 250, 2),
			[]v1alpha1.WorkloadCounts{{Replicas: 5, Updated: 1}, {Replicas: 4, Updated: 3}}, v1alpha1.WorkloadCounts{Replicas: 4, Updated: 4}, 1000,
		},
		"to none": {scaled(0, 0, 2), []v1alpha1.WorkloadCounts{{Replicas: 1, Updated: 1}}, v1alpha1.WorkloadCounts{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDelivered(t, testCluster("a", "4"))
			d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(spec)}
			d.workloads = []*workloadObject{scaled(4, 1000, 1)}
			d.pass()
			tells := func(generation int64, health v1alpha1.Health, n v1alpha1.WorkloadCounts) {
				d.runs("a", false, "web")
				work := d.works[0]
				m := &work.Spec.Manifests[0]
				m.Generation, m.Revision, m.Replicas = generation, fmt.Sprint(generation), ptr.To(int32(4))
				if generation == 2 {
					m.Replicas = ptr.To(int32(c.after.workload.Replicas))
				}
				work.Status.Manifests = []v1alpha1.ManifestStatus{{ManifestReference: v1alpha1.ManifestReference{WorkloadUID: "web"}, Revision: m.Revision, Health: health, Counts: &n}}
			}
			reserved := func(when string, want int64) {
				t.Helper()
				d.sleep(WriteWithin)
				d.show()
				d.pass()
				if got := 4000 - d.free("a"); got != want {
					t.Errorf("%s: %d reserved, want %d", when, got, want)
				}
			}
			tells(1, v1alpha1.HealthCurrent, v1alpha1.WorkloadCounts{Replicas: 4, Updated: 4})
			reserved("at first", 4000)
			d.workloads = []*workloadObject{c.after}
			reserved("before the Work says it", 4000)
			tells(2, "", v1alpha1.WorkloadCounts{})
			d.works[0].Status.Manifests[0].Revision = "1"
			reserved("before the agent has applied it", 4000)
			for _, n := range c.still {
				tells(2, v1alpha1.HealthInProgress, n)
				reserved(fmt.Sprintf("with %+v", n), 4000)
			}
			d.restart()
			reserved("after a restart", 4000)
			tells(2, v1alpha1.HealthCurrent, c.then)
			reserved("once no more runs", c.at)
			d.restart()
			reserved("after another restart", c.at)
			d.writes = nil
			reserved("at rest", c.at)
			if len(d.writes) > 0 {
				t.Errorf("written at rest: %v", d.writes)
			}
		})
	}
}

// TestAWorkThatIsNotShownYetHoldsItsRoom: a Work with what a workload asked for before may be under way when the workload asks for less, however
// long ago it was placed.
func TestAWorkThatIsNotShownYetHoldsItsRoom(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 4000)}
	d.pass()
	d.sleep(2 * WriteWithin)
	d.show()
	d.workloads = []*workloadObject{delivers("web", 1000)}
	for _, want := range []int64{0, 3000} {
		d.pass()
		if got := d.free("a"); got != want {
			t.Errorf("%d free, want %d", got, want)
		}
		d.sleep(WriteWithin)
		d.show()
	}
}

// TestWhatIsUnderWayHoldsItsRoom: a Work may be under way to a cluster that a workload leaves, for as long as a write takes after it was handed
// over that it leaves, which may be long after that was decided.
func TestWhatIsUnderWayHoldsItsRoom(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
	d.workloads = []*workloadObject{pin(delivers("web", 2000), "a")}
	d.pass()
	d.expectRound("web", "decided a")
	d.show()

	const slow = WriteWithin - time.Second
	write := d.workspace.writeDecision
	d.workspace.writeDecision = func(ctx context.Context, object *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
		d.sleep(slow)
		return write(ctx, object)
	}
	d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")}
	d.pass()
	d.expectRound("web", "decided b")
	d.workspace.writeDecision = write
	for _, want := range []int64{2000, 4000} {
		d.sleep(WriteWithin - slow)
		d.show()
		d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")} // another object: that it is edited time and again changes nothing
		d.pass()
		if got := d.free("a"); got != want {
			t.Errorf("%d free on a, want %d", got, want)
		}
		d.sleep(slow)
	}
}

// TestWhatIsWrittenIsThere: a workload leaves a cluster, and the watch shows nothing of the Work that has it there. It holds its room as long as
// those who deliver know of the Work, and while they do not know what there is: nothing is taken for gone since it is not seen.
func TestWhatIsWrittenIsThere(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
	d.workloads = []*workloadObject{pin(delivers("web", 2000), "a")}
	d.pass()
	d.runs("a", false, "web")
	known := &delivery.Result{Unshown: d.works}
	d.works = nil
	d.workspace.outcome = func() *delivery.Result { return known }
	d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")}
	for _, step := range []struct {
		known *delivery.Result
		want  int64
	}{{known, 2000}, {nil, 2000}, {&delivery.Result{Unsure: true}, 2000}, {&delivery.Result{}, 4000}} {
		known = step.known
		for range 3 {
			d.pass()
			d.show()
			d.sleep(10 * WriteWithin)
		}
		if got := d.free("a"); got != step.want {
			t.Errorf("%d free on a, want %d: known is %+v", got, step.want, step.known)
		}
	}
}

// TestWhoHoldsNothingMore: what a workload asks for less is free at once where nobody is to say how much runs: on a cluster that others
// deliver to, and where an autoscaler of the cluster owns the replicas.
func TestWhoHoldsNothingMore(t *testing.T) {
	for name, change := range map[string]func(*delivered){
		"not delivering": func(d *delivered) { d.clusters[0] = testCluster("a", "4") },
		"scaled":         func(d *delivered) { d.works[0].Spec.Manifests[0].Scaled = true },
	} {
		d := newDelivered(t, testCluster("a", "4"))
		d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
		d.workloads = []*workloadObject{delivers("web", 4000)}
		d.pass()
		d.runs("a", false, "web")
		change(d)
		d.workloads = []*workloadObject{delivers("web", 1000)}
		d.pass()
		if got := d.free("a"); got != 3000 {
			t.Errorf("%s: %d free", name, got)
		}
	}
}

// TestALostClusterHoldsNothingBack: nobody tells when a workload is gone from a cluster that is lost, or that is not registered
// any more.
func TestALostClusterHoldsNothingBack(t *testing.T) {
	for name, lose := range map[string]func(*delivered){
		"not registered": func(d *delivered) { d.clusters = d.clusters[1:] },
		"not delivering": func(d *delivered) { d.clusters[0] = testCluster("a", "4") },
		"lost": func(d *delivered) {
			lost := d.clusters[0].DeepCopy()
			lost.Status.Conditions[0].Status, lost.Status.Conditions[0].Reason = corev1.ConditionFalse, v1alpha1.ClusterLostReason
			d.clusters[0] = lost
		},
	} {
		d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
		d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
		d.workloads = []*workloadObject{pin(delivers("web", 2000), "a")}
		d.pass()
		d.runs("a", false, "web")
		d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")}
		d.pass()
		lose(d)
		d.pass()
		for _, slice := range d.stored {
			if leaving := slice.Decisions[0].Leaving; len(leaving) > 0 {
				t.Errorf("%s: leaving %v", name, leaving)
			}
		}
	}
}

// TestALostClusterIsBackBeforeThatIsWritten: what a workload leaves counts as gone while that cluster is lost. Once the cluster is back, and the
// workload still runs there, no write says that it is gone, whenever that was decided.
func TestALostClusterIsBackBeforeThatIsWritten(t *testing.T) {
	lost := testCluster("a", "4")
	lost.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
	lost.Status.Conditions[0].Status, lost.Status.Conditions[0].Reason = corev1.ConditionFalse, v1alpha1.ClusterLostReason
	for name, movesBefore := range map[string]bool{"it has left before": true, "it leaves meanwhile": false} {
		d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
		back := d.clusters[0]
		d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
		d.workloads = []*workloadObject{pin(delivers("web", 2000), "a")}
		d.pass()
		d.runs("a", false, "web")
		if movesBefore {
			d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")}
			d.pass()
		}
		d.show()
		write := d.workspace.writeDecision
		d.refuseWrites("p-0")
		d.clusters[0] = lost
		d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")}
		if err := d.reconcile(); err == nil {
			t.Fatal("the write must fail")
		}
		d.workspace.writeDecision = write
		d.clusters[0] = back
		d.sleep(time.Minute)
		d.pass()
		leaving := func() int {
			return len(d.stored[types.NamespacedName{Namespace: "default", Name: "p-0"}].Decisions[0].Leaving)
		}
		if leaving() != 1 || d.free("a") != 2000 {
			t.Errorf("%s: it leaves %d clusters, and %d are free on a", name, leaving(), d.free("a"))
		}
		d.runs("a", false)
		d.sleep(WriteWithin)
		d.pass()
		if leaving() != 0 || d.free("a") != 4000 {
			t.Errorf("%s: once it is gone it leaves %d clusters, and %d are free on a", name, leaving(), d.free("a"))
		}
	}
}

// TestWhatRunsIsReservedWhereItReturns: a workload asks for less, and is decided to be on a cluster where it may still run as it was. As much as
// is durably promised there stays reserved until the agent has carried out less, though the last decision promised nothing or less there.
func TestWhatRunsIsReservedWhereItReturns(t *testing.T) {
	whileLost := func(on string) func(d *delivered, lose, back func()) {
		return func(d *delivered, lose, back func()) {
			write := d.workspace.writeDecision
			d.refuseWrites("p-0")
			lose()
			d.workloads = []*workloadObject{pin(delivers("web", 500), on)}
			_ = d.reconcile()
			d.workspace.writeDecision = write
			back()
		}
	}
	for name, between := range map[string]func(d *delivered, lose, back func()){
		"from where it was to go, which was never written": whileLost("b"),
		"to where it was while the cluster was lost":       whileLost("a"),
		"while it leaves": func(d *delivered, _, _ func()) {
			d.workloads = []*workloadObject{pin(delivers("web", 2000), "b")}
			d.pass()
			d.show()
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
			there, lost := d.clusters[0], d.clusters[0].DeepCopy()
			lost.Status.Conditions[0].Status, lost.Status.Conditions[0].Reason = corev1.ConditionFalse, v1alpha1.ClusterLostReason
			d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
			d.workloads = []*workloadObject{pin(delivers("web", 2000), "a")}
			d.pass()
			d.runs("a", false, "web")
			d.sleep(2 * WriteWithin)
			d.show()
			between(d, func() { d.clusters[0] = lost }, func() { d.clusters[0] = there })
			d.workloads = []*workloadObject{pin(delivers("web", 500), "a")}
			d.sleep(time.Minute)
			for _, step := range []struct {
				carriedOut bool
				reserved   string
			}{{false, "2"}, {true, "500m"}} {
				if step.carriedOut {
					d.runs("a", false, "web")
					d.works[0].Status.Manifests = []v1alpha1.ManifestStatus{{
						ManifestReference: v1alpha1.ManifestReference{WorkloadUID: "web"}, Revision: "1", Health: v1alpha1.HealthCurrent, Counts: &v1alpha1.WorkloadCounts{},
					}}
				}
				for range 3 {
					d.pass()
					d.show()
					d.sleep(WriteWithin)
				}
				stored := d.stored[types.NamespacedName{Namespace: "default", Name: "p-0"}].Decisions[0]
				if got := reservedOn(&stored, &stored.Clusters[0])[corev1.ResourceCPU]; stored.Clusters[0].Name != "a" || got.String() != step.reserved {
					t.Errorf("carried out is %t: %s are reserved on %s, want %s on a", step.carriedOut, got.String(), stored.Clusters[0].Name, step.reserved)
				}
				if want := resource.MustParse(step.reserved); 4000-d.free("a") != want.MilliValue() {
					t.Errorf("carried out is %t: %dm are free on a", step.carriedOut, d.free("a"))
				}
			}
		})
	}
}

// TestAnotherOfThatNameIsShown: a watch that is behind shows a workload that has been made again as it was before. What is decided for the new one,
// and where it runs, stays until the server says that it is gone.
func TestAnotherOfThatNameIsShown(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
	former, again := madeAgain(pin(delivers("web", 1000), "b"), "former"), pin(delivers("web", 2000), "a")
	d.workloads = []*workloadObject{again}
	d.pass()
	d.runs("a", false, "web")
	d.show()
	expect := func(when, want string, free int64) {
		t.Helper()
		d.sleep(time.Minute)
		d.pass()
		d.show()
		d.expectRound("web", want)
		if got := d.free("a"); got != free {
			t.Errorf("%s: %d are free on a", when, got)
		}
	}
	d.workloads = []*workloadObject{former}
	d.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "web"}: "web"}
	expect("the server has the new one", "unknown", 2000)
	if !slices.ContainsFunc(d.round.Assignments, func(a *delivery.Assignment) bool { return a.UID == "web" }) {
		t.Error("it runs and has no assignment")
	}
	d.invisible, d.lookErr = nil, errors.New("no route")
	expect("the server cannot be asked", "unknown", 2000)
	d.restart()
	expect("after a restart", "unknown", 2000)
	d.workloads, d.lookErr = []*workloadObject{again}, nil
	expect("the watch has come up", "decided a", 2000)
	d.workloads = []*workloadObject{former}
	d.runs("a", false)
	d.invisible, d.rebound = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "web"}: "former"}, true
	expect("the server has the other one, whatever else it lets us see", "decided b", 4000)
}

// madeAgain has a workload be another one of its name.
func madeAgain(o *workloadObject, uid string) *workloadObject {
	o.UID, o.workload.UID, o.source.UID = types.UID(uid), uid, uid
	return o
}

// TestAnotherOfThatNameSaysNothing: what a cluster may still run of a workload does not follow from another one of its name, which the watch
// shows instead and of which the cluster has just that generation.
func TestAnotherOfThatNameSaysNothing(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	there, lost := d.clusters[0], d.clusters[0].DeepCopy()
	lost.Status.Conditions[0].Status, lost.Status.Conditions[0].Reason = corev1.ConditionFalse, v1alpha1.ClusterLostReason
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	asks := func(cpu, generation int64) *workloadObject {
		w := delivers("web", cpu)
		w.source.Generation = generation
		return w
	}
	d.workloads = []*workloadObject{asks(2000, 1)}
	d.pass()
	d.runs("a", false, "web")
	d.works[0].Spec.Manifests[0].Generation = 1
	d.works[0].Status.Manifests = []v1alpha1.ManifestStatus{{
		ManifestReference: v1alpha1.ManifestReference{WorkloadUID: "web"}, Revision: "1", Health: v1alpha1.HealthCurrent, Counts: &v1alpha1.WorkloadCounts{},
	}}
	d.sleep(2 * WriteWithin)
	d.show()
	write := d.workspace.writeDecision
	d.refuseWrites("p-0")
	d.clusters[0], d.workloads = lost, []*workloadObject{asks(500, 2)}
	_ = d.reconcile()
	d.workspace.writeDecision = write
	d.clusters[0], d.workloads = there, []*workloadObject{madeAgain(asks(300, 1), "former")}
	d.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "web"}: "web"}
	for range 2 {
		d.sleep(time.Minute)
		d.pass()
		d.show()
		if got := d.free("a"); got != 2000 {
			t.Errorf("%d are free on a", got)
		}
	}
}

// TestACopyThatIsStuck: a workload has been made again, and its predecessor's copy stays, since the agent of its cluster does nothing. The new
// one is as any other: whoever has priority takes its place, and the server is not asked for each edit whether the other one is gone.
func TestACopyThatIsStuck(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"), testCluster("b", "4"))
	d.tiered()
	for _, p := range d.placements {
		p.Spec.Constraints = pinned.Constraints
	}
	add := func(tier string, o *workloadObject, on string) {
		d.add(tier, o)
		pin(o, on)
	}
	add("low", delivers("batch", 4000), "b")
	d.pass()
	d.runs("b", true, "batch")
	d.show()
	edit := func() {
		d.workloads = nil
		add("low", madeAgain(delivers("batch", 4000), "again"), "a")
		d.pass()
		d.show()
	}
	edit()
	placements := d.placements
	for _, d.placements = range [][]*v1alpha1.WorkloadPlacement{placements, nil, placements} {
		edit()
		d.looked = 0
		for range 10 {
			edit()
		}
		if d.looked > 0 {
			t.Errorf("asked %d times with %d placements", d.looked, len(d.placements))
		}
	}
	add("urgent", delivers("now", 2000), "a")
	for range 3 {
		d.sleep(time.Minute)
		d.pass()
		d.show()
	}
	if got := fmt.Sprint(d.where()); got != "map[now:a]" {
		t.Error(got)
	}
}

// TestOneThatIsNotConfirmedDelaysNoOther: a workload that is not shown, and that the server has, is no reason to wait with another one that has been
// made again.
func TestOneThatIsNotConfirmedDelaysNoOther(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("short", 1000), delivers("web", 1000)}
	d.pass()
	d.show()
	d.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "short"}: "short"}
	d.workloads = d.workloads[1:]
	for range 10 {
		d.sleep(time.Minute)
		d.pass()
		d.show()
	}
	d.workloads = []*workloadObject{madeAgain(delivers("web", 2000), "again")}
	d.pass()
	if decision, _, _ := d.workspace.store.get(keyOf(d.workloads[0].workload.Reference)); decision.Workload.UID != "again" {
		t.Errorf("decided is %q", decision.Workload.UID)
	}
}

// TestWhatIsHandedOver: nothing is said to be unselected, waiting or gone that only cannot be seen or decided now.
func TestWhatIsHandedOver(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 2000), delivers("huge", 9000)}
	d.pass()
	d.expectRound("web", "decided a")
	d.expectRound("huge", "waiting")
	d.runs("a", false, "web", "kept")
	d.show()

	d.invisible = map[types.NamespacedName]types.UID{{Namespace: "default", Name: "kept"}: "1", {Namespace: "default", Name: "web"}: "1"}
	d.workloads = nil
	d.pass()
	d.expectRound("web", "unknown")
	d.expectRound("kept", "unknown")
	d.invisible = nil
	d.sleep(time.Minute)
	d.pass()
	d.expectRound("kept", "gone")
	d.expectRound("web", "gone")

	d.workloads = []*workloadObject{delivers("web", 2000)}
	d.pass()
	d.expectRound("web", "decided a")
	d.placements = nil
	d.pass()
	d.expectRound("web", "unselected")
}

// TestAnUnwrittenDecisionIsNotDelivered: what is delivered follows from decisions that a restart finds again.
func TestAnUnwrittenDecisionIsNotDelivered(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 2000)}
	d.failNext = fmt.Errorf("no answer")
	if err := d.reconcile(); err == nil {
		t.Fatal("the write must fail")
	}
	d.expectRound("web", "unknown")
	d.sleep(retryFirst)
	d.pass()
	d.expectRound("web", "decided a")
}

// TestAnEvictionCountsOnce: a workload has to leave its cluster, finds no other, and still runs there when there is one: it has lost its
// cluster once.
func TestAnEvictionCountsOnce(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"))
	d.workspace.brake.Budget = disruption.Budget{Minimum: 2, Interval: time.Minute}
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 2000)}
	d.pass()
	d.runs("a", false, "web")
	tainted := d.clusters[0].DeepCopy()
	tainted.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoExecute}}
	d.clusters = []*v1alpha1.ClusterRegistration{tainted}
	d.pass()
	d.expect(map[string]string{})
	b := testCluster("b", "4")
	b.Status.AgentDelivery = &v1alpha1.AgentDelivery{}
	d.clusters = append(d.clusters, b)
	d.pass()
	d.expect(map[string]string{"web": "b"})
	if left := d.workspace.brake.Left(d.clock, 1); left != 1 {
		t.Errorf("%d more may lose a cluster now, want 1", left)
	}
}

// TestWhatIsKeptIsTakenUpAgain: a workload that was kept when no placement selected it stays where it runs, if it may, once one
// selects it again: there it is counted already, however full the cluster is.
func TestWhatIsKeptIsTakenUpAgain(t *testing.T) {
	d := newDelivered(t, testCluster("a", "4"), testCluster("b", "40"))
	d.workloads = []*workloadObject{delivers("web", 3000)}
	d.runs("a", false, "web")
	d.clusters[0].Status.Allocated = corev1.ResourceList{"cpu": d.clusters[0].Status.Allocatable["cpu"]}
	d.usages = map[string]*v1alpha1.ClusterUsage{"a": {
		Allocatable: d.clusters[0].Status.Allocatable, Allocated: d.clusters[0].Status.Allocated,
		Workloads: []v1alpha1.WorkloadUsage{{UID: "web", Requests: delivers("web", 3000).workload.Requests.ResourceList()}},
	}}
	d.pass()
	d.expectRound("web", "unselected")
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.pass()
	d.expectRound("web", "decided a")
	if got := d.free("a"); got != 0 {
		t.Errorf("%d free on a: it is counted twice", got)
	}

	// Where it may not stay it is not promised anything.
	d = newDelivered(t, testCluster("a", "4"))
	d.runs("a", false, "web")
	d.clusters[0].Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoExecute}}
	d.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	d.workloads = []*workloadObject{delivers("web", 2000)}
	d.pass()
	d.expectRound("web", "waiting")
	if got := d.free("a"); got != 4000 {
		t.Errorf("%d free on a", got)
	}
}
