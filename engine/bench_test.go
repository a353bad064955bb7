package engine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// The benchmarks decide with four constraints (a label, a capability, free capacity against the request, and a macro
// over labels and capacity), the built-in policies, Spread over 3, and reservations.
var sizes = []int{100, 1000, 5000, 10000}

func benchmark(b *testing.B, decide func(b *testing.B, e *engine.Engine, p *engine.Placement)) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("clusters=%d", size), func(b *testing.B) {
			e := newEngine(b, engine.Options{})
			for i := range size {
				e.SetCluster(ws, fleetCluster(i, 0))
			}
			p := compile(b, e, v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{
				{Name: "tier", Expression: `cluster.labels["tier"] in ["gold", "silver"]`},
				{Name: "ssd", Expression: `cluster.capabilities.exists(c, c.type == "ssd" && c.available)`},
				{Name: "room", Expression: `capacity.free.cpu >= 2 * workload.requests.cpu`},
				{Name: "zone", Expression: `cluster.labels.exists(k, k == "zone" && capacity.free.memory > 0)`},
			}})
			b.ReportAllocs()
			b.ResetTimer()
			decide(b, e, p)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

// fleetCluster is the cluster of an index: four in five pass the constraints.
func fleetCluster(i int, allocated int64) *snapshot.Cluster {
	return &snapshot.Cluster{
		Name: fmt.Sprintf("cluster-%05d", i), Location: []string{"eu", "us", "ap"}[i%3],
		Labels:       map[string]string{"tier": []string{"gold", "silver", "gold", "silver", "bronze"}[i%5], "zone": fmt.Sprint(i % 7)},
		Capabilities: []snapshot.Capability{{Type: "gpu"}, {Type: "ssd", Available: true}},
		Conditions:   []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		Allocatable:  capacity.Resources{CPU: 1_000_000_000 + int64(i), Memory: 1 << 50},
		Allocated:    capacity.Resources{CPU: allocated},
	}
}

func benchWorkload(name string, cpu int64) *workload.Workload {
	w := workloadOf(name, cpu)
	w.Requests.Memory = 1 << 20
	return w
}

// BenchmarkDecideUncached: a class of workloads that was never seen before.
func BenchmarkDecideUncached(b *testing.B) {
	benchmark(b, func(b *testing.B, e *engine.Engine, p *engine.Placement) {
		for i := 0; b.Loop(); i++ {
			decideOne(b, e, p, benchWorkload("w", int64(i%100_000)), false)
		}
	})
}

// BenchmarkDecideBurst: workloads of other names and one class, one after the other, each with its reservation.
func BenchmarkDecideBurst(b *testing.B) {
	benchmark(b, func(b *testing.B, e *engine.Engine, p *engine.Placement) {
		decideOne(b, e, p, benchWorkload("first", 1), false)
		for i := 0; b.Loop(); i++ {
			decideOne(b, e, p, benchWorkload(fmt.Sprint(i), 1), true)
		}
	})
}

// BenchmarkDecideCached: a class that was seen before; only what it held itself has changed since.
func BenchmarkDecideCached(b *testing.B) {
	benchmark(b, func(b *testing.B, e *engine.Engine, p *engine.Placement) {
		w := benchWorkload("w", 1)
		decideOne(b, e, p, w, false)
		for b.Loop() {
			decideOne(b, e, p, w, true)
		}
	})
}

// BenchmarkDecideAfterChange: a class that was seen before, and one cluster has reported since.
func BenchmarkDecideAfterChange(b *testing.B) {
	benchmark(b, func(b *testing.B, e *engine.Engine, p *engine.Placement) {
		w := benchWorkload("w", 1)
		decideOne(b, e, p, w, false)
		for i := 0; b.Loop(); i++ {
			e.SetCluster(ws, fleetCluster(i%100, int64(i)))
			decideOne(b, e, p, w, true)
		}
	})
}

func decideOne(b *testing.B, e *engine.Engine, p *engine.Placement, w *workload.Workload, cached bool) {
	d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: w})
	if err != nil || len(d.Clusters) != 3 || cached && !d.Cached {
		b.Fatal(d, err)
	}
}
