package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
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
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// world is an API server as far as reconciling one workspace needs it: what is written is shown by the informers
// only when it says so.
type world struct {
	testing.TB
	cacheView
	workspace *workspace
	stored    map[types.NamespacedName]*v1alpha1.PlacementDecision
	version   int
	writes    []string
	events    []string
	failNext  error
	clock     time.Time
	// lookErr is what the server answers to who looks for an object; rebound says that the binding has another version there.
	lookErr error
	rebound bool
	// invisible are objects that the server has and the informers do not show.
	invisible map[types.NamespacedName]types.UID
	// looked counts how often that was asked.
	looked int
	// leases are the heartbeats of clusters as the server has them, unless it answers with leaseErr.
	leases   map[string]heartbeat
	leaseErr error
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, stored: map[types.NamespacedName]*v1alpha1.PlacementDecision{}, clock: time.Unix(1_000_000, 0), leases: map[string]heartbeat{}}
	w.kinds = watchedKinds(workload.Kinds(), []schema.GroupVersionResource{deployments, appsv1.SchemeGroupVersion.WithResource("statefulsets"), jobs})
	w.restart()
	return w
}

// testPolicies is shared, as compiled text is. Its budget ends before its time does, however slow this is.
var testPolicies = sync.OnceValues(func() (*policy.Compiler, error) {
	return policy.NewCompiler(policy.Options{Timeout: time.Minute})
})

// restart starts a controller anew on what is stored.
func (w *world) restart() {
	policies, err := testPolicies()
	if err != nil {
		w.Fatal(err)
	}
	e, err := engine.New(engine.Options{Policies: policies})
	if err != nil {
		w.Fatal(err)
	}
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		w.Fatal(err)
	}
	w.workspace = newWorkspace("ws", e, policies, m, limits{batchSize: 1000, batchTimeout: time.Hour, grace: time.Minute, failoverAfter: 5 * time.Minute, reservationTimeout: time.Hour, unhealthyThreshold: 0.55}, actions{
		listDecisions: func(context.Context) ([]*v1alpha1.PlacementDecision, error) {
			return slices.Collect(maps.Values(w.stored)), nil
		},
		writeDecision:  w.write,
		deleteDecision: w.remove,
		writeStatus: func(_ context.Context, p *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
			w.writes = append(w.writes, "status of "+p.Name)
			written := p.DeepCopy()
			written.ResourceVersion = w.next()
			w.placements = replace(w.placements, written)
			return written, nil
		},
		writeConfig: func(_ context.Context, c *v1alpha1.PlacementConfig) (*v1alpha1.PlacementConfig, error) {
			w.writes = append(w.writes, "status of the config")
			written := c.DeepCopy()
			written.ResourceVersion = w.next()
			w.config = written
			return written, nil
		},
		writePlan: func(_ context.Context, p *v1alpha1.RebalancePlan) (*v1alpha1.RebalancePlan, error) {
			w.writes = append(w.writes, "status of plan "+p.Name)
			if w.failNext != nil {
				err := w.failNext
				w.failNext = nil
				return nil, err
			}
			written := p.DeepCopy()
			written.ResourceVersion = w.next()
			w.plans = replace(w.plans, written)
			return written, nil
		},
		writeConditions: w.writeConditions,
		liveUIDs: func(_ context.Context, _ schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
			w.looked++
			there := map[types.NamespacedName]types.UID{}
			for _, o := range w.workloads {
				if name := namespacedName(o); slices.Contains(names, name) {
					there[name] = o.UID
				}
			}
			for name, uid := range w.invisible {
				if names == nil || slices.Contains(names, name) {
					there[name] = uid
				}
			}
			return there, w.lookErr
		},
		stillBound: func(context.Context, *apisv1alpha2.APIBinding) (bool, error) { return !w.rebound, nil },
		readHeartbeat: func(_ context.Context, cluster string) (heartbeat, bool, error) {
			beat, found := w.leases[cluster]
			return beat, found, w.leaseErr
		},
		annotate: func(_ context.Context, c *corev1.ConfigMap, key, value string) error {
			w.writes = append(w.writes, "annotation of "+c.Name)
			written := c.DeepCopy()
			metav1.SetMetaDataAnnotation(&written.ObjectMeta, key, value)
			w.configMaps = replace(w.configMaps, written)
			return nil
		},
		event: func(about runtime.Object, _, reason, message string) {
			w.events = append(w.events, fmt.Sprintf("%s: %s: %s", about.(metav1.Object).GetName(), reason, message))
		},
	})
	w.workspace.now = func() time.Time { return w.clock }
}

