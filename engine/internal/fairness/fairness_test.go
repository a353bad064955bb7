package fairness_test

import (
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/fairness"
)

var (
	// amounts are small, so that they are often equal, or at the bounds.
	amounts = rapid.OneOf(rapid.Int64Range(0, 4), rapid.Int64Min(0), rapid.SampledFrom([]int64{0, 1, capacity.MaxAmount, math.MaxInt64 - 1, math.MaxInt64}))
	weights = rapid.OneOf(rapid.Int64Range(1, 3), rapid.Int64Range(1, math.MaxInt32), rapid.Just(int64(math.MaxInt64)))

	resources = rapid.Custom(func(t *rapid.T) capacity.Resources {
		r := capacity.Resources{CPU: amounts.Draw(t, "cpu"), Memory: amounts.Draw(t, "memory"), Storage: amounts.Draw(t, "storage")}
		if rapid.Bool().Draw(t, "extended") {
			r.Extended = map[string]int64{"nvidia.com/gpu": amounts.Draw(t, "gpu")}
		}
		return r
	})

	times = rapid.Map(rapid.Int64Range(0, 3), func(n int64) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return time.Unix(n, 0)
	})
)

// fraction returns the weighted dominant share as a rational number, and whether it is of a resource of which nothing is allocatable.
func fraction(promised, allocatable capacity.Resources, weight int64) (most *big.Rat, infinite bool) {
	most = new(big.Rat)
	for name, amount := range promised.Each {
		switch all := allocatable.Get(name); {
		case amount == 0:
		case all == 0:
			infinite = true
		default:
			if share := big.NewRat(amount, all); share.Cmp(most) > 0 {
				most = share
			}
		}
	}
	return most.Quo(most, new(big.Rat).SetInt64(weight)), infinite
}

// TestShares: dominant shares compare as exact fractions do, however large the amounts.
func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var shares [2]fairness.Share
		var fractions [2]*big.Rat
		var infinite [2]bool
		for i := range shares {
			promised, allocatable, weight := resources.Draw(t, "promised"), resources.Draw(t, "allocatable"), weights.Draw(t, "weight")
			shares[i] = fairness.DominantShare(promised, allocatable, weight)
			fractions[i], infinite[i] = fraction(promised, allocatable, weight)
		}
		want := fractions[0].Cmp(fractions[1])
		switch {
		case infinite[0] && infinite[1]:
			want = 0
		case infinite[0]:
			want = 1
		case infinite[1]:
			want = -1
		}
		if got := shares[0].Compare(shares[1]); got != want {
			t.Fatalf("%+v against %+v: %d, want %d (%v, %v)", shares[0], shares[1], got, want, fractions[0], fractions[1])
		}
	})
}

// TestThousandths: the share that is shown to people is that of the dominant resource, without the weight.
func TestThousandths(t *testing.T) {
	allocatable := capacity.Resources{CPU: 10_000, Memory: 100}
	for _, test := range []struct {
		why        string
		promised   capacity.Resources
		thousandth int64
		dominant   string
	}{
		{"nothing is no share", capacity.Resources{}, 0, ""},
		{"of two resources the larger share counts", capacity.Resources{CPU: 1000, Memory: 50}, 500, "memory"},
		{"equal shares are told by the first", capacity.Resources{CPU: 1000, Memory: 10}, 100, "cpu"},
		{"more than there is, as after a cluster has gone", capacity.Resources{CPU: 20_000}, 2000, "cpu"},
		{"of what nobody has", capacity.Resources{Storage: 1}, math.MaxInt64, "storage"},
	} {
		share := fairness.DominantShare(test.promised, allocatable, 7)
		if share.Thousandths() != test.thousandth || share.Resource != test.dominant {
			t.Errorf("%s: %d of %q, want %d of %q", test.why, share.Thousandths(), share.Resource, test.thousandth, test.dominant)
		}
	}
}

var claimants = rapid.Custom(func(t *rapid.T) fairness.Claimant {
	return fairness.Claimant{
		Guaranteed: rapid.Bool().Draw(t, "guaranteed"), Priority: rapid.Int32Range(-1, 1).Draw(t, "priority"),
		Share: fairness.DominantShare(resources.Draw(t, "promised"), capacity.Resources{CPU: 3, Memory: 2}, rapid.Int64Range(1, 2).Draw(t, "weight")),
		Since: times.Draw(t, "since"), Line: rapid.Int64Range(1, 2).Draw(t, "line"), Workload: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "workload"),
	}
})

// TestTotalOrder: of any two claimants one comes first, unless they are equal in everything that counts, and there are no cycles. So some
// claimant is always first, and waits for nobody.
func TestTotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := claimants.Draw(t, "a"), claimants.Draw(t, "b"), claimants.Draw(t, "c")
		if a.Compare(&b) != -b.Compare(&a) {
			t.Fatal("each comes before the other")
		}
		if a.Compare(&b) <= 0 && b.Compare(&c) <= 0 && a.Compare(&c) > 0 {
			t.Fatal("a circle")
		}
		if a.Compare(&b) == 0 && (a.Line != b.Line || a.Workload != b.Workload || !a.Since.Equal(b.Since)) {
			t.Fatal("neither comes first")
		}
	})
}

