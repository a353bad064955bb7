package engine

import (
	"cmp"
	"slices"

	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
)

// place is a registered cluster of a workload, with what it gets there.
type place struct {
	choice Choice
	// has is how many replicas the workload has there, stays how many of them may stay: all, unless there is a departure. If
	// replicas are not divided, they stay or leave together.
	has, stays int64
	key        ranking.Key
	// value orders places that are chosen together, before their keys do: the value of the key, plus points for affinity.
	value int64
	// tier is the index of the class by which the workload may stay, among those that are chosen from.
	tier int
	// room and free are how many replicas there is room for, if they are divided: room as many as the workload may have, free in all.
	room, free int64
	// departure is why the workload should leave the cluster, nil if all of it may stay; retained is set if it stays nevertheless, for want of
	// a better place.
	departure *filter.Rejection
	retained  bool
	// part is set if the cluster has its own part of what the workload has to complete.
	part bool
}

// places are the clusters that a workload runs on, by what becomes of them.
type places struct {
	// kept are the clusters where the workload or a part of it may stay, doubtful those that it leaves for a better place. Best first.
	kept, doubtful []place
	// retained is how many of the doubtful clusters it retains: the first ones.
	retained int
	// left are the clusters that it leaves in any case.
	left []Verdict
}

// loseDrained makes a workload that runs on every cluster leave the drained ones, since no other cluster can take their place, unless
// it has nothing else.
func (s *places) loseDrained(others int) {
	drained := func(p place) bool { return p.departure.Stage == filter.Unschedulable }
	stays := slices.DeleteFunc(slices.Clone(s.doubtful), drained)
	if len(s.kept)+others+len(stays) == 0 {
		return
	}
	for i := range s.doubtful {
		if drained(s.doubtful[i]) {
			s.leave(s.doubtful[i].choice.Name, s.doubtful[i].departure)
		}
	}
	s.doubtful = stays
}

// bestFirst orders the places of a workload; retained ones come last.
func bestFirst(a, b place) int {
	if a.retained != b.retained {
		if b.retained {
			return -1
		}
		return 1
	}
	return byRank(&a, &b)
}

func byRank(a, b *place) int {
	return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(b.value, a.value), cmp.Compare(b.key, a.key))
}

func (s *places) leave(cluster string, why *filter.Rejection) {
	s.left = append(s.left, Verdict{Cluster: cluster, Rejection: why})
}

// unreplaced returns how many doubtful clusters have no replacement: a new cluster replaces a doubtful one before it counts as an addition.
func (s *places) unreplaced(number, others int) int {
	return max(0, min(number-len(s.kept), len(s.doubtful))-others)
}

// retainedPlaces returns the doubtful clusters that a workload retains.
func (s *places) retainedPlaces() []place {
	for i := range s.doubtful[:s.retained] {
		s.doubtful[i].retained = true
	}
	return s.doubtful[:s.retained]
}

// has returns how many replicas a workload has on the clusters where it may stay, and on those that it retains.
func (s *places) has() (n int64) {
	for i := range s.kept {
		n += s.kept[i].choice.Replicas
	}
	for i := range s.doubtful[:s.retained] {
		n += s.doubtful[i].choice.Replicas
	}
	return n
}

// join returns the concatenation of several lists of places; it is valid until the next call.
func (w *workspace) join(several ...[]place) (all []place) {
	all = w.places[:0]
	for _, some := range several {
		all = append(all, some...)
	}
	w.places = all
	return all
}
