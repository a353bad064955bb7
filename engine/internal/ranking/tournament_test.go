package ranking

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestTournament drives random changes of a tournament, and compares it with a list that is sorted each time.
func TestTournament(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clusters := rapid.IntRange(0, 600).Draw(t, "clusters")
		strategy := StrategyFor(rapid.SampledFrom([]v1alpha1.StrategyType{v1alpha1.StrategySpread, v1alpha1.StrategyAffinity}).Draw(t, "strategy"), 3)
		key := func(place int) Key {
			if rapid.IntRange(0, 3).Draw(t, "is feasible") == 0 {
				return 0
			}
			return strategy.Key(place, rapid.Int64Range(0, 2).Draw(t, "total"), rapid.Int64Range(0, 3).Draw(t, "headroom"), rapid.Int64Range(0, 2).Draw(t, "near"))
		}
		ranking, model := NewTournament(clusters), make([]Key, clusters)
		for place := range model {
			model[place] = key(place)
		}
		copy(ranking.Keys(), model)
		ranking.Order()
		for range rapid.IntRange(0, 20).Draw(t, "changes") {
			if clusters > 0 {
				place := rapid.IntRange(0, clusters-1).Draw(t, "place")
				model[place] = key(place)
				ranking.Set(place, model[place])
			}
			n := rapid.IntRange(0, 60).Draw(t, "n")
			want := slices.DeleteFunc(slices.Clone(model), func(k Key) bool { return k == 0 })
			slices.Sort(want)
			slices.Reverse(want)
			if diff := cmp.Diff(want[:min(n, len(want))], ranking.Best(n, []Key{})); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// TestEachPutsBackWhatItTakesOut: however the loop over the best clusters ends, none of them is lost.
func TestEachPutsBackWhatItTakesOut(t *testing.T) {
	for how, end := range map[string]func() bool{"breaks": func() bool { return false }, "panics": func() bool { panic("a fault") }} {
		ranking, strategy := NewTournament(20), StrategyFor(v1alpha1.StrategySpread, 3)
		for place := range 20 {
			ranking.Set(place, strategy.Key(place, int64(place), 0, 0))
		}
		before, seen := slices.Clone(ranking.Keys()), 0
		func() {
			defer func() { _ = recover() }()
			ranking.Each(20, func(Key) bool {
				seen++
				return seen < 5 || end()
			})
		}()
		if seen != 5 || !slices.Equal(ranking.Keys(), before) {
			t.Errorf("a loop that %s in the 5th of its %d rounds leaves other keys", how, seen)
		}
	}
}

// TestKey: the order of each strategy, and that a key can be decoded.
func TestKey(t *testing.T) {
	type candidate struct {
		position                   int
		total, headroom, proximity int64
	}
	for name, test := range map[string]struct {
		strategy      v1alpha1.StrategyType
		better, worse candidate
	}{
		"the larger total":                        {v1alpha1.StrategySpread, candidate{9, 71, 0, 0}, candidate{0, 70, 1_000_000, 200}},
		"then the larger headroom":                {v1alpha1.StrategySpread, candidate{9, 70, 501, 0}, candidate{0, 70, 500, 200}},
		"then the name":                           {v1alpha1.StrategySpread, candidate{8, 70, 500, 0}, candidate{9, 70, 500, 200}},
		"what is nearest, whatever else":          {v1alpha1.StrategyAffinity, candidate{9, 0, 0, 101}, candidate{0, 100, 1_000_000, 100}},
		"then as without":                         {v1alpha1.StrategyAffinity, candidate{9, 71, 0, 100}, candidate{0, 70, 1_000_000, 100}},
		"the fullest, whatever its total":         {v1alpha1.StrategyBinPack, candidate{9, 10, 499, 0}, candidate{0, 90, 500, 200}},
		"then the higher total of equally full":   {v1alpha1.StrategyBinPack, candidate{9, 71, 500, 0}, candidate{0, 70, 500, 200}},
		"the worst, and one that is not feasible": {v1alpha1.StrategySpread, candidate{MaxClusters - 1, 0, 0, 0}, candidate{}},
	} {
		t.Run(name, func(t *testing.T) {
			strategy := StrategyFor(test.strategy, 1)
			key := func(c candidate) Key { return strategy.Key(c.position, c.total, c.headroom, c.proximity) }
			better, worse := key(test.better), key(test.worse)
			if test.worse == (candidate{}) {
				worse = 0
			}
			if better <= worse {
				t.Errorf("%b is not above %b", better, worse)
			}
			if better.Position() != test.better.position || strategy.Total(better) != test.better.total {
				t.Errorf("position %d, total %d", better.Position(), strategy.Total(better))
			}
		})
	}
}

// TestRoundRobin: the clusters that hold the fewest workloads come first, the best of them before the others.
func TestRoundRobin(t *testing.T) {
	strategy := StrategyFor(v1alpha1.StrategyRoundRobin, 1)
	totals := []int64{50, 70, 0, 60} // the third is not feasible
	ranking := NewTournament(len(totals))
	for place, total := range totals {
		if total > 0 {
			ranking.Set(place, strategy.Key(place, total, 0, 0))
		}
	}
	uses := map[int]int{}
	var order []int
	for range 7 {
		chosen := strategy.Select(ranking, &Turn{InUse: func(place int) int { return uses[place] }}, nil)
		order = append(order, chosen[0].Position())
		uses[chosen[0].Position()]++
	}
	if want := []int{1, 3, 0, 1, 3, 0, 1}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
	if chosen := strategy.Select(NewTournament(3), &Turn{InUse: func(int) int { return 0 }}, nil); len(chosen) != 0 {
		t.Errorf("%v of no feasible clusters", chosen)
	}
}

func BenchmarkTournament(b *testing.B) {
	strategy := StrategyFor(v1alpha1.StrategySpread, 3)
	for _, clusters := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("clusters=%d", clusters), func(b *testing.B) {
			ranking := NewTournament(clusters)
			for place := range clusters {
				ranking.Set(place, strategy.Key(place, int64(place%100), 0, 0))
			}
			var best []Key
			for i := 0; b.Loop(); i++ {
				place := i % clusters
				ranking.Set(place, strategy.Key(place, int64(i%100), 0, 0))
				best = ranking.Best(3, best[:0])
			}
		})
	}
}

