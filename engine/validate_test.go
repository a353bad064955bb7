package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestInvalidRequests: an invalid request is refused by every method with the same message, and changes nothing.
func TestInvalidRequests(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 8000))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	valid := func(change func(*workload.Workload)) engine.Request {
		w := workloadOf("w", 1000)
		change(w)
		return engine.Request{Workspace: ws, Placement: p, Workload: w}
	}
	current := func(names ...string) engine.Request {
		r := valid(func(*workload.Workload) {})
		for _, name := range names {
			r.Current = append(r.Current, engine.Choice{Name: name})
		}
		return r
	}
	move := func(change func(*engine.Request)) engine.Request {
		r := current("a")
		r.Leave = leaving([]string{"a"})
		change(&r)
		return r
	}
	for _, test := range []struct {
		request     engine.Request
		field, want string
	}{
		{move(func(r *engine.Request) { r.Current = nil }), "leave[a]", "the workload does not run there: see current"},
		{move(func(r *engine.Request) { r.Leave = leaving([]string{"a", "a"}) }), "leave[a]", "the cluster is there twice"},
		{move(func(r *engine.Request) { r.Leave[0].Rejection = nil }), "leave[a].rejection", "is nil: say why the workload should leave the cluster"},
		{move(func(r *engine.Request) { r.Into = []string{"b", ""} }), "into", "a cluster has no name"},
		{move(func(r *engine.Request) { r.MinGain = -1 }), "minGain", "-1 is not from 0 to 100"},
		{move(func(r *engine.Request) { r.MinGain = 101 }), "minGain", "101 is not from 0 to 100"},
		{engine.Request{Workspace: ws, Workload: workloadOf("w", 1)}, "placement", "is nil"},
		{engine.Request{Workspace: ws, Workload: workloadOf("w", 1), Placement: &placement.Placement{}}, "placement", "is not compiled: take it from CompilePlacement"},
		{engine.Request{Workspace: ws, Placement: p}, "workload", "is nil"},
		{engine.Request{}, "placement", "is nil"},
		{valid(func(w *workload.Workload) { w.Requests.CPU = -100_000 }), "workload.requests.cpu", "-100000 is not from 0 to 1152921504606846976"},
		{valid(func(w *workload.Workload) { w.Requests.Memory = math.MaxInt64 }), "workload.requests.memory", "9223372036854775807 is not from 0 to 1152921504606846976"},
		{valid(func(w *workload.Workload) { w.Requests.Storage = math.MinInt64 }), "workload.requests.storage", "-9223372036854775808 is not from 0 to 1152921504606846976"},
		{valid(func(w *workload.Workload) { w.Requests.Extended = map[string]int64{gpu: -1} }), "workload.requests." + gpu, "-1 is not from 0 to 1152921504606846976"},
		{valid(func(w *workload.Workload) { w.Requests.Extended = map[string]int64{"cpu": 1} }), "workload.requests", `"cpu" is no extended resource`},
		{valid(func(w *workload.Workload) { w.Pod.CPU = -1 }), "workload.pod.cpu", "-1 is not from 0 to 1152921504606846976"},
		{current("a", "a"), "current[a]", "the cluster is there twice"},
		{current(""), "current", "a cluster has no name"},
		{engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("w", 1), Current: []engine.Choice{{Name: "a", Replicas: -1}}}, "current[a].replicas", "-1 is not from 0 to 2147483647"},
		{engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("w", 1), Current: []engine.Choice{{Name: "a", Replicas: 1 << 31}}}, "current[a].replicas", "2147483648 is not from 0 to 2147483647"},
		{valid(func(w *workload.Workload) { w.Replicas = -1 }), "workload.replicas", "-1 is not from 0 to 2147483647"},
		{valid(func(w *workload.Workload) { w.Replicas = 1 << 31 }), "workload.replicas", "2147483648 is not from 0 to 2147483647"},
	} {
		for how, err := range ask(context.Background(), e, test.request) {
			var invalid *engine.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != test.field || invalid.Message != test.want {
				t.Errorf("%s: %v, want %s: %s", how, err, test.field, test.want)
			}
		}
		_ = e.InputsDigest(test.request)
	}
	if free := e.Snapshot(ws).Row("a").Free.CPU; free != 8000 {
		t.Errorf("%d of 8000 free", free)
	}
	// One invalid request of a batch leaves the others alone.
	results := e.DecideBatch(context.Background(), []engine.Request{
		valid(func(w *workload.Workload) { w.Name = "x" }), {}, valid(func(w *workload.Workload) { w.Name = "y" }),
	})
	if results[0].Err != nil || results[1].Err == nil || results[2].Err != nil {
		t.Errorf("%+v", results)
	}
}