func (w *world) writeConditions(_ context.Context, r *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
	for _, current := range w.clusters {
		if current.Name == r.Name && current.ResourceVersion != r.ResourceVersion {
			return nil, apierrors.NewConflict(schema.GroupResource{}, r.Name, errors.New("changed"))
		}
	}
	w.writes = append(w.writes, "conditions of "+r.Name)
	written := r.DeepCopy()
	written.ResourceVersion = w.next()
	w.clusters = replace(w.clusters, written)
	return written, nil
}

func replace[T metav1.Object](objects []T, written T) []T {
	replaced := slices.Clone(objects)
	for i, o := range replaced {
		if o.GetName() == written.GetName() {
			replaced[i] = written
		}
	}
	return replaced
}

func (w *world) next() string {
	w.version++
	return fmt.Sprint(w.version)
}

func (w *world) write(_ context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
	if err := w.failNext; err != nil {
		w.failNext = nil
		return nil, err
	}
	name := types.NamespacedName{Namespace: d.Namespace, Name: d.Name}
	current := w.stored[name]
	switch {
	case d.ResourceVersion == "" && current != nil:
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{}, d.Name)
	case d.ResourceVersion != "" && (current == nil || current.ResourceVersion != d.ResourceVersion):
		return nil, apierrors.NewConflict(schema.GroupResource{}, d.Name, errors.New("changed"))
	}
	w.writes = append(w.writes, fmt.Sprintf("%s with %d", d.Name, len(d.Decisions)))
	written := d.DeepCopy()
	written.ResourceVersion = w.next()
	if written.UID == "" {
		written.UID = types.UID("uid-" + written.ResourceVersion)
	}
	w.stored[name] = written
	return written, nil
}

func (w *world) remove(_ context.Context, d *v1alpha1.PlacementDecision) error {
	w.writes = append(w.writes, "delete "+d.Name)
	delete(w.stored, types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
	return nil
}

// sleep lets time go by.
func (w *world) sleep(d time.Duration) { w.clock = w.clock.Add(d) }

// show lets the informers catch up with what is stored.
func (w *world) show() { w.decisions = slices.Collect(maps.Values(w.stored)) }

// reconcile makes one pass and returns what failed in it.
func (w *world) reconcile() error {
	return w.workspace.reconcile(context.Background(), w.cacheView).err()
}

func (r result) err() error { return errors.Join(r.errs...) }

// pass reconciles until there is nothing more to do for now.
func (w *world) pass() result {
	w.Helper()
	for {
		r := w.workspace.reconcile(context.Background(), w.cacheView)
		if err := r.err(); err != nil {
			w.Fatal(err)
		}
		if !r.again {
			return r
		}
	}
}

func (w *world) where() map[string]string {
	where := map[string]string{}
	for _, slice := range w.stored {
		for _, d := range slice.Decisions {
			if _, twice := where[d.Workload.Name]; twice {
				w.Fatalf("%s is in two slices", d.Workload.Name)
			}
			where[d.Workload.Name] = strings.Join(clusterNames(d.Clusters), ",")
		}
	}
	return where
}

func (w *world) expect(want map[string]string) {
	w.Helper()
	if got := w.where(); !maps.Equal(got, want) {
		w.Errorf("placed %v, want %v", got, want)
	}
}

func (w *world) condition(kind string) string {
	for _, p := range w.placements {
		if p.Name == "p" {
			if c := conditions.Get(p, conditionsv1alpha1.ConditionType(kind)); c != nil {
				return strings.Trim(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), " :")
			}
		}
	}
	return "none"
}

func testCluster(name, cpu string) *v1alpha1.ClusterRegistration {
	return &v1alpha1.ClusterRegistration{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Status: v1alpha1.ClusterRegistrationStatus{
			Allocatable: corev1.ResourceList{"cpu": resource.MustParse(cpu)},
			Conditions:  conditionsv1alpha1.Conditions{{Type: v1alpha1.ReadyCondition, Status: corev1.ConditionTrue}},
		},
	}
}

func testPlacement(spec v1alpha1.WorkloadPlacementSpec) *v1alpha1.WorkloadPlacement {
	return &v1alpha1.WorkloadPlacement{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "p", ResourceVersion: "0", Generation: 1}, Spec: spec,
	}
}

