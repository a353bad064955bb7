package scoring_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestScorerAgreesWithOf: the fast way and the plain one give the same for every cluster that has room.
func TestScorerAgreesWithOf(t *testing.T) {
	// Amounts around the steps, of few and of many digits, and beyond all that is real.
	amount := rapid.OneOf(
		rapid.Int64Range(0, 12), rapid.Int64Range(0, 1<<20), rapid.Int64Range(0, capacity.MaxAmount),
		rapid.SampledFrom([]int64{0, 1, 1_000_000, 999_999, 1_000_001, 3_000_000, math.MaxInt64 / 10, math.MaxInt64}),
	)
	resources := rapid.Custom(func(t *rapid.T) capacity.Resources {
		r := capacity.Resources{CPU: amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory")}
		if rapid.IntRange(0, 3).Draw(t, "more") == 0 {
			r.Storage = amount.Draw(t, "storage")
			r.Extended = map[string]int64{"gpu": amount.Draw(t, "gpu")}
		}
		return r
	})
	delta := rapid.Int64Range(-100, 100)
	rapid.Check(t, func(t *rapid.T) {
		row := snapshot.NewRow(&snapshot.Cluster{
			Name: "a", Location: rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "location"),
			Conditions:  []snapshot.Condition{{Type: "Ready", Status: rapid.SampledFrom([]string{"True", "False", "Unknown"}).Draw(t, "ready")}},
			Allocatable: resources.Draw(t, "allocatable"), Allocated: resources.Draw(t, "allocated"),
		}, resources.Draw(t, "reserved"))
		if rapid.IntRange(0, 3).Draw(t, "without") == 0 { // what is counted may be more than what is in use
			without := new(snapshot.Row)
			row.Without(capacity.Resources{}, capacity.Resources{}, resources.Draw(t, "counted"), without)
			row = without
		}
		requests := resources.Draw(t, "requests")
		if _, short := row.Free.Lacking(requests); short {
			requests = row.Free.Combine(capacity.Resources{}, func(free, _ int64) int64 {
				return max(free, 0) / rapid.Int64Range(1, 11).Draw(t, "part")
			})
		}
		var weights scoring.Weights
		for f := range weights.Factors {
			weights.Factors[f] = rapid.Int64Range(0, 100).Draw(t, "weight")
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "score weights") {
			name := fmt.Sprintf("s%d", i)
			weights.Scores = append(weights.Scores, scoring.ScoreWeight{Name: name, Weight: rapid.Int64Range(0, 100).Draw(t, "weight")})
			if rapid.Bool().Draw(t, "given") {
				row.Scores = append(row.Scores, snapshot.Score{Name: name, Value: delta.Draw(t, "value"), Expired: rapid.SampledFrom([]time.Time{{}, time.Unix(1, 0)}).Draw(t, "expired")})
			}
		}
		var usual *capacity.Usual
		if rapid.Bool().Draw(t, "usual") {
			var shapes []capacity.Shape
			for n := rapid.IntRange(1, 4).Draw(t, "shapes"); len(shapes) < n; {
				shapes = append(shapes, capacity.Shape{Requests: resources.Draw(t, "shape"), Share: 1 / float64(n)})
			}
			usual = capacity.NewUsual(shapes)
		}
		var terms []scoring.Term
		var matches []bool
		for range rapid.IntRange(0, 3).Draw(t, "terms") {
			terms = append(terms, scoring.Term{
				Match: scoring.Match{Location: "eu"}, OnMatch: delta.Draw(t, "on match"), Otherwise: delta.Draw(t, "otherwise"),
				Factor: rapid.SampledFrom([]scoring.Factor{scoring.Affinity, scoring.Location}).Draw(t, "factor"),
				Score:  rapid.SampledFrom([]string{"", "s0", "s1"}).Draw(t, "score"),
			})
			matches = append(matches, row.Location == "eu")
		}
		asked := scoring.Asked{Requests: requests, Terms: terms, Packs: rapid.Bool().Draw(t, "packs")}
		scorer, facts := scoring.NewScorer(asked, weights), scoring.FactScoreOf(row, row.HealthScore, &weights, terms, matches)
		asked.Usual = usual
		want := scoring.Of(row, asked, weights)
		among := scorer.Among(usual)
		figures := row.Figures()
		total, headroom := among.Score(&figures, row, facts.Weighted)
		if proximity := want.Factors[scoring.Affinity] + want.Factors[scoring.Location]; total != want.Total || headroom != want.Headroom || facts.Proximity != proximity {
			t.Fatalf("total %d, headroom %d, proximity %d; want %+v", total, headroom, facts.Proximity, want)
		}
	})
}
