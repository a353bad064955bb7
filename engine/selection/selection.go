// Package selection goes from candidates to clusters: a strategy says in which order feasible clusters stand and
// which of them one workload gets. All orders end with the cluster's name, so that every answer is the only one.
package selection

import (
	"fmt"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Strategy orders candidates and takes from them.
type Strategy struct {
	// near tells that clusters whose affinity and location factors are larger come first.
	near bool
	// Rotates tells that clusters with fewer workloads of the placement come first.
	Rotates bool
	// Number of clusters that one workload gets at most.
	Number int
}

// For returns the strategy of a placement; numberOfClusters is what Spread takes at most.
func For(strategy v1alpha1.Strategy, numberOfClusters int) (Strategy, error) {
	switch strategy {
	case v1alpha1.StrategyRoundRobin:
		return Strategy{Rotates: true, Number: 1}, nil
	case v1alpha1.StrategySpread:
		return Strategy{Number: numberOfClusters}, nil
	case v1alpha1.StrategyAffinity:
		return Strategy{near: true, Number: 1}, nil
	default:
		return Strategy{}, fmt.Errorf("unknown strategy %q", strategy)
	}
}

// Key is where a candidate stands in the order of a strategy: larger comes first, and no two clusters have the same.
// The zero Key is a cluster that is no candidate. From the top, its bits are: the sum of the affinity and location
// factors where the strategy asks for it (8), the total (7), the headroom (20), and the cluster's place among all by
// name, counted from the end (29).
type Key uint64

// MaxClusters is how many clusters can be ordered.
const MaxClusters = 1<<placeBits - 1

const (
	placeBits    = 29
	headroomBits = 20
	totalBits    = 7
	placeMask    = 1<<placeBits - 1
	totalShift   = placeBits + headroomBits
	nearShift    = totalShift + totalBits
)

// Key of a candidate, given its place among all clusters by name, its total (0..100), its headroom (0..1,000,000) and
// the sum of its affinity and location factors (0..200).
func (s *Strategy) Key(place int, total, headroom, near int64) Key {
	key := Key(total)<<totalShift | Key(headroom)<<placeBits | Key(placeMask-place)
	if s.near {
		key |= Key(near) << nearShift
	}
	return key
}

// Place is the candidate's place among all clusters by name.
func (k Key) Place() int { return placeMask - int(k&placeMask) }

// Total is the candidate's total, 0..100.
func (k Key) Total() int64 { return int64(k >> totalShift & (1<<totalBits - 1)) }

// Select takes the clusters of one workload, best first, and appends them to chosen. inUse counts the workloads of the
// same placement on the cluster of a place; it is asked only where the strategy rotates.
func (s *Strategy) Select(r *Ranking, inUse func(place int) int, chosen []Key) []Key {
	if s.Rotates {
		return leastUsed(r, inUse, chosen)
	}
	return r.Best(s.Number, chosen)
}

// leastUsed takes the best of the candidates that hold the fewest workloads of the placement. Successive workloads
// so go round the feasible clusters, best first, and the rotation needs no memory beyond the decisions themselves.
func leastUsed(r *Ranking, inUse func(place int) int, chosen []Key) []Key {
	var least Key
	var uses int
	for place, key := range r.Keys() {
		if key == 0 {
			continue
		}
		if n := inUse(place); least == 0 || n < uses || n == uses && key > least {
			least, uses = key, n
		}
	}
	if least == 0 {
		return chosen
	}
	return append(chosen, least)
}
