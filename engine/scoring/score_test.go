package scoring_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// cluster has 1,000 of CPU and memory allocatable and the rest of free in use.
func cluster(free int64, change ...func(*snapshot.Cluster)) *snapshot.Row {
	c := &snapshot.Cluster{
		Name: "c", Location: "eu", Labels: map[string]string{"tier": "gold"},
		Capabilities: []snapshot.Capability{{Type: "gpu", Available: true}, {Type: "fpga"}},
		Conditions:   []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		Allocatable:  capacity.Resources{CPU: 1000, Memory: 1000},
		Allocated:    capacity.Resources{CPU: 1000 - free, Memory: 1000 - free},
	}
	for _, f := range change {
		f(c)
	}
	return snapshot.NewRow(c, capacity.Resources{})
}

func both(amount int64) capacity.Resources { return capacity.Resources{CPU: amount, Memory: amount} }

func TestCapacityFactor(t *testing.T) {
	for _, test := range []struct {
		name     string
		required capacity.Resources
		want     int64
	}{
		{"nothing required", capacity.Resources{}, 100},
		{"ten times over", both(100), 100},
		{"just under ten", both(101), 80},
		{"five times over", both(200), 80},
		{"just under five", both(201), 60},
		{"twice over", both(500), 60},
		{"just under twice", both(501), 40},
		{"exactly once", both(1000), 40},
		{"less than once", both(1001), 0},
		{"mean of CPU and memory", capacity.Resources{CPU: 100, Memory: 200}, 90},
		{"nothing of one required counts as 100", capacity.Resources{CPU: 1000}, 70},
		{"other resources do not count", capacity.Resources{Storage: 1, Extended: map[string]int64{"gpu": 1}}, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := scoring.Of(cluster(1000), scoring.Asked{Requests: test.required}, scoring.Weights{}).Factors[scoring.Capacity]; got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestHealthFactor(t *testing.T) {
	for status, want := range map[string]int64{"True": 100, "False": 50, "Unknown": 0, "": 0} {
		row := cluster(1000, func(c *snapshot.Cluster) {
			c.Conditions = nil
			if status != "" {
				c.Conditions = []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: status}}
			}
		})
		if got := scoring.Of(row, scoring.Asked{}, scoring.Weights{}).Factors[scoring.Health]; got != want {
			t.Errorf("Ready %q: got %d, want %d", status, got, want)
		}
	}
}

func TestPerformanceFactor(t *testing.T) {
	for used, want := range map[int64]int64{
		0: 100, 499: 100, 500: 70, 799: 70, 800: 40, 949: 40, 950: 10, 1000: 10, 2000: 10,
	} {
		if got := cluster(1000 - used).PerformanceScore; got != want {
			t.Errorf("%d of 1000 in use: got %d, want %d", used, got, want)
		}
	}
	t.Run("mean of CPU and memory, reserved amounts included", func(t *testing.T) {
		row := cluster(1000)
		row = snapshot.NewRow(row.Cluster, capacity.Resources{CPU: 1000}) // 100 % and 0 %
		if row.PerformanceScore != 70 {
			t.Errorf("got %d, want 70", row.PerformanceScore)
		}
	})
	t.Run("nothing allocatable", func(t *testing.T) {
		row := snapshot.NewRow(&snapshot.Cluster{}, capacity.Resources{})
		if got := row.Utilization().CPU; got != 0 {
			t.Errorf("nothing in use: %d %%", got)
		}
		row = snapshot.NewRow(&snapshot.Cluster{Allocated: both(1)}, capacity.Resources{})
		if got := row.Utilization().CPU; got != 100 {
			t.Errorf("something in use: %d %%", got)
		}
	})
}

func TestTerms(t *testing.T) {
	gold := labels.SelectorFromSet(labels.Set{"tier": "gold"})
	silver := labels.SelectorFromSet(labels.Set{"tier": "silver"})
	term := func(m scoring.Match, on, otherwise int64) scoring.Term {
		return scoring.Term{Match: m, Factor: scoring.Affinity, OnMatch: on, Otherwise: otherwise}
	}
	for _, test := range []struct {
		name  string
		terms []scoring.Term
		want  int64
	}{
		{"none is neutral", nil, 50},
		{"preferred cluster", []scoring.Term{term(scoring.Match{ClusterNames: []string{"c"}}, 50, -25)}, 100},
		{"another is preferred", []scoring.Term{term(scoring.Match{ClusterNames: []string{"d"}}, 50, -25)}, 25},
		{"avoided", []scoring.Term{term(scoring.Match{ClusterNames: []string{"c"}}, -50, 0)}, 0},
		{"clamped below", []scoring.Term{term(scoring.Match{Location: "eu"}, -100, 0)}, 0},
		{"clamped above", []scoring.Term{term(scoring.Match{Location: "eu"}, 100, 0)}, 100},
		{"clamped after the sum", []scoring.Term{term(scoring.Match{Location: "eu"}, 100, 0), term(scoring.Match{Location: "eu"}, -60, 0)}, 90},
		{"labels", []scoring.Term{term(scoring.Match{Labels: gold}, 7, 0), term(scoring.Match{Labels: silver}, 0, -1)}, 56},
		{"capability available", []scoring.Term{term(scoring.Match{Capability: "gpu"}, 7, 0)}, 57},
		{"capability not available", []scoring.Term{term(scoring.Match{Capability: "fpga"}, 7, 0)}, 50},
		{"all parts must match", []scoring.Term{term(scoring.Match{Location: "eu", Labels: silver}, 7, -7)}, 43},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := scoring.Of(cluster(1000), scoring.Asked{Terms: test.terms}, scoring.Weights{})
			if got := s.Factors[scoring.Affinity]; got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
			if got := s.Factors[scoring.Location]; got != 50 {
				t.Errorf("the other factor moved to %d", got)
			}
		})
	}
}

