package engine

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// column remembers the answers to one question about every cluster of a layout, so that it is asked again only where
// the cluster has changed. Each answer bears the stamp of what it is about: it cannot be taken for that of a later
// state. Any number of evaluations may use a column at once, without a lock.
type column struct {
	question
	layout int64
	rows   []*snapshot.Row // of the layout, to find the clusters again in the next one
	// entries by place: 48 bits of stamp, 8 bits that tell which variants of the question were answered, 8 answers.
	entries []atomic.Uint64
}

// question is one that classes have in common: a part of a constraint for workloads that are the same by what it reads
// of them, while the same comparisons in it fail; or, without a conjunct, whether a placement admits a cluster by its
// selectors, taints and capabilities.
type question struct {
	placement *Placement // nil where the conjunct does not read it
	conjunct  *constraint.Conjunct
	failing   uint
	workload  *workload.Workload
}

func (q *question) key(seed maphash.Seed) cacheKey {
	var h maphash.Hash
	h.SetSeed(seed)
	if q.placement != nil {
		h.WriteString(q.placement.digest)
	}
	if q.conjunct == nil {
		return cacheKey{kind: admitted, hash: h.Sum64()}
	}
	h.WriteString(q.conjunct.Key())
	h.WriteByte(byte(q.failing))
	return cacheKey{kind: answered, hash: h.Sum64() ^ q.conjunct.Reads().Workload.Hash(seed, q.workload)}
}

func (q *question) same(o *question) bool {
	switch {
	case (q.placement == nil) != (o.placement == nil) || q.placement != nil && q.placement.digest != o.placement.digest:
		return false
	case q.conjunct == nil || o.conjunct == nil:
		return q.conjunct == o.conjunct
	}
	return q.conjunct.Key() == o.conjunct.Key() && q.failing == o.failing && q.conjunct.Reads().Workload.Same(q.workload, o.workload)
}

func newColumn(q question, layout int64, rows []*snapshot.Row) *column {
	return &column{question: q, layout: layout, rows: rows, entries: make([]atomic.Uint64, len(rows))}
}

// moved is the column in another layout.
func (c *column) moved(layout int64, rows []*snapshot.Row) *column {
	next := newColumn(c.question, layout, rows)
	before := 0
	for place, row := range rows { // both sides are ordered by name
		for before < len(c.rows) && c.rows[before].Name < row.Name {
			before++
		}
		if before < len(c.rows) && c.rows[before].Name == row.Name {
			next.entries[place].Store(c.entries[before].Load())
		}
	}
	return next
}

func (c *column) bytes() int { return 8*len(c.entries) + entryBytes }

const (
	stampShift = 16
	knownShift = 8
)

// get returns the answer to a variant of the question, if it is known for the stamp.
func (c *column) get(place int, stamp int64, variant uint) (holds, known bool) {
	e := c.entries[place].Load()
	variant &= 7
	return e>>variant&1 != 0, e>>stampShift == uint64(stamp) && e>>knownShift>>variant&1 != 0
}

// put remembers an answer. Of answers for the same cluster that are put at the same moment one may get lost.
func (c *column) put(place int, stamp int64, variant uint, holds bool) {
	if stamp == 0 {
		return // a state that no fleet has
	}
	e := c.entries[place].Load()
	if e>>stampShift != uint64(stamp) {
		e = uint64(stamp) << stampShift
	}
	e |= 1 << (knownShift + variant)
	if holds {
		e |= 1 << variant
	}
	c.entries[place].Store(e)
}

// standings remembers how each cluster of a layout stands with a family. An entry is a standing, 0 before it is known.
type standings struct {
	layout  int64
	entries []atomic.Uint64
}

// standing is whether the facts of a cluster let it be chosen, and what they do to its score. From the top: 38 bits tell
// the facts that it is of, 8 bits are Near, 16 bits Weighted, 1 bit says whether the cluster is feasible.
type standing uint64

const (
	weightedShift = 1
	nearShift     = weightedShift + 16
	factsShift    = nearShift + 8
)

func newStanding(facts int64, feasible bool, s scoring.Standing) standing {
	packed := standing(facts)<<factsShift | standing(s.Near)<<nearShift | standing(s.Weighted)<<weightedShift
	if feasible {
		packed |= 1
	}
	return packed
}

func (s standing) of(facts int64) bool { return s>>factsShift == standing(facts) }
func (s standing) near() int64         { return int64(s >> nearShift & (1<<8 - 1)) }
func (s standing) weighted() int64     { return int64(s >> weightedShift & (1<<16 - 1)) }
func (s standing) feasible() bool      { return s&1 != 0 }