func testWorkload(name string, cpu int64) *workloadObject {
	w := &workloadObject{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}}
	w.Name, w.Namespace, w.UID = name, "default", types.UID(name)
	w.workload = &workload.Workload{
		Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: name, UID: name},
		Replicas:  1, Requests: capacity.Resources{CPU: cpu},
	}
	return w
}

var jobs = batchv1.SchemeGroupVersion.WithResource("jobs")

var one = v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))}

// pinned is one, where workloads have to run on the cluster that their label "on" names.
var pinned = v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1)), Constraints: []v1alpha1.Constraint{
	{Name: "pinned", Expression: `workload.labels.?on.orValue(cluster.name) == cluster.name`},
}}

// pin makes a workload of a placement that is pinned run on a cluster.
func pin(o *workloadObject, cluster string) *workloadObject {
	labels := map[string]string{"on": cluster}
	maps.Copy(labels, o.workload.Labels)
	o.workload.Labels = labels
	return o
}

func TestUnchangedWorldIsNotWritten(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("fits", 1000), testWorkload("huge", 9000)}
	w.configMaps = []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default"}, Data: map[string]string{
		"a.rego": "package placement.x", "README.md": "not a module", "a_test.rego": "nor this",
	}}}
	w.pass()
	w.expect(map[string]string{"fits": "a"})
	if got := strings.Join(w.writes, "; "); got != "annotation of cm; p-0 with 1; status of p" {
		t.Errorf("writes: %s", got)
	}
	if got := w.condition(v1alpha1.ScheduledCondition); got != "False WorkloadsWaiting: 1 of 2 workloads wait. Deployment default/huge: waits for 6 more cpu free on a: 0 of 1 clusters are feasible: 1 rejected by Capacity (a: Capacity: asks for 9 cpu, 3 free)" {
		t.Error(got)
	}
	var waiting dto.Metric
	if err := w.workspace.metrics.waiting.Write(&waiting); err != nil || waiting.GetGauge().GetValue() != 1 {
		t.Errorf("the metric of what waits: %v, %v", waiting.GetGauge(), err)
	}
	w.writes, w.events = nil, nil
	w.pass() // the informer does not show the slice yet
	w.show()
	w.pass()
	w.restart()
	w.pass()
	w.pass()
	if len(w.writes) > 0 {
		t.Errorf("an unchanged world was written: %v", w.writes)
	}
	if len(w.events) != 1 { // the new controller says once what waits
		t.Errorf("events: %v", w.events)
	}
}

func TestAFailedWriteIsMadeGood(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "2")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	w.failNext = apierrors.NewTimeoutError("try later", 1)
	if err := w.reconcile(); err == nil {
		t.Fatal("the failure must be reported")
	}
	w.sleep(retryFirst)
	w.pass()
	w.expect(map[string]string{"w": "a"})
	if free := w.workspace.engine.Snapshot("ws").Row("a").Free.CPU; free != 2000 {
		t.Errorf("%d free: what was reserved for the failed write must not stay", free)
	}
}

// TestKilledBetweenTwoWrites: room that one workload leaves is given to another only once that is written, so that the
// durable decisions never promise anything twice, wherever a pass is cut short.
func TestKilledBetweenTwoWrites(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "2"), testCluster("b", "3")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
	w.workloads = []*workloadObject{testWorkload("leaves", 2000), testWorkload("wants", 2000)}
	pin(w.workloads[0], "a")
	w.workloads[1].workload.Requests.CPU = 9000
	w.workloads[1].CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	w.pass()
	w.expect(map[string]string{"leaves": "a"})

	// In one pass the first moves to b, and the second shrinks to what fits on a alone.
	moving, wanting := pin(testWorkload("leaves", 2000), "b"), testWorkload("wants", 2000)
	wanting.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	w.workloads = []*workloadObject{moving, wanting}
	if r := w.workspace.reconcile(context.Background(), w.cacheView); r.err() != nil || !r.again {
		t.Fatalf("another pass is due: %+v", r)
	}
	w.expect(map[string]string{"leaves": "b"})
	w.pass()
	w.expect(map[string]string{"leaves": "b", "wants": "a"})
	for _, row := range w.workspace.engine.Snapshot("ws").Rows() {
		if row.Reserved.CPU != 2000 {
			t.Errorf("%s: %d reserved", row.Name, row.Reserved.CPU)
		}
	}
}

