package snapshot_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestPerformance: the mean utilization is compared exactly, without rounding first and without overflow.
func TestPerformance(t *testing.T) {
	for name, test := range map[string]struct {
		allocatable, allocated capacity.Resources
		want                   int64
	}{
		"43.75 % and 56.64 % are above 50 %": {capacity.Resources{CPU: 1600, Memory: 1000}, capacity.Resources{CPU: 700, Memory: 567}, 70},
		"50 % is not below 50 %":             {capacity.Resources{CPU: 2, Memory: 2}, capacity.Resources{CPU: 1, Memory: 1}, 70},
		"in use many times over":             {capacity.Resources{CPU: 1, Memory: 1 << 30}, capacity.Resources{CPU: capacity.MaxAmount, Memory: 1 << 30}, 10},
		"nothing is there":                   {capacity.Resources{}, capacity.Resources{}, 100},
		"nothing is there, and it is in use": {capacity.Resources{}, capacity.Resources{CPU: 1, Memory: 1}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			row := snapshot.NewRow(&snapshot.Cluster{Name: "a", Allocatable: test.allocatable, Allocated: test.allocated}, capacity.Resources{})
			if row.PerformanceScore != test.want {
				t.Errorf("score %d, want %d, of utilization %+v", row.PerformanceScore, test.want, row.Utilization())
			}
		})
	}
	share := func(used, allocatable int64) *big.Rat {
		switch {
		case used <= 0:
			return new(big.Rat)
		case allocatable <= 0:
			return big.NewRat(100, 1)
		}
		return new(big.Rat).Mul(big.NewRat(100, 1), big.NewRat(used, allocatable))
	}
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(0, 1<<40), rapid.Int64Range(0, capacity.MaxAmount))
		c := &snapshot.Cluster{
			Name:        "a",
			Allocatable: capacity.Resources{CPU: amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory")},
			Allocated:   capacity.Resources{CPU: amount.Draw(t, "used cpu"), Memory: amount.Draw(t, "used memory")},
		}
		reserved := capacity.Resources{CPU: amount.Draw(t, "reserved cpu"), Memory: amount.Draw(t, "reserved memory")}
		used := c.Allocated.Add(reserved)
		mean := new(big.Rat).Add(share(used.CPU, c.Allocatable.CPU), share(used.Memory, c.Allocatable.Memory))
		mean.Mul(mean, big.NewRat(1, 2))
		want := int64(10)
		for _, step := range []struct{ below, score int64 }{{95, 40}, {80, 70}, {50, 100}} {
			if mean.Cmp(big.NewRat(step.below, 1)) < 0 {
				want = step.score
			}
		}
		if row := snapshot.NewRow(c, reserved); row.PerformanceScore != want {
			t.Fatalf("a mean of %s scores %d, want %d", mean.FloatString(4), row.PerformanceScore, want)
		}
	})
}
