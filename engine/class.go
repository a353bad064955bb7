package engine

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/selection"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// class is the workloads that cannot be told apart by what the placement and the policies read of them and by what
// they ask for, with a ranking of the clusters for them.
type class struct {
	family   *family
	workload *workload.Workload // what is read of it
	digest   string
	key      cacheKey

	scorer scoring.Scorer
	// cpu and memory are what has to be free, from the requests and from comparisons of a cluster's free amount.
	cpu, memory span
	// comparisons are those that are no more than that; conditions are parts of constraints that compare with capacity
	// within other questions.
	comparisons []*constraint.Bound
	conditions  []condition
	// others tells whether the requests are of more than CPU and memory.
	others bool

	// evaluating is held while all clusters are ranked: who waits for it finds that done.
	evaluating sync.Mutex
	// ranking is guarded by the workspace's lock; nil before the first one.
	ranking *ranking
}

// family is the classes of a placement that differ at most in requests, replicas and what only comparisons with capacity
// read of them: the policies say the same of them, and so do the facts of every cluster.
type family struct {
	placement *Placement
	policies  *policy.Set
	workload  *workload.Workload // what is read of it
	judgement *policy.Judgement
	standings atomic.Pointer[standings]
}

// span is the amounts from low to high.
type span struct{ low, high int64 }

var anything = span{math.MinInt64, math.MaxInt64}

func (s span) has(amount int64) bool { return s.low <= amount && amount <= s.high }

func (s *span) narrow(low, high int64) { s.low, s.high = max(s.low, low), min(s.high, high) }

// condition is a part of a constraint that asks about facts and compares with capacity, as in
// cluster.labels.exists(k, k == "zone" && capacity.free.memory > 0). What is asked about facts is asked once for every
// combination of outcomes; after that, only numbers are compared.
type condition struct {
	conjunct *constraint.Conjunct
	bounds   []bound
	// volatile tells that the answers depend on more of capacity than the bounds.
	volatile bool
}

// bound is a comparison with capacity, as a span of free CPU or memory where it is one.
type bound struct {
	*constraint.Bound
	of constraint.Leaf
	span
	spanned bool
}

func (b *bound) outcome(f *snapshot.Figures, row *snapshot.Row) (holds, known bool) {
	if !b.spanned {
		return b.Outcome(row)
	}
	if b.of == constraint.FreeCPU {
		return b.has(f.FreeCPU), true
	}
	return b.has(f.FreeMemory), true
}

func bind(c *constraint.Comparison, w *workload.Workload) bound {
	b := bound{Bound: c.Bind(w)}
	if leaf, low, high, ok := b.Range(); ok && (leaf == constraint.FreeCPU || leaf == constraint.FreeMemory) {
		b.of, b.span, b.spanned = leaf, span{low, high}, true
	}
	return b
}

// newClass plans how a class is ranked.
func newClass(f *family, seen *workload.Workload, key cacheKey) *class {
	p := f.placement
	c := &class{
		family: f, workload: seen, digest: digest(p, f.policies, seen), key: key,
		scorer: scoring.NewScorer(seen.Requests, f.judgement.Weights),
		cpu:    anything, memory: anything,
		others: seen.Requests.Storage > 0 || len(seen.Requests.Extended) > 0,
	}
	if seen.Requests.CPU > 0 {
		c.cpu.low = seen.Requests.CPU
	}
	if seen.Requests.Memory > 0 {
		c.memory.low = seen.Requests.Memory
	}
	for _, conjunct := range p.conditions {
		bounds := make([]bound, len(conjunct.Comparisons()))
		for i, comparison := range conjunct.Comparisons() {
			bounds[i] = bind(comparison, seen)
		}
		switch {
		case !conjunct.Bare():
			c.conditions = append(c.conditions, condition{conjunct: conjunct, bounds: bounds, volatile: conjunct.Reads().Capacity})
		case bounds[0].spanned && bounds[0].of == constraint.FreeCPU:
			c.cpu.narrow(bounds[0].low, bounds[0].high)
		case bounds[0].spanned:
			c.memory.narrow(bounds[0].low, bounds[0].high)
		default:
			c.comparisons = append(c.comparisons, bounds[0].Bound)
		}
	}
	return c
}