// TestAnotherHand: what others do to the slices is taken for what it is, the durable truth.
func TestAnotherHand(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "2")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	w.pass()
	w.show()
	w.pass()

	// A former leader has moved the workload without this one knowing.
	name := types.NamespacedName{Namespace: "default", Name: "p-0"}
	moved := w.stored[name].DeepCopy()
	moved.Decisions[0].Clusters[0].Name = "b"
	moved.ResourceVersion = w.next()
	w.stored[name] = moved
	w.show()
	w.pass()
	w.expect(map[string]string{"w": "b"})
	snapshot := w.workspace.engine.Snapshot("ws")
	if a, b := snapshot.Row("a").Free.CPU, snapshot.Row("b").Free.CPU; a != 4000 || b != 0 {
		t.Errorf("free: a %d, b %d", a, b)
	}

	// Somebody deletes the slice: the workload is placed anew.
	w.pass()
	delete(w.stored, name)
	w.show()
	w.pass()
	w.expect(map[string]string{"w": "a"})

	// Again, and the informer never shows the slice that was deleted: a list finds out a little later.
	delete(w.stored, name)
	w.show()
	if result := w.pass(); result.after != confirmWithin {
		t.Errorf("looks again after %s", result.after)
	}
	w.expect(map[string]string{})
	w.sleep(confirmWithin)
	w.pass()
	w.expect(map[string]string{"w": "a"})
}

func TestABurstIsWrittenTogether(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "1000"), testCluster("b", "1000")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategyRoundRobin}})}
	for i := range 1000 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%04d", i), 10))
	}
	w.pass()
	if len(w.writes) != 11 || len(w.stored) != 10 {
		t.Errorf("%d slices in %d writes: %v", len(w.stored), len(w.writes), w.writes)
	}
	// One more goes into a slice of its own, one less leaves the others alone.
	w.show()
	w.writes = nil
	w.sleep(countsEvery)
	w.workloads = append(w.workloads, testWorkload("x", 10))
	w.pass()
	w.sleep(countsEvery)
	w.workloads = slices.DeleteFunc(w.workloads, func(o *workloadObject) bool { return o.Name == "w0005" })
	w.pass()
	if got := strings.Join(w.writes, "; "); got != "p-10 with 1; status of p; p-0 with 99; status of p" {
		t.Errorf("writes: %s", got)
	}
}

// TestOrder: the oldest are decided on first, and those without room wait in the order of age, too.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "30")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	want := map[string]string{}
	for i := range 100 {
		name := fmt.Sprintf("w%02d", i)
		w.workloads = append(w.workloads, testWorkload(name, 1000))
		if i < 30 { // there is room for so many
			want[name] = "a"
		}
	}
	w.pass()
	w.expect(want)
	for i, e := range w.events[:70] {
		if !strings.HasPrefix(e, fmt.Sprintf("w%02d: NotPlaced", 30+i)) {
			t.Errorf("event %d: %s", i, e)
		}
	}
}

// TestAMoveComesAfterWhatIsBeforeIt: new workloads of one class that are older and younger than one that moves are
// decided before and after it, and what it leaves is given to none of them in this pass.
func TestAMoveComesAfterWhatIsBeforeIt(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "2"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
	aged := func(name, wish string, age int64) *workloadObject {
		o := testWorkload(name, 1000)
		o.CreationTimestamp = metav1.NewTime(time.Unix(age, 0))
		o.workload.Annotations = map[string]string{v1alpha1.AnnotationPreferredCluster: wish}
		return o
	}
	mover := pin(aged("moves", "a", 2), "a")
	mover.workload.Requests.CPU = 2000
	w.workloads = []*workloadObject{mover}
	w.pass()
	w.expect(map[string]string{"moves": "a"})

	moved := pin(aged("moves", "b", 2), "b")
	moved.workload.Requests.CPU = 2000
	w.workloads, w.events = []*workloadObject{moved}, nil
	for _, age := range []int64{0, 1, 3, 4, 5} {
		w.workloads = append(w.workloads, aged(fmt.Sprintf("w%d", age), "a", age))
	}
	if r := w.workspace.reconcile(context.Background(), w.cacheView); r.err() != nil || !r.again {
		t.Fatalf("another pass is due: %+v", r)
	}
	w.expect(map[string]string{"w0": "b", "w1": "b", "moves": "b"}) // all of b
	var events []string
	for _, e := range w.events {
		events = append(events, strings.Join(strings.SplitN(e, ": ", 3)[:2], " "))
	}
	if got := strings.Join(events, ", "); got != "moves Moved, w3 NotPlaced, w4 NotPlaced, w5 NotPlaced" {
		t.Error(got)
	}
	w.pass()
	w.expect(map[string]string{"w0": "b", "w1": "b", "moves": "b", "w3": "a", "w4": "a"})
}

