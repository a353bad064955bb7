package engine

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/division"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Replicas is the stage that rejects clusters that a workload has no replicas for any more.
const Replicas filter.Stage = "Replicas"

// least is how many replicas a cluster gets at least.
func (p *plan) least() int64 { return min(p.division.Min, p.replicas) }

// roomOn is how many replicas a cluster may have, and how many there is room for.
func (p *plan) roomOn(row *snapshot.Row) (room, free int64) {
	if row.LargestFree != nil {
		if _, short := row.LargestFree.Lacking(p.one.Replica()); short {
			return 0, 0
		}
	}
	free = math.MaxInt32
	for name, amount := range p.one.Requests.Each {
		if amount > 0 {
			free = min(free, max(0, row.Free.Get(name))/amount)
		}
	}
	if room = min(free, p.replicas); p.division.Max > 0 {
		room = min(room, p.division.Max)
	}
	return room, free
}

// need states how many replicas the candidates must have room for, and how many of them can be chosen.
//
// Invariant: when a workload grows, no cluster loses replicas. So a new cluster gets some only of those that no cluster has.
func (p *plan) need(problem *spread.Problem, places *places, candidates []candidate) {
	grows := p.replicas - p.stood
	for i := range places.kept {
		grows -= places.kept[i].choice.Replicas
	}
	problem.Fewest = p.division.By == v1alpha1.DivideAggregated
	problem.InOrder = p.division.By == v1alpha1.DivideOverflow
	for i := range candidates {
		problem.Candidates[i].Room = candidates[i].room
	}
	problem.Need = max(0, grows-p.more(places, candidates, grows))
	problem.Number = int(max(0, min(int64(problem.Number), grows/p.least())))
	problem.Least = max(0, min(problem.Number, p.classes[0].Placement.MinClusters-len(places.kept)))
	if problem.Need == 0 && (problem.Fewest || problem.InOrder) {
		problem.Number = problem.Least
	}
}

// more is how many replicas the clusters that are kept take beyond those that they have. In an Overflow, they come in their order
// with the candidates.
func (p *plan) more(places *places, candidates []candidate, grows int64) (more int64) {
	next := 0
	for i := range places.kept {
		k := &places.kept[i]
		for p.division.By == v1alpha1.DivideOverflow && next < len(candidates) && grows > 0 &&
			bestFirst(candidates[next].place(), *k) < 0 {
			grows -= candidates[next].room
			next++
		}
		takes := max(0, min(grows, k.room-k.choice.Replicas))
		more, grows = more+takes, grows-takes
	}
	return more
}

// running is a request without the clusters that have none of the replicas, which are chosen anew.
func (p *plan) running(r *Request) *Request {
	if p.division == nil {
		return r
	}
	running := *r
	running.Current = slices.DeleteFunc(slices.Clone(r.Current), func(c Choice) bool { return c.Replicas == 0 })
	return &running
}

// leaveEmpty has a workload leave the clusters that had none of the replicas, and get none.
func (d *Decision) leaveEmpty(r *Request) {
	for i := range r.Current {
		if name := r.Current[i].Name; r.Current[i].Replicas == 0 && !d.chose(name) {
			d.Left = append(d.Left, Verdict{Cluster: name, Rejection: noReplica(d.plan.replicas)})
		}
	}
}

func noReplica(replicas int64) *filter.Rejection {
	return &filter.Rejection{Stage: Replicas, Message: fmt.Sprintf("no replica is left for it: the workload has %d", replicas)}
}

// stand finds how many replicas stay on doubtful clusters: as long as the others have no room for all, those that these have there
// that are not to have any elsewhere.
func (w *workspace) stand(p *plan, r *Request, held *holding, places *places, others []place) {
	var has, room int64
	for i := range places.kept {
		k := &places.kept[i]
		k.room = max(k.room, k.choice.Replicas)
		has, room = has+k.choice.Replicas, room+k.room
	}
	for i := range others {
		room += others[i].room
	}
	for i := range places.doubtful {
		stands := &places.doubtful[i]
		there := min(stands.choice.Replicas, p.replicas-has-p.stood)
		if room+p.stood >= p.replicas {
			there = 0
		} else if there < stands.choice.Replicas {
			fewer := Choice{Name: stands.choice.Name, Replicas: there}
			of, _ := w.placeOn(p.classes[stands.tier], r, held, p, &fewer, stands.key.Position())
			stands.choice = of.choice
		}
		stands.choice.Replicas = there
		p.stood += there
	}
}

