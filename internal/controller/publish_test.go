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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/panics"
)

// ownPlacement is a placement of the workloads that carry its name as a label.
func ownPlacement(name string) *v1alpha1.WorkloadPlacement {
	p := testPlacement(pinned)
	p.Name, p.UID = name, types.UID(name)
	p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"of": name}}
	return p
}

func ownedBy(placement, name string, cpu int64) *workloadObject {
	o := testWorkload(name, cpu)
	o.workload.Labels = map[string]string{"of": placement}
	return o
}

// refuseWrites has the server refuse writes of slices, by name.
func (w *world) refuseWrites(names ...string) {
	w.failWrites(apierrors.NewForbidden(decisionGroup, "p-0", errors.New("the namespace is being terminated")), names...)
}

var decisionGroup = schema.GroupResource{Resource: "placementdecisions"}

// failWrites has writes of slices fail, by name.
func (w *world) failWrites(err error, names ...string) {
	write := w.write
	w.workspace.writeDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
		if slices.Contains(names, d.Name) {
			w.writes = append(w.writes, "refused "+d.Name)
			return nil, err
		}
		return write(ctx, d)
	}
}

// TestOneSliceCannotBeWritten: the decisions of other placements, all statuses and events are written all the same. The
// placement of the slice says why, in the server's words, until it can be written. It is tried ever more rarely.
func TestOneSliceCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
	w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p"), ownPlacement("q")}
	w.workloads = []*workloadObject{ownedBy("p", "w", 1000), ownedBy("q", "v", 1000)}
	w.refuseWrites("p-0")
	if err := w.reconcile(); err == nil || !strings.Contains(err.Error(), "being terminated") {
		t.Errorf("the failure must be reported: %v", err)
	}
	w.expect(map[string]string{"v": "a"})
	if got := strings.Join(w.events, "; "); got != "q: Placed: placed Deployment v on a (Excellent, 90)" {
		t.Errorf("events: %s", got)
	}
	const want = `False DecisionsNotWritten: PlacementDecision p-0: writing: placementdecisions "p-0" is forbidden: the namespace is being terminated`
	if got := w.condition(v1alpha1.PublishedCondition); got != want {
		t.Error(got)
	}
	if got := w.condition(v1alpha1.ReadyCondition); got != want {
		t.Errorf("Ready sums it up: %s", got)
	}
	w.writes = nil
	for range 600 {
		w.show()
		_ = w.reconcile()
		w.sleep(time.Second)
	}
	tries := strings.Count(strings.Join(w.writes, "; "), "refused")
	if others := len(w.writes) - tries; tries < 10 || tries > 20 || others > 0 {
		t.Errorf("%d tries in ten minutes, %d other writes: %v", tries, others, w.writes)
	}
	if free := w.freeOnA(); free != 38000 {
		t.Errorf("%d free: the decision that is not written yet has its room", free)
	}

	w.refuseWrites()
	w.sleep(retryLast)
	w.pass()
	w.expect(map[string]string{"w": "a", "v": "a"})
	if got := w.condition(v1alpha1.PublishedCondition); got != "True" {
		t.Error(got)
	}
}

