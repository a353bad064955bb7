package engine_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

const ws = "root:test"

func newEngine(t rapid.TB, options engine.Options) *engine.Engine {
	t.Helper()
	e, err := engine.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func cluster(name string, cpu int64, change ...func(*snapshot.Cluster)) *snapshot.Cluster {
	c := &snapshot.Cluster{
		Name: name, Location: "eu",
		Conditions:  []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		Allocatable: capacity.Resources{CPU: cpu, Memory: cpu},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func compile(t rapid.TB, e *engine.Engine, spec v1alpha1.WorkloadPlacementSpec) *placement.Placement {
	t.Helper()
	p := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}, Spec: spec}
	compiled, err := e.CompilePlacement(p)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func workloadOf(name string, cpu int64) *workload.Workload {
	return &workload.Workload{
		Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: name},
		Replicas:  1, Requests: capacity.Resources{CPU: cpu},
	}
}

func names(d *engine.Decision) string {
	var all []string
	for _, c := range d.Clusters {
		all = append(all, c.Name)
	}
	return strings.Join(all, ",")
}

// decideAtOnce decides concurrently for n workloads of that much CPU each, and counts them by cluster.
func decideAtOnce(t *testing.T, e *engine.Engine, p *placement.Placement, n int, cpu int64) map[string]int {
	t.Helper()
	var mu sync.Mutex
	placed := map[string]int{}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: workloadOf(fmt.Sprint(i), cpu)})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			placed[names(d)]++
		})
	}
	wg.Wait()
	return placed
}

// TestBurstIntoANearlyFullCluster: a burst into a nearly full cluster admits exactly what fits, every time. It is
// karmada#1385, where concurrent creates were given the same capacity.
func TestBurstIntoANearlyFullCluster(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("full", 100, func(c *snapshot.Cluster) { c.Allocated.CPU = 63 }))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))})
	for range 20 {
		placed := decideAtOnce(t, e, p, 200, 1)
		if want := map[string]int{"": 163, "full": 37}; !reflect.DeepEqual(placed, want) {
			t.Fatalf("placed %v, want %v", placed, want)
		}
		if free := e.Snapshot(ws).Row("full").Free.CPU; free != 0 {
			t.Fatalf("%d free", free)
		}
		for i := range 200 {
			e.Release(ws, workloadOf(fmt.Sprint(i), 1).Reference)
		}
	}
}

// TestNeverOversubscribed: the same for a fleet.
func TestNeverOversubscribed(t *testing.T) {
	e := newEngine(t, engine.Options{})
	for i := range 4 {
		e.SetCluster(ws, cluster(fmt.Sprintf("c%d", i), 10))
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))})
	placed := decideAtOnce(t, e, p, 100, 3)
	if want := map[string]int{"": 88, "c0": 3, "c1": 3, "c2": 3, "c3": 3}; !reflect.DeepEqual(placed, want) {
		t.Errorf("placed %v, want %v", placed, want)
	}
	for _, row := range e.Snapshot(ws).Rows() {
		if row.Free.CPU != 1 || row.Reserved.CPU != 9 {
			t.Errorf("%s: %d reserved, %d free", row.Name, row.Reserved.CPU, row.Free.CPU)
		}
	}
}