// TestOrder: each rule against the next.
func TestOrder(t *testing.T) {
	of := func(cpu int64) fairness.Share {
		return fairness.DominantShare(capacity.Resources{CPU: cpu}, capacity.Resources{CPU: 10}, 1)
	}
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for _, test := range []struct {
		why           string
		first, second fairness.Claimant
	}{
		{"what is guaranteed comes before what is borrowed, whatever the priority and the share",
			fairness.Claimant{Guaranteed: true, Share: of(9)}, fairness.Claimant{Priority: 100, Since: early}},
		{"within what is guaranteed, priority comes before the share",
			fairness.Claimant{Guaranteed: true, Priority: 1, Share: of(5)}, fairness.Claimant{Guaranteed: true, Share: of(1)}},
		{"and the lower share decides between equal priorities",
			fairness.Claimant{Guaranteed: true, Share: of(1), Since: late}, fairness.Claimant{Guaranteed: true, Share: of(5), Since: early}},
		{"beyond, the share comes before priority: it does not pay to set a high one",
			fairness.Claimant{Share: of(1)}, fairness.Claimant{Share: of(2), Priority: 100}},
		{"and priority decides between equal shares",
			fairness.Claimant{Priority: 1, Since: late}, fairness.Claimant{Since: early}},
		{"then the one that waits longer",
			fairness.Claimant{Since: early, Line: 2}, fairness.Claimant{Since: late, Line: 1}},
		{"and any that waits before one that has only come",
			fairness.Claimant{Since: late}, fairness.Claimant{}},
		{"then the workspace that came first, whatever anything is called",
			fairness.Claimant{Line: 1, Workload: "z"}, fairness.Claimant{Line: 2, Workload: "a"}},
		{"and within one the name of the workload",
			fairness.Claimant{Line: 1, Workload: "a"}, fairness.Claimant{Line: 1, Workload: "z"}},
	} {
		if test.first.Compare(&test.second) >= 0 || test.second.Compare(&test.first) <= 0 {
			t.Errorf("%s: %+v does not come before %+v", test.why, test.first, test.second)
		}
	}
}

// TestTerms: what a workspace may have, and how much of that is borrowed.
func TestTerms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bounds := rapid.MapOf(rapid.SampledFrom([]string{"cpu", "memory", "nvidia.com/gpu"}), amounts)
		terms := fairness.Quotas{Quota: bounds.Draw(t, "quota"), Guaranteed: resources.Draw(t, "guaranteed"), BorrowingLimit: bounds.Draw(t, "borrowing limit")}
		promised, asked := resources.Draw(t, "promised"), resources.Draw(t, "asked")
		exact := func(n int64) *big.Int { return big.NewInt(n) }
		guarantees := true
		for name, amount := range asked.Each {
			own, limit := exact(terms.Guaranteed.Get(name)), terms.Limit(name)
			with := new(big.Int).Add(exact(promised.Get(name)), exact(amount))
			guarantees = guarantees && (amount == 0 || with.Cmp(own) <= 0)
			if quota, bounded := terms.Quota[name]; bounded && limit > quota {
				t.Fatalf("%s: %d is more than the quota", name, limit)
			}
			most, bounded := terms.BorrowingLimit[name]
			if bounded && new(big.Int).Sub(exact(limit), own).Cmp(exact(most)) > 0 {
				t.Fatalf("%s: %d is more than may be borrowed", name, limit)
			}
			if _, quota := terms.Quota[name]; !quota && !bounded && limit != math.MaxInt64 {
				t.Fatalf("%s: nothing bounds it, and yet %d does", name, limit)
			}
			if got, want := terms.Borrowed(promised).Get(name), max(0, promised.Get(name)-terms.Guaranteed.Get(name)); got != want {
				t.Fatalf("%s: %d is borrowed, want %d", name, got, want)
			}
		}
		if got := terms.Guarantees(promised, asked); got != guarantees {
			t.Fatalf("guaranteed: %v, want %v", got, guarantees)
		}
	})
}

// TestFilling: if whoever is first gets room again and again, as long as there is any for it, shares are fair in the sense of dominant
// resource fairness: of two that want more, neither has more than the other by more than its last piece.
func TestFilling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := capacity.Resources{CPU: rapid.Int64Range(1, 100).Draw(t, "cpu"), Memory: rapid.Int64Range(1, 100).Draw(t, "memory")}
		free := all
		type team struct {
			piece, has capacity.Resources
			weight     int64
			before     fairness.Share
		}
		teams := make([]team, rapid.IntRange(2, 4).Draw(t, "teams"))
		for i := range teams {
			teams[i].piece = capacity.Resources{CPU: rapid.Int64Range(0, 5).Draw(t, "piece"), Memory: rapid.Int64Range(1, 5).Draw(t, "of memory")}
			teams[i].weight = rapid.Int64Range(1, 3).Draw(t, "weight")
		}
		share := func(i int) fairness.Share { return fairness.DominantShare(teams[i].has, all, teams[i].weight) }
		for {
			var line []fairness.Claimant
			for i := range teams {
				if _, short := free.Lacking(teams[i].piece); !short {
					line = append(line, fairness.Claimant{Share: share(i), Line: int64(i)})
				}
			}
			if len(line) < len(teams) {
				return // once one finds no room, the invariant no longer covers all
			}
			slices.SortFunc(line, func(a, b fairness.Claimant) int { return a.Compare(&b) })
			first := int(line[0].Line)
			teams[first].before = share(first)
			teams[first].has, free = teams[first].has.Add(teams[first].piece), free.Sub(teams[first].piece)
			for i := range teams {
				for j := range teams {
					if teams[i].before.Compare(share(j)) > 0 {
						t.Fatalf("%d had a larger share than %d, and got more", i, j)
					}
				}
			}
		}
	})
}
