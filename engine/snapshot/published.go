package snapshot

import (
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Published returns the cluster as guests of the fleet see it: what it is. What is in use there, by anybody, is in the rows that guests
// make of it. Messages of conditions are left out, since they may name workloads. If nothing has changed, it returns before, which may be
// nil.
func (c *Cluster) Published(before *Cluster) *Cluster {
	p := *c
	p.Allocated, p.Counted = capacity.Resources{}, nil
	p.Conditions = slices.Clone(c.Conditions)
	for i := range p.Conditions {
		p.Conditions[i].Message = ""
	}
	if p.Invalid != "" {
		p.Invalid = "the registration cannot be used"
	}
	if before != nil && sameFacts(before, &p) && sameCapacity(before, &p) {
		return before
	}
	return &p
}

// Use is the part of a cluster that is not free for a workspace.
type Use struct {
	Allocated, Reserved capacity.Resources
	// Left is what the quotas leave; nil if none bounds what the workspace is promised there.
	Left map[string]int64
}

// UsedOf returns the use that consists of everything that is not free, whoever has it and whether or not it runs.
//
// Invariant: it is a function of what is allocatable and what is free.
func UsedOf(c *Cluster, reserved capacity.Resources) Use {
	free := c.Allocatable.Sub(c.Allocated.Add(reserved))
	return Use{Allocated: c.Allocatable.Sub(free)}
}

// using returns r with another use.
func (r *Row) using(u *Use) *Row {
	unbound, next := r, new(Row)
	if r.Quota != nil {
		whole := *r
		whole.Quota, whole.Free, unbound = nil, r.Quota.Free, &whole
	}
	unbound.with(u.Allocated, u.Reserved, next)
	if u.Left != nil {
		next.bound(u.Left)
	}
	return next
}

// uses reports whether the row has this use.
func (r *Row) uses(u *Use) bool {
	return r.Allocated.Same(u.Allocated) && r.Reserved.Same(u.Reserved) &&
		(r.Quota == nil && u.Left == nil || r.Quota != nil && u.Left != nil && maps.Equal(r.Quota.Left, u.Left))
}

// Quota is what a workspace may still be promised on a cluster that it shares with others.
type Quota struct {
	// Left is what the quota leaves of each resource that it bounds; it is negative if more is promised.
	Left map[string]int64
	// Free is what is free there, regardless of the quota.
	Free capacity.Resources
}

// without returns the quota as it would be if an amount were not promised.
func (q *Quota) without(promised capacity.Resources) *Quota {
	without := &Quota{Left: make(map[string]int64, len(q.Left))}
	for name, left := range q.Left {
		without.Left[name] = capacity.Of(name, left).Add(capacity.Of(name, promised.Get(name))).Get(name)
	}
	return without
}

// Within returns the row for a workspace whose quota on the cluster leaves these amounts.
func (r *Row) Within(left map[string]int64) *Row {
	within := *r
	within.bound(left)
	return &within
}

// WithinBoth is Within for a quota in addition to the one that the row may have: the lower of both counts.
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

// bound limits what is free to what a quota leaves.
func (r *Row) bound(left map[string]int64) {
	r.Quota = &Quota{Left: left, Free: r.Free}
	for name, amount := range left {
		if more := r.Free.Get(name) - amount; more > 0 {
			r.Free = r.Free.Sub(capacity.Of(name, more))
		}
	}
}

// AsWithdrawn returns the cluster as it is once it is no longer granted to a workspace.
func (c *Cluster) AsWithdrawn() *Cluster {
	withdrawn := *c
	withdrawn.Withdrawn = true
	return &withdrawn
}
