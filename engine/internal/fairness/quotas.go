package fairness

import (
	"math"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Quotas are what a workspace may have of a set.
type Quotas struct {
	// Quota is the most that it may be promised, by resource; a resource that is left out is not bounded.
	Quota map[string]int64
	// Guaranteed belongs to the workspace: others may borrow it, but have to give it back.
	Guaranteed capacity.Resources
	// BorrowingLimit is the most that it may be promised beyond what it is guaranteed, by resource; a resource that is left out is not
	// bounded.
	BorrowingLimit map[string]int64
	// Weight divides its share.
	Weight int64
}

// Limit returns the most of a resource that the workspace may be promised, math.MaxInt64 if that is not bounded.
func (t *Quotas) Limit(resource string) int64 {
	limit := int64(math.MaxInt64)
	if quota, bounded := t.Quota[resource]; bounded {
		limit = quota
	}
	if most, bounded := t.BorrowingLimit[resource]; bounded {
		if own := t.Guaranteed.Get(resource); own <= math.MaxInt64-most {
			limit = min(limit, own+most)
		}
	}
	return limit
}

// Borrowed returns what the workspace is promised beyond what it is guaranteed.
func (t *Quotas) Borrowed(promised capacity.Resources) capacity.Resources {
	return promised.Without(t.Guaranteed)
}

// Guarantees reports whether the workspace, with these amounts promised, stays within its guarantee of every resource that is asked for.
func (t *Quotas) Guarantees(promised, asked capacity.Resources) bool {
	for name, amount := range asked.Each {
		if amount > 0 && amount > t.Guaranteed.Get(name)-promised.Get(name) {
			return false
		}
	}
	return true
}
