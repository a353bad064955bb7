package engine_test

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/metrics"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// requests returns how many requests were cached, and how many were not.
type requests struct {
	engine.Metrics
	cached, uncached int
}

func (r *requests) Request(cached bool) {
	if cached {
		r.cached++
	} else {
		r.uncached++
	}
}

// TestRequestsAreCountedOnce: each request to decide counts once, however many fallback groups are tried for it; asking only
// whether there would be a place does not count.
func TestRequestsAreCountedOnce(t *testing.T) {
	ctx := context.Background()
	counted := &requests{Metrics: metrics.New()}
	e := newEngine(t, engine.Options{Metrics: counted})
	e.SetCluster(ws, cluster("a", 8000, func(c *snapshot.Cluster) { c.Location = "us" }))
	groups := []v1alpha1.ClusterGroup{{Name: "x", ReturnAfter: &metav1.Duration{Duration: time.Minute}}, {Name: "y"}, {Name: "z"}}
	for i, name := range []string{"b", "c", "a"} {
		groups[i].ClusterSelector = &v1alpha1.ClusterSelector{ClusterNames: []string{name}}
	}
	request := engine.Request{Workspace: ws, Placement: compile(t, e, v1alpha1.WorkloadPlacementSpec{Fallback: groups}), Workload: workloadOf("w", 1000)}
	expect := func(what string, uncached, cached int) {
		t.Helper()
		if counted.uncached != uncached || counted.cached != cached {
			t.Errorf("%s: %d uncached and %d cached requests, want %d and %d", what, counted.uncached, counted.cached, uncached, cached)
		}
		counted.uncached, counted.cached = 0, 0
	}
	decide := func(what string, uncached, cached int, decide func() (*engine.Decision, error)) {
		t.Helper()
		if d, err := decide(); err != nil || names(d) != "a" {
			t.Fatal(names(d), err)
		}
		expect(what, uncached, cached)
	}
	decide("Decide", 1, 0, func() (*engine.Decision, error) { return e.Decide(ctx, request) })
	decide("Explain", 0, 1, func() (*engine.Decision, error) { return e.Explain(ctx, request) })
	decide("Review", 0, 1, func() (*engine.Decision, error) { return e.Review(ctx, request) })
	decide("DecideBatch", 0, 1, func() (*engine.Decision, error) {
		r := e.DecideBatch(ctx, []engine.Request{request})[0]
		return r.Decision, r.Err
	})
	if feasible, err := e.Feasible(ctx, request); err != nil || !feasible {
		t.Fatal(feasible, err)
	}
	request.Group = "z"
	if better, err := e.BetterGroup(ctx, request); err != nil || better != "" {
		t.Fatal(better, err)
	}
	expect("Feasible and BetterGroup", 0, 0)
	plain := request
	plain.Placement, plain.Group = compile(t, e, v1alpha1.WorkloadPlacementSpec{}), ""
	decide("a placement without groups", 1, 0, func() (*engine.Decision, error) { return e.Decide(ctx, plain) })
}
