package ranking

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// evaluation filters and scores clusters for a class. It takes what depends only on facts from the kept answers and
// scores, and evaluates it again only where facts have changed.
type evaluation struct {
	ctx    context.Context
	store  Store
	class  *Class
	layout int64
	rows   []*snapshot.Row
	scores *scores
	// usual is what workloads of the workspace usually ask for, nil unless the class weighs packing; scorer takes it into
	// account.
	usual  *capacity.Usual
	scorer scoring.Scorer
	// mixed are the answers to the class's mixed conditions, by which of their comparisons fail; nil until needed.
	mixed [][1 << constraint.MaxComparisons]*Answers
	// admitted, facts and named are the inputs of fact scores; nil until needed. named holds the positions of the clusters
	// of terms that match only by name, matches is scratch space.
	admitted  *Answers
	facts     []factAnswers
	named     [][]int
	matches   []bool
	variables constraint.Variables
	// err is why the evaluation ended early; what it has found since is void.
	err error
}

// factAnswers are the answers to a conjunct that reads only facts.
type factAnswers struct {
	conjunct *constraint.Conjunct
	*Answers
}

func newEvaluation(store Store, c *Class, s *snapshot.Snapshot, rows []*snapshot.Row) evaluation {
	layout := s.Layout()
	e := evaluation{
		store: store, class: c, layout: layout, rows: rows, scores: c.Policy.scores.Load(),
		variables: constraint.Variables{Workload: c.Workload, Placement: c.Placement.Placement},
		mixed:     make([][1 << constraint.MaxComparisons]*Answers, len(c.Mixed)),
	}
	if c.Packs {
		e.usual = s.Usual
	}
	e.scorer = c.scorer.Among(e.usual)
	if e.scores == nil || e.scores.layout != layout {
		e.scores = &scores{layout: layout, entries: make([]atomic.Uint64, len(rows))}
		c.Policy.scores.Store(e.scores)
	}
	return e
}

// clone returns an evaluation that can run concurrently with this one.
func (e *evaluation) clone() evaluation {
	c := *e
	c.mixed, c.admitted, c.facts = slices.Clone(e.mixed), nil, nil
	return c
}

// blockSize is how many clusters are evaluated together: their keys fit into the nearest cache.
const blockSize = 64

// keys sets the keys of the clusters of a block. It applies each check to all clusters of the block before the next
// check, so that what a check needs stays in the cache. Until the end a key holds a factScore, or 0 for a cluster that
// is not feasible.
func (e *evaluation) keys(keys []Key, clusters snapshot.Block) {
	c := e.class
	if c.Workload.PerNode {
		e.keysPerNode(keys, clusters)
		return
	}
	for len(keys) > blockSize {
		first, rest := clusters.Cut(blockSize)
		e.keys(keys[:blockSize], first)
		keys, clusters = keys[blockSize:], rest
	}
	first, figures, rows := clusters.Place, clusters.Figures[:len(keys)], clusters.Rows[:len(keys)]
	e.scoreFacts(keys, first, figures, rows)
	e.checkNodes(keys, clusters.Nodes)
	for i := range c.Mixed {
		e.checkMixed(i, keys, first, figures, rows)
	}
	if c.MoreResources || len(c.Comparisons) > 0 || filter.HasOthers {
		e.checkRows(keys, rows)
	}
	for i, key := range keys {
		if key != 0 {
			s := factScore(key)
			total, headroom := e.scorer.Score(&figures[i], rows[i], s.weighted())
			keys[i] = c.Strategy.Key(first+i, total, headroom, s.proximity())
		}
	}
}

// keysPerNode sets the keys of clusters for a PerNode class, which is different on each cluster: one by one, as they are
// explained.
func (e *evaluation) keysPerNode(keys []Key, clusters snapshot.Block) {
	weights, strategy := e.class.Judgement.Weights, &e.class.Strategy
	for i, row := range clusters.Rows[:len(keys)] {
		keys[i] = 0
		if on := e.class.On(row); e.alive() && on.First(row, false, time.Time{}) == nil {
			s := scoring.Of(row, e.class.Asked(on.Workload.Requests, e.usual), weights)
			keys[i] = strategy.Key(clusters.Place+i, s.Total, s.Headroom, s.Factors[scoring.Affinity]+s.Factors[scoring.Location])
		}
	}
}

