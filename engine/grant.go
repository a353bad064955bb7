package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/int128"
)

// Grant is what a workspace may have of the clusters of one set of a fleet. Amounts are by resource, in the units of
// capacity.Resources. A resource that is left out is not bounded.
type Grant struct {
	// Set is the name of the ClusterSet.
	Set string
	// Clusters of the fleet that are in the set. What is promised on a cluster of several sets counts in each, and the quotas of all of them
	// hold.
	Clusters []string
	// Quota is the most that the workspace may be promised on all of them, ClusterQuota on each.
	Quota        map[string]int64
	ClusterQuota map[string]int64
	// Guaranteed is what the workspace has first call on.
	Guaranteed map[string]int64
	// BorrowingLimit is how much more than what is guaranteed it may have.
	BorrowingLimit map[string]int64
	// Weight of the workspace among others, at least 1.
	Weight int64
}

// Bound is the most that a field of a grant allows: quota itself, and borrowingLimit with what is guaranteed.
type Bound struct {
	Field string
	Most  int64
}

// Bounds returns the bounds of a resource on all clusters of the set together, the lowest first; among equal bounds, quota first.
func (g *Grant) Bounds(resource string) (all []Bound) {
	if most, bounded := g.Quota[resource]; bounded {
		all = append(all, Bound{"quota", most})
	}
	if _, bounded := g.BorrowingLimit[resource]; bounded {
		quotas := g.quotas()
		quotas.Quota = nil
		all = append(all, Bound{"borrowingLimit", quotas.Limit(resource)})
	}
	slices.SortStableFunc(all, func(a, b Bound) int { return cmp.Compare(a.Most, b.Most) })
	return all
}

// Limits returns the most that the workspace may be promised on all clusters of the set together, by resource: its quota, or what it is
// guaranteed and may borrow, whichever is less.
func (g *Grant) Limits() map[string]int64 {
	quotas, limits := g.quotas(), maps.Clone(g.Quota)
	for name := range g.BorrowingLimit {
		if limits == nil {
			limits = map[string]int64{}
		}
		limits[name] = quotas.Limit(name)
	}
	return limits
}

// raise states which fields have to be raised, and by how much, so that more of a resource may be promised.
func (g *Grant) raise(resource string, more int64) string {
	var fields []string
	bounds := g.Bounds(resource)
	for _, b := range bounds {
		if lacks := int128.Of(bounds[0].Most).Add(int128.Of(more)).Sub(int128.Of(b.Most)).Int64(); lacks > 0 {
			fields = append(fields, fmt.Sprintf("%s more %s in the %s", capacity.Format(resource, lacks, true), resource, b.Field))
		}
	}
	return strings.Join(fields, " and ") + " of ClusterSet " + g.Set
}
