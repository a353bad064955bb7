package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/metrics"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestFleetSizes: no cluster, one, and more than anybody has.
func TestFleetSizes(t *testing.T) {
	for size, want := range map[int]string{
		0:       " of none",
		1:       "c0 of 1",
		100_000: "c99999,c99998,c99997 of 100000",
	} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			e := newEngine(t, engine.Options{})
			for i := range size {
				e.SetCluster(ws, cluster(fmt.Sprintf("c%d", i), 1_000_000, func(c *snapshot.Cluster) { c.Allocated.CPU = int64(size - i) }))
			}
			p := compile(t, e, v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{
				{Name: "c", Expression: `cluster.name.startsWith("c") && capacity.free.cpu > workload.requests.cpu && cluster.labels.all(k, capacity.free.cpu > 10)`},
			}})
			for _, name := range []string{"w", "w", "v"} { // new, again, another of its class
				d := decide(t, e, p, name, 1)
				number := map[bool]string{true: "none", false: fmt.Sprint(size)}[size == 0]
				if name == "v" {
					break // the first holds what made its clusters the best
				}
				if got := names(d) + " of " + number; got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
			e.RemoveCluster(ws, "c0")
			e.RemoveCluster(ws, "never there")
			if s := e.Snapshot(ws); s.Len() != max(size-1, 0) {
				t.Errorf("%d clusters are left", s.Len())
			}
		})
	}
}

func decide(t testing.TB, e *engine.Engine, p *placement.Placement, name string, cpu int64) *engine.Decision {
	t.Helper()
	d, err := e.Decide(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: workloadOf(name, cpu)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEveryConjunctFails: whatever the parts of a constraint evaluate to, an error in any of them rejects the cluster,
// and is reported as it is for the whole expression.
func TestEveryConjunctFails(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 10, func(c *snapshot.Cluster) { c.Labels = map[string]string{"tier": "gold"} }))
	for expression, want := range map[string]string{
		`cluster.labels.x == "1" && cluster.labels.y == "2"`:                                        "cannot be evaluated: no such key: x",
		`capacity.free.gpu > 1 && capacity.free.cpu / capacity.free.storage > 1`:                    "cannot be evaluated: no such key: gpu",
		`capacity.free.cpu > 9223372036854775807 + workload.requests.cpu && cluster.labels.x == ""`: "cannot be evaluated: integer overflow",
		`cluster.labels.exists(k, capacity.free.gpu > 1 && cluster.labels[k + "x"] == "")`:          "cannot be evaluated: no such key: gpu",
		`cluster.labels.x == "1" && cluster.labels.tier == "bronze"`:                                "not true",
		`capacity.free.gpu > 1 || cluster.labels.tier == "gold"`:                                    "",
		`cluster.labels.exists(k, capacity.free.gpu > 1 || k == "tier")`:                            "",
	} {
		t.Run(expression, func(t *testing.T) {
			p := compile(t, e, v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{{Name: "c", Expression: expression}}})
			for range 2 {
				d := decide(t, e, p, "w", 1)
				v := d.Verdicts()[0]
				if (want == "") != (names(d) == "a") || (v.Rejection == nil) != (want == "") {
					t.Fatalf("chosen: %q, rejection: %v", names(d), v.Rejection)
				}
				if v.Rejection != nil && !strings.HasPrefix(v.Rejection.Message, want) {
					t.Errorf("%q, want %q", v.Rejection.Message, want)
				}
			}
		})
	}
}

// TestManyClasses: thousands of classes stay within their memory limit, and what they share is evaluated once.
func TestManyClasses(t *testing.T) {
	const clusters, classes, most = 500, 3000, 1 << 20
	e, registry := newMeasured(t, engine.Options{CacheBytes: most})
	for i := range clusters {
		e.SetCluster(ws, fleetCluster(i, 0))
	}
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{})
	for round := range 2 {
		for i := range classes {
			if d := decide(t, e, p, fmt.Sprint(i), int64(1+i)); d.Cached {
				t.Fatalf("round %d: class %d is still there: nothing was dropped", round, i)
			}
			if bytes := gather(t, registry, "placement_engine_cache_bytes"); bytes > most {
				t.Fatalf("%v bytes after %d classes", bytes, i)
			}
		}
	}
	if d := decide(t, e, p, "last", classes); !d.Cached {
		t.Error("the last class must still be there")
	}
	if counted, err := testutil.GatherAndCount(registry); err != nil || counted == 0 {
		t.Error("nothing was counted")
	}
	e.Forget(ws)
	if bytes := gather(t, registry, "placement_engine_cache_bytes"); bytes != 0 {
		t.Errorf("%v bytes of a workspace that is gone", bytes)
	}
}

// TestPoliciesThatReadEverything: no two workloads are the same to these policies. The results are correct, and the metrics
// show it.
func TestPoliciesThatReadEverything(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := policies.Compile(map[string]string{"a.rego": `package placement.affinity
terms contains {"factor": "affinity", "match": {"clusterNames": ["b"]}, "onMatch": 50} if {
	some field in input.workload
	field == "w3"
}`})
	if err != nil {
		t.Fatal(err)
	}
	e, registry := newMeasured(t, engine.Options{Policies: policies})
	e.SetPolicies(ws, set)
	e.SetCluster(ws, cluster("a", 1000))
	e.SetCluster(ws, cluster("b", 1000))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategyAffinity}})
	for i := range 5 {
		name := fmt.Sprintf("w%d", i)
		want := map[bool]string{true: "b", false: "a"}[name == "w3"]
		if got := names(decide(t, e, p, name, 0)); got != want {
			t.Errorf("%s is on %s, want %s", name, got, want)
		}
	}
	if misses, hits := gather(t, registry, "placement_engine_cache_misses_total"), gather(t, registry, "placement_engine_cache_hits_total"); misses != 5 || hits != 0 {
		t.Errorf("%v misses, %v hits", misses, hits)
	}
}

// newMeasured makes an engine, and the registry of its metrics.
func newMeasured(t *testing.T, options engine.Options) (*engine.Engine, *prometheus.Registry) {
	t.Helper()
	collector, registry := metrics.New(), prometheus.NewRegistry()
	registry.MustRegister(collector)
	options.Metrics = collector
	return newEngine(t, options), registry
}

// gather reads one counter or gauge.
func gather(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
