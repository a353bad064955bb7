package engine

import (
	"slices"
	"time"

	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// takeOut prepares a ranking for one request, and returns the keys that it had.
func (w *workspace) takeOut(c *class, ranked *ranking.Ranking, r *Request, claimed *holding) (before []positionedKey) {
	return w.takeOutOthers(ranked, r, w.takeOutEnded(c, ranked, r.Now, w.withoutHeld(ranked, claimed)))
}

// withoutHeld gives the clusters on which a workload holds something the keys that they would have without it, and returns
// their previous keys.
func (w *workspace) withoutHeld(ranked *ranking.Ranking, claimed *holding) (before []positionedKey) {
	before = w.current[:0]
	for cluster := range claimed.clusters {
		if position, there := w.seen.Position(cluster); there {
			before = append(before, positionedKey{position, ranked.At(position)})
			claimed.without(w.seen.Row(position), &w.row)
			ranked.Set(position, ranked.KeyOf(position, &w.row))
		}
	}
	return before
}

// takeOutEnded takes clusters whose toleration has ended out of a ranking, and appends their previous keys. So rankings do
// not depend on time: a key is valid for as long as tolerations last.
func (w *workspace) takeOutEnded(c *class, r *ranking.Ranking, now time.Time, before []positionedKey) []positionedKey {
	if !c.Placement.TolerationsEnd || now.IsZero() {
		return before
	}
	for position := range w.seen.Len() {
		if c.HasEnded(w.seen.Row(position), now) {
			before = append(before, positionedKey{position, r.At(position)})
			r.Set(position, 0)
		}
	}
	return before
}

// takeOutOthers takes clusters that a request may not use out of a ranking, and appends their previous keys.
func (w *workspace) takeOutOthers(ranked *ranking.Ranking, r *Request, before []positionedKey) []positionedKey {
	takeOut := func(position int) {
		if key := ranked.At(position); key != 0 {
			before = append(before, positionedKey{position, key})
			ranked.Set(position, 0)
		}
	}
	for _, name := range r.withheld {
		if position, registered := w.seen.Position(name); registered {
			takeOut(position)
		}
	}
	if r.Into == nil {
		return before
	}
	into := make([]bool, w.seen.Len())
	for _, name := range r.Into {
		if position, registered := w.seen.Position(name); registered {
			into[position] = true
		}
	}
	for position, may := range into {
		if !may {
			takeOut(position)
		}
	}
	return before
}

// putBack restores the keys of clusters, in reverse order, since one may have been changed twice.
func putBack(r *ranking.Ranking, before []positionedKey) {
	for _, k := range slices.Backward(before) {
		r.Set(k.position, k.key)
	}
}

// rowWithout returns the row at a position without what the workload holds there. It is valid until the next call.
func (w *workspace) rowWithout(claimed *holding, position int) *snapshot.Row {
	row := w.seen.Row(position)
	if claimed.without(row, &w.row) {
		return &w.row
	}
	return row
}