// TestReportCountsOnce: what a cluster's report counts for a workload is not reserved a second time, and is reserved again
// when its pods vanish. A workload's own use does not keep it from staying.
func TestReportCountsOnce(t *testing.T) {
	e := newEngine(t, engine.Options{})
	report := func(allocated, counted int64) {
		e.SetCluster(ws, cluster("a", 10, func(c *snapshot.Cluster) {
			c.Allocated.CPU = allocated
			c.Counted = map[string]capacity.Resources{"u": {CPU: counted}}
		}))
	}
	report(0, 0)
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	w := workloadOf("w", 6)
	w.UID = "u"
	request := engine.Request{Workspace: ws, Placement: p, Workload: w}
	decide := func(want string) {
		t.Helper()
		if d, err := e.Decide(context.Background(), request); err != nil || names(d) != want {
			t.Errorf("decided %v, %v, want %q", d, err, want)
		}
	}
	expect := func(reserved, free int64, uncounted ...string) {
		t.Helper()
		row := e.Snapshot(ws).Row("a")
		if got := e.Uncounted(ws, w.Reference); row.Reserved.CPU != reserved || row.Free.CPU != free || !slices.Equal(got, uncounted) {
			t.Errorf("%d reserved, %d free, uncounted on %v; want %d, %d, %v", row.Reserved.CPU, row.Free.CPU, got, reserved, free, uncounted)
		}
	}
	decide("a")
	expect(6, 4, "a")
	report(2+2, 2) // some of its pods run, and some of others
	expect(4, 2, "a")
	report(2+6, 6)
	expect(0, 2)
	report(2+7, 7) // one more for a moment, as during an update
	expect(0, 1)
	decide("a")
	expect(0, 1)
	request.Workload = workloadOf("w", 8)
	request.Workload.UID = "u"
	decide("a") // 2 are in use by others: 8 are free for it
	expect(1, 0, "a")
	report(2, 0) // its node is gone
	expect(8, 0, "a")
	request.Workload = workloadOf("w", 9)
	request.Workload.UID = "u"
	decide("")
	expect(0, 8)
}

// TestAnotherWorkloadOfTheName: a workload that replaces another of the same name takes over the reservation, but not
// the capacity that the other's pods use.
func TestAnotherWorkloadOfTheName(t *testing.T) {
	e := newEngine(t, engine.Options{})
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	e.SetCluster(ws, cluster("a", 10, func(c *snapshot.Cluster) {
		c.Allocated.CPU = 6
		c.Counted = map[string]capacity.Resources{"former": {CPU: 6}}
	}))
	for _, cpu := range []int64{2, 3} {
		former := workloadOf("w", 8)
		former.UID = "former"
		e.Restore(ws, engine.Reservation{Workload: former.Reference, Shares: share("a", former.Requests.CPU)})
		w := workloadOf("w", 2+cpu)
		w.UID = "w"
		d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: w})
		if err != nil || (names(d) == "a") != (cpu == 2) {
			t.Errorf("%d: %v, %v", cpu, d, err)
		}
	}
}

// TestExpiredReservationsHoldNothing: whatever the report counts.
func TestExpiredReservationsHoldNothing(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 10))
	w := workloadOf("w", 6)
	w.UID = "u"
	r := engine.Reservation{Workload: w.Reference, Shares: share("a", w.Requests.CPU)}
	r.Shares[0].Expired = true
	e.Restore(ws, r)
	if free := e.Snapshot(ws).Row("a").Free.CPU; free != 10 {
		t.Errorf("%d free", free)
	}
	// What was decided elsewhere has to fit.
	other := engine.Reservation{Workload: workloadOf("other", 7).Reference, Shares: share("a", 7)}
	if err := e.Reserve(ws, other); err != nil {
		t.Error(err)
	}
	r.Shares = share("a", w.Requests.CPU)
	if got := fmt.Sprint(e.Reserve(ws, r)); got != "cluster a: asks for 6m cpu, 3m free" {
		t.Error(got)
	}
	if free := e.Snapshot(ws).Row("a").Free.CPU; free != 3 {
		t.Errorf("%d free", free)
	}
}

