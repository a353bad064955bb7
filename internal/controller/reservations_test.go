package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

func (w *world) freeOnA() int64 {
	return w.workspace.engine.Snapshot("ws").Row("a").Free.CPU
}

// TestReservationExpires: a workload that does not show up in time loses what is reserved for it, loudly, and not its
// decision. When it shows up after all, that is taken note of.
func TestReservationExpires(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("shows up", 1000), testWorkload("does not", 2000)}
	w.pass()
	w.show()
	w.reports("a", "4", map[string]string{"shows up": "1"})
	w.workloads = append(w.workloads, testWorkload("waits", 2000))
	w.workloads[2].CreationTimestamp = metav1.NewTime(w.clock)
	w.pass()
	w.expect(map[string]string{"shows up": "a", "does not": "a"})
	if got := w.condition(v1alpha1.ReservationsHeldCondition); got != "True" {
		t.Error(got)
	}

	// The time is over, and the cluster has reported since.
	w.sleep(time.Hour + time.Second)
	w.reports("a", "4", map[string]string{"shows up": "1"})
	w.events = nil
	w.pass()
	w.expect(map[string]string{"shows up": "a", "does not": "a", "waits": "a"})
	if free := w.freeOnA(); free != 1000 {
		t.Errorf("%d free", free)
	}
	const lost = "Nothing is reserved any more for Deployment default/does not on a since 1970-01-12T14:46:41Z"
	if got := w.condition(v1alpha1.ReservationsHeldCondition); got != "False ReservationExpired: "+lost {
		t.Error(got)
	}
	const event = "does not: ReservationExpired: a has not counted all pods of this workload for 1h0m0s: what was reserved there is given up. Do its pods bear the label tmc.kcp.io/workload-uid=does not?"
	if got := w.takeEvents(); !strings.Contains(got, event) {
		t.Error(got)
	}
	if n := testutil.ToFloat64(w.workspace.metrics.expired); n != 1 {
		t.Errorf("%v expired", n)
	}

	// The next controller knows, too.
	w.restart()
	w.show()
	w.pass()
	if free := w.freeOnA(); free != 1000 {
		t.Errorf("%d free after a restart", free)
	}

	// It shows up, first in part.
	w.reports("a", "4", map[string]string{"shows up": "1", "does not": "500m"})
	w.pass()
	if got := w.condition(v1alpha1.ReservationsHeldCondition); got != "False ReservationExpired: "+lost {
		t.Error(got)
	}
	w.reports("a", "6", map[string]string{"shows up": "1", "does not": "2"})
	w.pass()
	if got := w.condition(v1alpha1.ReservationsHeldCondition); got != "True" {
		t.Error(got)
	}
	if free := w.freeOnA(); free != 1000 {
		t.Errorf("%d free", free)
	}
	w.reports("a", "6", map[string]string{"shows up": "1"})
	w.pass()
	if free := w.freeOnA(); free != 1000 {
		t.Errorf("%d free: it is promised again what it had", free)
	}
}

// TestReservationsOutlastSilence: a cluster that does not report, or does not say whose pods it counts, has not refused
// anything.
func TestReservationsOutlastSilence(t *testing.T) {
	for name, change := range map[string]func(*world){
		"it has never reported": func(w *world) { w.heard = nil },
		"it does not report all workloads": func(w *world) {
			w.usages["a"].OmittedWorkloads = 1
		},
		"what it counts is not seen yet": func(w *world) {
			beat := w.heard["a"]
			later := w.usages["a"].DeepCopy()
			later.Generation++
			beat.usage = v1alpha1.UsageVersion(later)
			w.heard["a"] = beat
		},
		"it does not know what its pods request": func(w *world) {
			beat := w.heard["a"]
			beat.usage = ""
			w.heard["a"] = beat
		},
		"it has not reported since": func(w *world) { w.heardAt(w.clock.Add(-time.Second)) },
		"its pods were there meanwhile": func(w *world) {
			w.reports("a", "4", map[string]string{"w": "2"})
			w.pass()
			w.reports("a", "4", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.workspace.reservationTimeout = 30 * time.Second
			w.reports("a", "4", nil)
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
			w.workloads = []*workloadObject{testWorkload("w", 2000)}
			w.pass()
			w.sleep(30 * time.Second)
			w.reports("a", "4", nil)
			change(w)
			w.pass()
			if free := w.freeOnA(); free != 2000 {
				t.Errorf("%d free", free)
			}
		})
	}
}

