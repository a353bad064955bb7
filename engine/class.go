package engine

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kcp-placement/placement/engine/capacity"
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
	// free is how much CPU and memory have to be free, from the requests and from comparisons with that.
	free [2]span
	// replica is what one node must have free.
	replica capacity.Resources
	// comparisons are those that are no more than that; conditions are parts of constraints that compare with capacity
	// within other questions.
	comparisons []*constraint.BoundComparison
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

func (s *span) narrow(to span) { s.low, s.high = max(s.low, to.low), min(s.high, to.high) }

// condition is a part of a constraint that asks about facts and compares with capacity, as in
// cluster.labels.exists(k, k == "zone" && capacity.free.memory > 0). What is asked about facts is asked once for every
// combination of outcomes; after that, only numbers are compared.
type condition struct {
	conjunct *constraint.Conjunct
	// spans are the comparisons with what is free of CPU or memory, bounds all others.
	spans  []spanned
	bounds []bound
	// volatile tells that the answers depend on more of capacity than the comparisons.
	volatile bool
}

// spanned is a comparison that holds where so much of a resource is free; bit is its outcome.
type spanned struct {
	span
	of  int
	bit uint
}

// bound is any other comparison; bit is its outcome.
type bound struct {
	*constraint.BoundComparison
	bit uint
}

func (c *condition) bind(comparisons []*constraint.Comparison, w *workload.Workload) {
	for i, comparison := range comparisons {
		b := comparison.Bind(w)
		switch leaf, low, high, ok := b.Range(); {
		case ok && leaf == constraint.FreeCPU:
			c.spans = append(c.spans, spanned{span{low, high}, snapshot.CPU, 1 << i})
		case ok && leaf == constraint.FreeMemory:
			c.spans = append(c.spans, spanned{span{low, high}, snapshot.Memory, 1 << i})
		default:
			c.bounds = append(c.bounds, bound{b, 1 << i})
		}
	}
}

// newClass plans how a class is ranked.
func newClass(f *family, seen *workload.Workload, key cacheKey) *class {
	p := f.placement
	c := &class{
		family: f, workload: seen, digest: digest(p, f.policies, seen), key: key,
		scorer:  scoring.NewScorer(seen.Requests, f.judgement.Weights),
		free:    [2]span{anything, anything},
		replica: seen.Replica(),
		others:  seen.Requests.Storage > 0 || len(seen.Requests.Extended) > 0,
	}
	for i, amount := range [2]int64{seen.Requests.CPU, seen.Requests.Memory} {
		if amount > 0 {
			c.free[i].low = amount
		}
	}
	for _, conjunct := range p.conditions {
		k := condition{conjunct: conjunct, volatile: conjunct.Reads().Capacity}
		k.bind(conjunct.Comparisons(), seen)
		if !conjunct.Bare() {
			c.conditions = append(c.conditions, k)
			continue
		}
		for _, s := range k.spans {
			c.free[s.of].narrow(s.span)
		}
		for _, b := range k.bounds {
			c.comparisons = append(c.comparisons, b.BoundComparison)
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
	last               answer
	// changed has a bit for each cluster, all 0 between one refresh and the next.
	changed []uint64
}

// answer is what was last selected from a ranking: true for that generation, for a workload that held that.
type answer struct {
	generation int64
	held       holding
	chosen     []selection.Key
}

// rank ranks all clusters of a snapshot, in the memory of a ranking that nobody needs any more where one is to spare. It
// fails only where ctx ends.
func (c *class) rank(ctx context.Context, w *workspace, s *snapshot.Snapshot, spare *selection.Ranking) (*ranking, error) {
	base := s.Base()
	rows := base.Rows
	if spare == nil || spare.Len() != len(rows) {
		spare = selection.NewRanking(len(rows))
	}
	r := &ranking{
		Ranking: spare, layout: s.Layout(), generation: s.BaseGeneration(),
		look: newLook(w, c, s.Layout(), rows), changed: make([]uint64, (len(rows)+63)/64),
	}
	r.look.ctx = ctx
	r.look.keys(r.Keys(), base)
	r.Order()
	w.metrics.refreshedRows(len(rows))
	return r, r.refresh(ctx, s)
}

// clone copies the ranking.
func (r *ranking) clone() *ranking {
	c := *r
	c.Ranking, c.last, c.changed, c.look = r.Clone(), answer{}, make([]uint64, len(r.changed)), r.look.clone()
	return &c
}

// behind is what the ranking has to take up to be true for a snapshot; known is false where it has to be made anew.
func (r *ranking) behind(s *snapshot.Snapshot) (changes []snapshot.Change, known bool) {
	if r == nil || r.layout != s.Layout() {
		return nil, false
	}
	return s.Since(r.generation)
}

// refresh takes up what has changed. A cluster that has changed several times is looked at once: the latest change comes
// first. It fails only where ctx ends; the ranking is good for nothing then.
func (r *ranking) refresh(ctx context.Context, s *snapshot.Snapshot) error {
	changes, _ := r.behind(s)
	l := &r.look
	l.ctx = ctx
	for _, c := range slices.Backward(changes) {
		if word, bit := &r.changed[c.Position/64], uint64(1)<<(c.Position%64); *word&bit == 0 {
			*word |= bit
			r.Set(c.Position, l.key(c.Position, c.Row))
		}
	}
	for _, c := range changes {
		r.changed[c.Position/64] = 0
	}
	r.generation = s.Generation
	l.workspace.metrics.refreshedRows(len(changes))
	return l.err
}

// bytes is what the class keeps from being freed, what it shares with others included.
func (r *ranking) bytes() int {
	return r.Bytes() + 8*r.Len()*(1+len(r.look.columns)) + entryBytes
}
