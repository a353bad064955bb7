package snapshot

import (
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Published is the row as other workspaces than the fleet's own see it: what a cluster is, and what is free there. All that is not
// free is in use, whoever uses it or has it reserved; what conditions say in words is left out, as it may name workloads. before is
// what it was last, nil if it is the first.
//
// Invariant: it is a function of facts, of what is allocatable and of what is free.
func (r *Row) Published(before *Row) *Row {
	c := new(Cluster)
	if before != nil && before.Figures.Facts == r.Figures.Facts {
		*c = *before.Cluster
		c.Allocatable, c.LargestFree, c.UsableNodes = r.Allocatable, r.LargestFree, r.UsableNodes
	} else {
		*c = *r.Cluster
		c.Counted, c.Conditions = nil, slices.Clone(c.Conditions)
		for i := range c.Conditions {
			c.Conditions[i].Message = ""
		}
		if c.Invalid != "" {
			c.Invalid = "the registration cannot be used"
		}
	}
	c.Allocated = r.Allocatable.Sub(r.Free)
	published := *r
	published.Cluster, published.Version, published.Reserved = c, 0, capacity.Resources{}
	return &published
}

// Quota is what a workspace may still be promised on a cluster that it shares with others.
type Quota struct {
	// Left is what the quota leaves of each resource that it bounds, below 0 where more is promised.
	Left map[string]int64
	// Free is what is free there, whatever the quota leaves.
	Free capacity.Resources
}

// without is the quota as it would be if an amount were not promised.
func (q *Quota) without(promised capacity.Resources) *Quota {
	without := &Quota{Left: make(map[string]int64, len(q.Left))}
	for name, left := range q.Left {
		without.Left[name] = capacity.Of(name, left).Add(capacity.Of(name, promised.Get(name))).Get(name)
	}
	return without
}

// Within is the row for a workspace with a quota on the cluster, which leaves so much.
func (r *Row) Within(left map[string]int64) *Row {
	within := *r
	within.bound(left)
	return &within
}

// WithinBoth is Within for a quota beside the one that the row may have: the lesser of both counts.
func (r *Row) WithinBoth(left map[string]int64) *Row {
	within := *r
	if r.Quota != nil {
		within.Free = r.Quota.Free
		both := maps.Clone(r.Quota.Left)
		for name, amount := range left {
			if before, bounded := both[name]; !bounded || amount < before {
				both[name] = amount
			}
		}
		left = both
	}
	within.bound(left)
	return &within
}

// bound bounds what is free by what a quota leaves.
func (r *Row) bound(left map[string]int64) {
	r.Quota = &Quota{Left: left, Free: r.Free}
	for name, amount := range left {
		if more := r.Free.Get(name) - amount; more > 0 {
			r.Free = r.Free.Sub(capacity.Of(name, more))
		}
	}
	r.Figures.Free = [2]int64{r.Free.CPU, r.Free.Memory}
}

// sameQuota reports whether two rows with the same capacity have the same quota.
func sameQuota(a, b *Row) bool {
	return a.Quota == b.Quota || a.Quota != nil && b.Quota != nil && maps.Equal(a.Quota.Left, b.Quota.Left)
}

// AsWithdrawn is the row of a cluster that is not granted to a workspace any more.
func (r *Row) AsWithdrawn() *Row {
	c, withdrawn := *r.Cluster, *r
	c.Withdrawn = true
	withdrawn.Cluster = &c
	return &withdrawn
}