// key returns the key of one cluster.
func (e *evaluation) key(position int, row *snapshot.Row) Key {
	var rows [1]*snapshot.Row
	var figures [1]snapshot.Figures
	var nodes [1]snapshot.Node
	var keys [1]Key
	e.keys(keys[:], snapshot.One(position, row, &rows, &figures, &nodes))
	return keys[0]
}

// scoreFacts sets keys to fact scores, and rejects clusters that are infeasible by their facts or by their free CPU and
// memory.
func (e *evaluation) scoreFacts(keys []Key, first int, figures []snapshot.Figures, rows []*snapshot.Row) {
	cpu, memory := e.class.Free[snapshot.CPU], e.class.Free[snapshot.Memory]
	entries, figures, rows := e.scores.entries[first:first+len(keys)], figures[:len(keys)], rows[:len(keys)]
	for i := range keys {
		f := &figures[i]
		s := factScore(entries[i].Load())
		if !s.of(f.Facts) {
			s = e.factScore(first+i, f.Facts, rows[i])
			if e.err == nil {
				entries[i].Store(uint64(s))
			}
		}
		if !s.feasible() || !cpu.Contains(f.Free[snapshot.CPU]) || !memory.Contains(f.Free[snapshot.Memory]) {
			s = 0
		}
		keys[i] = Key(s)
	}
}

// checkNodes rejects clusters none of whose nodes is large enough for one replica.
func (e *evaluation) checkNodes(keys []Key, nodes []snapshot.Node) {
	cpu, memory := e.class.Replica.CPU, e.class.Replica.Memory
	for i, node := range nodes {
		if cpu > node[snapshot.CPU] || memory > node[snapshot.Memory] {
			keys[i] = 0
		}
	}
}

// checkMixed rejects clusters for which a mixed condition does not hold.
func (e *evaluation) checkMixed(index int, keys []Key, first int, figures []snapshot.Figures, rows []*snapshot.Row) {
	c, answers := &e.class.Mixed[index], e.mixedAnswers(index, 0)
	readsRows := c.HasChecks() || c.Conjunct.Reads().Capacity
	figures, rows, entries := figures[:len(keys)], rows[:len(keys)], answers.entries[first:first+len(keys)]
	for i, key := range keys {
		if key == 0 {
			continue
		}
		var holds, known bool
		if holding := c.Holding(&figures[i].Free); readsRows {
			holds = e.mixedHolds(index, first+i, rows[i], holding)
		} else if holds, known = get(entries[i].Load(), figures[i].Facts, holding); !known {
			holds = e.askMixed(c, answers, first+i, figures[i].Facts, rows[i], holding, 0)
		}
		if !holds {
			keys[i] = 0
		}
	}
}

// mixedHolds reports whether a mixed condition holds for a cluster, of whose row it reads more than the figures.
func (e *evaluation) mixedHolds(index, position int, row *snapshot.Row, holding uint) bool {
	c, stamp := &e.class.Mixed[index], row.Facts
	holding, failing := c.Check(row, holding)
	if c.Conjunct.Reads().Capacity {
		stamp = row.Version
	}
	answers := e.mixedAnswers(index, failing)
	if holds, known := answers.get(position, stamp, holding); known {
		return holds
	}
	return e.askMixed(c, answers, position, stamp, row, holding, failing)
}

// askMixed evaluates a mixed condition for a cluster.
func (e *evaluation) askMixed(c *filter.Condition, answers *Answers, position int, stamp int64, row *snapshot.Row, holding, failing uint) (holds bool) {
	if e.alive() {
		holds = c.Conjunct.Holds(e.over(row), holding, failing)
		answers.put(position, stamp, holding, holds)
	}
	return holds
}

// checkRows rejects clusters by the checks that have no faster form: other comparisons, other resources, other stages.
func (e *evaluation) checkRows(keys []Key, rows []*snapshot.Row) {
	c := e.class
	for i, row := range rows {
		if keys[i] == 0 {
			continue
		}
		for _, comparison := range c.Comparisons {
			if holds, known := comparison.Outcome(row); !known || !holds {
				keys[i] = 0
			}
		}
		if lacking, _ := row.Lacking(c.Workload.Requests, c.Replica); lacking != "" {
			keys[i] = 0
		}
		if filter.HasOthers && !c.PassesOthers(row) {
			keys[i] = 0
		}
	}
}