// TestASliceThatConflicts: one that is never as it was read is read anew and tried again, as every slice after a conflict, and then as
// one that cannot be written: it delays no other, and its placement says why.
func TestASliceThatConflicts(t *testing.T) {
	for _, err := range []error{
		apierrors.NewAlreadyExists(decisionGroup, "p-0"), apierrors.NewConflict(decisionGroup, "p-0", errors.New("changed")),
	} {
		w := newWorld(t)
		w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
		w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p"), ownPlacement("q")}
		w.workloads = []*workloadObject{ownedBy("p", "w", 1000), ownedBy("q", "v", 1000)}
		w.failWrites(err, "p-0")
		_ = w.reconcile()
		if got := w.condition(v1alpha1.PublishedCondition); got != "True" {
			t.Errorf("a first conflict ends once the decisions are read anew: %s", got)
		}
		for range 600 {
			w.show()
			_ = w.reconcile()
			w.sleep(time.Second)
		}
		w.expect(map[string]string{"v": "a"})
		if got, want := w.condition(v1alpha1.PublishedCondition), "False DecisionsNotWritten: PlacementDecision p-0: writing: "+err.Error(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if tries := strings.Count(strings.Join(w.writes, "; "), "refused"); tries < 10 || tries > 25 {
			t.Errorf("%d tries in ten minutes: %v", tries, w.writes)
		}
		w.failWrites(nil)
		w.sleep(retryLast)
		w.pass()
		w.expect(map[string]string{"w": "a", "v": "a"})
	}
}

// TestPassesThatDoNotDecide: where a step fails without which nothing can be decided, it is said all the same whether the decisions there are
// have been written, and what is counted stays as it was.
func TestPassesThatDoNotDecide(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
	w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p")}
	w.workloads = []*workloadObject{ownedBy("p", "w", 1000)}
	w.refuseWrites("p-0")
	_ = w.reconcile()
	if got := w.condition(v1alpha1.PublishedCondition); !strings.HasPrefix(got, "False DecisionsNotWritten") {
		t.Error(got)
	}
	counted := w.placements[0].Status

	w.failWrites(nil)
	w.works = []*v1alpha1.Work{nil} // reading what is delivered panics
	w.sleep(retryLast)
	if err := w.reconcile(); !errors.As(err, new(*panics.Error)) {
		t.Fatalf("a step has to fail: %v", err)
	}
	w.expect(map[string]string{"w": "a"})
	if got := w.condition(v1alpha1.PublishedCondition); got != "True" {
		t.Error(got)
	}
	if now := w.placements[0].Status; now.Workloads != counted.Workloads || now.Placed != counted.Placed || !slices.Equal(now.SelectedClusters, counted.SelectedClusters) {
		t.Errorf("counted %+v, and then nothing: %+v", counted, now)
	}
}

// TestWhatIsNotWrittenIsNotLost: a workload moves from one placement to another whose slice cannot be written. Until it
// is, the old decision stays stored and the workload's room stays reserved.
func TestWhatIsNotWrittenIsNotLost(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "2"), testCluster("b", "3")}
	w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p"), ownPlacement("q")}
	moves := func(placement, to string) *workloadObject { return pin(ownedBy(placement, "moves", 2000), to) }
	w.workloads = []*workloadObject{moves("p", "a"), ownedBy("p", "stays", 1000)}
	w.pass()
	w.expect(map[string]string{"moves": "a", "stays": "b"})

	w.refuseWrites("q-0")
	waits := ownedBy("p", "waits", 2000)
	waits.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	w.workloads = []*workloadObject{moves("q", "b"), w.workloads[1], waits}
	for range 5 {
		_ = w.reconcile()
		w.sleep(time.Minute)
	}
	w.expect(map[string]string{"moves": "a", "stays": "b"})
	w.workloads = slices.DeleteFunc(w.workloads, func(o *workloadObject) bool { return o.Name == "stays" })
	for range 5 { // other losses of the same slice are written
		_ = w.reconcile()
		w.sleep(time.Minute)
	}
	w.expect(map[string]string{"moves": "a"})

	w.refuseWrites()
	w.pass()
	w.expect(map[string]string{"moves": "b", "waits": "a"})
}

// TestWhatIsNotWrittenGivesWay: a decision that cannot be written is not durable, so nothing runs by it. Once its cluster has no
// room for it any more it is made anew, also where the workload has come to a placement whose slice can be written, and is not
// published as if the workload stood there.
func TestWhatIsNotWrittenGivesWay(t *testing.T) {
	for name, test := range map[string]struct {
		// shrunk is what b has left, then what the workload asks for by then, of the other placement.
		shrunk string
		then   int64
		want   map[string]string
	}{
		"without room it goes elsewhere":     {shrunk: "0", then: 1000, want: map[string]string{"w": "a"}},
		"with less room it waits":            {shrunk: "4", then: 5000, want: map[string]string{}},
		"with room for all it stays decided": {shrunk: "5", then: 5000, want: map[string]string{"w": "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "6")}
			w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p"), ownPlacement("q")}
			w.workloads = []*workloadObject{ownedBy("p", "w", 5000)}
			w.refuseWrites("p-0")
			_ = w.reconcile()
			w.expect(map[string]string{})

			w.clusters = []*v1alpha1.ClusterRegistration{w.clusters[0], testCluster("b", test.shrunk)}
			w.workloads = []*workloadObject{ownedBy("q", "w", test.then)}
			_ = w.reconcile()
			w.expect(test.want)
		})
	}
}

