package rebalance

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"slices"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// result of a search.
type result struct {
	moves []move
	// atLeast is a lower bound of the moves that reach the aim.
	atLeast   int
	exhausted bool
}

// search finds the fewest moves that reach a goal. It restores the state.
func (s *state) search(g goal) (r result) {
	start := g.left()
	if start == 0 || s.err != nil {
		return result{}
	}
	g.approach()
	reached := g.left() == 0
	r.moves = s.moves()
	s.rewind(0)
	if reached {
		r.moves = s.pruned(g, r.moves)
	}
	if start == never { // no moves reach it: the moves found get close
		return r
	}
	best := bestFirst{state: s, goal: g, most: s.MaxMoves, seen: map[uint64]int{}}
	if reached {
		best.most = len(r.moves) - 1
	}
	switch found := best.run(start); {
	case s.err != nil:
	case found != nil:
		r.moves, r.atLeast = found, len(found)
	case best.exhausted || best.cut && !reached:
		r.atLeast, r.exhausted = best.atLeast, true
	case reached:
		r.atLeast = len(r.moves)
	}
	s.rewind(0)
	return r
}

// bestFirst is an A* search through the states that at most most moves lead to.
type bestFirst struct {
	*state
	goal
	most int
	// seen maps known states to the number of moves that lead there.
	seen map[uint64]int
	open queue
	// exhausted is set if the engine has been asked as often as allowed, cut if a state was skipped because it takes more moves than
	// a plan may have. atLeast is then the lower bound.
	exhausted, cut bool
	atLeast        int
}

// node is a state that the moves of its parents and its own lead to. total is a lower bound of the moves of a plan through it.
type node struct {
	parent       *node
	move         move
	depth, total int
	order        int
}

