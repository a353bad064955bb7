package ranking

import (
	"sync/atomic"

	"github.com/kcp-placement/placement/engine/scoring"
)

// scores keeps, for a policy class, the factScore of each cluster of a layout; 0 until it is known.
type scores struct {
	layout  int64
	entries []atomic.Uint64
}

// factScore states whether the facts of a cluster make it feasible, and what they contribute to its score. From the
// top: 36 bits identify the facts, 8 bits are Proximity, 18 bits Weighted, and 1 bit is set if the cluster is feasible.
type factScore uint64

const (
	weightedShift = 1
	// Invariant: Weighted, of three factors and MaxScores named scores with 100 x 100 each, < 1<<weightedBits.
	weightedBits       = 18
	factProximityShift = weightedShift + weightedBits
	factsShift         = factProximityShift + 8
	weightedMask       = 1<<weightedBits - 1
	factProximityMask  = 1<<8 - 1
)

// The compiler refuses more named scores than there is room for.
const _ = uint(weightedMask - (3+scoring.MaxScores)*100*100)

func newFactScore(facts int64, feasible bool, s scoring.FactScore) factScore {
	packed := factScore(facts)<<factsShift | factScore(s.Proximity)<<factProximityShift | factScore(s.Weighted)<<weightedShift
	if feasible {
		packed |= 1
	}
	return packed
}

func (s factScore) of(facts int64) bool { return s>>factsShift == factScore(facts) }
func (s factScore) proximity() int64    { return int64(s >> factProximityShift & factProximityMask) }
func (s factScore) weighted() int64     { return int64(s >> weightedShift & weightedMask) }
func (s factScore) feasible() bool      { return s&1 != 0 }