// ranking ranks the clusters for a class. What can be said of a cluster is a function of the class and the cluster's
// row, and the ranking knows for which generation it is true: this is what makes a cached ranking exact.
type ranking struct {
	*selection.Ranking
	layout, generation int64
	look               look
}

// rank ranks all clusters of a snapshot. It fails only where ctx ends.
func (c *class) rank(ctx context.Context, w *workspace, s *snapshot.Snapshot) (*ranking, error) {
	rows, figures := s.Base()
	r := &ranking{
		Ranking: selection.NewRanking(len(rows)), layout: s.Layout(), generation: s.BaseGeneration(),
		look: newLook(w, c, s.Layout(), rows),
	}
	l := &r.look
	l.ctx = ctx
	r.Fill(func(place int) selection.Key { return l.key(place, &figures[place], rows[place]) })
	w.metrics.refreshedRows(len(rows))
	return r, r.refresh(ctx, s)
}

// clone copies the ranking.
func (r *ranking) clone() *ranking {
	c := *r
	c.Ranking = r.Ranking.Clone()
	return &c
}

// behind is what the ranking has to take up to be true for a snapshot; known is false where it has to be made anew.
func (r *ranking) behind(s *snapshot.Snapshot) (changes []snapshot.Change, known bool) {
	if r == nil || r.layout != s.Layout() {
		return nil, false
	}
	return s.Since(r.generation)
}

// refresh takes up what has changed. It fails only where ctx ends; the ranking is good for nothing then.
func (r *ranking) refresh(ctx context.Context, s *snapshot.Snapshot) error {
	changes, _ := r.behind(s)
	l := &r.look
	l.ctx = ctx
	for _, change := range changes {
		r.Set(change.Position, l.key(change.Position, &change.Row.Figures, change.Row))
	}
	r.generation = s.Generation
	l.workspace.metrics.refreshedRows(len(changes))
	return l.err
}

// bytes is what the class keeps from being freed, what it shares with others included.
func (r *ranking) bytes() int {
	return r.Bytes() + 8*r.Len()*(1+len(r.look.columns)) + entryBytes
}

// look looks at clusters for a class.
type look struct {
	ctx       context.Context
	workspace *workspace
	class     *class
	layout    int64
	rows      []*snapshot.Row
	standings *standings
	// columns of the class's conditions.
	columns []*column
	// admitted and facts answer what the family's standings rest on; they are there once they have been asked.
	admitted  *column
	facts     []*column
	variables constraint.Variables
	// err is why the look was ended early; what it has found since is worth nothing.
	err error
}

// newLook prepares for the clusters of a layout.
func newLook(w *workspace, c *class, layout int64, rows []*snapshot.Row) look {
	f := c.family
	l := look{
		workspace: w, class: c, layout: layout, rows: rows, standings: f.standings.Load(),
		variables: constraint.Variables{Workload: c.workload, Placement: f.placement.Placement},
	}
	if l.standings == nil || l.standings.layout != layout {
		l.standings = &standings{layout: layout, entries: make([]atomic.Uint64, len(rows))}
		f.standings.Store(l.standings)
	}
	for i := range c.conditions {
		l.columns = append(l.columns, l.column(question{conjunct: c.conditions[i].conjunct, workload: c.workload}))
	}
	return l
}

// column finds the column of a question in this layout.
func (l *look) column(q question) *column {
	if q.conjunct == nil || q.conjunct.Reads().Placement {
		q.placement = l.class.family.placement
	}
	w := l.workspace
	key, now := q.key(w.seed), w.options.Now()
	known, found := lookUp[*column](w.cache, key, now)
	switch {
	case !found || !known.same(&q):
		known = newColumn(q, l.layout, l.rows)
	case known.layout < l.layout:
		known = known.moved(l.layout, l.rows)
	case known.layout > l.layout:
		return newColumn(q, l.layout, l.rows) // this look is late: it does not disturb the others
	default:
		return known
	}
	w.cache.keep(key, known, known.bytes(), now)
	return known
}

