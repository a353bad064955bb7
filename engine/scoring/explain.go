package scoring

import (
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Explanation says how one factor of a cluster's score comes about.
type Explanation struct {
	Factor Factor
	// Score of the factor, 0..100, and the Weight that it is multiplied with.
	Score, Weight int64
	// Because is the formula or the terms behind Score, in words.
	Because string
}

// Explain explains each factor of the score that Of returns, in the order of the factors.
func Explain(row *snapshot.Row, requests capacity.Resources, weights Weights, terms []Term) []Explanation {
	score := Of(row, requests, weights, terms)
	explanations := make([]Explanation, NumFactors)
	for f := range factors {
		explanations[f] = Explanation{
			Factor: Factor(f), Score: score.Factors[f], Weight: weights[f], Because: factors[f].because(row, requests, terms),
		}
	}
	return explanations
}
