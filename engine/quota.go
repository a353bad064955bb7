package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/int128"
)

// budget is what one workload may be promised in each set of clusters of which a quota bounds the whole: what it has there, and what is
// left for all. What is chosen is taken from it. A quota of a set is about several clusters, so it is no part of a ranking.
//
// Invariant: a workload may always be promised as much as it is, wherever in the set.
type budget struct {
	grants *grants
	// sets are the indices of the grants by position, left is by these.
	sets []int32
	left [][]capacity.Left
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
	b := &budget{grants: w.window.grants, sets: w.window.sets, left: left}
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
		b.addTo(b.grants.setOf(cluster), amount, by)
	}
}

func (b *budget) addTo(set int, amount capacity.Resources, by int) {
	if set < 0 {
		return
	}
	for i := range b.left[set] {
		l := &b.left[set][i]
		if one := int128.Of(amount.Get(l.Resource)); by > 0 {
			l.Amount = l.Amount.Add(one)
		} else {
			l.Amount = l.Amount.Sub(one)
		}
	}
}

// take takes what is promised on clusters.
func (b *budget) take(choices ...Choice) {
	for i := range choices {
		b.add(choices[i].Name, choices[i].Reserved, -1)
	}
}

// lacks returns the resource of which a set has too little left for an amount; nil where it has enough.
func (b *budget) lacks(set int, asks capacity.Resources) *capacity.Left {
	if b == nil || set < 0 {
		return nil
	}
	for i := range b.left[set] {
		l := &b.left[set][i]
		if asked := asks.Get(l.Resource); asked > 0 && l.Amount.Less(int128.Of(asked)) {
			return l
		}
	}
	return nil
}

func (b *budget) setAt(position int) int {
	if b == nil {
		return -1
	}
	return int(b.sets[position])
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
	if b == nil || set < 0 {
		return n
	}
	for _, l := range b.left[set] {
		if asked := asks.Get(l.Resource); asked > 0 {
			n = min(n, max(0, l.Amount.Int64())/asked)
		}
	}
	return n
}