func TestTotal(t *testing.T) {
	defaults := scoring.Weights{Factors: scoring.PerFactor{30, 30, 20, 10, 10}}
	for _, test := range []struct {
		name    string
		row     *snapshot.Row
		require capacity.Resources
		weights scoring.Weights
		want    int64
		reason  string
	}{
		// 30*100 + 30*100 + 20*100 + 10*50 + 10*50 = 9000
		{"an empty cluster", cluster(1000), both(1), defaults, 90, "Excellent"},
		// 30*40 + 30*100 + 20*10 + 500 + 500 = 5400
		{"a nearly full cluster", cluster(50), both(50), defaults, 54, "Fair"},
		// 30*60 + 30*100 + 20*70 + 1000 = 7200
		{"half full", cluster(500), both(200), defaults, 72, "Good"},
		{"one factor alone", cluster(50), both(50), scoring.Weights{Factors: scoring.PerFactor{scoring.Performance: 7}}, 10, "Poor"},
		// (100*1 + 50*2) / 3 = 66.67
		{"truncated", cluster(1000), both(1), scoring.Weights{Factors: scoring.PerFactor{scoring.Health: 1, scoring.Affinity: 2}}, 66, "Good"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := scoring.Of(test.row, scoring.Asked{Requests: test.require}, test.weights).Total
			if got != test.want || scoring.Reason(got) != test.reason {
				t.Errorf("got %d %s, want %d %s", got, scoring.Reason(got), test.want, test.reason)
			}
		})
	}
}

func TestReason(t *testing.T) {
	for total, want := range map[int64]string{100: "Excellent", 80: "Excellent", 79: "Good", 60: "Good", 59: "Fair", 40: "Fair", 39: "Poor", 0: "Poor"} {
		if got := scoring.Reason(total); got != want {
			t.Errorf("%d: got %s, want %s", total, got, want)
		}
	}
}

