package rebalance

import (
	"github.com/kcp-placement/placement/engine"
)

// inWaves splits moves, in order, into waves whose moves do not depend on each other. The state is then the one after the moves.
//
// Invariant: while a wave is carried out, there is room for all workloads in their old places and in the new ones together.
func (s *state) inWaves(moves []move) (all []Move, waves int) {
	all = []Move{}
	for len(moves) > 0 {
		n := s.wave(moves)
		if s.err != nil || n == 0 {
			return all, waves
		}
		waves++
		for _, m := range moves[:n] {
			w := &s.items[m.workload]
			all = append(all, Move{Workload: referenceOf(w), From: m.from, To: m.to, Replicas: w.on(m.from).Replicas, Wave: waves})
			if !s.follow([]move{m}) {
				return all, waves
			}
		}
		moves = moves[n:]
	}
	return all, waves
}

// wave returns how many of the moves, from the first, do not depend on each other: each can be made on its own, and also after all of
// those before it while these have not left their old places yet. It restores the state.
func (s *state) wave(moves []move) (n int) {
	start := len(s.done)
	alone := func(m move) bool {
		defer s.rewind(start)
		return s.follow([]move{m})
	}
	independent := 0
	for independent < len(moves) && alone(moves[independent]) {
		independent++
	}
	var holds []engine.Held
	for _, m := range moves[:independent] {
		w := &s.items[m.workload]
		old := s.reservation(w)
		for i := range old.Shares {
			if old.Shares[i].Cluster == m.from {
				old.Shares = old.Shares[i : i+1]
				break
			}
		}
		old.Workload.UID = "" // the cluster no longer reports what it counts of it
		old.Shares[0].Amount = s.takes(w, w.on(m.from))
		old.Shares[0].Expired = false
		if !s.follow([]move{m}) {
			break
		}
		held, err := s.Engine.Hold(s.Workspace, old)
		if err != nil {
			s.fail(err)
			break
		}
		holds, s.fleet = append(holds, held), nil
		n++
	}
	for _, held := range holds {
		s.Engine.ReleaseHeld(s.Workspace, held)
		s.fleet = nil
	}
	s.rewind(start)
	return n
}
