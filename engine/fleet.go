package engine

import (
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// fleet is the clusters of a workspace, with what is promised on them to it and to its guests.
type fleet struct {
	name logicalcluster.Name
	// mu makes rows and ledgers change together. Lock order: the mu of a workspace, then the mu of its fleet. It is held to read what
	// has changed, to verify and to reserve; policies and rankings are evaluated without it.
	//
	// Invariant: what rows hold as reserved is what the ledgers hold; while the fleet is shared, this is true of what row returns.
	mu   briefMutex
	rows snapshot.Fleet
	// ledgers of all workspaces with claims on the clusters, and the ledger of the fleet's own workspace.
	ledgers map[logicalcluster.Name]*capacity.Ledger
	// shared is set once another workspace uses the fleet: from then on its own workspace sees it through a window, too.
	shared bool
	// layout counts how often a cluster has joined or left. sites and recent are for a shared fleet at this layout: sites by position, nil
	// until they are needed, and the order in which clusters have changed.
	layout int64
	sites  []site
	recent recent
	// lines are the workloads that wait for room.
	lines lines
}

// site is what a shared fleet keeps of a cluster. Rows are made only when a workspace needs them, by that workspace. A site fills a cache
// line.
type site struct {
	// reserved is what the ledgers hold.
	reserved capacity.Resources
	// changed is the generation of the last change.
	changed int64
	// of is the cluster that published was made from, and published that cluster as guests see it.
	of, published *snapshot.Cluster
	_             [8]byte
}

func newFleet(name logicalcluster.Name) *fleet {
	f := &fleet{name: name, ledgers: map[logicalcluster.Name]*capacity.Ledger{name: capacity.NewLedger()}}
	f.lines.row = f.row
	return f
}

// ledgerOf returns the ledger of a workspace. The fleet is locked.
func (f *fleet) ledgerOf(name logicalcluster.Name) *capacity.Ledger {
	l := f.ledgers[name]
	if l == nil {
		l = f.ledgers[f.name].Beside()
		f.ledgers[name] = l
	}
	return l
}

func (f *fleet) setCluster(c *snapshot.Cluster) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.row(c.Name)
	reserved := f.ledgers[f.name].SetCluster(c.Name, c.Allocatable.Sub(c.Allocated), c.Counted)
	changed = f.rows.Set(c, reserved)
	switch {
	case before == nil:
		f.moved()
	case changed && f.shared:
		position, _ := f.rows.Position(c.Name)
		f.sites[position].reserved, f.sites[position].changed = reserved, f.recent.touch(position)
	}
	f.lines.follow(before, f.row(c.Name))
	return changed
}

func (f *fleet) removeCluster(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledgers[f.name].RemoveCluster(name)
	before := f.row(name)
	f.rows.Remove(name)
	f.moved()
	f.lines.follow(before, nil)
}

// moved drops everything that depends on positions.
func (f *fleet) moved() {
	f.layout++
	f.sites = nil
}

// arrange makes the sites of a shared fleet, unless they exist. The fleet is locked.
func (f *fleet) arrange() {
	if f.sites != nil || !f.shared {
		return
	}
	f.rows.Index()
	f.sites = make([]site, f.rows.Len())
	for i := range f.sites {
		f.sites[i].reserved = f.ledgers[f.name].Reserved(f.rows.Row(i).Name)
	}
	f.recent.arrange(len(f.sites))
}

// row returns the row of a cluster, nil if it is not registered. The fleet is locked.
func (f *fleet) row(cluster string) *snapshot.Row {
	position, there := f.rows.Position(cluster)
	if !there {
		return nil
	}
	if f.arrange(); f.shared {
		f.rows.ReserveAt(position, f.sites[position].reserved)
	}
	return f.rows.Row(position)
}

// updateReserved applies what the ledgers hold on the clusters of a claim that has been granted or given up. The fleet is locked.
func (f *fleet) updateReserved(claim *capacity.Claim) {
	f.arrange()
	f.ledgers[f.name].EachReserved(claim, func(i int, reserved capacity.Resources) {
		if position, there := f.rows.Position(claim.Shares[i].Cluster); there {
			f.reserveAt(position, reserved)
		}
	})
}

func (f *fleet) updateReservedOn(cluster string) {
	f.arrange()
	if position, there := f.rows.Position(cluster); there {
		f.reserveAt(position, f.ledgers[f.name].Reserved(cluster))
	}
}

// reserveAt applies what the ledgers hold on the cluster at a position. A shared fleet is arranged.
func (f *fleet) reserveAt(position int, reserved capacity.Resources) {
	if !f.shared {
		f.rows.ReserveAt(position, reserved)
		return
	}
	if s := &f.sites[position]; !s.reserved.Same(reserved) {
		f.lines.followReserved(f.rows.Row(position).Name, s.reserved, reserved)
		s.reserved, s.changed = reserved, f.recent.touch(position)
	}
}

// publish returns the cluster at a position as guests see it. The fleet is locked and arranged.
func (f *fleet) publish(position int) *snapshot.Cluster {
	s, of := &f.sites[position], f.rows.Row(position).Cluster
	if s.of != of {
		s.of, s.published = of, of.Published(s.published)
	}
	return s.published
}
