package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// The benchmarks decide with four constraints (a label, a capability, free capacity against the request, and a macro
// over labels and capacity), the built-in policies, Spread over 3, and reservations. `make bench` runs them and makes
// docs/performance.svg and the table of docs/performance.md from what they print.
var sizes = []int{100, 1000, 5000, 10000}

var benchSpec = v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{
	{Name: "tier", Expression: `cluster.labels["tier"] in ["gold", "silver"]`},
	{Name: "ssd", Expression: `cluster.capabilities.exists(c, c.type == "ssd" && c.available)`},
	{Name: "room", Expression: `capacity.free.cpu >= 2 * workload.requests.cpu`},
	{Name: "zone", Expression: `cluster.labels.exists(k, k == "zone" && capacity.free.memory > 0)`},
}}

// scene is an engine with a fleet in workspace ws, and a placement.
type scene struct {
	engine    *engine.Engine
	policies  *policy.Compiler
	placement *placement.Placement
	size      int
}

func newScene(b *testing.B, size int) *scene {
	b.Helper()
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := &scene{engine: newEngine(b, engine.Options{Policies: policies}), policies: policies, size: size}
	s.placement = compile(b, s.engine, benchSpec)
	s.fill(ws)
	return s
}

func (s *scene) fill(workspace logicalcluster.Name) {
	for i := range s.size {
		s.engine.SetCluster(workspace, fleetCluster(i, 0))
	}
}

func (s *scene) request(w *workload.Workload) engine.Request {
	return engine.Request{Workspace: ws, Placement: s.placement, Workload: w}
}

// decide decides in ws and expects three clusters.
func (s *scene) decide(b *testing.B, w *workload.Workload) *engine.Decision {
	d, err := s.engine.Decide(context.Background(), s.request(w))
	if err != nil || len(d.Clusters) != 3 {
		b.Fatal(d, err)
	}
	return d
}

// overSizes runs a benchmark for each fleet size, in a scene of its own that has decided once.
func overSizes(b *testing.B, run func(b *testing.B, s *scene)) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("clusters=%d", size), func(b *testing.B) {
			s := newScene(b, size)
			s.decide(b, benchWorkload("w", 1, 1))
			b.ReportAllocs()
			b.ResetTimer()
			run(b, s)
		})
	}
}

// fleetCluster returns the cluster with an index: one to eight thousand CPUs, up to nine tenths of them in use, and some
// millicores more. Four in five pass the constraints.
func fleetCluster(i int, more int64) *snapshot.Cluster {
	cpu := int64(1+i%8)*1_000_000 + int64(i)
	memory := cpu << 22
	return &snapshot.Cluster{
		Name: fleetName(i), Location: []string{"eu", "us", "ap"}[i%3],
		Labels: map[string]string{
			"tier": []string{"gold", "silver", "gold", "silver", "bronze"}[i%5], "zone": strconv.Itoa(i % 7), v1alpha1.LabelCost: strconv.Itoa(i % 11),
		},
		Capabilities: []snapshot.Capability{{Type: "gpu"}, {Type: "ssd", Available: true}},
		Conditions:   []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		Allocatable:  capacity.Resources{CPU: cpu, Memory: memory},
		Allocated:    capacity.Resources{CPU: cpu/100*int64(i*37%90) + more, Memory: memory / 100 * int64(i*53%90)},
	}
}

func fleetName(i int) string { return fmt.Sprintf("cluster-%05d", i) }

// changes are future reports, of every cluster in turn, each different from the previous one of the same cluster. They
// are made beforehand, so that making them is not measured.
type changes struct {
	clusters [2][]*snapshot.Cluster
	next     int
}

func newChanges(size int) *changes {
	c := &changes{}
	for round := range c.clusters {
		for i := range size {
			c.clusters[round] = append(c.clusters[round], fleetCluster(i, int64(1000*(1-round))))
		}
	}
	return c
}

func (c *changes) take() *snapshot.Cluster {
	const stride = 7919 // a prime: every cluster comes before any comes again
	size := len(c.clusters[0])
	next := c.clusters[c.next/size%2][c.next*stride%size]
	c.next++
	return next
}

func benchWorkload(name string, cpu, memory int64) *workload.Workload {
	w := workloadOf(name, cpu)
	w.Requests.Memory = memory
	return w
}

// newClass returns a workload whose requests no other index has.
func newClass(i int) *workload.Workload {
	return benchWorkload("w", 1000+int64(i%100_000), 1<<30+int64(i))
}

// BenchmarkDecideUncached: a class never seen before, of a policy class that has been.
func BenchmarkDecideUncached(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		for i := 0; b.Loop(); i++ {
			s.decide(b, newClass(i))
		}
	})
}