// queue orders nodes by fewest moves in total, then by closeness to the goal.
type queue []*node

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].total, q[j].total), cmp.Compare(q[j].depth, q[i].depth), cmp.Compare(q[i].order, q[j].order)) < 0
}
func (q *queue) Push(n any) { *q = append(*q, n.(*node)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// run returns the fewest moves that reach the goal, nil if there are none or the search has ended before.
func (b *bestFirst) run(left int) []move {
	end, order := b.asked+b.Work, 0
	heap.Push(&b.open, &node{total: left})
	b.seen[b.digest()], b.atLeast = 0, left
	for len(b.open) > 0 && b.err == nil {
		n := heap.Pop(&b.open).(*node)
		if n.total > b.most {
			b.cut = true
			return nil
		}
		if b.atLeast = n.total; b.asked >= end {
			b.exhausted = true
			return nil
		}
		b.rewindTo(n)
		if b.seen[b.digest()] < n.depth {
			continue // a shorter way was found
		}
		for _, c := range b.candidates(b.goal) {
			if !b.leave(&b.items[c.workload], c.from, []string{c.to}) {
				continue
			}
			here, depth := b.digest(), n.depth+1
			if before, seen := b.seen[here]; !seen || depth < before {
				b.seen[here] = depth
				switch left := b.left(); {
				case left == 0 && depth <= n.total: // nothing needs fewer moves than the first in the queue
					return b.moves()
				case depth+left <= b.most:
					order++
					heap.Push(&b.open, &node{parent: n, move: c.move, depth: depth, total: max(n.total, depth+left), order: order})
				case left < never:
					b.cut = true
				}
			}
			b.rewind(n.depth)
		}
		if n.parent != nil && b.left() == 0 {
			return b.moves()
		}
	}
	return nil
}

// rewindTo goes to the state of a node.
func (b *bestFirst) rewindTo(n *node) {
	path := make([]move, n.depth)
	for at := n; at.parent != nil; at = at.parent {
		path[at.depth-1] = at.move
	}
	same := 0
	for same < len(path) && same < len(b.done) && b.done[same].move == path[same] {
		same++
	}
	b.rewind(same)
	b.follow(path[same:])
}

// candidate is a move that may be admissible.
type candidate struct {
	move
	rank int64
}

// candidates returns the moves from here for which there is room, in order. Of workloads that are alike, only the first one's moves are
// included.
func (s *state) candidates(g goal) (all []candidate) {
	rows, seen := s.rows(), map[string]bool{}
	for i := range s.items {
		w := &s.items[i]
		if !w.movable() || seen[w.like] {
			continue
		}
		seen[w.like] = true
		for c := range w.current {
			for _, to := range rows {
				if from := &w.current[c]; s.may(w, from, to) {
					all = append(all, candidate{move{i, from.Name, to.Name}, g.rank(w, from, to)})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	return all
}

// pruned removes moves without which the goal is still reached, and merges two moves of one workload in a row.
func (s *state) pruned(g goal, moves []move) []move {
	const most = 50 // each costs as many decisions as there are moves
	if len(moves) > most {
		return moves
	}
	for again := true; again; {
		again = false
		for i := range moves {
			fewer := slices.Delete(slices.Clone(moves), i, i+1)
			for j := i; j < len(fewer); j++ { // the workload's next move starts where this one did
				if fewer[j].workload == moves[i].workload && fewer[j].from == moves[i].to {
					fewer[j].from = moves[i].from
					break
				}
			}
			fewer = slices.DeleteFunc(fewer, func(m move) bool { return m.from == m.to })
			reaches := s.follow(fewer) && g.left() == 0
			s.rewind(0)
			if reaches {
				moves, again = fewer, true
				break
			}
		}
	}
	return moves
}

// except returns the clusters other than the named ones.
func (s *state) except(names ...string) []string {
	return slices.DeleteFunc(slices.Clone(s.clusters), func(name string) bool { return slices.Contains(names, name) })
}

// largestFirst returns the movable workloads on a cluster, by how much they take of it.
func (s *state) largestFirst(cluster string) (all []*item) {
	row := s.row(cluster)
	for i := range s.items {
		if w := &s.items[i]; w.movable() && w.on(cluster) != nil {
			all = append(all, w)
		}
	}
	slices.SortStableFunc(all, func(a, b *item) int {
		return cmp.Compare(weight(s.takes(b, b.on(cluster)), row), weight(s.takes(a, a.on(cluster)), row))
	})
	return all
}

// makeRoom moves workloads off clusters whose properties let the requested workload run there, until it fits on one. Nothing moves to the
// clusters to avoid. It tries the clusters that lack least first.
func (s *state) makeRoom(r engine.Request, goes map[string]bool, index int, avoid []string, fits func(cluster string) bool) {
	type place struct {
		name  string
		lacks int64
	}
	var places []place
	for _, row := range s.rows() {
		if goes[row.Name] && !slices.Contains(avoid, row.Name) {
			places = append(places, place{row.Name, weight(lacking(&r, row), row)})
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.lacks, b.lacks) })
	for _, p := range places {
		before := len(s.done)
		for s.err == nil && len(s.done) < s.MaxMoves {
			if fits(p.name) {
				return
			}
			if !s.clearOne(&r, index, p.name, append([]string{p.name}, avoid...)) {
				break
			}
		}
		s.rewind(before)
	}
}

// lacking returns what a cluster lacks for a workload.
func lacking(r *engine.Request, row *snapshot.Row) capacity.Resources {
	return row.On(r.Workload).Requests.Combine(row.Free, func(asked, free int64) int64 {
		if asked <= 0 {
			return 0
		}
		return max(0, asked-max(0, free))
	})
}

// clearOne moves one workload off a cluster: the smallest that makes all the room that is lacking, or else the largest.
func (s *state) clearOne(r *engine.Request, index int, cluster string, avoid []string) bool {
	row := s.row(cluster)
	lacks, into := lacking(r, row), s.except(avoid...)
	victims := s.largestFirst(cluster)
	enough := func(w *item) int64 {
		if _, short := s.takes(w, w.on(cluster)).Lacking(lacks); short {
			return math.MaxInt64
		}
		return weight(s.takes(w, w.on(cluster)), row)
	}
	slices.SortStableFunc(victims, func(a, b *item) int { return cmp.Compare(enough(a), enough(b)) })
	for _, w := range victims {
		if w.index != index && s.leave(w, cluster, into) {
			return true
		}
	}
	return false
}

// fail records an engine error that is not about one workload's move.
func (s *state) fail(err error) {
	if s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	if s.err == nil {
		s.err = err
	}
}
