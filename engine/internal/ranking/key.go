package ranking

// Key is the position of a feasible cluster in the order of a strategy: the larger comes first, and no two clusters have
// the same. The zero Key is a cluster that is not feasible. From the top, its bits are: the sum of the affinity and
// location factors where the strategy orders by proximity (8), the total (7), the headroom (20), and the cluster's
// position among all by name, counted from the end (29).
type Key uint64

// MaxClusters is how many clusters can be ordered.
const MaxClusters = 1<<positionBits - 1

const (
	positionBits   = 29
	headroomBits   = 20
	totalBits      = 7
	positionMask   = 1<<positionBits - 1
	totalShift     = positionBits + headroomBits
	proximityShift = totalShift + totalBits
)

// Key returns the key of a cluster by its position among all by name, its total (0..100), its headroom (0..1,000,000)
// and the sum of its affinity and location factors (0..200).
func (s *Strategy) Key(position int, total, headroom, proximity int64) Key {
	key := Key(total)<<totalShift | Key(headroom)<<positionBits | Key(positionMask-position)
	if s.ByProximity {
		key |= Key(proximity) << proximityShift
	}
	return key
}

// Position returns the cluster's position among all by name.
func (k Key) Position() int { return positionMask - int(k&positionMask) }

// Total returns the cluster's total, 0..100.
func (k Key) Total() int64 { return int64(k >> totalShift & (1<<totalBits - 1)) }