// BenchmarkDecideFirstSight: a policy class never seen before: Rego is evaluated, since each workload prefers another
// cluster, those of the fleet first and then others.
func BenchmarkDecideFirstSight(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		for i := 0; b.Loop(); i++ {
			w := newClass(i)
			w.Annotations = map[string]string{v1alpha1.AnnotationPreferredCluster: fleetName(i)}
			s.decide(b, w)
		}
	})
}

// BenchmarkDecideCached: a class seen before; only what the workload itself held has changed since.
func BenchmarkDecideCached(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		w := newClass(0)
		for s.decide(b, w); b.Loop(); {
			s.decide(b, w)
		}
	})
}

// BenchmarkDecideAfterChange: a class seen before, and one cluster has reported since; taking the report is included.
func BenchmarkDecideAfterChange(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		w, reports := newClass(0), newChanges(s.size)
		for s.decide(b, w); b.Loop(); {
			s.engine.SetCluster(ws, reports.take())
			s.decide(b, w)
		}
	})
}

// BenchmarkCostAndPackingUncached and BenchmarkCostAndPackingAfterChange are the two above with weights for the factors cost and
// packing in addition to the built-in ones, and with as many shapes of usual workloads as there can be.
func BenchmarkCostAndPackingUncached(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		s.weighCostAndPacking(b)
		for i := 0; b.Loop(); i++ {
			s.decide(b, newClass(i))
		}
	})
}

func BenchmarkCostAndPackingAfterChange(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		s.weighCostAndPacking(b)
		w, reports := newClass(0), newChanges(s.size)
		for s.decide(b, w); b.Loop(); {
			s.engine.SetCluster(ws, reports.take())
			s.decide(b, w)
		}
	})
}

// weighCostAndPacking gives clusters costs, and places one workload of each shape.
func (s *scene) weighCostAndPacking(b *testing.B) {
	set, err := s.policies.Compile(map[string]string{"a.rego": `package placement.scoring
weights := {"capacity": 30, "health": 30, "performance": 20, "affinity": 10, "location": 10, "cost": 20, "packing": 40}`})
	if err != nil {
		b.Fatal(err)
	}
	s.engine.SetPolicies(ws, set)
	for i := range capacity.MaxShapes {
		w := benchWorkload(fmt.Sprint("usual-", i), 1<<(i%8), 1<<(20+i/2))
		reservation := engine.Reservation{Workload: w.Reference, Shares: []capacity.Share{{Cluster: fleetName(i), Amount: w.Requests}}}
		if err := s.engine.Restore(ws, reservation); err != nil {
			b.Fatal(err)
		}
	}
	s.decide(b, newClass(0))
	b.ResetTimer()
}

// BenchmarkNoPlace: a class seen before that is too large for every cluster, one of which has reported since, and the
// summary of why it waits.
func BenchmarkNoPlace(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		w, reports := tooLarge(0), newChanges(s.size)
		for s.noPlace(b, w); b.Loop(); {
			s.engine.SetCluster(ws, reports.take())
			s.noPlace(b, w)
		}
	})
}

// BenchmarkNoPlaceUncached: the same for a class never seen before.
func BenchmarkNoPlaceUncached(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		for i := 0; b.Loop(); i++ {
			s.noPlace(b, tooLarge(i))
		}
	})
}

// tooLarge returns a workload that no cluster has room for, whose requests no other index has.
func tooLarge(i int) *workload.Workload {
	return benchWorkload("w", 9_000_000+int64(i%100_000), 1<<30+int64(i))
}

// noPlace decides in ws, and asks why there is no place.
func (s *scene) noPlace(b *testing.B, w *workload.Workload) {
	d, err := s.engine.Decide(context.Background(), s.request(w))
	if err != nil || len(d.Clusters) != 0 || d.Summary() == "" {
		b.Fatal(d, err)
	}
}

// BenchmarkClusterUpdate: one cluster reports, and nothing is decided.
func BenchmarkClusterUpdate(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		reports := newChanges(s.size)
		for b.Loop() {
			s.engine.SetCluster(ws, reports.take())
		}
	})
}

// BenchmarkPolicyChange: from the source of new policies to the first decision under them.
func BenchmarkPolicyChange(b *testing.B) {
	overSizes(b, func(b *testing.B, s *scene) {
		w := newClass(0)
		for i := 0; b.Loop(); i++ {
			set, err := s.policies.Compile(map[string]string{"a.rego": fmt.Sprintf(`package placement.scoring
default weights := {"capacity": 30, "health": 40, "performance": 20, "affinity": 10}
weights := {"capacity": 100} if input.workload.kind == "Job-%d"
`, i)})
			if err != nil {
				b.Fatal(err)
			}
			s.engine.SetPolicies(ws, set)
			s.decide(b, w)
		}
	})
}

