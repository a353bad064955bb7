// Package fairness decides which of several workspaces that share clusters gets room first, in Kueue's terms: what a workspace
// is guaranteed, what it borrows, and its dominant resource share.
package fairness

import (
	"cmp"
	"math/bits"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/int128"
)

// Share is how much of a set of clusters a workspace has: the largest of its shares of each resource. The zero value is nothing.
type Share struct {
	// Resource is the dominant resource, empty if the workspace has nothing.
	Resource                      string
	promised, allocatable, weight int64
}

// DominantShare returns the dominant share of a workspace that is promised these amounts of what is allocatable, with a weight of at
// least 1. Among equal shares, the first in the order of capacity.Resources counts. A promise of a resource that no cluster has
// exceeds any share of another resource.
func DominantShare(promised, allocatable capacity.Resources, weight int64) (dominant Share) {
	for name, amount := range promised.Each {
		if amount <= 0 {
			continue
		}
		s := Share{name, amount, max(0, allocatable.Get(name)), max(1, weight)}
		if s.Compare(dominant) > 0 {
			dominant = s
		}
	}
	return dominant
}

// Compare compares shares divided by their weights, exactly.
func (s Share) Compare(o Share) int {
	a, b := s.times(o), o.times(s)
	for i := range a {
		if c := cmp.Compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

// times returns the share's numerator times the other's denominator, the most significant word first.
func (s Share) times(o Share) [3]uint64 {
	n := uint64(s.promised)
	if s.allocatable == 0 {
		n = min(n, 1) // of a resource that no cluster has, all amounts are equal
	}
	high, low := uint64(0), uint64(1) // of 0 / 1
	if o.promised > 0 {
		high, low = bits.Mul64(uint64(o.allocatable), uint64(o.weight))
	}
	carried, last := bits.Mul64(n, low)
	first, middle := bits.Mul64(n, high)
	middle, carry := bits.Add64(middle, carried, 0)
	return [3]uint64{first + carry, middle, last}
}

// Thousandths returns the share in thousandths without the weight, truncated; math.MaxInt64 for a resource that no cluster has.
func (s Share) Thousandths() int64 {
	if s.promised == 0 {
		return 0
	}
	if s.allocatable == 0 {
		return 1<<63 - 1
	}
	n, _ := int128.MulDiv(s.promised, 1000, s.allocatable)
	return n
}
