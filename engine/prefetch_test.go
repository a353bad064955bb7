package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
)

// TestPrefetch: after a change of clusters or policies, rankings in use are updated before the next request.
func TestPrefetch(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, registry := newMeasured(t, engine.Options{Policies: policies})
	for _, name := range []string{"a", "b", "c"} {
		e.SetCluster(ws, cluster(name, 1000))
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{
		{Name: "c", Expression: `cluster.name != workload.labels.?not.orValue("")`},
	}})
	ctx := context.Background()
	prefetch := func() {
		t.Helper()
		if err := e.Prefetch(ctx, ws); err != nil {
			t.Fatal(err)
		}
	}
	refreshed := func(do func()) float64 {
		before := gather(t, registry, "placement_engine_refreshed_rows_total")
		do()
		return gather(t, registry, "placement_engine_refreshed_rows_total") - before
	}
	expect := func(of string, got, want float64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v rows, want %v", of, got, want)
		}
	}
	decideOne := func() { decide(t, e, p, "w", 1) }
	expect("the first decision", refreshed(decideOne), 3)
	expect("what the decision itself reserved", refreshed(prefetch), 3)
	expect("nothing has changed", refreshed(prefetch), 0)

	e.SetCluster(ws, cluster("b", 2000))
	expect("a cluster has changed", refreshed(prefetch), 1)
	expect("decided after that", refreshed(decideOne), 0)
	prefetch()

	set, err := policies.Compile(map[string]string{"a.rego": "package placement.scoring\nweights := {\"health\": 1}"})
	if err != nil {
		t.Fatal(err)
	}
	e.SetPolicies(ws, set)
	if n := refreshed(prefetch); n < 3 {
		t.Errorf("the policies have changed: %v rows", n)
	}
	if d := decide(t, e, p, "w", 1); !d.Cached || d.PolicyDigest != set.Digest() {
		t.Errorf("cached %v, under %s", d.Cached, d.PolicyDigest)
	}

	// The classes do not have what these policies read of workloads: they are ranked when they are requested.
	set, err = policies.Compile(map[string]string{"a.rego": "package placement.scoring\nweights := {\"health\": count(input.workload.name)}"})
	if err != nil {
		t.Fatal(err)
	}
	e.SetPolicies(ws, set)
	expect("the policies read more", refreshed(prefetch), 0)
	decideOne()

	stopped, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("enough"))
	e.SetCluster(ws, cluster("d", 3000))
	if err := e.Prefetch(stopped, ws); fmt.Sprint(err) != "enough" {
		t.Errorf("stopped: %v", err)
	}

	set, err = policies.Compile(map[string]string{"a.rego": "package placement.scoring\nweights := {\"health\": 1} if input.placement.name != \"p\""})
	if err != nil {
		t.Fatal(err)
	}
	e.SetPolicies(ws, set)
	if err := e.Prefetch(ctx, ws); err == nil || !strings.Contains(fmt.Sprint(err), "is undefined for this workload") {
		t.Errorf("the policies fail: %v", err)
	}
}
