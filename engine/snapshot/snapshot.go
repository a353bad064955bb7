// Package snapshot has the fleet of a workspace, and immutable snapshots of it: the facts and the free capacity of every
// cluster, derived once, when the cluster changes, and not whenever they are read.
package snapshot

import (
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Snapshot is a fleet at one generation: a base, and a log of what has changed since. It is immutable and cheap to make,
// and readers need no lock. The zero value has no clusters.
type Snapshot struct {
	// Generation increases with every change.
	Generation int64
	// Usual is what the workloads of the workspace usually ask for; nil if it is not needed.
	Usual *capacity.Usual
	base  *base
	// log has the latest changes, up to this generation; some may be older than the base.
	log []Change
}

// Change is a new row of one cluster.
type Change struct {
	// Position of the cluster in the fleet, ordered by name.
	Position int
	Row      *Row
}

// base is all rows of a fleet at an earlier generation.
type base struct {
	generation int64
	// layout is the generation at which a cluster last joined or left; positions are valid while it is the same.
	layout int64
	// block has all clusters, ordered by name.
	block Block
}

// Block is consecutive clusters of a fleet with their numbers in arrays, which are fast to scan.
type Block struct {
	// Place is the position of the first one.
	Place   int
	Rows    []*Row
	Figures []Figures
	// Nodes has the largest node of each; nil if none is known.
	Nodes []Node
}

// One returns the block of one cluster in the given memory, without allocating.
func One(place int, row *Row, rows *[1]*Row, figures *[1]Figures, nodes *[1]Node) Block {
	rows[0], figures[0] = row, row.Figures()
	b := Block{Place: place, Rows: rows[:], Figures: figures[:]}
	if row.LargestFree != nil {
		nodes[0] = row.node()
		b.Nodes = nodes[:]
	}
	return b
}

// Cut splits a block after n clusters.
func (b *Block) Cut(n int) (first, rest Block) {
	first = Block{b.Place, b.Rows[:n], b.Figures[:n], nil}
	rest = Block{b.Place + n, b.Rows[n:], b.Figures[n:], nil}
	if b.Nodes != nil {
		first.Nodes, rest.Nodes = b.Nodes[:n], b.Nodes[n:]
	}
	return first, rest
}

// set stores a row. A block without Nodes cannot take a row of a cluster that knows its LargestFree.
func (b *Block) set(i int, row *Row) {
	b.Rows[i], b.Figures[i] = row, row.Figures()
	if b.Nodes != nil {
		b.Nodes[i] = row.node()
	}
}

// newBlock returns the block of all rows of a fleet.
func newBlock(rows []*Row) Block {
	b := Block{Rows: slices.Clone(rows), Figures: make([]Figures, len(rows))}
	if slices.ContainsFunc(rows, func(row *Row) bool { return row.LargestFree != nil }) {
		b.Nodes = make([]Node, len(rows))
	}
	for i, row := range rows {
		b.set(i, row)
	}
	return b
}

var none = &base{}

func (s *Snapshot) origin() *base {
	if s.base == nil {
		return none
	}
	return s.base
}

// Len returns the number of clusters.
func (s *Snapshot) Len() int { return len(s.origin().block.Rows) }

// Layout returns a version that is equal for snapshots in which every cluster has the same position.
func (s *Snapshot) Layout() int64 { return s.origin().layout }

// Base returns the clusters as they were at BaseGeneration; Since(BaseGeneration()) returns what has changed.
func (s *Snapshot) Base() Block { return s.origin().block }

// BaseGeneration returns the generation of Base.
func (s *Snapshot) BaseGeneration() int64 { return s.origin().generation }

// Since returns the changes after a generation of the same layout, oldest first. known is false if that is too long ago.
func (s *Snapshot) Since(generation int64) (changes []Change, known bool) {
	n := s.Generation - generation
	if n < 0 || n > int64(len(s.log)) {
		return nil, false
	}
	return s.log[int64(len(s.log))-n:], true
}

// Rows returns the rows, ordered by name.
func (s *Snapshot) Rows() []*Row {
	rows := slices.Clone(s.origin().block.Rows)
	changes, _ := s.Since(s.BaseGeneration())
	for _, c := range changes {
		rows[c.Position] = c.Row
	}
	return rows
}

// With returns the snapshot with other rows, of the same clusters in the same order.
func (s *Snapshot) With(rows []*Row) Snapshot {
	with := *s
	with.base, with.log = &base{generation: s.Generation, layout: s.Layout(), block: newBlock(rows)}, nil
	return with
}

// Position returns the position of a cluster, if there is one of that name.
func (s *Snapshot) Position(name string) (position int, found bool) {
	return find(s.origin().block.Rows, name)
}

// Row returns the row of a cluster, nil if there is none.
func (s *Snapshot) Row(name string) *Row {
	i, found := find(s.origin().block.Rows, name)
	if !found {
		return nil
	}
	changes, _ := s.Since(s.BaseGeneration())
	for _, c := range slices.Backward(changes) {
		if c.Position == i {
			return c.Row
		}
	}
	return s.base.block.Rows[i]
}

func find(rows []*Row, name string) (int, bool) {
	return slices.BinarySearchFunc(rows, name, func(r *Row, name string) int { return strings.Compare(r.Name, name) })
}
