// Package snapshot holds the fleet of a workspace as it changes, and as it stands at one generation: what every cluster
// is and what it has free, computed once when it changes and not when it is asked for.
package snapshot

import (
	"slices"
	"strings"
)

// Snapshot is a fleet at one generation: a base, and what has changed since. It is not changed once it is made, and
// costs next to nothing to make: readers need no lock, and hold up no writer. The zero value has no clusters.
type Snapshot struct {
	// Generation grows with every change.
	Generation int64
	base       *base
	// log holds the latest changes, the last of which made this generation; some may be older than the base.
	log []Change
}

// Change is that one cluster has another row.
type Change struct {
	// Position of the cluster among those of the fleet, by name.
	Position int
	Row      *Row
}

// base is a fleet at the generation at which it was last put together.
type base struct {
	generation int64
	// layout is the generation at which a cluster last joined or left: positions mean the same while it does.
	layout int64
	// block is all clusters by name.
	block Block
}

// Block is clusters of a fleet with their numbers side by side, so that to look at all of them is to run over arrays.
type Block struct {
	// Place of the first one.
	Place   int
	Rows    []*Row
	Figures []Figures
	// Nodes are the largest ones; nil where no cluster's is known.
	Nodes []Node
}

// One is the block of one cluster, in the memory of what is given.
func One(place int, row *Row, rows *[1]*Row, figures *[1]Figures, nodes *[1]Node) Block {
	rows[0], figures[0] = row, row.Figures
	b := Block{Place: place, Rows: rows[:], Figures: figures[:]}
	if row.LargestFree != nil {
		nodes[0] = row.node()
		b.Nodes = nodes[:]
	}
	return b
}

// Cut parts the first n clusters from the others.
func (b *Block) Cut(n int) (first, rest Block) {
	first = Block{b.Place, b.Rows[:n], b.Figures[:n], nil}
	rest = Block{b.Place + n, b.Rows[n:], b.Figures[n:], nil}
	if b.Nodes != nil {
		first.Nodes, rest.Nodes = b.Nodes[:n], b.Nodes[n:]
	}
	return first, rest
}

// newBlock puts the numbers of rows side by side.
func newBlock(rows []*Row) Block {
	b := Block{Rows: slices.Clone(rows), Figures: make([]Figures, len(rows))}
	for i, row := range rows {
		b.Figures[i] = row.Figures
		if row.LargestFree != nil && b.Nodes == nil {
			b.Nodes = make([]Node, len(rows))
			for j := range i {
				b.Nodes[j] = rows[j].node()
			}
		}
		if b.Nodes != nil {
			b.Nodes[i] = row.node()
		}
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

// Len is the number of clusters.
func (s *Snapshot) Len() int { return len(s.origin().block.Rows) }

// Layout is the same for snapshots in which every cluster has the same position.
func (s *Snapshot) Layout() int64 { return s.origin().layout }

// Base returns the clusters by position as they were not long ago; Since(BaseGeneration()) is what has changed.
func (s *Snapshot) Base() Block { return s.origin().block }

// BaseGeneration is the generation of Base.
func (s *Snapshot) BaseGeneration() int64 { return s.origin().generation }

// Since returns what has changed after a generation of the same layout, oldest first. It is not known where that is
// too long ago.
func (s *Snapshot) Since(generation int64) (changes []Change, known bool) {
	n := s.Generation - generation
	if n < 0 || n > int64(len(s.log)) {
		return nil, false
	}
	return s.log[int64(len(s.log))-n:], true
}

// Rows returns the rows by name.
func (s *Snapshot) Rows() []*Row {
	rows := slices.Clone(s.origin().block.Rows)
	changes, _ := s.Since(s.BaseGeneration())
	for _, c := range changes {
		rows[c.Position] = c.Row
	}
	return rows
}

// Row returns the row of a cluster, nil where there is none.
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
