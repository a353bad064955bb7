package engine

import (
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// budgetBeside returns the budget for added clusters, beside those that a workload keeps and retains.
func (w *workspace) budgetBeside(plan *plan, r *Request, claimed *holding, places *places) *budget {
	b := w.budgetOf(claimed)
	if b == nil {
		return nil
	}
	for _, all := range [][]place{places.kept, places.doubtful[:places.retained]} {
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

// exceeds reports whether the budget has too little for a workload whose replicas are not divided: for what it keeps, for others,
// and for what it then retains.
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

// exceedsQuota reports whether the quotas leave less than what the workload asks for at least if the cluster at a position is added.
func (w *workspace) exceedsQuota(p *plan, c *class, position int) bool {
	group := p.budget.groupAt(position)
	return group >= 0 && !p.budget.allows(group, p.least(c.Class, w.seen.Row(position)))
}

// bars holds the sets from which no more clusters may be chosen, each with the positions that still may be.
type bars map[int]map[int]bool

func (s bars) has(b *budget, position int) bool {
	return slices.ContainsFunc(b.grants.setsOf(b.groupAt(position)), func(set int) bool {
		allowed, barred := s[set]
		return barred && !allowed[position]
	})
}

// bar bars the sets of which more clusters are chosen than the budget has room for, except for as many as it has. It reports whether
// there are any.
func (w *workspace) bar(s bars, p *plan, classes []*class, candidates []feasibleCluster, chosen []int) (more bool) {
	if p.budget == nil {
		return false
	}
	left, taken := p.budget.clone(), bars{}
	for _, i := range chosen {
		position := candidates[i].key.Position()
		group, asks := left.groupAt(position), p.least(classes[candidates[i].tier].Class, w.seen.Row(position))
		if set, lacks := left.lacks(group, asks); lacks != nil {
			s[set], more = taken[set], true
			continue
		}
		left.addTo(group, asks, -1)
		for _, set := range left.grants.setsOf(group) {
			if taken[set] == nil {
				taken[set] = map[int]bool{}
			}
			taken[set][position] = true
		}
	}
	return more
}

// more returns how many more replicas the clusters can take.
func (p *plan) more(all []place) (n int64) {
	if p.budget == nil {
		for i := range all {
			n += all[i].room - all[i].choice.Replicas
		}
		return n
	}
	return p.budget.timesWithin(p.one.Requests, p.moreIn(all))
}

// moreIn returns how many more replicas the clusters of each group have room for.
func (p *plan) moreIn(all []place) map[int]int64 {
	in := map[int]int64{}
	for i := range all {
		in[p.budget.groupAt(all[i].key.Position())] += all[i].room - all[i].choice.Replicas
	}
	return in
}

// apart bounds the room of each cluster, best first, by a share of what the quotas leave, so that all of it can be used at once. Clusters
// with too little are left out.
func (p *plan) apart(all []place) []place {
	left := p.moreIn(all)
	p.budget.timesWithin(p.one.Requests, left)
	for i := range all {
		o, group := &all[i], p.budget.groupAt(all[i].key.Position())
		more := min(left[group], o.room-o.choice.Replicas)
		o.room, left[group] = o.choice.Replicas+more, left[group]-more
	}
	return slices.DeleteFunc(all, func(o place) bool { return o.has == 0 && o.room < p.minimum })
}

// sharesWithin returns the shares of n replicas as far as the quotas of sets leave room. In each exceeded set, the smallest first, the
// clusters get as many more as there is room for, divided as if there were no other clusters.
func (p *plan) sharesWithin(n, has int64, all []place, weights []int64) []int64 {
	if p.budget != nil {
		all = slices.Clone(all)
	}
	for {
		shares := p.shares(n, has, all, weights)
		over, times := p.exceededBy(shares, all)
		if over < 0 {
			return shares
		}
		var of []place
		var at []int
		var ofWeights []int64
		var had int64
		for i := range all {
			if p.budget.grants.in(p.budget.groupAt(all[i].key.Position()), over) {
				of, at, ofWeights = append(of, all[i]), append(at, i), append(ofWeights, weights[i])
				had += all[i].choice.Replicas
			}
		}
		for k, share := range p.shares(had+times, had, of, ofWeights) {
			all[at[k]].room = share
		}
	}
}

// exceededBy returns the smallest set that shares of replicas exceed, and how many more it has room for; -1 if they exceed none.
func (p *plan) exceededBy(shares []int64, all []place) (set int, times int64) {
	if p.budget == nil {
		return -1, 0
	}
	for _, set := range p.budget.grants.bySize {
		more := int64(0)
		for i := range all {
			if p.budget.grants.in(p.budget.groupAt(all[i].key.Position()), set) {
				more += shares[i] - all[i].choice.Replicas
			}
		}
		if times := p.budget.times(set, p.one.Requests); more > times {
			return set, times
		}
	}
	return -1, 0
}

// overQuota returns why the quota of a set keeps a feasible cluster from being added; nil if it does not, or if the workload has the
// cluster.
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

// quotaObstacle is overQuota with what would help.
func (d *Decision) quotaObstacle(position int, row *snapshot.Row) (filter.Obstacle, bool) {
	if d.quota == nil || d.chose(row.Name) {
		return filter.Obstacle{}, false
	}
	return d.quota.obstacle(position, d.least(row))
}

// quotaLeft states what is left of quotas after what is added, if that is why a workload gets less than it asks for; otherwise it
// is empty.
func (d *Decision) quotaLeft() string {
	if d.quota == nil || len(d.Clusters) == 0 || len(d.Clusters) >= d.Asked && d.Waiting == 0 {
		return ""
	}
	left := d.quota.clone()
	for i := range d.Clusters {
		if c := &d.Clusters[i]; d.holding.index(c.Name) < 0 {
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

// boundedBy returns the name of the set whose quota keeps a cluster from being added: a set with a quota of the whole, else the first with
// a clusterQuota on the cluster.
func (d *Decision) boundedBy(cluster string) string {
	if position, there := d.snapshot.Position(cluster); there && d.quota != nil {
		if set, lacks := d.quota.lacks(d.quota.groupAt(position), d.least(d.snapshot.Row(cluster))); lacks != nil {
			return d.quota.grants.all[set].Set
		}
	}
	for g := range d.grants.on(cluster) {
		if len(g.ClusterQuota) > 0 {
			return g.Set
		}
	}
	return ""
}

// anyWithin reports whether any cluster is feasible, and within quotas, for a workload that holds nothing.
func (w *workspace) anyWithin(c *class, ranked *ranking.Ranking) bool {
	b := w.budgetOf(&nothing)
	if !b.binds(c, 1) {
		return ranked.Feasible()
	}
	for position, key := range ranked.Keys() {
		if key != 0 && b.allows(b.groupAt(position), c.On(w.seen.Row(position)).Workload.Requests) {
			return true
		}
	}
	return false
}

// snapshotWithin returns what the workspace sees, with no more free than the quotas of whole sets leave.
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
		for _, set := range b.grants.setsOf(b.groupAt(position)) {
			if len(left[set]) > 0 {
				row = row.WithinBoth(left[set])
			}
		}
		rows[position] = row
	}
	return s.With(rows)
}