// timesInAll is how often an amount can be taken from all sets together.
func (b *budget) timesInAll(asks capacity.Resources) (n int64) {
	if b == nil {
		return plenty
	}
	for set := range b.left {
		n = min(plenty, n+b.times(set, asks))
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

// rejection is why a set has too little left for what a workload asks for on a cluster; nil where it has enough.
func (b *budget) rejection(position int, asks capacity.Resources) *filter.Rejection {
	l := b.lacks(b.setAt(position), asks)
	if l == nil {
		return nil
	}
	short := capacity.QuotaError{Set: b.grants.all[b.setAt(position)].Set, Resource: l.Resource, Asked: asks.Get(l.Resource), Left: l.Amount.Int64()}
	return &filter.Rejection{Stage: filter.Quota, Message: short.Error()}
}

// obstacle is the rejection with what would remove it.
func (b *budget) obstacle(position int, asks capacity.Resources) (filter.Obstacle, bool) {
	l := b.lacks(b.setAt(position), asks)
	if l == nil {
		return filter.Obstacle{}, false
	}
	more := int128.Of(asks.Get(l.Resource)).Sub(l.Amount).Int64()
	needs := fmt.Sprintf("%s more %s in the quota of ClusterSet %s", capacity.Format(l.Resource, more, true), l.Resource, b.grants.all[b.setAt(position)].Set)
	return filter.NewObstacle(*b.rejection(position, asks), needs), true
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

// exceeded reports whether there is too little for a workload that gets others beside what it keeps and what it stands on then.
func (b *budget) exceeded(w *workspace, c *class, places *places, others []ranking.Key) bool {
	if b == nil {
		return false
	}
	after := b.clone()
	for _, key := range others {
		after.take(w.choose(c, key))
	}
	for i := range places.doubtful[:places.unreplaced(c.Strategy.Number, len(others))] {
		after.take(places.doubtful[i].choice)
	}
	return after.overdrawn()
}

// selectWithin selects up to number clusters as selectRanked does, of each set as many as the budget has room for, and takes them from it.
// Keys that are taken out of the ranking are appended to w.current.
func (w *workspace) selectWithin(b *budget, c *class, ranked *ranking.Ranking, r *Request, held *holding, number int, chosen []ranking.Key) []ranking.Key {
	asks := func(position int) capacity.Resources { return c.On(w.seen.Row(position)).Workload.Requests }
	takeOut := func(position int) {
		w.current = append(w.current, positionedKey{position, ranked.At(position)})
		ranked.Set(position, 0)
	}
	exhaust := func() {
		for position, key := range ranked.Keys() {
			if key != 0 && b.lacks(b.setAt(position), asks(position)) != nil {
				takeOut(position)
			}
		}
	}
	feasible := 0
	b.count(0, ranked, func(position int) bool {
		feasible++
		return b.lacks(b.setAt(position), asks(position)) != nil
	})
	switch b.rejected[0] {
	case 0:
	case feasible:
		return chosen
	default:
		exhaust()
	}
	first := len(chosen)
	for len(chosen)-first < number {
		more, all := w.selectRanked(nil, c, ranked, r, held, number-(len(chosen)-first), nil), true
		for _, key := range more {
			position := key.Position()
			if b.lacks(b.setAt(position), asks(position)) != nil {
				all = false
				break
			}
			b.addTo(b.setAt(position), asks(position), -1)
			chosen = append(chosen, key)
		}
		if all {
			break
		}
		for _, key := range chosen[first:] {
			if ranked.At(key.Position()) != 0 {
				takeOut(key.Position())
			}
		}
		exhaust()
	}
	return chosen
}

// budgetBeside is the budget for clusters that are added: beside those that a workload keeps and stands on.
func (w *workspace) budgetBeside(plan *plan, r *Request, held *holding, places *places) *budget {
	b := w.budgetOf(held)
	if b == nil {
		return nil
	}
	for _, all := range [][]place{places.kept, places.doubtful[:places.standing]} {
		for i := range all {
			reserved := plan.reserves(&all[i], plan.classes[0])
			if r.strict {
				reserved = reserved.Max(all[i].choice.Reserved)
			}
			b.add(all[i].choice.Name, reserved, -1)
		}
	}
	return b
}

// reserves is what a workload has reserved where it keeps some of its replicas, or all, or stands.
func (p *plan) reserves(o *place, c *class) capacity.Resources {
	if p != nil && p.division != nil && 0 < o.choice.Replicas && o.choice.Replicas < o.has {
		return c.Whole.Share(o.choice.Replicas).Requests
	}
	return o.choice.Reserved
}

// exceeds reports whether there is too little for a workload whose replicas are not divided: for what it keeps, for others, and for
// what it stands on then.
func (p *plan) exceeds(places *places, others []place) bool {
	if p.budget == nil || len(others) == 0 {
		return false
	}
	after := p.budget.clone()
	for i := range others {
		after.take(others[i].choice)
	}
	for i := range places.doubtful[:places.unreplaced(p.classes[0].Strategy.Number, len(others))] {
		after.take(places.doubtful[i].choice)
	}
	return after.overdrawn()
}

// least is what the workload asks for on a cluster that is added, at least.
func (p *plan) least(c *ranking.Class, row *snapshot.Row) capacity.Resources {
	if p.division != nil {
		return c.Whole.Share(max(1, p.minimum)).Requests
	}
	return c.On(row).Workload.Requests
}

// exceedsQuota reports whether the quotas leave less than the workload asks for at least where the cluster of a position is added.
func (w *workspace) exceedsQuota(p *plan, c *class, position int) bool {
	set := p.budget.setAt(position)
	return set >= 0 && p.budget.lacks(set, p.least(c.Class, w.seen.Row(position))) != nil
}

// bars are the sets of which no cluster is to be chosen but some, by position.
type bars map[int]map[int]bool

func (s bars) has(b *budget, position int) bool {
	allowed, barred := s[b.setAt(position)]
	return barred && !allowed[position]
}

// bar bars the sets of which more clusters are chosen than the budget has room for, but for as many as it has. It reports whether there
// are any.
func (w *workspace) bar(s bars, p *plan, classes []*class, candidates []candidate, chosen []int) (more bool) {
	if p.budget == nil {
		return false
	}
	left, taken := p.budget.clone(), bars{}
	for _, i := range chosen {
		position := candidates[i].key.Position()
		set := left.setAt(position)
		if set < 0 {
			continue
		}
		if taken[set] == nil {
			taken[set] = map[int]bool{}
		}
		asks := p.least(classes[candidates[i].tier].Class, w.seen.Row(position))
		if left.lacks(set, asks) != nil {
			s[set], more = taken[set], true
			continue
		}
		left.addTo(set, asks, -1)
		taken[set][position] = true
	}
	return more
}

// more is how many replicas more some clusters can take.
func (p *plan) more(all []place) (n int64) {
	if p.budget == nil {
		for i := range all {
			n += all[i].room - all[i].choice.Replicas
		}
		return n
	}
	in := map[int]int64{}
	for i := range all {
		in[p.budget.setAt(all[i].key.Position())] += all[i].room - all[i].choice.Replicas
	}
	for set, more := range in {
		n += min(more, p.budget.times(set, p.one.Requests))
	}
	return n
}

// sharesWithin are the shares of n replicas as far as the quotas of sets leave room: of each set the clusters get as many more as there
// is room for, divided as if there were no others.
func (p *plan) sharesWithin(n, has int64, all []place, weights []int64) []int64 {
	for {
		shares, more := p.shares(n, has, all, weights), map[int]int64{}
		for i := range all {
			more[p.budget.setAt(all[i].key.Position())] += shares[i] - all[i].choice.Replicas
		}
		over := -1
		for set, n := range more {
			if n > p.budget.times(set, p.one.Requests) && (over < 0 || set < over) {
				over = set
			}
		}
		if over < 0 {
			return shares
		}
		var of []place
		var at []int
		var ofWeights []int64
		var had int64
		for i := range all {
			if p.budget.setAt(all[i].key.Position()) == over {
				of, at, ofWeights = append(of, all[i]), append(at, i), append(ofWeights, weights[i])
				had += all[i].choice.Replicas
			}
		}
		for k, share := range p.shares(had+p.budget.times(over, p.one.Requests), had, of, ofWeights) {
			all[at[k]].room = share
		}
	}
}

// overQuota is why the quota of a set keeps a feasible cluster from being added; nil where it does not, or the workload has it.
func (d *Decision) overQuota(position int, row *snapshot.Row) *filter.Rejection {
	if d.quota == nil || d.chose(row.Name) {
		return nil
	}
	return d.quota.rejection(position, d.least(row))
}

func (d *Decision) least(row *snapshot.Row) capacity.Resources {
	if d.plan != nil {
		return d.plan.least(d.class, row)
	}
	return d.class.On(row).Workload.Requests
}

// quotaObstacle is the same with what would help.
func (d *Decision) quotaObstacle(position int, row *snapshot.Row) (filter.Obstacle, bool) {
	if d.quota == nil || d.chose(row.Name) {
		return filter.Obstacle{}, false
	}
	return d.quota.obstacle(position, d.least(row))
}

// quotaLeft says what is left of quotas beside what is added, where that is why a workload gets less than it asks for; otherwise it
// is empty.
func (d *Decision) quotaLeft() string {
	if d.quota == nil || len(d.Clusters) == 0 || len(d.Clusters) >= d.Asked && d.Waiting == 0 {
		return ""
	}
	left := d.quota.clone()
	for i := range d.Clusters {
		if c := &d.Clusters[i]; d.held.index(c.Name) < 0 {
			left.take(*c)
		}
	}
	for position, row := range d.snapshot.Rows() {
		if why := left.rejection(position, d.least(row)); why != nil && !d.chose(row.Name) && d.quota.rejection(position, d.least(row)) == nil {
			return why.Message
		}
	}
	return ""
}

// setOf is the name of the set by which a cluster is granted.
func (d *Decision) setOf(cluster string) string {
	if set := d.grants.setOf(cluster); set >= 0 {
		return d.grants.all[set].Set
	}
	return ""
}

// anyWithin reports whether any cluster is feasible and within quotas for a workload that holds nothing.
func (w *workspace) anyWithin(c *class, ranked *ranking.Ranking) bool {
	b := w.budgetOf(&nothing)
	if !b.binds(c, 1) {
		return ranked.Feasible()
	}
	for position, key := range ranked.Keys() {
		if key != 0 && b.lacks(b.setAt(position), c.On(w.seen.Row(position)).Workload.Requests) == nil {
			return true
		}
	}
	return false
}

// snapshotWithin is what the workspace sees, with no more free than the quotas of whole sets leave.
func (w *workspace) snapshotWithin() snapshot.Snapshot {
	w.lock()
	defer w.mu.Unlock()
	s, b := w.seen.Snapshot(), w.budgetOf(&holding{Claim: &capacity.Claim{}, former: true})
	if b == nil {
		return s
	}
	left := make([]map[string]int64, len(b.left))
	for set := range left {
		left[set] = map[string]int64{}
		for _, l := range b.left[set] {
			left[set][l.Resource] = l.Amount.Int64()
		}
	}
	rows := s.Rows()
	for position, row := range rows {
		if set := b.setAt(position); set >= 0 && len(left[set]) > 0 {
			rows[position] = row.WithinBoth(left[set])
		}
	}
	return s.With(rows)
}