// TestRefusedAdditionsDoNotChurn: what is durable stays, however full its cluster, and an addition that cannot be written is
// decided on once.
func TestRefusedAdditionsDoNotChurn(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 3000)}
	w.pass()
	w.show()
	w.expect(map[string]string{"w": "a"})
	w.change("a", func(r *v1alpha1.ClusterRegistration) { r.Status.Allocatable["cpu"] = resource.MustParse("1") })
	two := testPlacement(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(2))})
	two.ResourceVersion = w.next()
	w.placements, w.events = []*v1alpha1.WorkloadPlacement{two}, nil
	w.refuseWrites("p-0")
	for range 20 {
		_ = w.reconcile()
		w.sleep(time.Second)
	}
	if got := w.eventsOf("ClustersAdded"); len(got) != 1 {
		t.Errorf("events: %v", got)
	}
	w.refuseWrites()
	w.sleep(retryLast)
	w.pass()
	w.expect(map[string]string{"w": "b,a"})
}

// TestRefusedMovesDoNotPileUp: a workload that moves again and again while its slice cannot be written holds what is durable
// and what is current, and nothing of what was in between.
func TestRefusedMovesDoNotPileUp(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "4"), testCluster("c", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
	move := func(cluster string) { w.workloads = []*workloadObject{pin(testWorkload("w", 2000), cluster)} }
	move("a")
	w.pass()
	w.refuseWrites("p-0")
	for _, cluster := range []string{"b", "c", "b", "a", "c", "b"} {
		move(cluster)
		_ = w.reconcile()
		w.sleep(time.Minute)
	}
	var reserved []string
	for _, row := range w.workspace.engine.Snapshot("ws").Rows() {
		reserved = append(reserved, fmt.Sprint(row.Reserved.CPU))
	}
	if got := strings.Join(reserved, " "); got != "2000 2000 0" {
		t.Errorf("reserved: %s", got)
	}
}

// TestDecisionsCannotBeRead: nothing is decided, and the placement says why; what its status said stays.
func TestDecisionsCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000), testWorkload("huge", 9000)}
	w.pass()
	scheduled := w.condition(v1alpha1.ScheduledCondition)

	w.restart()
	list := w.workspace.listDecisions
	w.workspace.listDecisions = func(context.Context) ([]*v1alpha1.PlacementDecision, error) {
		return nil, apierrors.NewInternalError(errors.New("etcdserver: no leader"))
	}
	w.workloads, w.writes = append(w.workloads, testWorkload("new", 1000)), nil
	for range 3 {
		if err := w.reconcile(); err == nil || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("the failure must be reported: %v", err)
		}
		w.sleep(time.Minute)
	}
	if got := w.condition(v1alpha1.PublishedCondition); got != "False DecisionsNotRead: reading the decisions: Internal error occurred: etcdserver: no leader" {
		t.Error(got)
	}
	if got := w.condition(v1alpha1.ScheduledCondition); got != scheduled || w.placements[0].Status.Workloads != 2 {
		t.Errorf("%d workloads: %s", w.placements[0].Status.Workloads, got)
	}
	if got := strings.Join(w.writes, "; "); got != "status of p" {
		t.Errorf("writes: %s", got)
	}
	w.workspace.listDecisions = list
	w.pass()
	w.expect(map[string]string{"w": "a", "new": "a"})
	if got := w.condition(v1alpha1.PublishedCondition); got != "True" {
		t.Error(got)
	}
}

