package engine

import (
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// selectFor selects clusters for a workload from the ranking of its class, makes the decision in d, and reserves it if
// reserve is set. What the workload itself holds does not count. The workspace is locked, and the ranking is current for
// the snapshot.
func (w *workspace) selectFor(d *Decision, choices *choices, c *class, r *Request, s *snapshot.Snapshot, cached, reserve bool) error {
	if r.MinGain > 0 {
		r = w.forGainOf(c, r, s)
	}
	claimed := w.holdingOf(c, r)
	w.begin(d, c, r, s, &claimed, cached)
	if len(r.Current) > 0 {
		places := w.placesOf(r, &claimed, nil, c)
		number := c.Strategy.Number - len(places.kept)
		others, b := w.selectOthers(c, r, &claimed, &places, number)
		d.quota = b
		return w.stay(d, choices, c, r, &places, others, reserve)
	}
	chosen, b := w.selectFrom(c, r, &claimed)
	d.quota = b
	if len(chosen) > 0 {
		d.Clusters = choices.take(len(chosen))
	}
	for i, key := range chosen {
		d.Clusters[i] = w.choose(c, key)
	}
	d.changes = true
	if !reserve {
		return w.mayYield(r, d)
	}
	return w.reserve(r, d, chosen)
}

// selectFrom takes clusters from the ranking for a workload that may already hold something: while they are selected, its
// clusters have the keys that they would have without it. It returns the budget if that may exclude some clusters.
func (w *workspace) selectFrom(c *class, r *Request, claimed *holding) ([]ranking.Key, *budget) {
	generation := c.ranking.Generation()
	var b *budget
	if c.Workload.PerNode || !w.ledger.Suffices(c.Workload.Requests, int64(c.Strategy.Number)) {
		if b = w.budgetOf(claimed); !b.binds(c, c.Strategy.Number) {
			b = nil
		}
	}
	// The last selection is not reused with a Select function, which may read more than the ranking, nor with tolerations that end, since time
	// passes.
	if c.last.generation == generation && c.last.holding.same(claimed) && c.Strategy.Select == nil && !c.Placement.TolerationsEnd && r.mayAddAny() && b == nil {
		return c.last.chosen, nil
	}
	ranked := c.take()
	w.current = w.takeOut(c, ranked, r, claimed)
	left := b.clone()
	chosen := w.selectRanked(b, c, ranked, r, claimed, c.Strategy.Number, c.last.chosen[:0])
	putBack(ranked, w.current)
	c.ranking = ranked
	if c.last = (selection{}); r.mayAddAny() && b == nil {
		c.last = selection{generation: generation, holding: *claimed, chosen: chosen}
	}
	return chosen, left.rejecting(b)
}

// selectOthers takes up to number clusters from the ranking for a workload that runs somewhere, none of them its own. It returns the
// budget if that may exclude some clusters.
func (w *workspace) selectOthers(c *class, r *Request, claimed *holding, places *places, number int) (chosen []ranking.Key, left *budget) {
	if number <= 0 {
		return nil, nil
	}
	b := w.budgetOf(claimed)
	for i := range places.kept {
		b.take(places.kept[i].choice)
	}
	left = b.clone()
	if !b.binds(c, number) {
		b = nil
	}
	ranked := c.take()
	w.current = w.takeOut(c, ranked, r, claimed)
	for i := range r.Current {
		if position, there := w.seen.Position(r.Current[i].Name); there {
			w.current = append(w.current, positionedKey{position, ranked.At(position)})
			ranked.Set(position, 0)
		}
	}
	chosen = w.selectRanked(b, c, ranked, r, claimed, number, nil)
	putBack(ranked, w.current)
	c.ranking = ranked
	chosen = chosen[:min(number, len(chosen))]
	for len(chosen) > 0 && left.exceeded(w, c, places, chosen) {
		chosen = chosen[:len(chosen)-1]
	}
	return chosen, left.rejecting(b)
}

// forGainOf is forGain for a workload whose clusters are chosen one by one.
func (w *workspace) forGainOf(c *class, r *Request, s *snapshot.Snapshot) *Request {
	return w.forGain(r, []*class{c}, func(r *Request) *Decision {
		d := new(Decision)
		_ = w.selectFor(d, &choices{}, c, r, s, true, false) // it fails only if it reserves
		return d
	})
}
