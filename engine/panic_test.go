package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/metrics"
)

// faulty panics when the engine calls it with the workspace locked, once it is armed.
type faulty struct {
	engine.Metrics
	armed bool
}

func (f *faulty) Evaluated(int) {
	if f.armed {
		panic("out of cheese")
	}
}

// TestAPanicLeavesNoLockBehind: a caller that recovers from a panic of the engine can go on using it, for all workloads of
// the workspace.
func TestAPanicLeavesNoLockBehind(t *testing.T) {
	ctx := context.Background()
	for name, call := range map[string]func(*engine.Engine, engine.Request){
		"Decide":      func(e *engine.Engine, r engine.Request) { _, _ = e.Decide(ctx, r) },
		"DecideBatch": func(e *engine.Engine, r engine.Request) { e.DecideBatch(ctx, []engine.Request{r}) },
		"a batch that holds the lock": func(e *engine.Engine, r engine.Request) {
			other := r
			other.Workload = workloadOf("other", 2)
			e.DecideBatch(ctx, []engine.Request{r, other})
		},
		"Feasible": func(e *engine.Engine, r engine.Request) { _, _ = e.Feasible(ctx, r) },
		"Explain":  func(e *engine.Engine, r engine.Request) { _, _ = e.Explain(ctx, r) },
		"Prefetch": func(e *engine.Engine, _ engine.Request) { _ = e.Prefetch(ctx, ws) },
	} {
		t.Run(name, func(t *testing.T) {
			f := &faulty{Metrics: metrics.New()}
			e := newEngine(t, engine.Options{Metrics: f})
			e.SetCluster(ws, cluster("a", 1000))
			e.SetCluster(ws, cluster("b", 1000))
			r := engine.Request{Workspace: ws, Placement: compile(t, e, v1alpha1.WorkloadPlacementSpec{}), Workload: workloadOf("w", 1)}
			decide(t, e, r.Placement, "w", 1)
			decide(t, e, r.Placement, "other", 2)
			e.SetCluster(ws, cluster("a", 10)) // to be applied under the lock
			f.armed = true
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				call(e, r)
			}()
			f.armed = false
			decided := make(chan *engine.Decision)
			go func() {
				d, _ := e.Decide(ctx, r)
				decided <- d
			}()
			select {
			case d := <-decided:
				if len(d.Clusters) == 0 || d.Clusters[0].Name != "b" {
					t.Errorf("%+v", d.Clusters)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the workspace is locked for ever")
			}
		})
	}
}