// divide gives each of a workload's clusters its share of the replicas, and returns the keys of the clusters.
func (w *workspace) divide(d *Decision, c *class, p *places, others []place) []ranking.Key {
	plan := d.plan
	var has, room int64
	for i := range p.kept {
		has, room = has+p.kept[i].choice.Replicas, room+p.kept[i].room
	}
	for i := range others {
		room += others[i].room
	}
	standing := 0
	for standing < len(p.doubtful) && p.doubtful[standing].choice.Replicas > 0 {
		standing++
	}
	there, want := plan.stood, plan.replicas-plan.stood
	if room < want && plan.why == "" {
		plan.why = fmt.Sprintf("there is room for %d of %d replicas", room+there, plan.replicas)
		if !plan.division.Partial && room > has {
			plan.why += "; partial: true would place these"
		}
	}
	if room < want && !plan.division.Partial {
		others, want = nil, has // as before, or not at all
	}
	kept := len(p.kept)
	all := append(p.kept, others...)
	for i := kept; i < len(all); i++ {
		all[i].choice.Replicas = 0
	}
	slices.SortStableFunc(all, bestFirst)
	shares := plan.shares(want, has, all, w.weights(plan.division, all))
	given := all[:0]
	for i, share := range shares {
		one, had := all[i], all[i].choice.Replicas
		if share == 0 {
			if had > 0 {
				p.leave(one.choice.Name, noReplica(plan.replicas))
			}
			continue
		}
		if share != had {
			one.choice.Replicas, one.choice.Reserved, one.choice.Expired = share, c.Whole.Share(share).Requests, false
		}
		given = append(given, one)
		there += share
	}
	d.Waiting = max(0, plan.replicas-there)
	return d.settleOn(given, p, standing)
}

// shares divides n replicas among clusters, the best first, which have so many in all.
func (p *plan) shares(n, has int64, all []place, weights []int64) []int64 {
	shrinks, clusters := n < has, make([]division.Cluster, len(all))
	for i := range all {
		have := all[i].choice.Replicas
		switch c := &clusters[i]; {
		case shrinks:
			*c = division.Cluster{Low: min(p.least(), have), High: have}
		case have > 0:
			*c = division.Cluster{Low: have, High: all[i].room}
		default:
			*c = division.Cluster{Low: p.least(), High: all[i].room}
		}
		clusters[i].Weight = weights[i]
	}
	inOrder := p.division.By == v1alpha1.DivideAggregated || p.division.By == v1alpha1.DivideOverflow
	switch {
	case inOrder && shrinks:
		shares, order := make([]int64, len(all)), make([]int, len(all))
		for i := range clusters {
			shares[i], order[i] = clusters[i].High, len(all)-1-i
		}
		if p.division.By == v1alpha1.DivideAggregated { // the smallest goes first
			slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(shares[a], shares[b]) })
		}
		division.Drain(n, shares, order, p.least(), int(min(int64(p.classes[0].Placement.MinClusters), n/p.least())))
		return shares
	case inOrder:
		return division.Fill(n, clusters)
	}
	shares, number := make([]int64, len(all)), len(all)
	if shrinks {
		number = enough(n, clusters)
	}
	for i, share := range division.Proportional(n, clusters[:number]) {
		clusters[i].Low = share
	}
	copy(shares, division.Fill(n, clusters[:number])) // those of no weight keep what the others never had
	return shares
}

// enough is how many clusters n replicas are left on, the best first: as many as can have their Low, but not fewer than have room.
// Where that cannot be, none has a Low.
func enough(n int64, clusters []division.Cluster) (number int) {
	var lows, highs int64
	for number < len(clusters) && (lows+clusters[number].Low <= n || highs < n) {
		lows, highs = lows+clusters[number].Low, highs+clusters[number].High
		number++
	}
	for i := range clusters {
		if lows > n {
			clusters[i].Low = 0
		}
	}
	return number
}

// weights of clusters in a division.
func (w *workspace) weights(by *placement.Division, all []place) []int64 {
	weights := make([]int64, len(all))
	var most int64
	for i := range all {
		switch by.By {
		case v1alpha1.DivideWeighted:
			weights[i] = by.Weight(w.rowOf(&all[i]).Cluster)
		case v1alpha1.DivideFreeCapacity:
			weights[i] = all[i].free
		default:
			weights[i] = 1
		}
		most = max(most, weights[i])
	}
	if excess := bits.Len64(uint64(most)) - bits.Len64(division.MaxWeight-1); excess > 0 {
		for i := range weights {
			weights[i] = max(weights[i]>>excess, min(weights[i], 1))
		}
	}
	return weights
}

func (w *workspace) rowOf(p *place) *snapshot.Row { return w.fleet.Row(p.key.Position()) }
