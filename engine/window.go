package engine

import (
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// window is a shared fleet as one workspace sees it. It is brought up to date with the changes of the fleet when the workspace needs
// it, so the cost of a report does not depend on how many workspaces share the fleet. The workspace's mu guards it.
//
// Invariant: what a workspace sees, including positions and generations, is a function of its grants, of its own claims, and of
// what clusters are and have free at the times at which it reads them.
type window struct {
	rows snapshot.Fleet
	// grants is nil for the fleet's own workspace, which sees everything as it is.
	grants *grants
	// synced, layout and facts are the versions of the fleet that the window is current for.
	synced, layout, facts int64
	// stale is set if the set of visible clusters may have changed.
	stale bool
	// reported are the clusters as they report, and indices their positions in the fleet, both by position in the window;
	// positions has the positions in the window by position in the fleet, -1 for a cluster that is not visible.
	reported  []*snapshot.Cluster
	indices   []int
	positions []int32
	// groups are the groups of the grants by position in the window, -1 for a cluster that is no longer granted.
	groups []int32
	// changed and updates are scratch space of sync.
	changed []int
	updates []clusterUpdate
	// ownUpdates are the updates by the workspace's own decisions, kept while follows is set.
	ownUpdates []clusterUpdate
	follows    bool
}

// clusterUpdate is what a workspace is to see of a changed cluster, by the cluster's position in the fleet.
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

// read collects what has changed in the fleet, or all visible clusters if the set of clusters may have changed. Clusters on which
// own claims have changed what a quota leaves count as changed.
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
		slices.Sort(v.changed) // the result must not depend on the order of changes
	}
	for _, index := range slices.Compact(v.changed) {
		v.updates = append(v.updates, v.updateOf(f, index))
	}
	v.synced, v.layout, v.facts, v.stale = f.recent.generation, f.layout, f.rows.Facts(), false
	return all, len(v.updates) > 0
}

// updateOf returns what is to be seen of a cluster now. The fleet is locked and arranged.
func (v *window) updateOf(f *fleet, index int) clusterUpdate {
	of, reserved := f.rows.Row(index).Cluster, f.sites[index].reserved
	if v.grants == nil {
		return clusterUpdate{index, of, of, snapshot.Use{Allocated: of.Allocated, Reserved: reserved}}
	}
	return clusterUpdate{index, of, f.publish(index), snapshot.UsedOf(of, reserved)}
}

// follow brings what a workspace sees up to date only with what it has itself decided since it last read the fleet. It returns
// false if the workspace has to read the fleet.
func (w *workspace) follow() bool {
	v := w.window
	if v == nil {
		return true // it sees every change immediately
	}
	if !v.follows {
		return false
	}
	v.updates, v.ownUpdates = v.ownUpdates, v.updates[:0]
	v.update(w.ledger)
	return true
}

// startFollowing makes reserve keep the updates that follow applies, until stop is called. The workspace is locked and current.
func (w *workspace) startFollowing() (stop func()) {
	v := w.window
	if v == nil {
		return func() {}
	}
	v.ownUpdates, v.follows = v.ownUpdates[:0], true
	return func() { v.follows = false }
}

// sees reports whether a cluster is visible: it is granted, or the workspace has something there.
func (v *window) sees(cluster string, claims *capacity.Ledger) bool {
	return v.grants == nil || v.grants.groupOf(cluster) >= 0 || claims.Has(cluster)
}

// restrict limits the update of a cluster to what grants leave of it.
func (v *window) restrict(one *clusterUpdate, group int32, claims *capacity.Ledger) {
	switch {
	case v.grants == nil:
	case group < 0:
		one.cluster = one.cluster.AsWithdrawn()
	case slices.ContainsFunc(v.grants.setsOf(int(group)), func(set int) bool { return len(v.grants.all[set].ClusterQuota) > 0 }):
		one.use.Left = claims.LeftOn(one.cluster.Name)
	}
}

// update applies the updates of visible clusters.
func (v *window) update(claims *capacity.Ledger) {
	for i := range v.updates {
		one := &v.updates[i]
		position := v.positions[one.index]
		v.restrict(one, v.groups[position], claims)
		v.rows.SetUsedAt(int(position), one.cluster, &one.use)
		v.reported[position] = one.reported
	}
}

// renew replaces the visible clusters by those in updates, which are ordered by name.
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
	v.changed, v.updates = nil, nil // they were large
}

// fleetIndex returns the position in the fleet of a position in the window, which is current for the fleet's layout.
func (w *workspace) fleetIndex(position int) int {
	if w.window == nil {
		return position
	}
	return w.window.indices[position]
}

// counted returns what each cluster of a claim counts for its owner, by the reports that the workspace has seen; nil if none counts
// anything.
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

// reportOf returns the latest report of the cluster at a position.
func (w *workspace) reportOf(position int) *snapshot.Cluster {
	if w.window == nil {
		return w.seen.Row(position).Cluster
	}
	return w.window.reported[position]
}

// clustersAlone returns the clusters that the workspace sees, as they would be reported if nobody else had reservations there: what
// others have reserved counts as in use. Together with the claims of the workspace, they are what it sees.
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

// granted returns copies of the claims of the workspace.
func (w *workspace) granted() (all []capacity.Grant) {
	for owner, claim := range w.ledger.EachClaim {
		all = append(all, capacity.Grant{Owner: owner, Claim: &capacity.Claim{
			UID: claim.UID, Group: claim.Group, Labels: claim.Labels, Idle: claim.Idle, Repels: claim.Repels, Shares: claim.Shares,
		}})
	}
	return all
}

// grants returns the grants through which a workspace sees the clusters; nil if these are its own.
func (w *workspace) grants() *grants {
	if w.window == nil {
		return nil
	}
	return w.window.grants
}
