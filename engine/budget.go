package engine

import (
	"math"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/internal/int128"
)

// budget is what one workload may be promised in each set of clusters whose quota bounds the whole set: what it has there, and what is left
// for all. What is chosen on a cluster is taken from each set of the cluster. A quota of a set spans several clusters, so it is not part of
// a ranking.
//
// Invariant: a workload may always be promised as much as it already is, on any clusters of the set.
type budget struct {
	grants *grants
	// groups are the groups of the grants by position; left is by set.
	groups []int32
	left   [][]capacity.Left
	// rejected is how many feasible clusters of each tier the budget excludes from the selection.
	rejected []int
}

// budgetOf returns the budget of a workload; nil if no quota bounds a whole set.
func (w *workspace) budgetOf(claimed *holding) *budget {
	if w.window == nil || w.window.grants == nil {
		return nil
	}
	left := w.ledger.Left()
	if left == nil {
		return nil
	}
	b := &budget{grants: w.window.grants, groups: w.window.groups, left: left}
	if claimed.displaced != nil {
		for i := range claimed.displaced.stakes {
			b.add(claimed.displaced.stakes[i].cluster, claimed.displaced.stakes[i].promised, 1)
		}
	}
	if !claimed.former {
		for _, of := range b.left { // more may be promised than the quota has
			for i := range of {
				if of[i].Amount.Less(int128.Int{}) {
					of[i].Amount = int128.Int{}
				}
			}
		}
	}
	for i := range claimed.Shares {
		b.add(claimed.Shares[i].Cluster, claimed.Shares[i].Amount, 1)
	}
	return b
}

// growthOf returns the budget for what a workload asks for beyond what is promised to it where it runs.
func (w *workspace) growthOf(r *Request, claimed *holding) *budget {
	if len(r.Current) == 0 {
		return nil
	}
	b := w.budgetOf(claimed)
	for i := range r.Current {
		b.add(r.Current[i].Name, claimed.promisedOn(r.Current[i].Name), -1)
	}
	return b
}

// promisedOn returns what is promised on a cluster to the workload itself, not to an earlier one of its name.
func (h *holding) promisedOn(cluster string) capacity.Resources {
	if had := h.ShareOn(cluster); had != nil && !h.former {
		return had.Amount
	}
	return capacity.Resources{}
}

// exceeding returns why a workload that runs on a cluster cannot grow there; nil if it can, or does not grow.
func (b *budget) exceeding(position int, promised, asks capacity.Resources) *filter.Rejection {
	if b == nil || promised.Same(asks) {
		return nil
	}
	return b.rejection(position, asks.Combine(promised, func(asks, promised int64) int64 { return max(0, asks-promised) }))
}

// add gives back what is promised on a cluster, or takes it if by is -1.
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

// lacks returns the set of a group that has too little left for an amount, and of which resource; nil if all have enough.
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

// groupAt returns the group of sets that the cluster at a position is in.
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

// plenty exceeds any number of times that something is asked for.
const plenty = math.MaxInt32

// times returns how often an amount can be taken from a set.
func (b *budget) times(set int, asks capacity.Resources) int64 {
	n := int64(plenty)
	for _, l := range b.left[set] {
		if asked := asks.Get(l.Resource); asked > 0 {
			n = min(n, max(0, l.Amount.Int64())/asked)
		}
	}
	return n
}

// timesOn returns how often an amount can be taken from every set of a group.
func (b *budget) timesOn(group int, asks capacity.Resources) int64 {
	n := int64(plenty)
	if b != nil {
		for _, set := range b.grants.setsOf(group) {
			n = min(n, b.times(set, asks))
		}
	}
	return n
}

// timesInAll returns how often an amount can be taken from all sets together.
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

// timesWithin returns how often an amount can be taken if each group of sets has an upper bound in most, and lowers most accordingly.
// It is exact if sets are disjoint or nested, since the smallest sets are bounded first; if sets overlap otherwise, more may be
// possible.
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

// binds reports whether the budget may keep a workload of a class from some choice of that many clusters.
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

// clone returns a copy to take from.
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

// rejection returns why a set has too little left for what a workload asks for on a cluster; nil if all have enough.
func (b *budget) rejection(position int, asks capacity.Resources) *filter.Rejection {
	set, l := b.lacks(b.groupAt(position), asks)
	if l == nil {
		return nil
	}
	grant := &b.grants.all[set]
	short := capacity.QuotaError{Set: grant.Set, Field: grant.Bounds(l.Resource)[0].Field, Resource: l.Resource, Asked: asks.Get(l.Resource), Left: l.Amount.Int64()}
	return &filter.Rejection{Stage: filter.Quota, Message: short.Error()}
}

// obstacle returns the rejection with what would remove it.
func (b *budget) obstacle(position int, asks capacity.Resources) (filter.Obstacle, bool) {
	set, l := b.lacks(b.groupAt(position), asks)
	if l == nil {
		return filter.Obstacle{}, false
	}
	more := int128.Of(asks.Get(l.Resource)).Sub(l.Amount).Int64()
	return filter.NewObstacle(*b.rejection(position, asks), b.grants.all[set].raise(l.Resource, more)), true
}

// rejecting returns b, the budget at the start of a selection, with the counts of used, its state at the end, to explain the selection
// with; nil if used is nil, since then nothing was excluded.
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

// excluded returns how many feasible clusters of a tier are rejected.
func (b *budget) excluded(tier int) int {
	if b == nil || tier >= len(b.rejected) {
		return 0
	}
	return b.rejected[tier]
}