// classWorkloads returns n workloads, of 20 classes in turn.
func classWorkloads(prefix string, n int) []*workload.Workload {
	all := make([]*workload.Workload, n)
	for i := range all {
		class := int64(1 + i%20)
		all[i] = benchWorkload(prefix+strconv.Itoa(i), 100*class, class<<27)
	}
	return all
}

// BenchmarkDecideBatch: a thousand workloads of 20 classes in one call, each with its reservation, on one core. An
// operation is one workload. Reservations are released between two calls, which is not timed; that the fleet has changed
// by it is.
func BenchmarkDecideBatch(b *testing.B) {
	benchmarkThousand(b, (*engine.Engine).DecideBatch)
}

// BenchmarkDecideLoop: the same thousand workloads, by one call of Decide each.
func BenchmarkDecideLoop(b *testing.B) {
	results := make([]engine.Result, 1000)
	benchmarkThousand(b, func(e *engine.Engine, ctx context.Context, requests []engine.Request) []engine.Result {
		for i := range requests {
			results[i].Decision, results[i].Err = e.Decide(ctx, requests[i])
		}
		return results[:len(requests)]
	})
}

func benchmarkThousand(b *testing.B, decideAll func(*engine.Engine, context.Context, []engine.Request) []engine.Result) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, size := range sizes {
		var s *scene
		var requests []engine.Request
		b.Run(fmt.Sprintf("clusters=%d", size), func(b *testing.B) {
			decide := func(requests []engine.Request) {
				results := decideAll(s.engine, context.Background(), requests)
				b.StopTimer()
				for i, r := range results {
					if r.Err != nil || len(r.Decision.Clusters) != 3 {
						b.Fatal(r)
					}
					s.engine.Release(ws, requests[i].Workload.Reference)
				}
				b.StartTimer()
			}
			if s == nil {
				s = newScene(b, size)
				for _, w := range classWorkloads("w", 1000) {
					requests = append(requests, s.request(w))
				}
				decide(requests)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= len(requests) {
				decide(requests[:min(left, len(requests))])
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "workloads/s")
		})
	}
}

// BenchmarkDecideParallel: 32 goroutines for every processor decide again and again, each for 20 workloads of as many
// classes, in 16 workspaces.
func BenchmarkDecideParallel(b *testing.B) {
	const workspaces, goroutines, classes = 16, 32, 20
	for _, size := range sizes {
		var s *scene
		var requests [][]engine.Request // of each goroutine
		b.Run(fmt.Sprintf("clusters=%d", size), func(b *testing.B) {
			if s == nil {
				s = newScene(b, size)
				requests = make([][]engine.Request, goroutines*runtime.GOMAXPROCS(0))
				for i := range requests {
					workspace := logicalcluster.Name(fmt.Sprintf("root:team-%d", i%workspaces))
					if i < workspaces {
						s.fill(workspace)
					}
					for _, w := range classWorkloads(fmt.Sprintf("w%d-", i), classes) {
						request := engine.Request{Workspace: workspace, Placement: s.placement, Workload: w}
						if _, err := s.engine.Decide(context.Background(), request); err != nil {
							b.Fatal(err)
						}
						requests[i] = append(requests[i], request)
					}
				}
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(goroutines)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				mine := requests[int(next.Add(1)-1)%len(requests)]
				for i := 0; pb.Next(); i++ {
					d, err := s.engine.Decide(context.Background(), mine[i%classes])
					if err != nil || len(d.Clusters) != 3 {
						b.Error(d, err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

// BenchmarkMemory: how much of the heap a cluster takes in each workspace that has it, with the ranking of one class.
// An operation fills four workspaces and decides once in each.
func BenchmarkMemory(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("clusters=%d", size), func(b *testing.B) {
			const workspaces = 4
			s := newScene(b, size)
			s.decide(b, newClass(0))
			b.ReportAllocs()
			var grown float64
			rounds := 0
			for ; b.Loop(); rounds++ {
				b.StopTimer()
				before := heap()
				b.StartTimer()
				for i := range workspaces {
					request := s.request(newClass(0))
					request.Workspace = logicalcluster.Name(fmt.Sprintf("root:team-%d", i))
					s.fill(request.Workspace)
					if d, err := s.engine.Decide(context.Background(), request); err != nil || len(d.Clusters) != 3 {
						b.Fatal(d, err)
					}
				}
				b.StopTimer()
				grown += float64(heap()) - float64(before)
				for i := range workspaces {
					s.engine.Forget(logicalcluster.Name(fmt.Sprintf("root:team-%d", i)))
				}
				b.StartTimer()
			}
			runtime.KeepAlive(s)
			b.ReportMetric(grown/float64(rounds*workspaces*size), "B/cluster")
		})
	}
}

// heap returns how much of the heap is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // frees what the first run left in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