// TestPlacementIsMadeAgain: its slices get the new owner at once. Otherwise garbage collection would take the decisions.
func TestPlacementIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	w.pass()
	w.show()
	again := testPlacement(one)
	again.UID, again.ResourceVersion = "other", "99"
	w.placements = []*v1alpha1.WorkloadPlacement{again}
	for _, restarted := range []bool{false, true} {
		if restarted {
			w.restart()
		}
		w.pass()
		for _, s := range w.stored {
			if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != "other" {
				t.Errorf("owners of %s: %v", s.Name, s.OwnerReferences)
			}
			s = s.DeepCopy()
			delete(s.Labels, v1alpha1.LabelPlacement) // as another client might
			s.ResourceVersion = w.next()
			w.stored[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = s
		}
		w.show()
		w.pass()
		for _, s := range w.stored {
			if s.Labels[v1alpha1.LabelPlacement] != "p" {
				t.Errorf("labels of %s: %v", s.Name, s.Labels)
			}
		}
	}
	w.expect(map[string]string{"w": "a"})
}

// TestReservationsDoNotOutliveTheirWorkspace: a workspace that is loaded anew, as one that another endpoint shows, replaces
// what the one before has promised and not written.
func TestReservationsDoNotOutliveTheirWorkspace(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	w.failNext = apierrors.NewTimeoutError("try later", 1)
	if err := w.reconcile(); err == nil {
		t.Fatal("the failure must be reported")
	}
	w.workloads = nil
	old := w.workspace
	w.workspace = newWorkspace("ws", old.engine, old.policies, old.metrics, old.limits, old.actions)
	w.workspace.now = old.now
	w.pass()
	if free := w.freeOnA(); free != 4000 {
		t.Errorf("%d free: something is reserved for nobody", free)
	}
}

// TestDeletedSlicesAreForgotten, once the informer does not show them any more.
func TestDeletedSlicesAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	lists := 0
	list := w.workspace.listDecisions
	w.workspace.listDecisions = func(ctx context.Context) ([]*v1alpha1.PlacementDecision, error) {
		lists++
		return list(ctx)
	}
	for range 20 {
		w.workloads = []*workloadObject{testWorkload("w", 1000)}
		w.pass()
		w.show()
		w.pass()
		w.workloads = nil
		w.pass()
		w.pass() // the informer still shows it
		w.show()
		w.pass()
	}
	if n := len(w.workspace.deleted); n > 0 || lists != 1 {
		t.Errorf("%d slices are remembered, and they were listed %d times", n, lists)
	}
}

// TestTheInformerIsBehind: a slice that another client has deleted, and that the informer goes on showing, is looked up once.
func TestTheInformerIsBehind(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.pass()
	w.show()
	clear(w.stored)
	w.restart()
	lists := 0
	list := w.workspace.listDecisions
	w.workspace.listDecisions = func(ctx context.Context) ([]*v1alpha1.PlacementDecision, error) {
		lists++
		return list(ctx)
	}
	w.refuseWrites("p-0")
	for range 5 {
		_ = w.reconcile()
	}
	if lists != 1 {
		t.Errorf("the decisions were read %d times", lists)
	}
	if free := w.freeOnA(); free != 3000 {
		t.Errorf("%d free: what is decided and refused for now keeps its room", free)
	}
}

