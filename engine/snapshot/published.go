package snapshot

import (
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Published is the cluster as other workspaces than the fleet's own see it: what it is. What is in use there, by whomever, is said by
// the rows that are made of it; what conditions say in words is left out, as it may name workloads. It is before, which may be nil, where
// that says the same.
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

// Use is what of a cluster is not free for a workspace.
type Use struct {
	Allocated, Reserved capacity.Resources
	// Left is what a quota leaves; nil where none bounds what the workspace is promised there.
	Left map[string]int64
}

// UsedOf is the use of all that is not free, whoever has it and whether or not it runs.
//
// Invariant: it is a function of what is allocatable and of what is free.
func UsedOf(c *Cluster, reserved capacity.Resources) Use {
	free := c.Allocatable.Sub(c.Allocated.Add(reserved))
	return Use{Allocated: c.Allocatable.Sub(free)}
}

// using is r with another use.
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

// uses reports whether that is the use in the row.
func (r *Row) uses(u *Use) bool {
	return r.Allocated.Same(u.Allocated) && r.Reserved.Same(u.Reserved) &&
		(r.Quota == nil && u.Left == nil || r.Quota != nil && u.Left != nil && maps.Equal(r.Quota.Left, u.Left))
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
}

// AsWithdrawn is the cluster once it is not granted to a workspace any more.
func (c *Cluster) AsWithdrawn() *Cluster {
	withdrawn := *c
	withdrawn.Withdrawn = true
	return &withdrawn
}
