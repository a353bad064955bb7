package engine

import (
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// window is a fleet that several workspaces look at, as one of them sees it: brought up to date from the fleet's log when the workspace
// asks, so a report costs the same however many look. The workspace's mu guards it.
//
// Invariant: what a workspace sees, its positions and generations included, is a function of its grants, of its own claims, and of
// what clusters are and have free whenever it asks.
type window struct {
	rows snapshot.Fleet
	// grants are nil for the workspace whose fleet it is, which sees all as it is.
	grants *grants
	// synced is the generation of the fleet that the window is current for, layout and facts are its versions then.
	synced, layout, facts int64
	// stale is set where other clusters are to be seen than before.
	stale bool
	// of are the fleet's rows by position in the window, and places their positions in the fleet; at has the positions in the window by those
	// in the fleet, -1 where a cluster is not seen.
	of     []*snapshot.Row
	places []int
	at     []int32
	// sets are the indices of the grants by position in the window, -1 for a cluster that is not granted any more.
	sets []int32
}

// news is a row of the fleet that has changed, by its position there, and what the workspace is to see of it.
type news struct {
	place   int
	of, row *snapshot.Row
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
	f := w.fleet
	f.mu.Lock()
	s, facts := f.rows.Snapshot(), f.rows.Facts()
	if s.Generation == v.synced && !v.stale && len(own) == 0 {
		f.mu.Unlock()
		return
	}
	renew := v.stale || s.Layout() != v.layout
	var fresh []news
	see := func(place int) {
		one := news{place: place, of: f.rows.Row(place)}
		if one.row = one.of; v.grants != nil {
			one.row = f.publish(place, s.Layout())
		}
		fresh = append(fresh, one)
	}
	if changes, known := s.Since(v.synced); known && !renew {
		places := make([]int, 0, len(changes))
		for _, c := range changes {
			if v.at[c.Position] >= 0 {
				places = append(places, c.Position)
			}
		}
		for _, cluster := range own {
			if place, there := f.rows.Position(cluster); there {
				places = append(places, place)
			}
		}
		slices.Sort(places) // in which order they have changed is of no concern
		for _, place := range slices.Compact(places) {
			see(place)
		}
	} else if renew {
		for place := range f.rows.Len() {
			if v.sees(f.rows.Row(place).Name, w.ledger) {
				see(place)
			}
		}
	} else {
		for _, place := range v.places {
			see(place)
		}
	}
	clusters := f.rows.Len()
	f.mu.Unlock()
	if renew {
		v.renew(fresh, clusters, w.ledger)
	} else {
		v.update(fresh, w.ledger)
	}
	v.synced, v.layout, v.facts, v.stale = s.Generation, s.Layout(), facts, false
	if len(fresh) > 0 {
		w.reports++
	}
}

// sees reports whether a cluster is to be seen: one that is granted, or that has something of the workspace.
func (v *window) sees(cluster string, claims *capacity.Ledger) bool {
	return v.grants == nil || v.grants.setOf(cluster) >= 0 || claims.Has(cluster)
}

// show is what the window is to have of a row.
func (v *window) show(one *news, claims *capacity.Ledger) *snapshot.Row {
	if v.grants == nil {
		return one.row
	}
	if v.grants.setOf(one.row.Name) < 0 {
		return one.row.AsWithdrawn()
	}
	if left := claims.LeftOn(one.row.Name); left != nil {
		return one.row.Within(left)
	}
	return one.row
}

// update takes up rows that have changed, of clusters that are seen.
func (v *window) update(fresh []news, claims *capacity.Ledger) {
	for i := range fresh {
		one := &fresh[i]
		position := v.at[one.place]
		v.rows.SetRow(v.show(one, claims), v.of[position].Figures.Facts == one.of.Figures.Facts)
		v.of[position] = one.of
	}
}

// renew takes up which clusters are seen: all that there are now, in the order of their names.
func (v *window) renew(all []news, clusters int, claims *capacity.Ledger) {
	for _, before := range v.of {
		if _, stays := slices.BinarySearchFunc(all, before.Name, func(one news, name string) int { return strings.Compare(one.of.Name, name) }); !stays {
			v.rows.Remove(before.Name)
		}
	}
	v.of, v.places, v.at, v.sets = make([]*snapshot.Row, len(all)), make([]int, len(all)), make([]int32, clusters), make([]int32, len(all))
	for place := range v.at {
		v.at[place] = -1
	}
	for i := range all {
		v.rows.SetRow(v.show(&all[i], claims), false)
		v.of[i], v.places[i], v.at[all[i].place] = all[i].of, all[i].place, int32(i)
		v.sets[i] = int32(v.grants.setOf(all[i].of.Name))
	}
}

// placeOf is the position in the fleet of one in the window, which is current for its layout.
func (w *workspace) placeOf(position int) int {
	if w.window == nil {
		return position
	}
	return w.window.places[position]
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
	return w.window.of[position].Cluster
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