// TestNodesOfWhichNothingIsAsked: a workload that asks for nothing more on a cluster, because it is scaled to zero or runs only on nodes
// with taints, which are not part of the cluster's capacity, does not ask for room on any one node either.
func TestNodesOfWhichNothingIsAsked(t *testing.T) {
	e := newEngine(t, engine.Options{})
	for _, name := range []string{"full", "other"} {
		e.SetCluster(ws, cluster(name, 100, func(c *snapshot.Cluster) {
			c.LargestFree = &capacity.Resources{}
			c.Nodes = &nodes.Summary{Groups: []nodes.Group{{Taints: []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}, Count: 3}}}
		}))
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))})
	none, perNode := workloadOf("none", 0), workloadOf("per-node", 2)
	none.Replicas, none.Pod = 0, capacity.Resources{CPU: 2}
	perNode.PerNode, perNode.Replicas = true, 1
	perNode.Nodes = asksOf(nodes.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}})
	for _, r := range []engine.Request{
		{Workload: none, Current: []engine.Choice{{Name: "full"}}},
		{Workload: perNode},
		{Workload: perNode, Current: []engine.Choice{{Name: "full", Replicas: 2}}},
	} {
		r.Workspace, r.Placement = ws, p
		d, err := e.Decide(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Clusters) != 1 || d.Clusters[0].Name != "full" || len(d.Retained) > 0 || d.Clusters[0].Replicas != map[bool]int64{true: 3}[r.Workload.PerNode] {
			t.Errorf("%s with %v: %+v, standing %+v: %s", r.Workload, r.Current, d.Clusters, d.Retained, d.Summary())
		}
		e.Release(ws, r.Workload.Reference)
	}
}

// TestLargestNode: a large pod is not placed on a cluster of small nodes, whatever is free in all.
func TestLargestNode(t *testing.T) {
	e := newEngine(t, engine.Options{})
	report := func(allocated, counted int64, largest capacity.Resources) {
		e.SetCluster(ws, cluster("crumbs", 100, func(c *snapshot.Cluster) {
			c.Allocated.CPU, c.LargestFree = allocated, &largest
			c.Allocatable.Extended = map[string]int64{gpu: 8}
			c.Counted = map[string]capacity.Resources{"u": {CPU: counted}}
		}))
	}
	report(0, 0, capacity.Resources{CPU: 4, Memory: 100, Extended: map[string]int64{gpu: 1}})
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	for _, test := range []struct {
		replicas, cpu, gpus int64
		rejection           string
		needs               string
	}{
		{replicas: 1, cpu: 4},
		{replicas: 1, cpu: 5, rejection: "each replica asks for 5m cpu, 4m free on any one node", needs: "1m more cpu free on one node"},
		{replicas: 25, cpu: 100},
		{replicas: 2, cpu: 9, rejection: "each replica asks for 5m cpu, 4m free on any one node", needs: "1m more cpu free on one node"},
		{replicas: 8, cpu: 8, gpus: 8},
		{replicas: 4, cpu: 8, gpus: 8, rejection: "each replica asks for 2 nvidia.com/gpu, 1 free on any one node", needs: "1 more nvidia.com/gpu free on one node"},
		{replicas: 1, cpu: 101, rejection: "asks for 101m cpu, 100m free", needs: "1m more cpu free and 97m more cpu free on one node"},
	} {
		w := workloadOf("w", test.cpu)
		w.Replicas = test.replicas
		if test.gpus > 0 {
			w.Requests.Extended = map[string]int64{gpu: test.gpus}
		}
		d, err := e.Explain(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: w})
		if err != nil {
			t.Fatal(err)
		}
		var rejection, needs string
		if r := d.Verdicts()[0].Rejection; r != nil {
			rejection = r.Message
		}
		nearest, obstacles := d.Nearest()
		for _, o := range obstacles {
			needs += o.Remedy
		}
		if rejection != test.rejection || needs != test.needs || (rejection == "") != (names(d) == "crumbs") || (rejection == "") != (nearest == "") {
			t.Errorf("%+v: %q, %q, on %q, nearest %q", test, rejection, needs, names(d), nearest)
		}
	}

	// A workload that runs there already does not block itself, wherever its pods are.
	w := workloadOf("w", 6)
	w.UID = "u"
	report(6, 6, capacity.Resources{CPU: 1, Memory: 100})
	e.Restore(ws, engine.Reservation{Workload: w.Reference, Shares: share("crumbs", w.Requests.CPU)})
	w = workloadOf("w", 7)
	w.UID = "u"
	if d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: w}); err != nil || names(d) != "crumbs" {
		t.Errorf("%v, %v", d, err)
	}
}

