package scoring

import (
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Explanation is how one factor of a cluster's score comes about.
type Explanation struct {
	// Factor is its name in policies.
	Factor string
	// Score of the factor, 0..100, and the Weight by which it is multiplied.
	Score, Weight int64
	// Because is the formula or the terms behind Score, in words.
	Because string
}

// Explain explains the factors that Told returns, for the score that Of returns, in order; named scores come last.
func Explain(row *snapshot.Row, a Asked, weights Weights) []Explanation {
	score := Of(row, a, weights)
	var explanations []Explanation
	for _, f := range weights.Shown() {
		explanations = append(explanations, Explanation{
			Factor: f.String(), Score: score.Factors[f], Weight: weights.Factors[f], Because: factors[f].because(row, &a),
		})
	}
	for i, w := range weights.Scores {
		explanations = append(explanations, Explanation{Factor: w.String(), Score: score.Named[i], Weight: w.Weight, Because: describeScore(w.Name, row)})
	}
	return explanations
}
