package snapshot

import (
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
)

// A fleet logs its latest changes: at least minLog, and at least half as many as it has clusters. Applying more takes about as
// long as evaluating every cluster. Once the log has three times as many, the fleet renews the base and drops the older ones.
// Whole renews the base after more changes than minUnbased and an eighth of the clusters. So the amortized cost of a change is
// constant.
const (
	minLog     = 256
	minUnbased = 64
)

// Fleet is the clusters of a workspace as they change. It has no lock: its owner guards it.
type Fleet struct {
	generation int64
	// facts counts the changes of facts, of all clusters.
	facts int64
	// rows are current, ordered by name.
	rows []*Row
	// index holds the positions of rows by name; nil once a cluster has joined or left.
	index map[string]int
	base  *base
	log   []Change
	// costsChanged is set until rows have the scores of the current costs.
	costsChanged bool
}

// ContinueFrom makes an empty fleet continue the versions of another one, so that it reuses none of them.
func (f *Fleet) ContinueFrom(o *Fleet) { f.generation, f.facts = o.generation, o.facts }

// Set adds or replaces a cluster with these reservations, and reports whether anything has changed.
func (f *Fleet) Set(c *Cluster, reserved capacity.Resources) (changed bool) {
	i, known := f.Position(c.Name)
	same := known && sameFacts(f.rows[i].Cluster, c)
	if same && sameCapacity(f.rows[i].Cluster, c) && f.rows[i].Reserved.Same(reserved) {
		return false
	}
	f.put(i, known, same, NewRow(c, reserved))
	return true
}

// SetUsed is Set for a cluster with the given use.
func (f *Fleet) SetUsed(c *Cluster, use *Use) (changed bool) {
	i, known := f.Position(c.Name)
	if known {
		return f.SetUsedAt(i, c, use)
	}
	f.put(i, false, false, NewRow(c, capacity.Resources{}).using(use))
	return true
}

// SetUsedAt is SetUsed for the cluster at a position.
func (f *Fleet) SetUsedAt(position int, c *Cluster, use *Use) (changed bool) {
	before := f.rows[position]
	from, same := before, before.Cluster == c
	if !same {
		same = sameFacts(before.Cluster, c)
		if !same || !sameCapacity(before.Cluster, c) {
			from = NewRow(c, capacity.Resources{})
		}
	}
	if from == before && before.uses(use) {
		return false
	}
	next := from.using(use)
	if next.Cluster != c {
		basis := *next.Basis
		basis.Cluster, next.Basis = c, &basis
	}
	f.put(position, true, same, next)
	return true
}

// put inserts a row at a position, or replaces the row there if known; same reports whether that one has the same facts.
func (f *Fleet) put(i int, known, same bool, row *Row) {
	if !known {
		f.generation++
		f.facts++
		row.Version, row.Facts, row.CostScore = f.generation, f.facts, unknownCost
		f.rows = slices.Insert(f.rows, i, row)
		f.costChanged(nil, row.Cluster)
		f.moved()
		return
	}
	before := f.rows[i]
	if row.Basis != before.Basis {
		row.Facts, row.CostScore = before.Facts, before.CostScore
	}
	if !same {
		f.facts++
		row.Facts = f.facts
		f.costChanged(before.Cluster, row.Cluster)
	}
	f.replace(i, row)
}

// Remove removes a cluster.
func (f *Fleet) Remove(name string) {
	if i, known := f.Position(name); known {
		f.generation++
		f.facts++
		f.costChanged(f.rows[i].Cluster, nil)
		f.rows = slices.Delete(f.rows, i, i+1)
		f.moved()
	}
}

// Reserve sets how much is reserved on a cluster, if it is registered.
func (f *Fleet) Reserve(name string, reserved capacity.Resources) {
	if i, known := f.Position(name); known {
		f.ReserveAt(i, reserved)
	}
}

// ReserveAt sets how much is reserved on the cluster at a position.
func (f *Fleet) ReserveAt(position int, reserved capacity.Resources) {
	if before := f.rows[position]; !before.Reserved.Same(reserved) {
		f.replace(position, before.With(reserved))
	}
}

func (f *Fleet) replace(i int, row *Row) {
	f.generation++
	row.Version = f.generation
	f.rows[i] = row
	if f.base == nil {
		return // no snapshot shares the log
	}
	f.log = append(f.log, Change{i, row})
	if most := max(minLog, len(f.rows)/2); len(f.log) >= 3*most {
		f.rebase()
		f.log = append(make([]Change, 0, 3*most), f.log[len(f.log)-most:]...)
	}
}

// moved drops everything that depends on positions.
func (f *Fleet) moved() { f.index, f.base, f.log = nil, nil, nil }

// Position returns the position of a cluster, or where it would be inserted.
func (f *Fleet) Position(name string) (i int, known bool) {
	if f.index == nil {
		return find(f.rows, name)
	}
	if i, known = f.index[name]; known {
		return i, true
	}
	return find(f.rows, name)
}

// Index makes Position find clusters faster, until one joins or leaves.
func (f *Fleet) Index() {
	if f.index == nil {
		f.index = make(map[string]int, len(f.rows))
		for i, row := range f.rows {
			f.index[row.Name] = i
		}
	}
}

// Row returns the current row at a position.
func (f *Fleet) Row(position int) *Row { return f.rows[position] }

// Facts returns a version of everything about the clusters but their capacity, and of the set of clusters.
func (f *Fleet) Facts() int64 { return f.facts }

// Len returns the number of clusters.
func (f *Fleet) Len() int { return len(f.rows) }

// Snapshot returns the current fleet. It takes constant time, except for the first one after a cluster has joined or left.
func (f *Fleet) Snapshot() Snapshot {
	f.scaleCosts()
	if f.base == nil {
		f.Index()
		f.base = &base{generation: f.generation, layout: f.generation, block: newBlock(f.rows)}
	}
	return Snapshot{Generation: f.generation, base: f.base, log: f.log}
}

// Whole returns the current fleet with a recent base, for an evaluation of all clusters.
func (f *Fleet) Whole() Snapshot {
	if s := f.Snapshot(); s.Generation-s.BaseGeneration() <= int64(max(minUnbased, len(f.rows)/8)) {
		return s
	}
	f.rebase()
	return f.Snapshot()
}

func (f *Fleet) rebase() {
	f.base = &base{generation: f.generation, layout: f.base.layout, block: f.block()}
}

// block returns the block of the current rows: that of the base with what has changed since.
func (f *Fleet) block() Block {
	changes := f.log[int64(len(f.log))-(f.generation-f.base.generation):]
	before := &f.base.block
	b := Block{Rows: slices.Clone(before.Rows), Figures: slices.Clone(before.Figures), Nodes: slices.Clone(before.Nodes)}
	for _, c := range changes {
		if c.Row.LargestFree != nil && b.Nodes == nil {
			return newBlock(f.rows)
		}
		b.set(c.Position, c.Row)
	}
	return b
}
