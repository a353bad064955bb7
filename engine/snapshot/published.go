package snapshot

import (
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

// AsWithdrawn is the row of a cluster that is not granted to a workspace any more.
func (r *Row) AsWithdrawn() *Row {
	c, withdrawn := *r.Cluster, *r
	c.Withdrawn = true
	withdrawn.Cluster = &c
	return &withdrawn
}
