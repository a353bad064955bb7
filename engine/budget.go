package engine

import (
	"math"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/internal/int128"
)

// budget is what one workload may be promised in each set of clusters of which a quota bounds the whole: what it has there, and what is
// left for all. What is chosen on a cluster is taken from each of its sets. A quota of a set is about several clusters, so it is no part of
// a ranking.
//
// Invariant: a workload may always be promised as much as it is, wherever in the set.
type budget struct {
	grants *grants
	// groups are those of the grants by position, left is by set.
	groups []int32
	left   [][]capacity.Left
	// rejected is how many feasible clusters of each tier it keeps from being selected.
	rejected []int
}

// budgetOf is the budget of a workload; nil where no quota bounds a whole set.
func (w *workspace) budgetOf(held *holding) *budget {
	if w.window == nil || w.window.grants == nil {
		return nil
	}
	left := w.ledger.Left()
	if left == nil {
		return nil
	}
	b := &budget{grants: w.window.grants, groups: w.window.groups, left: left}
	if held.gone != nil {
		for i := range held.gone.stakes {
			b.add(held.gone.stakes[i].cluster, held.gone.stakes[i].promised, 1)
		}
	}
	if !held.former {
		for _, of := range b.left { // more may be promised than the quota has
			for i := range of {
				if of[i].Amount.Less(int128.Int{}) {
					of[i].Amount = int128.Int{}
				}
			}
		}
	}
	for i := range held.Shares {
		b.add(held.Shares[i].Cluster, held.Shares[i].Amount, 1)
	}
	return b
}

// growthOf is the budget for what a workload asks for beyond what is promised to it where it runs.
func (w *workspace) growthOf(r *Request, held *holding) *budget {
	if len(r.Current) == 0 {
		return nil
	}
	b := w.budgetOf(held)
	for i := range r.Current {
		b.add(r.Current[i].Name, held.promisedOn(r.Current[i].Name), -1)
	}
	return b
}

// promisedOn is what is promised on a cluster to the workload itself, not to a former one of its name.
func (h *holding) promisedOn(cluster string) capacity.Resources {
	if had := h.ShareOn(cluster); had != nil && !h.former {
		return had.Amount
	}
	return capacity.Resources{}
}

// exceeding is why a workload that runs on a cluster cannot grow there; nil where it can, or does not grow.
func (b *budget) exceeding(position int, promised, asks capacity.Resources) *filter.Rejection {
	if b == nil || promised.Same(asks) {
		return nil
	}
	return b.rejection(position, asks.Combine(promised, func(asks, promised int64) int64 { return max(0, asks-promised) }))
}

// add gives back, or takes where by is -1, what is promised on a cluster.
func (b *budget) add(cluster string, amount capacity.Resources, by int) {
	if b != nil {
		b.addTo(b.grants.groupOf(cluster), amount, by)
	}
}

func (b *budget) addTo(group int, amount capacity.Resources, by int) {
	for _, set := range b.grants.setsOf(group) {
		for i := range b.left[set] {
			l := &b.left[set][i]
			if one := int128.Of(amount.Get(l.Resource)); by > 0 {
				l.Amount = l.Amount.Add(one)
			} else {
				l.Amount = l.Amount.Sub(one)
			}
		}
	}
}

// take takes what is promised on clusters.
func (b *budget) take(choices ...Choice) {
	for i := range choices {
		b.add(choices[i].Name, choices[i].Reserved, -1)
	}
}

// lacks returns which set of a group has too little left for an amount, and of what; nil where all have enough.
func (b *budget) lacks(group int, asks capacity.Resources) (set int, of *capacity.Left) {
	if b == nil {
		return 0, nil
	}
	for _, set := range b.grants.setsOf(group) {
		for i := range b.left[set] {
			l := &b.left[set][i]
			if asked := asks.Get(l.Resource); asked > 0 && l.Amount.Less(int128.Of(asked)) {
				return set, l
			}
		}
	}
	return 0, nil
}

// allows reports whether all sets of a group have enough left for an amount.
func (b *budget) allows(group int, asks capacity.Resources) bool {
	_, lacks := b.lacks(group, asks)
	return lacks == nil
}

// groupAt is the group of sets that the cluster of a position is in.
func (b *budget) groupAt(position int) int {
	if b == nil {
		return -1
	}
	return int(b.groups[position])
}

// overdrawn reports whether more has been taken than there was.
func (b *budget) overdrawn() bool {
	return b != nil && slices.ContainsFunc(b.left, func(of []capacity.Left) bool {
		return slices.ContainsFunc(of, func(l capacity.Left) bool { return l.Amount.Less(int128.Int{}) })
	})
}