// factScore evaluates the facts of a cluster.
func (e *evaluation) factScore(position int, facts int64, row *snapshot.Row) factScore {
	terms := e.class.Policy.Terms
	if !e.alive() || !e.factsHold(position, facts, row) {
		return newFactScore(facts, false, scoring.FactScore{})
	}
	for i := range terms {
		if e.matches[i] = e.match(i, position, row); !e.matches[i] && terms[i].Required {
			return newFactScore(facts, false, scoring.FactScore{})
		}
	}
	return newFactScore(facts, true, scoring.FactScoreOf(row, snapshot.Healthy, &e.class.Judgement.Weights, terms, e.matches))
}

// match reports whether a term matches a cluster.
func (e *evaluation) match(term, position int, row *snapshot.Row) bool {
	if positions := e.named[term]; positions != nil {
		_, found := slices.BinarySearch(positions, position)
		return found
	}
	return e.class.Policy.Terms[term].Match.Matches(row)
}

func (e *evaluation) factsHold(position int, facts int64, row *snapshot.Row) bool {
	if e.admitted == nil {
		e.prepareFacts()
	}
	holds, known := e.admitted.get(position, facts, 0)
	if !known {
		holds = e.class.Admits(row)
		e.admitted.put(position, facts, 0, holds)
	}
	for i := 0; holds && i < len(e.facts); i++ {
		f := &e.facts[i]
		if holds, known = f.get(position, facts, 0); !known && e.alive() {
			holds = f.conjunct.Holds(e.over(row), 0, 0)
			f.put(position, facts, 0, holds)
		}
	}
	return holds
}

// prepareFacts collects the inputs of fact scores.
func (e *evaluation) prepareFacts() {
	p := e.class.Policy
	e.admitted = e.answers(predicate{workload: p.Seen})
	for conjunct := range p.Placement.FactConjuncts {
		e.facts = append(e.facts, factAnswers{conjunct, e.answers(predicate{conjunct: conjunct, workload: p.Seen})})
	}
	e.matches, e.named = make([]bool, len(p.Terms)), make([][]int, len(p.Terms))
	for i := range p.Terms {
		if m := &p.Terms[i].Match; m.OnlyNames() {
			e.named[i] = e.positionsOf(m.ClusterNames)
		}
	}
}

// positionsOf finds clusters by name.
func (e *evaluation) positionsOf(names []string) []int {
	positions := []int{}
	for _, name := range names {
		if position, found := slices.BinarySearchFunc(e.rows, name, func(r *snapshot.Row, name string) int {
			return strings.Compare(r.Name, name)
		}); found {
			positions = append(positions, position)
		}
	}
	slices.Sort(positions)
	return positions
}

// mixedAnswers returns the answers to a mixed condition, given which of its comparisons fail.
func (e *evaluation) mixedAnswers(index int, failing uint) *Answers {
	a := &e.mixed[index][failing]
	if *a == nil {
		*a = e.answers(predicate{conjunct: e.class.Mixed[index].Conjunct, failing: failing, workload: e.class.Workload})
	}
	return *a
}

// answers returns the answers to a predicate in this layout.
func (e *evaluation) answers(p predicate) *Answers {
	if p.conjunct == nil || p.conjunct.Reads().Placement {
		p.placement = e.class.Placement
	}
	hash := p.hash()
	a, found := e.store.Answers(hash)
	switch {
	case !found || !a.same(&p):
		a = newAnswers(p, e.layout, e.rows)
	case a.layout < e.layout:
		a = a.moved(e.layout, e.rows)
	case a.layout > e.layout:
		return newAnswers(p, e.layout, e.rows) // this evaluation is late: it does not disturb the others
	default:
		return a
	}
	e.store.Keep(hash, a)
	return a
}

// over returns the variables of a cluster.
func (e *evaluation) over(row *snapshot.Row) *constraint.Variables {
	e.variables.Row = row
	return &e.variables
}

// alive reports whether the evaluation may go on. It is checked before anything that takes long.
func (e *evaluation) alive() bool {
	if e.err == nil && e.ctx.Err() != nil {
		e.err = context.Cause(e.ctx)
	}
	return e.err == nil
}
