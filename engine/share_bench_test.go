package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
)

// sharedScene returns a scene of a thousand clusters that teams share, and the teams.
func sharedScene(b *testing.B, teams int, quota map[string]int64) (*scene, []logicalcluster.Name) {
	s := newScene(b, 1000)
	var names []logicalcluster.Name
	for i := range teams {
		names = append(names, logicalcluster.Name(fmt.Sprintf("root:team-%03d", i)))
		s.share(b, names[i], quota)
	}
	return s, names
}

func (s *scene) share(b *testing.B, team logicalcluster.Name, quota map[string]int64) {
	clusters := make([]string, s.size)
	for i := range clusters {
		clusters[i] = fleetName(i)
	}
	if err := s.engine.Share(team, ws, []engine.Grant{{Set: "gold", Clusters: clusters, Quota: quota, Weight: 1}}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkTeamsDecide: 100 workspaces on one fleet all decide at once, a goroutine for each, for 500 workloads of 4 known classes: by one
// call for each workload, or by one for all of a workspace. Each decision reserves on three clusters. Releasing that before the next round
// is not timed.
func BenchmarkTeamsDecide(b *testing.B) {
	for _, quota := range []struct {
		name  string
		limit map[string]int64
	}{{"free", nil}, {"quota", map[string]int64{capacity.CPU: 1 << 50, capacity.Memory: 1 << 60}}} {
		b.Run(quota.name+"/each/clusters=1000", func(b *testing.B) { benchmarkTeamsDecide(b, quota.limit, decideEach) })
		b.Run(quota.name+"/batch/clusters=1000", func(b *testing.B) { benchmarkTeamsDecide(b, quota.limit, (*engine.Engine).DecideBatch) })
	}
}

func decideEach(e *engine.Engine, ctx context.Context, requests []engine.Request) []engine.Result {
	results := make([]engine.Result, len(requests))
	for i := range requests {
		results[i].Decision, results[i].Err = e.Decide(ctx, requests[i])
	}
	return results
}

func benchmarkTeamsDecide(b *testing.B, quota map[string]int64, decide func(*engine.Engine, context.Context, []engine.Request) []engine.Result) {
	const teams, each = 100, 500
	s, names := sharedScene(b, teams, quota)
	rounds := make([][]engine.Request, teams)
	for i, team := range names {
		for k, w := range classWorkloads("w", each) {
			w.Requests = capacity.Resources{CPU: int64(10 * (1 + k%4)), Memory: int64(1+k%4) << 20}
			rounds[i] = append(rounds[i], engine.Request{Workspace: team, Placement: s.placement, Workload: w})
		}
	}
	decideAll := func(n int) {
		var all sync.WaitGroup
		for _, requests := range rounds {
			all.Go(func() {
				for _, r := range decide(s.engine, context.Background(), requests[:min(each, (n+teams-1)/teams)]) {
					if r.Err != nil || len(r.Decision.Clusters) != 3 {
						b.Error(r.Decision, r.Err)
					}
				}
			})
		}
		all.Wait()
	}
	release := func() {
		for _, requests := range rounds {
			for i := range requests {
				s.engine.Release(requests[i].Workspace, requests[i].Workload.Reference)
			}
		}
	}
	decideAll(teams * each)
	release()
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= teams * each {
		decideAll(left)
		b.StopTimer()
		release()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

// BenchmarkTeamsReport: the report of one cluster of a thousand, with a number of workspaces that have decided on the fleet.
func BenchmarkTeamsReport(b *testing.B) {
	for _, teams := range []int{1, 100} {
		b.Run(fmt.Sprintf("teams=%d/clusters=1000", teams), func(b *testing.B) {
			s, names := sharedScene(b, teams, nil)
			for _, team := range names {
				r := s.request(newClass(0))
				r.Workspace = team
				if _, err := s.engine.Decide(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
			changes := newChanges(1000)
			b.ReportAllocs()
			for b.Loop() {
				s.engine.SetCluster(ws, changes.take())
			}
		})
	}
}

// BenchmarkTeamsMemory: how much of the heap each further workspace takes on a fleet of a thousand clusters before it decides, and
// after it has decided for one class. An operation attaches a hundred workspaces.
func BenchmarkTeamsMemory(b *testing.B) {
	b.Run("clusters=1000", benchmarkTeamsMemory)
}

func benchmarkTeamsMemory(b *testing.B) {
	const teams = 100
	var idle, deciding float64
	rounds := 0
	for ; b.Loop(); rounds++ {
		b.StopTimer()
		s, names := sharedScene(b, 1, nil)
		r := s.request(newClass(0))
		r.Workspace = names[0]
		if _, err := s.engine.Decide(context.Background(), r); err != nil {
			b.Fatal(err)
		}
		before := heap()
		b.StartTimer()
		var more []logicalcluster.Name
		for i := range teams {
			more = append(more, logicalcluster.Name(fmt.Sprintf("root:more-%03d", i)))
			s.share(b, more[i], map[string]int64{capacity.CPU: 1 << 40})
		}
		b.StopTimer()
		looks := heap()
		for _, team := range more {
			r.Workspace = team
			if _, err := s.engine.Decide(context.Background(), r); err != nil {
				b.Fatal(err)
			}
		}
		idle, deciding = idle+float64(looks)-float64(before), deciding+float64(heap())-float64(looks)
		runtime.KeepAlive(slices.Clone(more))
		runtime.KeepAlive(s)
		b.StartTimer()
	}
	b.ReportMetric(idle/float64(rounds*teams), "B/workspace")
	b.ReportMetric(deciding/float64(rounds*teams), "B/deciding")
}

// BenchmarkTeamsLine: 100 workspaces on one fleet of a thousand clusters have ten placements each with a hundred workloads that wait for the
// room on few of the clusters. An operation is one call of SetLine by one of them in turn, which looks for a place for each of the first 64.
func BenchmarkTeamsLine(b *testing.B) {
	b.Run("clusters=1000", func(b *testing.B) {
		const teams, each = 100, 100
		s, names := sharedScene(b, teams, nil)
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var under []*placement.Placement // enough for 64 workloads of a workspace to be in line
		for i := range 10 {
			p, err := s.engine.CompilePlacement(&v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: "default"}, Spec: benchSpec})
			if err != nil {
				b.Fatal(err)
			}
			under = append(under, p)
		}
		waiting := make([][]engine.Request, teams)
		for i, team := range names {
			for k := range each {
				since := now.Add(time.Duration(k*teams-i) * time.Millisecond)
				waiting[i] = append(waiting[i], engine.Request{
					Workspace: team, Placement: under[k%len(under)], Workload: benchWorkload(fmt.Sprint("w", k), 3_800_000, 1<<30), Since: since, Now: now.Add(time.Minute),
				})
			}
		}
		line := func(i int) {
			if _, blind := s.engine.SetLine(context.Background(), names[i%teams], waiting[i%teams]); !blind {
				b.Fatal("nobody waits for the turn of others")
			}
		}
		for i := range 2 * teams {
			s.engine.SetLine(context.Background(), names[i%teams], waiting[i%teams])
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			line(i)
		}
	})
}