// TestFailoverUsesAllThatIsFree is karmada#6518, where applications were failed over to one cluster by estimates that were
// stale while another was free: fifteen workloads whose cluster goes find the 10 and 5 free slots of two others.
func TestFailoverUsesAllThatIsFree(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "15", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	want := map[string]int{}
	for i := range 15 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%02d", i), 1000))
	}
	w.pass()
	w.reports("b", "10", nil)
	w.reports("c", "5", nil)
	w.pass()
	for _, cluster := range w.where() {
		want[cluster]++
	}
	if want["a"] != 15 {
		t.Fatalf("before: %v", want)
	}
	conditions.MarkFalse(w.clusters[0], v1alpha1.ReadyCondition, v1alpha1.ClusterLostReason, "", "")
	w.clusters[0] = w.clusters[0].DeepCopy()
	w.pass()
	after := map[string]int{}
	for _, cluster := range w.where() {
		after[cluster]++
	}
	if len(after) != 2 || after["b"] != 10 || after["c"] != 5 {
		t.Errorf("after: %v", after)
	}
}

// TestFinishedWorkloads keep their clusters, hold nothing there, and go nowhere if they are nowhere.
func TestFinishedWorkloads(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("job", 3000), testWorkload("next", 2000)}
	w.pass()
	w.expect(map[string]string{"job": "a"})
	finished := testWorkload("job", 1) // changed besides
	finished.end = workload.HasFinished
	late := testWorkload("late", 1)
	late.end = workload.HasFinished
	w.workloads = []*workloadObject{finished, w.workloads[1], late}
	w.show()
	w.pass()
	w.expect(map[string]string{"job": "a", "next": "a"})
	if free := w.freeOnA(); free != 2000 {
		t.Errorf("%d free", free)
	}
	w.restart()
	w.sleep(2 * time.Hour)
	w.reports("a", "4", map[string]string{"next": "2"})
	w.writes = nil
	w.pass()
	if free := w.freeOnA(); free != 2000 || w.condition(v1alpha1.ReservationsHeldCondition) != "True" || w.condition(v1alpha1.ScheduledCondition) != "True" {
		t.Errorf("%d free, %s, %s", free, w.condition(v1alpha1.ReservationsHeldCondition), w.condition(v1alpha1.ScheduledCondition))
	}
}

// TestFinishedAfterItExpired: what is missed of a workload is not missed any more when it has finished.
func TestFinishedAfterItExpired(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("job", 3000)}
	w.pass()
	w.show()
	w.sleep(time.Hour + time.Second)
	w.reports("a", "4", nil)
	w.pass()
	w.show()
	if got := w.condition(v1alpha1.ReservationsHeldCondition); !strings.HasPrefix(got, "False ReservationExpired") {
		t.Error(got)
	}
	finished := testWorkload("job", 3000)
	finished.end = workload.HasFinished
	w.workloads = []*workloadObject{finished}
	w.pass()
	w.expect(map[string]string{"job": "a"})
	if got := w.condition(v1alpha1.ReservationsHeldCondition); got != "True" || w.freeOnA() != 4000 {
		t.Errorf("%s, %d free", got, w.freeOnA())
	}
}

