// Package scoring ranks: it gives every feasible cluster a score for each factor, each a file named after it, and weighs
// them into one total.
package scoring

import (
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Factor is one aspect by which clusters are scored, 0..100.
type Factor int

// The factors. Those before numPlanned have a faster form in the Scorer; a new factor needs no constant.
const (
	Capacity Factor = iota
	Health
	Performance
	Affinity
	Location
	numPlanned

	Cost    = numPlanned
	Packing = numPlanned + 1
)

// factors by number. A new factor is a file and a line at the end; it has no weight until policies give it one.
var factors = [...]factor{
	Capacity:    capacityFactor,
	Health:      healthFactor,
	Performance: performanceFactor,
	Affinity:    affinityFactor,
	Location:    locationFactor,
	Cost:        costFactor,
	Packing:     packingFactor,
}

// NumFactors is how many factors there are.
const NumFactors = len(factors)

// factor is how clusters are scored by one aspect.
type factor struct {
	// name in policies.
	name string
	// score of a cluster, 0..100.
	score func(row *snapshot.Row, a *Asked) int64
	// because explains in words how the score comes about.
	because func(row *snapshot.Row, a *Asked) string
}

// Asked is what clusters are scored for.
type Asked struct {
	// Requests of the workload.
	Requests capacity.Resources
	Terms    []Term
	// Usual is what the workloads of the workspace usually ask for; nil if not known, or if packing has no weight.
	Usual *capacity.Usual
	// Packs: the fullest clusters come first, and Headroom is computed over all resources together.
	Packs bool
}

// String returns the factor's name in policies.
func (f Factor) String() string { return factors[f].name }

// FactorNames returns the names of all factors, by number.
func FactorNames() (names [NumFactors]string) {
	for f := range factors {
		names[f] = factors[f].name
	}
	return names
}

// PerFactor has a number for each factor.
type PerFactor [NumFactors]int64

// Weights are how much each factor counts, 0..100.
type Weights struct {
	Factors PerFactor
	// Scores are factors from outside, by name: at most MaxScores.
	Scores []ScoreWeight
}

// Shown returns the factors to report: those that have a built-in weight, and others with a weight above 0.
func (w *Weights) Shown() (shown []Factor) {
	for f := range Factor(NumFactors) {
		if f < numPlanned || w.Factors[f] > 0 {
			shown = append(shown, f)
		}
	}
	return shown
}