func TestHeadroom(t *testing.T) {
	large := func(c *snapshot.Cluster) {
		c.Allocatable = capacity.Resources{CPU: 1000, Memory: capacity.MaxAmount, Extended: map[string]int64{"gpu": 8}}
		c.Allocated = capacity.Resources{}
	}
	for _, test := range []struct {
		name     string
		requests capacity.Resources
		want     int64
	}{
		{"nothing asked for", capacity.Resources{}, 1_000_000},
		{"one resource", capacity.Resources{CPU: 250}, 750_000},
		{"truncated", capacity.Resources{Extended: map[string]int64{"gpu": 3}}, 625_000},
		{"the least counts", capacity.Resources{CPU: 250, Extended: map[string]int64{"gpu": 8}}, 0},
		{"no overflow", capacity.Resources{Memory: capacity.MaxAmount / 4}, 750_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := scoring.Of(cluster(1000, large), scoring.Asked{Requests: test.requests}, scoring.Weights{}).Headroom; got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// TestPreferNoSchedule: a cluster with a taint of that effect is avoided unless it is tolerated, and says so.
// TestHeadroomThatPacks is what is left in the mean of all resources, so that what nobody asks for, and is left everywhere, makes no
// difference, and a cluster that has more kinds of resources free is less full.
func TestHeadroomThatPacks(t *testing.T) {
	extended := func(allocatable, allocated map[string]int64) func(*snapshot.Cluster) {
		return func(c *snapshot.Cluster) { c.Allocatable.Extended, c.Allocated.Extended = allocatable, allocated }
	}
	gpus := map[string]int64{"gpu": 8}
	for _, test := range []struct {
		name string
		row  *snapshot.Row
		asks capacity.Resources
		want int64
	}{
		{"all of CPU and memory, no storage", cluster(1000), capacity.Resources{}, 500_000},
		{"half of both", cluster(500), capacity.Resources{}, 250_000},
		{"once the workload is there", cluster(1000), both(500), 250_000},
		{"no room", cluster(100), both(500), 0},
		{"idle GPUs", cluster(500, extended(gpus, nil)), capacity.Resources{}, 500_000},
		{"half of the GPUs asked for", cluster(500, extended(gpus, nil)), capacity.Resources{Extended: map[string]int64{"gpu": 4}}, 375_000},
		{"GPUs in use", cluster(500, extended(gpus, gpus)), capacity.Resources{}, 250_000},
		{"the largest share of two", cluster(500, extended(map[string]int64{"gpu": 8, "fpga": 4}, map[string]int64{"gpu": 8, "fpga": 2})), capacity.Resources{}, 375_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := scoring.Of(test.row, scoring.Asked{Requests: test.asks, Packs: true}, scoring.Weights{}).Headroom; got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestPreferNoSchedule(t *testing.T) {
	prefer := func(key string) corev1.Taint {
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectPreferNoSchedule}
	}
	tolerations := []corev1.Toleration{{Key: "spot", Operator: corev1.TolerationOpExists}}
	for _, test := range []struct {
		name    string
		taints  []corev1.Taint
		want    int64
		because string
	}{
		{"no taint", nil, 50, "50, no term"},
		{"tolerated", []corev1.Taint{prefer("spot")}, 50, "50, no term"},
		{"another effect is the filter's", []corev1.Taint{{Key: "old", Effect: corev1.TaintEffectNoSchedule}}, 50, "50, no term"},
		{"not tolerated", []corev1.Taint{prefer("spot"), prefer("old")}, 0, "50 -50 (taint old:PreferNoSchedule is not tolerated)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			row := cluster(1000, func(c *snapshot.Cluster) { c.Taints = test.taints })
			terms := scoring.WithTaints(nil, tolerations)
			e := scoring.Explain(row, scoring.Asked{Terms: terms}, scoring.Weights{})[scoring.Affinity]
			if e.Score != test.want || e.Because != test.because {
				t.Errorf("got %d: %s", e.Score, e.Because)
			}
		})
	}
}