// ask calls every method with a request.
func ask(ctx context.Context, e *engine.Engine, r engine.Request) map[string]error {
	errs := map[string]error{}
	_, errs["Decide"] = e.Decide(ctx, r)
	_, errs["Explain"] = e.Explain(ctx, r)
	_, errs["Review"] = e.Review(ctx, r)
	_, errs["Feasible"] = e.Feasible(ctx, r)
	errs["DecideBatch"] = e.DecideBatch(ctx, []engine.Request{r})[0].Err
	return errs
}

// TestEndedContext: nothing is decided once the context has ended, not even from the cache, and the cause is returned.
func TestEndedContext(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 8000))
	r := engine.Request{Workspace: ws, Placement: compile(t, e, v1alpha1.WorkloadPlacementSpec{}), Workload: workloadOf("w", 1000)}
	if _, err := e.Explain(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	because := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(because)
	for how, err := range ask(ctx, e, r) {
		if !errors.Is(err, because) {
			t.Errorf("%s: %v", how, err)
		}
	}
	if free := e.Snapshot(ws).Row("a").Free.CPU; free != 8000 {
		t.Errorf("%d of 8000 free", free)
	}
}

// TestInvalidClustersAndReservations: they are refused, and what was there before stays.
func TestInvalidClustersAndReservations(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 8000))
	for want, c := range map[string]*snapshot.Cluster{
		"cluster: is nil":         nil,
		"cluster.name: is empty":  {},
		"cluster.allocatable.cpu": {Name: "a", Allocatable: capacity.Resources{CPU: -1}},
		"cluster.allocated.memory": {
			Name: "a", Allocated: capacity.Resources{Memory: -1},
		},
		"cluster.largestFree.cpu": {Name: "a", LargestFree: &capacity.Resources{CPU: math.MaxInt64}},
		"cluster.counted[u]":      {Name: "a", Counted: map[string]capacity.Resources{"u": {CPU: -1}}},
		"cluster.usableNodes":     {Name: "a", UsableNodes: -1},
	} {
		_, err := e.SetCluster(ws, c)
		expectInvalid(t, err, want)
	}
	w := workloadOf("w", 1).Reference
	for want, shares := range map[string][]capacity.Share{
		"clusters: a cluster has no name":           share("", 1),
		"clusters[a].reserved.cpu":                  share("a", -100_000),
		"clusters[a]: the cluster is there twice":   append(share("a", 1), share("a", 1)...),
		"clusters[b].reserved.cpu: 922337203685477": share("b", math.MaxInt64),
	} {
		r := engine.Reservation{Workload: w, Shares: shares}
		expectInvalid(t, e.Restore(ws, r), want)
		expectInvalid(t, e.Reserve(ws, r), want)
		_, err := e.Hold(ws, r)
		expectInvalid(t, err, want)
		_, _, err = e.Replace(ws, nil, nil, []engine.Reservation{r})
		expectInvalid(t, err, want)
	}
	if _, err := e.CompilePlacement(nil); err == nil {
		t.Error("a placement that is nil is compiled")
	}
	e.SetPolicies(ws, nil)
	if row := e.Snapshot(ws).Row("a"); row.Free.CPU != 8000 || !row.Reserved.IsZero() {
		t.Errorf("%+v", row)
	}
}

func expectInvalid(t *testing.T, err error, want string) {
	t.Helper()
	var invalid *engine.InvalidError
	if !errors.As(err, &invalid) || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
		t.Errorf("%v, want an InvalidError that begins with %s", err, want)
	}
}

