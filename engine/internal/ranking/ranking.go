package ranking

import (
	"context"
	"slices"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// Ranking is the feasible clusters of a class in order. A key is a function of the class and the cluster's row, and of the
// usual workloads of the workspace if the class weighs packing.
//
// Invariant: the generation of a ranking <= the generation of its fleet, and every key is that of the cluster's row at
// the ranking's generation. So bringing a ranking up to date is exact: there is nothing to invalidate.
type Ranking struct {
	*Tournament
	layout, generation int64
	evaluation         evaluation
	// sorted are the keys of the feasible clusters, best last; nil until they are needed a second time, or beyond the first
	// few.
	sorted []Key
	asked  bool
	// changed has a bit for each cluster. Invariant: all bits are 0 between refreshes.
	changed []uint64
}

// New ranks all clusters of a snapshot, in the memory of another tournament if one is given. It fails only if ctx ends.
func New(ctx context.Context, c *Class, store Store, s *snapshot.Snapshot, memory *Tournament) (*Ranking, error) {
	base := s.Base()
	rows := base.Rows
	if memory == nil || memory.Len() != len(rows) {
		memory = NewTournament(len(rows))
	}
	r := &Ranking{
		Tournament: memory, layout: s.Layout(), generation: s.BaseGeneration(),
		evaluation: newEvaluation(store, c, s, rows), changed: make([]uint64, (len(rows)+63)/64),
	}
	r.evaluation.ctx = ctx
	r.evaluation.keys(r.Keys(), base)
	r.Order()
	return r, r.Refresh(ctx, s)
}

// firstKeys is how many keys the first call of Descending finds one by one.
const firstKeys = 64

// Descending yields the keys of the feasible clusters, best first. No key may be read or changed meanwhile.
func (r *Ranking) Descending(yield func(Key) bool) {
	from := 0
	if r.sorted == nil && !r.asked {
		r.asked = true
		enough := false
		r.Each(firstKeys, func(key Key) bool {
			from++
			enough = !yield(key)
			return !enough
		})
		if enough || from < firstKeys {
			return
		}
	}
	if r.sorted == nil {
		r.sorted = r.Tournament.sorted()
	}
	for _, key := range slices.Backward(r.sorted[:len(r.sorted)-from]) {
		if !yield(key) {
			return
		}
	}
}

// Set changes the key of a position.
func (r *Ranking) Set(position int, key Key) {
	if before := r.At(position); r.sorted != nil && before != key {
		r.resort(before, key)
	}
	r.Tournament.Set(position, key)
}

// resort replaces one of the sorted keys by another; 0 stands for no key.
func (r *Ranking) resort(before, key Key) {
	from, _ := slices.BinarySearch(r.sorted, before)
	to, _ := slices.BinarySearch(r.sorted, key)
	switch {
	case before == 0:
		r.sorted = slices.Insert(r.sorted, to, key)
	case key == 0:
		r.sorted = slices.Delete(r.sorted, from, from+1)
	case from < to:
		copy(r.sorted[from:to-1], r.sorted[from+1:to])
		r.sorted[to-1] = key
	default:
		copy(r.sorted[to+1:from+1], r.sorted[to:from])
		r.sorted[to] = key
	}
}

// Clone copies the ranking.
func (r *Ranking) Clone() *Ranking {
	c := *r
	c.sorted = slices.Clone(r.sorted)
	c.Tournament, c.changed, c.evaluation = r.Tournament.Clone(), make([]uint64, len(r.changed)), r.evaluation.clone()
	return &c
}

// Generation returns the generation of the fleet that the ranking is current for.
func (r *Ranking) Generation() int64 { return r.generation }

// Behind returns the changes that the ranking lacks to be current for a snapshot; known is false if the ranking has to
// be rebuilt.
func (r *Ranking) Behind(s *snapshot.Snapshot) (changes []snapshot.Change, known bool) {
	if r == nil || r.layout != s.Layout() || r.evaluation.class.Packs && r.evaluation.usual != s.Usual {
		return nil, false
	}
	return s.Since(r.generation)
}

// Refresh applies the changes that the ranking is Behind. A cluster that has changed several times is evaluated once: the
// latest change is applied first. It fails only if ctx ends; then the ranking is void.
func (r *Ranking) Refresh(ctx context.Context, s *snapshot.Snapshot) error {
	changes, _ := r.Behind(s)
	e := &r.evaluation
	e.ctx = ctx
	for _, c := range slices.Backward(changes) {
		if word, bit := &r.changed[c.Position/64], uint64(1)<<(c.Position%64); *word&bit == 0 {
			*word |= bit
			r.Set(c.Position, e.key(c.Position, c.Row))
		}
	}
	for _, c := range changes {
		r.changed[c.Position/64] = 0
	}
	r.generation = s.Generation
	return e.err
}

// KeyOf returns the key that a cluster would have with another row. It changes nothing and ignores deadlines.
func (r *Ranking) KeyOf(position int, row *snapshot.Row) Key {
	r.evaluation.ctx = context.Background()
	return r.evaluation.key(position, row)
}

// Admits reports whether the facts of a cluster make it feasible, however full it is.
func (r *Ranking) Admits(position int, row *snapshot.Row) bool {
	e := &r.evaluation
	e.ctx = context.Background()
	if s := factScore(e.scores.entries[position].Load()); s.of(row.Facts) {
		return s.feasible()
	}
	return e.factScore(position, row.Facts, row).feasible()
}

// Bytes returns about how much memory the ranking and the tally of its class use, including what they share with
// others.
func (r *Ranking) Bytes() int {
	return r.Tournament.Bytes() + 8*cap(r.sorted) + r.Len() + 8*r.Len()*(1+len(r.evaluation.mixed))
}
