package scoring

import (
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Explanation says how one factor of a cluster's score comes about.
type Explanation struct {
	// Factor is its name in policies.
	Factor string
	// Score of the factor, 0..100, and the Weight that it is multiplied with.
	Score, Weight int64
	// Because is the formula or the terms behind Score, in words.
	Because string
}

// Explain explains each factor of the score that Of returns, in the order of the factors; named scores come last.
func Explain(row *snapshot.Row, requests capacity.Resources, weights Weights, terms []Term) []Explanation {
	score := Of(row, requests, weights, terms)
	explanations := make([]Explanation, NumFactors)
	for f := range factors {
		explanations[f] = Explanation{
			Factor: factors[f].name, Score: score.Factors[f], Weight: weights.Factors[f], Because: factors[f].because(row, requests, terms),
		}
	}
	for i, w := range weights.Scores {
		explanations = append(explanations, Explanation{Factor: w.String(), Score: score.Named[i], Weight: w.Weight, Because: describeScore(w.Name, row)})
	}
	return explanations
}
