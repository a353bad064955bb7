package ranking

import "github.com/kcp-placement/placement/engine/scoring"

// Key is the position of a feasible cluster in the order of a strategy: a larger key comes first, and no two clusters have the
// same. The zero Key is a cluster that is not feasible. From the top, its bits are: the sum of the affinity and location factors
// if the strategy orders by proximity (8), the total (7), the headroom (20), and the cluster's position among all by name,
// counted from the end (29). If the strategy packs, they are: scoring.MaxHeadroom less the headroom (20), the total (7), and the
// position (29).
type Key uint64

// MaxClusters is the most clusters that can be ordered.
const MaxClusters = 1<<positionBits - 1

const (
	positionBits   = 29
	headroomBits   = 20
	totalBits      = 7
	positionMask   = 1<<positionBits - 1
	totalShift     = positionBits + headroomBits
	proximityShift = totalShift + totalBits

	packedTotalShift = positionBits
	fullnessShift    = packedTotalShift + totalBits
)

// Key returns the key of a cluster by its position among all by name, its total (0..100), its headroom (0..1,000,000)
// and the sum of its affinity and location factors (0..200).
func (s *Strategy) Key(position int, total, headroom, proximity int64) Key {
	if s.Packs {
		return Key(scoring.MaxHeadroom-headroom)<<fullnessShift | Key(total)<<packedTotalShift | Key(positionMask-position)
	}
	key := Key(total)<<totalShift | Key(headroom)<<positionBits | Key(positionMask-position)
	if s.ByProximity {
		key |= Key(proximity) << proximityShift
	}
	return key
}

// Position returns the cluster's position among all by name.
func (k Key) Position() int { return positionMask - int(k&positionMask) }

// Total returns the total of a cluster that has this key, 0..100.
func (s *Strategy) Total(k Key) int64 {
	if s.Packs {
		return int64(k >> packedTotalShift & (1<<totalBits - 1))
	}
	return int64(k >> totalShift & (1<<totalBits - 1))
}

// Point is one point of the score in the Value of a key. Lower bits only separate clusters with the same score: summed over
// v1alpha1.MaxClusters clusters they stay below a point.
const Point = 1 << 31

// Value returns what choosing a cluster is worth to the strategy: its total and then its headroom, after its proximity if
// the strategy orders by that; or, if the strategy packs, how full it is and then its total.
func (s *Strategy) Value(k Key) int64 {
	if s.Packs {
		return int64(k>>fullnessShift)*(100*Point/scoring.MaxHeadroom) + s.Total(k)
	}
	value := s.Total(k)*Point + int64(k>>positionBits&(1<<headroomBits-1))
	if s.ByProximity {
		value += int64(k>>proximityShift) * 101 * Point
	}
	return value
}
