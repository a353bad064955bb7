package engine_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

const ws = "root:test"

func newEngine(t testing.TB, options engine.Options) *engine.Engine {
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

func compile(t testing.TB, e *engine.Engine, spec v1alpha1.WorkloadPlacementSpec) *engine.Placement {
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

func TestCompilePlacementNamesEveryField(t *testing.T) {
	e := newEngine(t, engine.Options{})
	_, err := e.CompilePlacement(&v1alpha1.WorkloadPlacement{Spec: v1alpha1.WorkloadPlacementSpec{
		WorkloadSelector: v1alpha1.WorkloadSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a b": "c"}}},
		Constraints: []v1alpha1.Constraint{
			{Name: "fine", Expression: "true"},
			{Name: "typo", Expression: "cluster.nam == 'a'"},
		},
		Tolerations:      []corev1.Toleration{{Operator: "Like"}, {Operator: "Exists", Value: "v"}, {Effect: "Never", Key: "k"}, {}},
		Strategy:         "Best",
		NumberOfClusters: ptr.To[int32](0),
	}})
	for _, want := range []string{
		`spec.workloadSelector.labelSelector: Invalid value: key: Invalid value: "a b": name part must consist of`,
		`spec.constraints[1].expression: Invalid value: "cluster.nam == 'a'": constraint "typo": 1:8: undefined field 'nam'`,
		`spec.tolerations[0].operator: Unsupported value: "Like": supported values: "Equal", "Exists"`,
		`spec.tolerations[1].value: Invalid value: "v": must be empty where operator is Exists`,
		`spec.tolerations[2].effect: Unsupported value: "Never"`,
		`spec.tolerations[3].operator: Invalid value: "": must be Exists where key is empty`,
		`spec.strategy: Unsupported value: "Best": supported values: "RoundRobin", "Spread", "Affinity"`,
		`spec.numberOfClusters: Invalid value: 0: must be at least 1`,
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("no %s\nin %v", want, err)
		}
	}
}

// decideAtOnce decides concurrently for n workloads of so much CPU each, and counts on which clusters they are.
func decideAtOnce(t *testing.T, e *engine.Engine, p *engine.Placement, n int, cpu int64) map[string]int {
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

// TestNeverOversubscribed: a burst of concurrent requests for a nearly full fleet admits exactly what fits.
func TestNeverOversubscribed(t *testing.T) {
	e := newEngine(t, engine.Options{})
	for i := range 4 {
		e.SetCluster(ws, cluster(fmt.Sprintf("c%d", i), 10))
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To[int32](1)})
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

func TestRoundRobinConcurrently(t *testing.T) {
	e := newEngine(t, engine.Options{})
	for _, name := range []string{"a", "b", "c"} {
		e.SetCluster(ws, cluster(name, 1000))
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{Strategy: v1alpha1.StrategyRoundRobin})
	placed := decideAtOnce(t, e, p, 30, 1)
	if want := map[string]int{"a": 10, "b": 10, "c": 10}; !reflect.DeepEqual(placed, want) {
		t.Errorf("not in turns: %v", placed)
	}
}

// TestDecideAgain: a decision that is made again does not count what the workload itself holds.
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

// TestHostileNeighbour: a workspace whose policies are stopped every time is told so, then left alone, and others go on
// deciding meanwhile.
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
			if err := decide("hostile", i); !policy.Stopped(err) || errors.As(err, &quarantine) {
				t.Errorf("error %v, want that it was stopped", err)
			}
		}
		for i := range 1000 {
			if err := decide("hostile", i); !errors.As(err, &quarantine) || quarantine.Times != 3 {
				t.Fatalf("error %v, want the quarantine", err)
			}
		}
	})
	decided := 0
	for done := false; !done; decided++ {
		select {
		case <-stopped:
			done = true
		default:
		}
		if err := decide("peaceful", decided); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if decided < 10 {
		t.Errorf("%d decisions meanwhile", decided)
	}
	if e.Quarantine("hostile") == nil || e.Quarantine("peaceful") != nil {
		t.Error("the one is in quarantine, the other is not")
	}
	e.SetPolicies("hostile", sound)
	if err := decide("hostile", 0); err != nil || e.Quarantine("hostile") != nil {
		t.Errorf("new policies end it: %v", err)
	}
}
