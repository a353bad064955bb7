package engine

import (
	"cmp"
	"hash/fnv"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
)

// selectRanked takes clusters from a ranking prepared for one request, as far as a budget has room for them.
func (w *workspace) selectRanked(b *budget, c *class, ranked *ranking.Ranking, r *Request, claimed *holding, number int, chosen []ranking.Key) []ranking.Key {
	switch {
	case b != nil:
		return w.selectWithin(b, c, ranked, r, claimed, number, chosen)
	case c.Strategy.Select == nil:
		return ranked.Best(number, chosen)
	default:
		return w.selectInTurn(&c.Strategy, ranked.Tournament, r, *claimed, number, chosen)
	}
}

// selectWithin selects up to number clusters as selectRanked does, but from each set only as many as the budget has room for, and takes
// them from the budget. Keys that are taken out of the ranking are appended to w.current.
func (w *workspace) selectWithin(b *budget, c *class, ranked *ranking.Ranking, r *Request, claimed *holding, number int, chosen []ranking.Key) []ranking.Key {
	asks := func(position int) capacity.Resources { return c.On(w.seen.Row(position)).Workload.Requests }
	takeOut := func(position int) {
		w.current = append(w.current, positionedKey{position, ranked.At(position)})
		ranked.Set(position, 0)
	}
	exhaust := func() {
		for position, key := range ranked.Keys() {
			if key != 0 && !b.allows(b.groupAt(position), asks(position)) {
				takeOut(position)
			}
		}
	}
	feasible := 0
	b.count(0, ranked, func(position int) bool {
		feasible++
		return !b.allows(b.groupAt(position), asks(position))
	})
	switch b.rejected[0] {
	case 0:
	case feasible:
		return chosen
	default:
		exhaust()
	}
	first := len(chosen)
	for len(chosen)-first < number {
		more, all := w.selectRanked(nil, c, ranked, r, claimed, number-(len(chosen)-first), nil), true
		for _, key := range more {
			position := key.Position()
			if !b.allows(b.groupAt(position), asks(position)) {
				all = false
				break
			}
			b.addTo(b.groupAt(position), asks(position), -1)
			chosen = append(chosen, key)
		}
		if all {
			break
		}
		for _, key := range chosen[first:] {
			if ranked.At(key.Position()) != 0 {
				takeOut(key.Position())
			}
		}
		exhaust()
	}
	return chosen
}

// exceeded reports whether the budget has too little for others in addition to what the workload keeps and what it then retains.
func (b *budget) exceeded(w *workspace, c *class, places *places, others []ranking.Key) bool {
	if b == nil {
		return false
	}
	after := b.clone()
	for _, key := range others {
		after.take(w.choose(c, key))
	}
	for i := range places.doubtful[:places.unreplaced(c.Strategy.Number, len(others))] {
		after.take(places.doubtful[i].choice)
	}
	return after.overdrawn()
}

// selectInTurn selects by a strategy's own Select. It takes claimed by value, which would otherwise escape to the heap.
func (w *workspace) selectInTurn(s *ranking.Strategy, t *ranking.Tournament, r *Request, claimed holding, number int, chosen []ranking.Key) []ranking.Key {
	strategyTurn := w.strategyTurn(r, claimed, number)
	return s.Select(t, &strategyTurn, chosen)
}

// strategyTurn returns what a strategy knows of a workload.
func (w *workspace) strategyTurn(r *Request, claimed holding, number int) ranking.Turn {
	group, ref := r.group(), &r.Workload.Reference
	return ranking.Turn{
		Number: number,
		Seed:   seedOf(cmp.Or(ref.UID, ref.String())),
		InUse: func(position int) int {
			name := w.seen.Row(position).Name
			n := w.ledger.InGroup(group, name)
			if claimed.Group == group && claimed.ShareOn(name) != nil {
				n-- // the workload's own
			}
			return n
		},
	}
}

// seedOf returns a hash that is the same in every process.
func seedOf(uid string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uid))
	return h.Sum64()
}
