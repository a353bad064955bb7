package engine

import (
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// window is a fleet that several workspaces look at, as one of them sees it: brought up to date with what has changed in the fleet when
// the workspace asks, so a report costs the same however many look. The workspace's mu guards it.
//
// Invariant: what a workspace sees, its positions and generations included, is a function of its grants, of its own claims, and of
// what clusters are and have free whenever it asks.
type window struct {
	rows snapshot.Fleet
	// grants are nil for the workspace whose fleet it is, which sees all as it is.
	grants *grants
	// synced, layout and facts are the versions of the fleet that the window is current for.
	synced, layout, facts int64
	// stale is set where other clusters are to be seen than before.
	stale bool
	// reported are the clusters as they report, by position in the window, and indices theirs in the fleet; positions has those in
	// the window by the indices in the fleet, -1 where a cluster is not seen.
	reported  []*snapshot.Cluster
	indices   []int
	positions []int32
	// groups are those of the grants by position in the window, -1 for a cluster that is not granted any more.
	groups []int32
	// changed and updates are scratch space of sync.
	changed []int
	updates []clusterUpdate
	// ownUpdates are those that the workspace's own decisions make, kept while it follows.
	ownUpdates []clusterUpdate
	follows    bool
}

// clusterUpdate is what a workspace is to see of a cluster that has changed, by its position in the fleet.
type clusterUpdate struct {
	index             int
	reported, cluster *snapshot.Cluster
	use               snapshot.Use
}

// lock locks the workspace and brings what it sees of the fleet up to date.
func (w *workspace) lock() {
	w.mu.Lock()
	w.sync()
}

// sync brings what a workspace sees up to date. The workspace is locked.
func (w *workspace) sync() {
	v := w.window
	if v == nil {
		return
	}
	outside, own := w.ledger.Moved()
	v.stale = v.stale || outside
	renewed, changed := v.read(w.fleet, own, w.ledger)
	if renewed {
		v.renew(w.ledger)
	} else {
		v.update(w.ledger)
	}
	if changed {
		w.reports++
	}
}

// read takes over what has changed in the fleet: all that is seen, where these are not the clusters that were. What own claims have
// changed of quotas on clusters has changed as well.
func (v *window) read(f *fleet, own []string, claims *capacity.Ledger) (all, any bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.arrange()
	v.changed, v.updates = v.changed[:0], v.updates[:0]
	if all = v.stale || f.layout != v.layout; all {
		v.positions = make([]int32, len(f.sites))
		for index := range f.sites {
			if v.positions[index] = -1; v.sees(f.rows.Row(index).Name, claims) {
				v.changed = append(v.changed, index)
			}
		}
	} else {
		f.recent.since(v.synced, f.sites, func(index int) {
			if v.positions[index] >= 0 {
				v.changed = append(v.changed, index)
			}
		})
		for _, cluster := range own {
			if index, there := f.rows.Position(cluster); there {
				v.changed = append(v.changed, index)
			}
		}
		slices.Sort(v.changed) // in which order they have changed is of no concern
	}
	for _, index := range slices.Compact(v.changed) {
		v.updates = append(v.updates, v.updateOf(f, index))
	}
	v.synced, v.layout, v.facts, v.stale = f.recent.generation, f.layout, f.rows.Facts(), false
	return all, len(v.updates) > 0
}

// updateOf is what is to be seen of a cluster now. The fleet is locked and arranged.
func (v *window) updateOf(f *fleet, index int) clusterUpdate {
	of, reserved := f.rows.Row(index).Cluster, f.sites[index].reserved
	if v.grants == nil {
		return clusterUpdate{index, of, of, snapshot.Use{Allocated: of.Allocated, Reserved: reserved}}
	}
	return clusterUpdate{index, of, f.publish(index), snapshot.UsedOf(of, reserved)}
}

// follow brings what a workspace sees up to date with what it has decided itself since it looked, and with nothing else. It returns
// false where it has to look.
func (w *workspace) follow() bool {
	v := w.window
	if v == nil {
		return true // it sees all at once
	}
	if !v.follows {
		return false
	}
	v.updates, v.ownUpdates = v.ownUpdates, v.updates[:0]
	v.update(w.ledger)
	return true
}

// startFollowing has reserve keep the updates that follow takes up, until stop is called. The workspace is locked and current.
func (w *workspace) startFollowing() (stop func()) {
	v := w.window
	if v == nil {
		return func() {}
	}
	v.ownUpdates, v.follows = v.ownUpdates[:0], true
	return func() { v.follows = false }
}

// sees reports whether a cluster is to be seen: one that is granted, or that has something of the workspace.
func (v *window) sees(cluster string, claims *capacity.Ledger) bool {
	return v.grants == nil || v.grants.groupOf(cluster) >= 0 || claims.Has(cluster)
}

// restrict has the update of a cluster of a set be what grants leave of it.
func (v *window) restrict(one *clusterUpdate, group int32, claims *capacity.Ledger) {
	switch {
	case v.grants == nil:
	case group < 0:
		one.cluster = one.cluster.AsWithdrawn()
	case slices.ContainsFunc(v.grants.setsOf(int(group)), func(set int) bool { return len(v.grants.all[set].ClusterQuota) > 0 }):
		one.use.Left = claims.LeftOn(one.cluster.Name)
	}
}

// update takes up the updates of clusters that are seen.
func (v *window) update(claims *capacity.Ledger) {
	for i := range v.updates {
		one := &v.updates[i]
		position := v.positions[one.index]
		v.restrict(one, v.groups[position], claims)
		v.rows.SetUsedAt(int(position), one.cluster, &one.use)
		v.reported[position] = one.reported
	}
}

// renew takes up which clusters are seen: all of which there are updates, in the order of their names.
func (v *window) renew(claims *capacity.Ledger) {
	for _, before := range v.reported {
		if _, stays := slices.BinarySearchFunc(v.updates, before.Name, func(one clusterUpdate, name string) int { return strings.Compare(one.cluster.Name, name) }); !stays {
			v.rows.Remove(before.Name)
		}
	}
	seen := len(v.updates)
	v.reported, v.indices, v.groups = make([]*snapshot.Cluster, seen), make([]int, seen), make([]int32, seen)
	for i := range v.updates {
		one := &v.updates[i]
		v.reported[i], v.indices[i], v.positions[one.index] = one.reported, one.index, int32(i)
		v.groups[i] = int32(v.grants.groupOf(one.cluster.Name))
		v.restrict(one, v.groups[i], claims)
		v.rows.SetUsed(one.cluster, &one.use)
	}
	v.changed, v.updates = nil, nil // which were large
}

// fleetIndex is the position in the fleet of one in the window, which is current for its layout.
func (w *workspace) fleetIndex(position int) int {
	if w.window == nil {
		return position
	}
	return w.window.indices[position]
}

// counted is what each cluster of a claim counts for its owner, by the reports that the workspace has seen; nil if none counts anything.
func (w *workspace) counted(claim *capacity.Claim) (counted []capacity.Resources) {
	if w.window == nil {
		return w.ledger.Counted(claim)
	}
	for i := range claim.Shares {
		if amount := w.countedOn(claim, claim.Shares[i].Cluster); !amount.IsZero() {
			if counted == nil {
				counted = make([]capacity.Resources, len(claim.Shares))
			}
			counted[i] = amount
		}
	}
	return counted
}

func (w *workspace) countedOn(claim *capacity.Claim, cluster string) (amount capacity.Resources) {
	if position, there := w.seen.Position(cluster); there && claim.UID != "" {
		amount = w.reportOf(position).Counted[claim.UID]
	}
	return amount
}

// reportOf is what the cluster of a position has reported last.
func (w *workspace) reportOf(position int) *snapshot.Cluster {
	if w.window == nil {
		return w.seen.Row(position).Cluster
	}
	return w.window.reported[position]
}

// clustersAlone are the clusters that the workspace sees as they would be reported if nobody else had anything reserved there: what
// others have reserved is in use. With the claims of the workspace they are what it sees.
func (w *workspace) clustersAlone() []*snapshot.Cluster {
	all := make([]*snapshot.Cluster, w.seen.Len())
	for i := range all {
		row := w.seen.Row(i)
		if all[i] = row.Cluster; w.window != nil {
			c := *row.Cluster
			c.Allocated, c.Counted = row.Allocated.Add(row.Reserved), map[string]capacity.Resources{}
			all[i] = &c
		}
	}
	if w.window == nil {
		return all
	}
	for _, claim := range w.ledger.EachClaim {
		for i := range claim.Shares {
			s := &claim.Shares[i]
			position, there := w.seen.Position(s.Cluster)
			if !there {
				continue
			}
			counted := w.countedOn(claim, s.Cluster)
			if !counted.IsZero() {
				all[position].Counted[claim.UID] = counted
			}
			all[position].Allocated = all[position].Allocated.Sub(s.Reserved(counted))
		}
	}
	return all
}

// granted are copies of the claims of the workspace.
func (w *workspace) granted() (all []capacity.Grant) {
	for owner, claim := range w.ledger.EachClaim {
		all = append(all, capacity.Grant{Owner: owner, Claim: &capacity.Claim{
			UID: claim.UID, Group: claim.Group, Labels: claim.Labels, Idle: claim.Idle, Repels: claim.Repels, Shares: claim.Shares,
		}})
	}
	return all
}

// grants are those by which a workspace sees the clusters; nil where these are its own.
func (w *workspace) grants() *grants {
	if w.window == nil {
		return nil
	}
	return w.window.grants
}
