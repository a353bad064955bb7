package ranking

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Store keeps answers from one evaluation to the next, within bounds of its own. It is safe for concurrent use.
type Store interface {
	// Answers returns what is kept under a hash; the caller checks that it answers the right predicate.
	Answers(hash uint64) (*Answers, bool)
	Keep(hash uint64, a *Answers)
}

// Answers are the answers to one predicate for every cluster of a layout, each stamped with the state that it is about,
// so that it cannot be mistaken for the answer to a later state. Any number of evaluations may read and write them
// concurrently.
type Answers struct {
	predicate
	layout int64
	rows   []*snapshot.Row // of the layout, to find the clusters again in the next one
	// entries by position: 48 bits of stamp, 8 bits for which variants are answered, 8 bits of answers.
	entries []atomic.Uint64
}

// predicate is a question that several classes share. With a conjunct: whether the conjunct of a constraint holds, for
// workloads that agree in what it reads of them and while the same of its comparisons fail. Without one: whether the
// placement admits a cluster by its facts, for workloads whose pods ask the same of nodes.
type predicate struct {
	placement *placement.Placement // nil where the conjunct does not read it
	conjunct  *constraint.Conjunct
	failing   uint
	workload  *workload.Workload
}

func (p *predicate) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	if p.placement != nil {
		h.WriteString(p.placement.Digest)
	}
	if p.conjunct == nil {
		h.WriteString(p.workload.Nodes.Digest())
		return h.Sum64()
	}
	h.WriteString(p.conjunct.Key())
	h.WriteByte(byte(p.failing))
	return h.Sum64() ^ p.conjunct.Reads().Workload.Hash(seed, p.workload)
}

func (p *predicate) same(o *predicate) bool {
	switch {
	case (p.placement == nil) != (o.placement == nil) || p.placement != nil && p.placement.Digest != o.placement.Digest:
		return false
	case p.conjunct == nil || o.conjunct == nil:
		return p.conjunct == o.conjunct && p.workload.Nodes.Equal(o.workload.Nodes)
	}
	return p.conjunct.Key() == o.conjunct.Key() && p.failing == o.failing && p.conjunct.Reads().Workload.Same(p.workload, o.workload)
}

func newAnswers(p predicate, layout int64, rows []*snapshot.Row) *Answers {
	return &Answers{predicate: p, layout: layout, rows: rows, entries: make([]atomic.Uint64, len(rows))}
}

// moved returns the answers in another layout. Both layouts are ordered by name.
func (a *Answers) moved(layout int64, rows []*snapshot.Row) *Answers {
	next := newAnswers(a.predicate, layout, rows)
	before := 0
	for position, row := range rows {
		for before < len(a.rows) && a.rows[before].Name < row.Name {
			before++
		}
		if before < len(a.rows) && a.rows[before].Name == row.Name {
			next.entries[position].Store(a.entries[before].Load())
		}
	}
	return next
}

// Bytes returns about how much memory the answers take.
func (a *Answers) Bytes() int { return 8 * len(a.entries) }

const (
	stampShift = 16
	knownShift = 8
)

// get returns the answer to a variant of the predicate, if it is known for the stamp.
func (a *Answers) get(position int, stamp int64, variant uint) (holds, known bool) {
	return get(a.entries[position].Load(), stamp, variant)
}

func get(entry uint64, stamp int64, variant uint) (holds, known bool) {
	variant &= 7
	return entry>>variant&1 != 0, entry>>stampShift == uint64(stamp) && entry>>knownShift>>variant&1 != 0
}

// put records an answer. If two answers for one cluster are put at the same time, one of them may be lost.
func (a *Answers) put(position int, stamp int64, variant uint, holds bool) {
	if stamp == 0 {
		return // a row that is in no fleet
	}
	e := a.entries[position].Load()
	if e>>stampShift != uint64(stamp) {
		e = uint64(stamp) << stampShift
	}
	e |= 1 << (knownShift + variant)
	if holds {
		e |= 1 << variant
	}
	a.entries[position].Store(e)
}