// TestAFormerLeaderWritesNothing, of whatever kind, and no write takes for ever.
func TestAFormerLeaderWritesNothing(t *testing.T) {
	var written []string
	write := func(ctx context.Context, what string) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Errorf("%s is not bounded in time", what)
		}
		written = append(written, what)
	}
	a := actions{
		listDecisions: func(ctx context.Context) ([]*v1alpha1.PlacementDecision, error) {
			write(ctx, "list")
			return nil, nil
		},
		writeDecision: func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
			write(ctx, "decision")
			return d, nil
		},
		deleteDecision: func(ctx context.Context, _ *v1alpha1.PlacementDecision) error {
			write(ctx, "deletion")
			return nil
		},
		writeStatus: func(ctx context.Context, p *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
			write(ctx, "status")
			return p, nil
		},
		writeConditions: func(ctx context.Context, r *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
			write(ctx, "conditions")
			return r, nil
		},
		annotate: func(ctx context.Context, _ *corev1.ConfigMap, key, value string) error {
			write(ctx, key+" "+value)
			return nil
		},
		event: func(runtime.Object, string, string, string) { written = append(written, "event") },
	}
	lease := errors.New("the lease has run out")
	for name, fence := range map[string]func() error{
		"no leader election": nil, "leads": func() error { return nil }, "led": func() error { return lease },
	} {
		t.Run(name, func(t *testing.T) {
			written = nil
			f, ctx := a.fenced(fence), context.Background()
			_, decision := f.writeDecision(ctx, nil)
			_, status := f.writeStatus(ctx, nil)
			_, conditions := f.writeConditions(ctx, nil)
			f.event(nil, "", "", "")
			for _, err := range []error{decision, f.deleteDecision(ctx, nil), status, conditions, f.annotate(ctx, nil, "key", "value")} {
				if errors.Is(err, lease) != (name == "led") {
					t.Error(err)
				}
			}
			want := "decision, status, conditions, event, deletion, key value"
			if name == "led" {
				want = ""
			}
			if got := strings.Join(written, ", "); got != want {
				t.Errorf("written: %s", got)
			}
			if _, err := f.listDecisions(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExpiryThatIsRefused: a reservation that expires while its slice cannot be written is held until that is durable, since
// the decision that stands promises it.
func TestExpiryThatIsRefused(t *testing.T) {
	w := newWorld(t)
	w.workspace.reservationTimeout = 30 * time.Second
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.pass()
	w.show()
	w.refuseWrites("p-0")
	w.workloads = []*workloadObject{testWorkload("w", 2000)} // as after it was scaled
	_ = w.reconcile()
	for range 3 {
		w.sleep(time.Minute)
		w.reports("a", "4", nil)
		_ = w.reconcile()
		if free := w.freeOnA(); free > 3000 {
			t.Fatalf("%d free of 4000, and 1000 is promised", free)
		}
	}
}

// TestDecisionsGoFirst: while other workspaces publish decisions, what people read of one waits, and not for ever.
func TestDecisionsGoFirst(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.workspace.publishing.Add(1)
	if r := w.pass(); r.after != yieldEvery {
		t.Errorf("it looks again after %s", r.after)
	}
	if got := strings.Join(w.writes, "; "); got != "p-0 with 1" || len(w.events) > 0 {
		t.Errorf("writes: %s; events: %v", got, w.events)
	}
	w.show()
	w.sleep(yieldFor)
	w.pass()
	if got := strings.Join(w.writes, "; "); got != "p-0 with 1; status of p" || len(w.events) != 1 {
		t.Errorf("writes: %s; events: %v", got, w.events)
	}
}

// TestCopiesAreNotOwnSlices: a workspace that uses the clusters of another one has copies of what is kept there. A controller that lists one
// before its watch shows it, and so does not know yet which clusters the workspace uses, does not take it for the workspace's own.
func TestCopiesAreNotOwnSlices(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{ownPlacement("p")}
	w.workloads = []*workloadObject{ownedBy("p", "w", 1000)}
	w.pass()
	w.expect(map[string]string{"w": "a"})
	for _, d := range w.stored {
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, v1alpha1.AnnotationCopyOf, "platform")
	}
	w.restart()
	w.clusters, w.decisions, w.writes = nil, nil, nil
	for range 3 {
		_ = w.reconcile()
		w.sleep(time.Minute)
	}
	w.expect(map[string]string{"w": "a"})
	if i := slices.IndexFunc(w.writes, func(write string) bool { return !strings.HasPrefix(write, "status of") }); i >= 0 {
		t.Errorf("wrote %v", w.writes)
	}
}