// TestWhateverIsGiven: no call panics, whatever its arguments, and no cluster ever has more free than allocatable less
// allocated.
func TestWhateverIsGiven(t *testing.T) {
	amount := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-5, 50), rapid.SampledFrom([]int64{0, -1, math.MinInt64, math.MaxInt64, capacity.MaxAmount}))
	amounts := rapid.Custom(func(t *rapid.T) (r capacity.Resources) {
		r.CPU, r.Memory, r.Storage = amount.Draw(t, "cpu"), amount.Draw(t, "memory"), amount.Draw(t, "storage")
		if rapid.Bool().Draw(t, "extended") {
			r.Extended = rapid.MapOf(rapid.SampledFrom([]string{"", "cpu", gpu, "ephemeral-storage"}), amount).Draw(t, "extended")
		}
		return r
	})
	modest := rapid.Custom(func(t *rapid.T) capacity.Resources {
		return capacity.Resources{CPU: rapid.Int64Range(0, 50).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 50).Draw(t, "memory")}
	})
	some := rapid.OneOf(modest, modest, amounts)
	name := rapid.SampledFrom([]string{"a", "b", "c", ""})
	shares := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) capacity.Share {
		return capacity.Share{Cluster: name.Draw(t, "cluster"), Amount: some.Draw(t, "amount"), Expired: rapid.Bool().Draw(t, "expired")}
	}), 0, 3)
	engines, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	compiled := compile(t, engines, v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{
		{Name: "c", Expression: "capacity.free.cpu - workload.requests.cpu >= 0 && workload.replicas / 2 < 1000000"},
	}})
	placements := rapid.SampledFrom([]*placement.Placement{compiled, compiled, compiled, nil, {}})
	request := rapid.Custom(func(t *rapid.T) engine.Request {
		r := engine.Request{Workspace: ws, Placement: placements.Draw(t, "placement")}
		for _, name := range rapid.SliceOfN(name, 0, 3).Draw(t, "current") {
			r.Current = append(r.Current, engine.Choice{Name: name, Replicas: amount.Draw(t, "replicas there")})
		}
		if rapid.IntRange(0, 9).Draw(t, "workload") > 0 {
			r.Workload = &workload.Workload{
				Reference: workload.Reference{Name: name.Draw(t, "name"), UID: name.Draw(t, "uid")}, Requests: some.Draw(t, "requests"),
				Replicas: amount.Draw(t, "replicas"), PerNode: rapid.Bool().Draw(t, "per node"),
			}
		}
		return r
	})
	reservation := rapid.Custom(func(t *rapid.T) engine.Reservation {
		return engine.Reservation{Workload: workload.Reference{Name: name.Draw(t, "name"), UID: name.Draw(t, "uid")}, Shares: shares.Draw(t, "shares")}
	})
	ended, end := context.WithCancel(context.Background())
	end()
	contexts := rapid.SampledFrom([]context.Context{context.Background(), context.Background(), ended, nil})
	rapid.Check(t, func(t *rapid.T) {
		e, err := engine.New(engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"cluster": func(t *rapid.T) {
				c := &snapshot.Cluster{
					Name: name.Draw(t, "cluster"), Allocatable: some.Draw(t, "allocatable"), Allocated: some.Draw(t, "allocated"),
					Taints:     []corev1.Taint{{Effect: "Bogus"}}[:rapid.IntRange(0, 1).Draw(t, "taints")],
					Conditions: []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}}, UsableNodes: amount.Draw(t, "nodes"),
				}
				if rapid.Bool().Draw(t, "largest") {
					largest := some.Draw(t, "largest")
					c.LargestFree = &largest
				}
				c.Counted = rapid.MapOfN(name, some, 0, 2).Draw(t, "counted")
				_, _ = e.SetCluster(ws, c)
			},
			"no cluster": func(*rapid.T) { _, _ = e.SetCluster(ws, nil) },
			"ask": func(t *rapid.T) {
				r := request.Draw(t, "request")
				_ = ask(contexts.Draw(t, "ctx"), e, r)
				_ = e.InputsDigest(r)
				if d, err := e.Explain(context.Background(), r); err == nil {
					_ = fmt.Sprint(d.Summary(), d.Ranked())
					_, _ = d.Nearest()
				}
			},
			"reserve": func(t *rapid.T) {
				r := reservation.Draw(t, "reservation")
				switch rapid.IntRange(0, 3).Draw(t, "how") {
				case 0:
					_ = e.Restore(ws, r)
				case 1:
					_ = e.Reserve(ws, r)
				case 2:
					_, _ = e.Hold(ws, r)
				default:
					_, _, _ = e.Replace(ws, []engine.Reservation{r}, nil, []engine.Reservation{reservation.Draw(t, "foreign")})
				}
			},
			"release": func(t *rapid.T) { e.Release(ws, workload.Reference{Name: name.Draw(t, "name")}) },
			"": func(t *rapid.T) {
				for _, row := range e.Snapshot(ws).Rows() {
					unreserved := row.Allocatable.Sub(row.Allocated)
					for name, free := range row.Free.Each {
						if free > unreserved.Get(name) {
							t.Fatalf("%s: %d %s free of %d", row.Name, free, name, unreserved.Get(name))
						}
					}
				}
			},
		})
	})
}