// TestFeasible: a waiting workload is feasible exactly when there is capacity for it.
func TestFeasible(t *testing.T) {
	e := newEngine(t, engine.Options{})
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	request := engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("w", 6)}
	expect := func(want bool) {
		t.Helper()
		if got, err := e.Feasible(context.Background(), request); err != nil || got != want {
			t.Errorf("feasible %v, %v, want %v", got, err, want)
		}
	}
	expect(false)
	e.SetCluster(ws, cluster("a", 5))
	expect(false)
	e.SetCluster(ws, cluster("a", 6))
	expect(true)
	e.Restore(ws, engine.Reservation{Workload: workloadOf("other", 1).Reference, Shares: share("a", 1)})
	expect(false)
	e.Release(ws, workloadOf("other", 1).Reference)
	expect(true)
	if free := e.Snapshot(ws).Row("a").Free.CPU; free != 6 {
		t.Errorf("%d free: to ask must not take", free)
	}
}

func TestRoundRobinConcurrently(t *testing.T) {
	e := newEngine(t, engine.Options{})
	for _, name := range []string{"a", "b", "c"} {
		e.SetCluster(ws, cluster(name, 1000))
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategyRoundRobin}})
	placed := decideAtOnce(t, e, p, 30, 1)
	if want := map[string]int{"a": 10, "b": 10, "c": 10}; !reflect.DeepEqual(placed, want) {
		t.Errorf("not in turns: %v", placed)
	}
}

// TestDecideAgain: deciding again does not count what the workload itself holds.
func TestDecideAgain(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 10))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	request := engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("w", 8)}
	first, err := e.Decide(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.Decide(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	if names(first) != "a" || names(again) != "a" || first.Clusters[0].Score != again.Clusters[0].Score {
		t.Errorf("%v, then %v", first.Clusters, again.Clusters)
	}
	if !e.Release(ws, request.Workload.Reference) || e.Release(ws, request.Workload.Reference) {
		t.Error("held once, released once")
	}
	if free := e.Snapshot(ws).Row("a").Free.CPU; free != 10 {
		t.Errorf("%d free at the end", free)
	}
}

func TestPoliciesThatFailChangeNothing(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, engine.Options{Policies: policies})
	e.SetCluster(ws, cluster("a", 10))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	request := engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("w", 8)}
	if _, err := e.Decide(context.Background(), request); err != nil {
		t.Fatal(err)
	}
	set, err := policies.Compile(map[string]string{"a.rego": "package placement.scoring\nweights := {\"health\": 1} if input.workload.name == \"other\""})
	if err != nil {
		t.Fatal(err)
	}
	e.SetPolicies(ws, set)
	if _, err := e.Decide(context.Background(), request); !strings.Contains(fmt.Sprint(err), "a.rego:2:1: shape_error: data.placement.scoring.weights is undefined") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Decide(ctx, request); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if free := e.Snapshot(ws).Row("a").Free.CPU; free != 2 {
		t.Errorf("%d free: the earlier decision must still hold", free)
	}
}

func TestWorkspacesAreIsolated(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster("one", cluster("a", 10))
	e.SetCluster("two", cluster("a", 10))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	if _, err := e.Decide(context.Background(), engine.Request{Workspace: "one", Placement: p, Workload: workloadOf("w", 8)}); err != nil {
		t.Fatal(err)
	}
	if free := e.Snapshot("two").Row("a").Free.CPU; free != 10 {
		t.Errorf("%d free in the other workspace", free)
	}
	if e.Release("two", workloadOf("w", 8).Reference) {
		t.Error("released in the other workspace")
	}
	e.Forget("one")
	if got := len(e.Snapshot("one").Rows()); got != 0 {
		t.Errorf("%d clusters of a workspace that is gone", got)
	}
}