// TestWhatIsUnchangedIsNotReadAgain: neither a registration nor a placement that is the object of the pass before.
func TestWhatIsUnchangedIsNotReadAgain(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.pass()
	compiled := func() *placement.Placement {
		return w.workspace.compiledPlacements[namespacedName(w.placements[0])].placement
	}
	first := compiled() // the status that the pass has written makes it another object
	if w.pass(); first == nil || compiled() != first {
		t.Error("compiled again")
	}
	labelled := w.placements[0].DeepCopy() // policies can read labels, which do not change the generation
	labelled.Labels = map[string]string{"team": "shop"}
	w.placements, w.clusters = []*v1alpha1.WorkloadPlacement{labelled}, []*v1alpha1.ClusterRegistration{testCluster("a", "8")}
	w.pass()
	if again := compiled(); again == first || again.Labels["team"] != "shop" || len(w.workspace.compiledPlacements) != 1 {
		t.Errorf("%+v", again)
	}
	if free := w.workspace.engine.Snapshot("ws").Row("a").Free.CPU; free != 8000 {
		t.Errorf("%d free", free)
	}
}

// TestAPanicOfTheEngine fails the one workload for which it panics, which is tried again, and keeps nothing else from being
// decided and written.
func TestAPanicOfTheEngine(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("bad", 1000), testWorkload("good", 500)}
	ask := w.workspace.ask
	w.workspace.ask = func(ctx context.Context, request engine.Request) (*engine.Decision, error) {
		if request.Workload.Name == "bad" {
			panic("out of cheese")
		}
		return ask(ctx, request)
	}
	for range 2 {
		if err := w.reconcile(); !strings.Contains(fmt.Sprint(err), "Deployment default/bad: panic: out of cheese") {
			t.Errorf("the pass must report the panic: %v", err)
		}
		w.expect(map[string]string{"good": "a"})
		if got := w.condition(v1alpha1.ScheduledCondition); got != "False WorkloadsWaiting: 1 of 2 workloads wait. Deployment default/bad: deciding failed and is tried again" {
			t.Error(got)
		}
		if got := w.condition(v1alpha1.PoliciesReadyCondition); got != "True" {
			t.Error("the policies are not to blame: ", got)
		}
	}
	if got := w.takeEvents(); got != "bad: DecidingFailed: deciding failed and is tried again\np: Placed: placed Deployment good on a (Excellent, 87)" {
		t.Error(got)
	}
	w.workspace.ask = ask
	w.pass()
	w.expect(map[string]string{"bad": "a", "good": "a"})
	if got := w.condition(v1alpha1.ScheduledCondition); got != "True" {
		t.Error(got)
	}
}

func TestReplacedWorkload(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.pass()
	again := testWorkload("w", 3000)
	again.UID = "another"
	w.workloads = []*workloadObject{again}
	w.pass()
	for _, slice := range w.stored {
		if d := slice.Decisions[0]; d.Workload.UID != "another" || !d.Reserved.Cpu().Equal(resource.MustParse("3")) {
			t.Errorf("decision %+v", d)
		}
	}
}

// TestBrokenPoliciesAfterARestart: without a good set in memory nothing is decided, and nothing is undone.
func TestBrokenPoliciesAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("old", 1000)}
	w.pass()
	w.configMaps = []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default"}, Data: map[string]string{"a.rego": "package placement.x\np := {"}}}
	w.restart()
	w.workloads = append(w.workloads, testWorkload("new", 1000))
	w.pass()
	w.expect(map[string]string{"old": "a"})
	if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasPrefix(got, "False PolicyError: nothing is decided until the policies are sound: default/cm/a.rego:2:6: rego_parse_error") {
		t.Error(got)
	}
	if got := w.configMaps[0].Annotations[v1alpha1.AnnotationPolicyStatus]; !strings.Contains(got, `"location":{"file":"default/cm/a.rego","row":2,"col":6}`) {
		t.Error(got)
	}
	w.configMaps = nil
	w.pass()
	w.expect(map[string]string{"old": "a", "new": "a"})
}

