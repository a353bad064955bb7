package engine

import (
	"sync"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// fleet is the clusters of a workspace with what is promised on them to it, and to others that look at them through grants.
type fleet struct {
	name logicalcluster.Name
	// mu makes rows and ledgers change together. Order: the mu of a workspace, then that of the fleet that it looks at. It is held to
	// copy rows, to verify and to reserve; policies and rankings are evaluated without it.
	//
	// Invariant: what rows say is reserved is what the ledgers hold.
	mu   sync.Mutex
	rows snapshot.Fleet
	// ledgers of all workspaces with claims on the clusters, and that of the fleet's own.
	ledgers map[logicalcluster.Name]*capacity.Ledger
	// published are rows as other workspaces see them, by position; made when one asks.
	published       []publication
	publishedLayout int64
	// shared is set once another workspace looks at the fleet: from then on the fleet's own has a view of it, too.
	shared bool
	// lines are who waits for room.
	lines lines
}

// publication is a row as others see it, and the one that it was made of.
type publication struct{ of, row *snapshot.Row }

func newFleet(name logicalcluster.Name) *fleet {
	f := &fleet{name: name, ledgers: map[logicalcluster.Name]*capacity.Ledger{name: capacity.NewLedger()}}
	f.lines.rows = &f.rows
	return f
}

// ledgerOf is the ledger of a workspace. The fleet is locked.
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
	changed = f.rows.Set(c, f.ledgers[f.name].SetCluster(c.Name, c.Allocatable.Sub(c.Allocated), c.Counted))
	f.lines.follow(before, f.row(c.Name))
	return changed
}

func (f *fleet) removeCluster(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledgers[f.name].RemoveCluster(name)
	before := f.row(name)
	f.rows.Remove(name)
	f.lines.follow(before, nil)
}

// row is that of a cluster, nil where it is not registered.
func (f *fleet) row(cluster string) *snapshot.Row {
	if position, there := f.rows.Position(cluster); there {
		return f.rows.Row(position)
	}
	return nil
}

// updateReserved makes new rows for the clusters of a claim, as far as the ledgers hold another amount on them. The fleet is locked.
func (f *fleet) updateReserved(claim *capacity.Claim) {
	for i := range claim.Shares {
		f.updateReservedOn(claim.Shares[i].Cluster)
	}
}

func (f *fleet) updateReservedOn(cluster string) {
	if position, there := f.rows.Position(cluster); there {
		before := f.rows.Row(position)
		f.rows.ReserveAt(position, f.ledgers[f.name].Reserved(cluster))
		f.lines.follow(before, f.rows.Row(position))
	}
}

// publish returns the row of a position as other workspaces see it. The fleet is locked, and has this layout.
func (f *fleet) publish(position int, layout int64) *snapshot.Row {
	if f.publishedLayout != layout || len(f.published) != f.rows.Len() {
		f.published, f.publishedLayout = make([]publication, f.rows.Len()), layout
	}
	p, row := &f.published[position], f.rows.Row(position)
	if p.of != row {
		p.of, p.row = row, row.Published(p.row)
	}
	return p.row
}