// plenty is more often than anything is asked for.
const plenty = math.MaxInt32

// times is how often an amount can be taken from a set.
func (b *budget) times(set int, asks capacity.Resources) int64 {
	n := int64(plenty)
	for _, l := range b.left[set] {
		if asked := asks.Get(l.Resource); asked > 0 {
			n = min(n, max(0, l.Amount.Int64())/asked)
		}
	}
	return n
}

// timesOn is how often an amount can be taken from each set of a group.
func (b *budget) timesOn(group int, asks capacity.Resources) int64 {
	n := int64(plenty)
	if b != nil {
		for _, set := range b.grants.setsOf(group) {
			n = min(n, b.times(set, asks))
		}
	}
	return n
}

// timesInAll is how often an amount can be taken from all sets together.
func (b *budget) timesInAll(asks capacity.Resources) int64 {
	if b == nil {
		return plenty
	}
	all := make(map[int]int64, len(b.grants.groups))
	for group := range b.grants.groups {
		all[group] = plenty
	}
	return min(plenty, b.timesWithin(asks, all))
}

// timesWithin is how often an amount can be taken, from each group of sets at most so often. It is exact where sets are apart or one is
// within the other, the smallest of which are bounded first; where they share some of their clusters, more may be possible.
func (b *budget) timesWithin(asks capacity.Resources, most map[int]int64) (n int64) {
	for _, set := range b.grants.bySize {
		over := -b.times(set, asks)
		for group, times := range most {
			if b.grants.in(group, set) {
				over += times
			}
		}
		for _, group := range b.grants.shared {
			if over > 0 && most[group] > 0 && b.grants.in(group, set) {
				less := min(over, most[group])
				most[group], over = most[group]-less, over-less
			}
		}
	}
	for _, times := range most {
		n += times
	}
	return n
}

// binds reports whether a workload of a class may be kept from any choice of so many clusters.
func (b *budget) binds(c *class, number int) bool {
	if b == nil {
		return false
	}
	if c.Workload.PerNode {
		return true
	}
	for set := range b.left {
		if b.times(set, c.Workload.Requests) < int64(number) {
			return true
		}
	}
	return false
}

// clone is a budget to take from that leaves this one as it is.
func (b *budget) clone() *budget {
	if b == nil {
		return nil
	}
	c := *b
	c.left = make([][]capacity.Left, len(b.left))
	for i := range c.left {
		c.left[i] = slices.Clone(b.left[i])
	}
	return &c
}

// rejection is why a set has too little left for what a workload asks for on a cluster; nil where all have enough.
func (b *budget) rejection(position int, asks capacity.Resources) *filter.Rejection {
	set, l := b.lacks(b.groupAt(position), asks)
	if l == nil {
		return nil
	}
	grant := &b.grants.all[set]
	short := capacity.QuotaError{Set: grant.Set, Field: grant.Bounds(l.Resource)[0].Field, Resource: l.Resource, Asked: asks.Get(l.Resource), Left: l.Amount.Int64()}
	return &filter.Rejection{Stage: filter.Quota, Message: short.Error()}
}

// obstacle is the rejection with what would remove it.
func (b *budget) obstacle(position int, asks capacity.Resources) (filter.Obstacle, bool) {
	set, l := b.lacks(b.groupAt(position), asks)
	if l == nil {
		return filter.Obstacle{}, false
	}
	more := int128.Of(asks.Get(l.Resource)).Sub(l.Amount).Int64()
	return filter.NewObstacle(*b.rejection(position, asks), b.grants.all[set].raise(l.Resource, more)), true
}

// rejecting is the budget that a selection began with, for those who ask why, after it was used up to b; nil where b kept nothing.
func (b *budget) rejecting(used *budget) *budget {
	if used == nil {
		return nil
	}
	b.rejected = used.rejected
	return b
}

// count counts the feasible clusters of a tier that are rejected.
func (b *budget) count(tier int, ranked *ranking.Ranking, rejects func(position int) bool) {
	if b == nil {
		return
	}
	for tier >= len(b.rejected) {
		b.rejected = append(b.rejected, 0)
	}
	b.rejected[tier] = 0
	for position, key := range ranked.Keys() {
		if key != 0 && rejects(position) {
			b.rejected[tier]++
		}
	}
}

// excluded is how many feasible clusters of a tier are rejected.
func (b *budget) excluded(tier int) int {
	if b == nil || tier >= len(b.rejected) {
		return 0
	}
	return b.rejected[tier]
}