// TestWeighted: clusters are drawn in proportion to their totals, whether most clusters are feasible or few.
func TestWeighted(t *testing.T) {
	strategy := StrategyFor(v1alpha1.StrategyWeighted, 1)
	for _, clusters := range []int{3, 1000} {
		ranking := NewTournament(clusters)
		for i, total := range []int64{10, 30, 60} {
			ranking.Set(i, strategy.Key(i, total, 0, 0))
		}
		drawn := map[int]int{}
		const draws = 20_000
		for seed := range uint64(draws) {
			turn := Turn{Seed: seed * 0x9e3779b97f4a7c15, Number: 1}
			chosen := strategy.Select(ranking, &turn, nil)
			if again := strategy.Select(ranking, &turn, nil); !slices.Equal(chosen, again) {
				t.Fatalf("drawn %v, and again %v", chosen, again)
			}
			drawn[chosen[0].Position()]++
		}
		for i, percent := range []int{10, 30, 60} {
			if n := drawn[i] * 100; n < (percent-2)*draws || n > (percent+2)*draws {
				t.Errorf("of %d clusters, the one with %d %% is drawn %d times of %d", clusters, percent, drawn[i], draws)
			}
		}
		turn := Turn{Seed: 1, Number: 5}
		if chosen := strategy.Select(ranking, &turn, nil); len(chosen) != 3 {
			t.Errorf("%d drawn of 3", len(chosen))
		}
	}
}