func TestCacheTTL(t *testing.T) {
	now := time.Unix(0, 0)
	e := newEngine(t, engine.Options{Now: func() time.Time { return now }})
	e.SetCluster(ws, cluster("a", 10))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	decide := func() bool {
		d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("w", 1)})
		if err != nil {
			t.Fatal(err)
		}
		return d.Cached
	}
	if decide() || !decide() {
		t.Error("the second decision must come from the cache, the first cannot")
	}
	now = now.Add(engine.DefaultCacheTTL)
	if decide() {
		t.Error("kept beyond its time")
	}
}

// TestSlowMachine: policies that are stopped by a deadline, as on a busy machine, are tried again each time and never
// quarantined.
func TestSlowMachine(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{Timeout: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, engine.Options{Policies: policies})
	set, err := policies.Compile(map[string]string{"a.rego": `package placement.scoring
numbers := [n | some a in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]; some b in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]; n := (a * 10) + b]
weights := {"health": w} if w := count([1 | some n in numbers; n == 98; input.workload.name])`})
	if err != nil {
		t.Fatal(err)
	}
	placement := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	e.SetPolicies("ws", set)
	e.SetCluster("ws", cluster("a", 1000))
	for i := range 10 {
		_, err := e.Decide(context.Background(), engine.Request{Workspace: "ws", Placement: placement, Workload: workloadOf(fmt.Sprint(i), 1)})
		var quarantine *policy.QuarantineError
		if timeout := new(policy.TimeoutError); !errors.As(err, &timeout) || errors.As(err, &quarantine) {
			t.Errorf("error %v, want the time-out", err)
		}
	}
	if err := e.Quarantine("ws"); err != nil {
		t.Errorf("%v: a slow machine is not the fault of the policies", err)
	}
}

// TestHostileNeighbour: a workspace whose policies exceed their budget every time gets errors, then quarantine, while other
// workspaces go on deciding.
func TestHostileNeighbour(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, engine.Options{Policies: policies})
	endless, err := policies.Compile(map[string]string{"a.rego": `package placement.scoring
default weights := {"health": 1}
ten := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
weights := {"health": 2} if {
	input.workload.name != "sample"
	every a in ten { every b in ten { every c in ten { every d in ten { every e in ten { every f in ten { a + b + c + d + e + f >= 0 } } } } } }
}`})
	if err != nil {
		t.Fatal(err)
	}
	sound, err := policies.Compile(map[string]string{"a.rego": "package placement.scoring\nweights := {\"health\": 1} if input.workload.name"})
	if err != nil {
		t.Fatal(err)
	}
	placement := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	e.SetPolicies("hostile", endless)
	e.SetPolicies("peaceful", sound)
	for _, workspace := range []logicalcluster.Name{"hostile", "peaceful"} {
		e.SetCluster(workspace, cluster("a", 1000))
	}
	decide := func(workspace logicalcluster.Name, i int) error {
		_, err := e.Decide(context.Background(), engine.Request{Workspace: workspace, Placement: placement, Workload: workloadOf(fmt.Sprint(i), 1)})
		return err
	}

	var wg sync.WaitGroup
	stopped := make(chan struct{})
	wg.Go(func() {
		defer close(stopped)
		var quarantine *policy.QuarantineError
		for i := range 3 {
			if err := decide("hostile", i); !policy.OverBudget(err) || errors.As(err, &quarantine) {
				t.Errorf("error %v, want that it was stopped", err)
			}
		}
		for i := range 1000 {
			if err := decide("hostile", i); !errors.As(err, &quarantine) || quarantine.Times != 3 {
				t.Fatalf("error %v, want the quarantine", err)
			}
		}
	})
	for i, done := 0, false; !done; i++ {
		select {
		case <-stopped:
			done = true
		default:
		}
		if err := decide("peaceful", i); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if e.Quarantine("hostile") == nil || e.Quarantine("peaceful") != nil {
		t.Error("the one is in quarantine, the other is not")
	}
	e.SetPolicies("hostile", sound)
	if err := decide("hostile", 0); err != nil || e.Quarantine("hostile") != nil {
		t.Errorf("new policies end it: %v", err)
	}
}