// key is where a cluster stands in the class's ranking. The row is that of the figures.
func (l *look) key(place int, f *snapshot.Figures, row *snapshot.Row) selection.Key {
	c := l.class
	standing, feasible, known := l.standings.get(place, f.Facts)
	if !known {
		standing, feasible = l.stand(place, row)
	}
	if !feasible || !c.cpu.has(f.FreeCPU) || !c.memory.has(f.FreeMemory) {
		return 0
	}
	for i := range c.conditions {
		if !l.meets(&c.conditions[i], l.columns[i], place, f, row) {
			return 0
		}
	}
	for _, comparison := range c.comparisons {
		if holds, known := comparison.Outcome(row); !known || !holds {
			return 0
		}
	}
	if c.others {
		if _, short := row.Free.Lacking(c.workload.Requests); short {
			return 0
		}
	}
	total, headroom := c.scorer.Score(f, row, standing)
	return c.family.placement.strategy.Key(place, total, headroom, standing.Near)
}

// meets tells whether a cluster meets a condition.
func (l *look) meets(c *condition, answers *column, place int, f *snapshot.Figures, row *snapshot.Row) bool {
	var outcomes uint
	for i := range c.bounds {
		holds, known := c.bounds[i].outcome(f, row)
		switch {
		case !known:
			return l.alive() && c.conjunct.HoldsWhole(l.over(row))
		case holds:
			outcomes |= 1 << i
		}
	}
	stamp := f.Facts
	if c.volatile {
		stamp = row.Version
	}
	holds, known := answers.get(place, stamp, outcomes)
	if known || !l.alive() {
		return holds
	}
	holds = c.conjunct.Holds(l.over(row), outcomes)
	answers.put(place, stamp, outcomes, holds)
	return holds
}

// stand works out how the facts of a cluster let it stand with the family.
func (l *look) stand(place int, row *snapshot.Row) (standing scoring.Standing, feasible bool) {
	if !l.alive() {
		return standing, false
	}
	f := l.class.family
	if feasible = l.factsHold(place, row); feasible {
		for i := range f.judgement.Terms {
			if term := &f.judgement.Terms[i]; term.Required && !term.Match.Matches(row) {
				feasible = false
			}
		}
		standing = scoring.StandingOf(row, f.judgement.Weights, f.judgement.Terms)
	}
	if l.err == nil {
		l.standings.put(place, row.Facts, standing, feasible)
	}
	return standing, feasible
}

func (l *look) factsHold(place int, row *snapshot.Row) bool {
	p := l.class.family.placement
	if l.admitted == nil {
		l.admitted = l.column(question{})
		for _, conjunct := range p.facts {
			l.facts = append(l.facts, l.column(question{conjunct: conjunct, workload: l.class.family.workload}))
		}
	}
	holds, known := l.admitted.get(place, row.Facts, 0)
	if !known {
		holds = p.admits(row)
		l.admitted.put(place, row.Facts, 0, holds)
	}
	for i := 0; holds && i < len(l.facts); i++ {
		if holds, known = l.facts[i].get(place, row.Facts, 0); !known && l.alive() {
			holds = p.facts[i].Holds(l.over(row), 0)
			l.facts[i].put(place, row.Facts, 0, holds)
		}
	}
	return holds
}

// over are the variables of a cluster's row.
func (l *look) over(row *snapshot.Row) *constraint.Variables {
	l.variables.Row = row
	return &l.variables
}

// alive tells whether the look may go on: it is asked before whatever takes long.
func (l *look) alive() bool {
	if l.err == nil && l.ctx.Err() != nil {
		l.err = context.Cause(l.ctx)
	}
	return l.err == nil
}