// TestWhatHasFinishedKeepsItsRoomUntilThatIsWritten: the room of a job that has finished is free once no durable decision promises it.
func TestWhatHasFinishedKeepsItsRoomUntilThatIsWritten(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p"), ownPlacement("q")}
	waits := ownedBy("q", "waits", 3000)
	waits.CreationTimestamp = metav1.NewTime(w.clock)
	w.workloads = []*workloadObject{ownedBy("p", "job", 3000), waits}
	w.pass()
	w.expect(map[string]string{"job": "a"})

	finished := ownedBy("p", "job", 3000)
	finished.end = workload.HasFinished
	w.workloads = []*workloadObject{finished, waits}
	w.refuseWrites("p-0")
	for range 3 {
		w.show()
		_ = w.reconcile()
		w.expect(map[string]string{"job": "a"})
		if free := w.freeOnA(); free != 1000 {
			t.Errorf("%d free: a durable decision promises 3 of 4", free)
		}
	}
	w.refuseWrites()
	w.sleep(retryLast)
	w.reports("a", "4", nil)
	w.pass()
	w.expect(map[string]string{"job": "a", "waits": "a"})
}

// TestAReservationThatCountsAgain: a workload whose reservation has expired becomes another placement's, and shows up. What its new
// slice promises then is reserved, whether or not the old one can be written.
func TestAReservationThatCountsAgain(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p"), ownPlacement("q")}
	stays := ownedBy("p", "stays", 1000)
	w.workloads = []*workloadObject{ownedBy("p", "w", 2000), stays}
	w.pass()
	w.sleep(time.Hour + time.Second)
	w.reports("a", "4", map[string]string{"stays": "1"})
	w.pass()
	if free := w.freeOnA(); free != 3000 {
		t.Fatalf("%d free: the reservation has expired", free)
	}

	w.show()
	w.workloads = []*workloadObject{ownedBy("q", "w", 2000), stays}
	w.refuseWrites("p-0")
	count := func(cpu string) {
		w.reports("a", "4", map[string]string{"stays": "1", "w": cpu})
		_ = w.reconcile()
		w.show()
	}
	count("0")
	w.restart()
	w.refuseWrites("p-0")
	count("2")
	count("0")
	if slice := w.stored[types.NamespacedName{Namespace: "default", Name: "q-0"}]; slice == nil || slice.Decisions[0].Clusters[0].ReservationExpiredAt != nil {
		t.Fatal("not what the test is about")
	}
	if free := w.freeOnA(); free != 1000 {
		t.Errorf("%d free: a durable decision promises 3 of 4", free)
	}
}

// TestSuspendedWorkloads hold nothing until they are resumed. One that has a place finds it again where there is still room.
func TestSuspendedWorkloads(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	job, asleep, child := testWorkload("job", 3000), testWorkload("asleep", 1000), testWorkload("child", 1000)
	suspend := func(object *workloadObject, end workload.End) { object.end, object.workload.End = end, end }
	suspend(asleep, workload.Suspended)
	suspend(child, workload.Controlled)
	child.workload.Controller = "CronJob nightly"
	w.workloads = []*workloadObject{job, asleep, child}
	w.pass()
	w.expect(map[string]string{"job": "a"})
	if got := w.condition(v1alpha1.ScheduledCondition); !strings.HasPrefix(got, "True") {
		t.Error(got)
	}

	job, asleep = testWorkload("job", 3000), testWorkload("asleep", 1000)
	suspend(job, workload.Suspended)
	w.workloads = []*workloadObject{job, asleep, child}
	w.show()
	w.pass()
	w.expect(map[string]string{"job": "a", "asleep": "a"})
	if free := w.freeOnA(); free != 3000 {
		t.Errorf("%d free while the job is suspended", free)
	}

	w.workloads = []*workloadObject{testWorkload("job", 3000), asleep, child}
	w.show()
	w.pass()
	w.expect(map[string]string{"job": "a", "asleep": "a"})
	if free := w.freeOnA(); free != 0 {
		t.Errorf("%d free once the job is resumed", free)
	}
}

