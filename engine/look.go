package engine

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/selection"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// look looks at clusters for a class.
type look struct {
	ctx       context.Context
	workspace *workspace
	class     *class
	layout    int64
	rows      []*snapshot.Row
	standings *standings
	// columns of the class's conditions, by which of their comparisons fail; there once they have been asked.
	columns [][1 << constraint.MaxComparisons]*column
	// admitted, facts and named answer what the family's standings rest on; they are there once they have been asked.
	// named are the places of clusters, for terms that are about clusters by name; matches is used again and again.
	admitted  *column
	facts     []*column
	named     [][]int
	matches   []bool
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
	l.columns = make([][1 << constraint.MaxComparisons]*column, len(c.conditions))
	return l
}

// clone is a look that can go on beside this one.
func (l *look) clone() look {
	c := *l
	c.columns, c.admitted, c.facts = slices.Clone(l.columns), nil, nil
	return c
}

// answers is the column of a condition, where so many of its comparisons fail.
func (l *look) answers(condition int, failing uint) *column {
	known := &l.columns[condition][failing]
	if *known == nil {
		c := l.class
		*known = l.column(question{conjunct: c.conditions[condition].conjunct, failing: failing, workload: c.workload})
	}
	return *known
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

// together is how many clusters are looked at side by side: their keys fit into the nearest cache.
const together = 64

// keys finds where the clusters of a block stand in the class's ranking.
// It goes over a few of them for one question after the other, not over the questions for one after the other, since
// what the questions need is then at hand. Until the end, a key is a standing, and 0 that of a cluster that is out.
func (l *look) keys(keys []selection.Key, clusters snapshot.Block) {
	c := l.class
	for len(keys) > together {
		first, rest := clusters.Cut(together)
		l.keys(keys[:together], first)
		keys, clusters = keys[together:], rest
	}
	place, figures, rows := clusters.Place, clusters.Figures[:len(keys)], clusters.Rows[:len(keys)]
	l.stand(keys, place, figures, rows)
	l.fit(keys, clusters.Nodes)
	for i := range c.conditions {
		l.meet(i, keys, place, figures, rows)
	}
	if c.others || len(c.comparisons) > 0 {
		l.compare(keys, rows)
	}
	strategy := &c.family.placement.strategy
	for i, key := range keys {
		if key != 0 {
			s := standing(key)
			total, headroom := c.scorer.Score(&figures[i], rows[i], s.weighted())
			keys[i] = strategy.Key(place+i, total, headroom, s.near())
		}
	}
}

// key finds it for one cluster.
func (l *look) key(place int, row *snapshot.Row) selection.Key {
	var rows [1]*snapshot.Row
	var figures [1]snapshot.Figures
	var nodes [1]snapshot.Node
	var keys [1]selection.Key
	l.keys(keys[:], snapshot.One(place, row, &rows, &figures, &nodes))
	return keys[0]
}

// stand finds how the facts of clusters let them stand, and whether as much CPU and memory is free as has to be.
func (l *look) stand(keys []selection.Key, place int, figures []snapshot.Figures, rows []*snapshot.Row) {
	cpu, memory := l.class.free[snapshot.CPU], l.class.free[snapshot.Memory]
	entries, figures, rows := l.standings.entries[place:place+len(keys)], figures[:len(keys)], rows[:len(keys)]
	for i := range keys {
		f := &figures[i]
		s := standing(entries[i].Load())
		if !s.of(f.Facts) {
			s = l.standing(place+i, f.Facts, rows[i])
			if l.err == nil {
				entries[i].Store(uint64(s))
			}
		}
		if !s.feasible() || !cpu.has(f.Free[snapshot.CPU]) || !memory.has(f.Free[snapshot.Memory]) {
			s = 0
		}
		keys[i] = selection.Key(s)
	}
}

// fit puts those out that have no node which is large enough for one replica.
func (l *look) fit(keys []selection.Key, nodes []snapshot.Node) {
	cpu, memory := l.class.replica.CPU, l.class.replica.Memory
	for i, node := range nodes {
		if cpu > node[snapshot.CPU] || memory > node[snapshot.Memory] {
			keys[i] = 0
		}
	}
}

// meet puts those out that do not meet a condition.
func (l *look) meet(condition int, keys []selection.Key, place int, figures []snapshot.Figures, rows []*snapshot.Row) {
	c, answers := &l.class.conditions[condition], l.answers(condition, 0)
	spans, bounds := c.spans, c.bounds
	figures, rows = figures[:len(keys)], rows[:len(keys)]
	for i, key := range keys {
		if key == 0 {
			continue
		}
		var holding, failing uint
		for j := range spans {
			if s := &spans[j]; s.has(figures[i].Free[s.of]) {
				holding |= s.bit
			}
		}
		for _, b := range bounds {
			switch holds, known := b.Outcome(rows[i]); {
			case !known:
				failing |= b.bit
			case holds:
				holding |= b.bit
			}
		}
		stamp, answers := figures[i].Facts, answers
		if c.volatile {
			stamp = rows[i].Version
		}
		if failing != 0 {
			answers = l.answers(condition, failing)
		}
		holds, known := answers.get(place+i, stamp, holding)
		if !known && l.alive() {
			holds = c.conjunct.Holds(l.over(rows[i]), holding, failing)
			answers.put(place+i, stamp, holding, holds)
		}
		if !holds {
			keys[i] = 0
		}
	}
}

// compare puts those out for which other comparisons do not hold, or that lack other resources than CPU and memory.
func (l *look) compare(keys []selection.Key, rows []*snapshot.Row) {
	c := l.class
	for i, row := range rows {
		if keys[i] == 0 {
			continue
		}
		for _, comparison := range c.comparisons {
			if holds, known := comparison.Outcome(row); !known || !holds {
				keys[i] = 0
			}
		}
		if lacking, _ := row.Lacking(c.workload.Requests, c.replica); lacking != "" {
			keys[i] = 0
		}
	}
}

// standing works out how the facts of a cluster let it stand with the family.
func (l *look) standing(place int, facts int64, row *snapshot.Row) standing {
	j := l.class.family.judgement
	if !l.alive() || !l.factsHold(place, facts, row) {
		return newStanding(facts, false, scoring.Standing{})
	}
	for i := range j.Terms {
		if l.matches[i] = l.match(i, place, row); !l.matches[i] && j.Terms[i].Required {
			return newStanding(facts, false, scoring.Standing{})
		}
	}
	return newStanding(facts, true, scoring.StandingOf(snapshot.Healthy, j.Weights, j.Terms, l.matches))
}

// match tells whether a term matches a cluster.
func (l *look) match(term, place int, row *snapshot.Row) bool {
	if places := l.named[term]; places != nil {
		_, found := slices.BinarySearch(places, place)
		return found
	}
	return l.class.family.judgement.Terms[term].Match.Matches(row)
}

// placesOf finds clusters by name.
func (l *look) placesOf(names []string) []int {
	places := []int{}
	for _, name := range names {
		if place, found := slices.BinarySearchFunc(l.rows, name, func(r *snapshot.Row, name string) int {
			return strings.Compare(r.Name, name)
		}); found {
			places = append(places, place)
		}
	}
	slices.Sort(places)
	return places
}

func (l *look) factsHold(place int, facts int64, row *snapshot.Row) bool {
	p := l.class.family.placement
	if l.admitted == nil {
		l.prepare()
	}
	holds, known := l.admitted.get(place, facts, 0)
	if !known {
		holds = p.admits(row)
		l.admitted.put(place, facts, 0, holds)
	}
	for i := 0; holds && i < len(l.facts); i++ {
		if holds, known = l.facts[i].get(place, facts, 0); !known && l.alive() {
			holds = p.facts[i].Holds(l.over(row), 0, 0)
			l.facts[i].put(place, facts, 0, holds)
		}
	}
	return holds
}

// prepare finds what standings are worked out from.
func (l *look) prepare() {
	f := l.class.family
	l.admitted = l.column(question{})
	for _, conjunct := range f.placement.facts {
		l.facts = append(l.facts, l.column(question{conjunct: conjunct, workload: f.workload}))
	}
	l.matches, l.named = make([]bool, len(f.judgement.Terms)), make([][]int, len(f.judgement.Terms))
	for i := range f.judgement.Terms {
		if m := &f.judgement.Terms[i].Match; m.OnlyNames() {
			l.named[i] = l.placesOf(m.ClusterNames)
		}
	}
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