// TestCostlyPolicies: policies that are stopped for what they cost are not run for every workload, and after the third
// time not at all until they are changed.
func TestCostlyPolicies(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "100")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default"}, Data: map[string]string{"a.rego": `package placement.scoring
default weights := {"health": 1}
ten := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
weights := {"health": 2} if {
	input.workload.name != "sample"
	count([1 | some a in ten; some b in ten; some c in ten; some d in ten; some e in ten; some f in ten; some g in ten; some h in ten; a + b + c + d + e + f + g + h < 0]) == 1
}`}}}
	w.pass() // they come into force, since there is no workload yet that they cost too much for
	for i := range 200 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprint(i), 10))
	}
	start := time.Now()
	r := w.pass()
	if took := time.Since(start); took > 10*time.Second { // 200 deadlines would be 20 seconds
		t.Errorf("took %s", took)
	}
	if r.after <= 0 || r.after > restFor {
		t.Errorf("tried again after %s", r.after)
	}
	// Where steps are slow, as with -race on a busy machine, they may take more time than one evaluation may before they are too many.
	const stopped = "the policies (cost more than one evaluation may and were stopped: they take more than 100000 steps|took more than 500ms of processor time and were stopped)$"
	if got := w.condition(v1alpha1.PoliciesReadyCondition); !regexp.MustCompile("^False PolicyError: " + stopped).MatchString(got) {
		t.Error(got)
	}
	for range 2 {
		w.sleep(restFor)
		w.pass()
	}
	if got := w.condition(v1alpha1.PoliciesReadyCondition); !regexp.MustCompile("^False PolicyQuarantined: the policies are in quarantine until they are changed, having been stopped 3 times in a row: " + stopped).MatchString(got) {
		t.Error(got)
	}
	w.sleep(restFor)
	if r = w.pass(); r.after != 0 {
		t.Errorf("what is in quarantine is tried again after %s", r.after)
	}
	if got := testutil.ToFloat64(w.workspace.metrics.quarantined); got != 1 {
		t.Errorf("%v workspaces in quarantine, want 1", got)
	}
	w.configMaps = nil
	w.pass()
	if got := testutil.ToFloat64(w.workspace.metrics.quarantined); got != 0 {
		t.Errorf("%v workspaces in quarantine once the policies are sound", got)
	}
	if got := len(w.where()); got != 200 {
		t.Errorf("%d placed once the policies are sound", got)
	}
}

func TestMoreClustersWhenThereAreMore(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(2))})}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.pass()
	w.expect(map[string]string{"w": "a"})
	if got := w.condition(v1alpha1.ScheduledCondition); got != "True : On fewer clusters than asked for: Deployment default/w has 1 of 2" {
		t.Error(got)
	}
	w.clusters = append(w.clusters, testCluster("b", "2"))
	w.pass()
	w.expect(map[string]string{"w": "a,b"})
}

func TestSliceName(t *testing.T) {
	long := strings.Repeat("x", 253)
	if got := sliceName("web", 12); got != "web-12" {
		t.Error(got)
	}
	if got := sliceName(long, 1); len(got) > 253 || got == sliceName(long[:250]+"yyy", 1) {
		t.Error(got)
	}
}

// TestTwoSlicesHoldOneWorkload: after a crash between two writes the later decision counts.
func TestTwoSlicesHoldOneWorkload(t *testing.T) {
	slice := func(name, cluster string, at int64) *v1alpha1.PlacementDecision {
		return &v1alpha1.PlacementDecision{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, PlacementName: name, Count: 1,
			Decisions: []v1alpha1.WorkloadDecision{{
				Workload: v1alpha1.WorkloadReference{Kind: "Deployment", Name: "w"}, DecidedAt: metav1.NewTime(time.Unix(at, 0)),
				Clusters: []v1alpha1.ClusterDecision{{Name: cluster}},
			}},
		}
	}
	older, newer := slice("p", "a", 1), slice("q", "b", 2)
	for _, order := range [][]*v1alpha1.PlacementDecision{{older, newer}, {newer, older}} {
		s := newStore(order, time.Now(), defaultLimits)
		d, placement, found := s.get(workloadKey{kind: "Deployment", namespace: "default", name: "w"})
		if !found || d.Clusters[0].Name != "b" || placement.Name != "q" {
			t.Errorf("%v of %s", d.Clusters, placement)
		}
		for name, sl := range s.slices {
			if sl.changed != (name.Name == "p") {
				t.Errorf("%s is to be written: %t", name, sl.changed)
			}
		}
	}
}