// TestOnlyWhatCanBePlacedIsWoken: of all waiting workloads, a change wakes only those that it makes room for.
func TestOnlyWhatCanBePlacedIsWoken(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "2", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	for i := range 50 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("large-%02d", i), 4000))
		gpu := testWorkload(fmt.Sprintf("gpu-%02d", i), 1)
		gpu.workload.Requests.Extended = map[string]int64{"nvidia.com/gpu": 1}
		w.workloads = append(w.workloads, gpu)
	}
	w.workloads = append(w.workloads, testWorkload("fits", 2000), testWorkload("small", 1000))
	tried := func() int {
		n := 0
		for _, outcome := range []string{"placed", "waiting", "failed"} {
			n += int(testutil.ToFloat64(w.workspace.metrics.decisions.WithLabelValues(outcome)))
		}
		return n
	}
	w.pass()
	w.expect(map[string]string{"fits": "a"})
	before := tried()
	w.reports("a", "3", nil) // the small one, and no other
	w.pass()
	w.expect(map[string]string{"fits": "a", "small": "a"})
	if n := tried() - before; n != 1 {
		t.Errorf("%d workloads were tried, one could be placed", n)
	}
	before = tried()
	w.reports("a", "8", nil) // one of the large ones
	w.pass()
	if n := tried() - before; n != 1 || len(w.where()) != 3 {
		t.Errorf("%d workloads were tried, one could be placed: %v", n, w.where())
	}
	before = tried()
	w.workloads = w.workloads[1:] // the large one goes, and another has its place
	w.pass()
	if n := tried() - before; n != 1 || w.where()["large-01"] != "a" {
		t.Errorf("%d workloads were tried, one could be placed: %v", n, w.where())
	}
}

// TestPriority orders what waits, not what is placed.
func TestPriority(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "2", nil)
	ordinary, urgent := testPlacement(one), testPlacement(one)
	urgent.Name, urgent.UID, urgent.Spec.Priority = "urgent", "urgent", 10
	ordinary.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "urgent", Operator: metav1.LabelSelectorOpDoesNotExist}}}
	urgent.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "urgent", Operator: metav1.LabelSelectorOpExists}}}
	w.placements = []*v1alpha1.WorkloadPlacement{ordinary, urgent}
	for i, name := range []string{"first", "second", "third", "hurries"} {
		o := testWorkload(name, 2000)
		o.CreationTimestamp = metav1.NewTime(time.Unix(int64(i), 0))
		w.workloads = append(w.workloads, o)
	}
	w.workloads = w.workloads[:3]
	w.pass()
	w.expect(map[string]string{"first": "a"})
	hurries := testWorkload("hurries", 2000)
	hurries.CreationTimestamp = metav1.NewTime(time.Unix(100, 0))
	hurries.workload.Labels = map[string]string{"urgent": ""}
	w.workloads = append(w.workloads, hurries)
	w.pass()
	w.expect(map[string]string{"first": "a"})
	w.reports("a", "4", nil)
	w.pass()
	w.expect(map[string]string{"first": "a", "hurries": "a"})
	w.reports("a", "6", nil)
	w.pass()
	w.expect(map[string]string{"first": "a", "hurries": "a", "second": "a"})
}

// TestAnotherLeaderPromisedTheSame: what a leader that did not know that it was none any more has written after we read
// has to fit beside what we have promised since.
func TestAnotherLeaderPromisedTheSame(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "3", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("ours", 2000)}
	w.pass()
	w.show()
	theirs := v1alpha1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Name: "q-0", Namespace: "default"}, PlacementName: "q"}
	for name, cpu := range map[string]string{"theirs": "2", "too": "1"} {
		theirs.Decisions = append(theirs.Decisions, v1alpha1.WorkloadDecision{
			Workload:  v1alpha1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name, UID: types.UID(name)},
			Clusters:  []v1alpha1.ClusterDecision{{Name: "a"}},
			Reserved:  corev1.ResourceList{"cpu": resource.MustParse(cpu)},
			DecidedAt: metav1.NewTime(w.clock),
		})
	}
	if _, err := w.write(context.Background(), &theirs); err != nil {
		t.Fatal(err)
	}
	q := testPlacement(one)
	q.Name, q.UID = "q", "q"
	q.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"q": ""}}
	w.placements = append(w.placements, q)
	for name, cpu := range map[string]int64{"theirs": 2000, "too": 1000} {
		o := testWorkload(name, cpu)
		o.workload.Labels, o.workload.Annotations = map[string]string{"q": ""}, map[string]string{v1alpha1.AnnotationPlacement: "q"}
		w.workloads = append(w.workloads, o)
	}
	w.show()
	w.pass()
	w.expect(map[string]string{"ours": "a", "too": "a"})
	if free := w.freeOnA(); free != 0 {
		t.Errorf("%d free", free)
	}
}

// TestFence: a leader whose lease has run out writes no decisions.
func TestFence(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "3", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	lease := fmt.Errorf("the lease has run out")
	w.workspace.actions = w.workspace.fenced(func() error { return lease })
	if err := w.reconcile(); err == nil || !strings.Contains(err.Error(), lease.Error()) {
		t.Error(err)
	}
	w.expect(map[string]string{})
	lease = nil
	w.pass()
	w.expect(map[string]string{"w": "a"})
	w.workloads = nil
	lease = fmt.Errorf("the lease has run out")
	if err := w.reconcile(); err == nil || !strings.Contains(err.Error(), lease.Error()) {
		t.Error(err)
	}
	w.expect(map[string]string{"w": "a"})
}

// TestAPodOnEachNode: a DaemonSet asks for another amount on each cluster. Its decision says what is reserved on each, and
// another controller reads the same from it.
func TestAPodOnEachNode(t *testing.T) {
	w := newWorld(t)
	for i, name := range []string{"a", "b"} {
		c := testCluster(name, "4")
		c.Status.Nodes = &v1alpha1.NodeCounts{Total: 5, Ready: 4, Usable: int32(2 + i)}
		w.clusters = append(w.clusters, c)
	}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{})}
	logs := testWorkload("logs", 1000)
	logs.workload.PerNode = true
	w.workloads = []*workloadObject{logs}
	w.pass()
	promised := func() string {
		t.Helper()
		d := w.stored[types.NamespacedName{Namespace: "default", Name: "p-0"}].Decisions[0]
		text := fmt.Sprintf("%d in common", len(d.Reserved))
		for _, c := range d.Clusters {
			text += fmt.Sprintf(", %s %s for %d", c.Name, c.Reserved.Cpu(), c.Replicas)
		}
		for _, row := range w.workspace.engine.Snapshot("ws").Rows() {
			text += fmt.Sprintf(", %s has %dm free", row.Name, row.Free.CPU)
		}
		return text
	}
	const want = "0 in common, a 2 for 2, b 3 for 3, a has 2000m free, b has 1000m free"
	if got := promised(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w.show()
	w.restart()
	w.writes = nil
	w.pass()
	if got := promised(); got != want || len(w.writes) > 0 {
		t.Errorf("after a restart: %s, want %s; wrote %v", got, want, w.writes)
	}

	// What is reserved follows the nodes. More than there is room for is not promised, and the workload stays all the same.
	for _, step := range []struct {
		usable int32
		want   string
	}{
		{4, "0 in common, a 2 for 2, b 4 for 4, a has 2000m free, b has 0m free"},
		{1, "0 in common, b 1 for 1, a 2 for 2, a has 2000m free, b has 3000m free"},
		{5, "0 in common, b 1 for 1, a 2 for 2, a has 2000m free, b has 3000m free"},
		{0, "0 in common, b 1 for 1, a 2 for 2, a has 2000m free, b has 3000m free"},
		{2, "1 in common, a 0 for 2, b 0 for 2, a has 2000m free, b has 2000m free"},
	} {
		for i, c := range w.clusters {
			if c.Name == "b" {
				c = c.DeepCopy()
				c.Status.Nodes.Usable = step.usable
				w.clusters[i] = c
			}
		}
		w.pass()
		w.show()
		w.writes = nil
		w.pass()
		if got := promised(); got != step.want || len(w.writes) > 0 {
			t.Errorf("with %d nodes: %s, want %s; then wrote %v", step.usable, got, step.want, w.writes)
		}
	}
}
