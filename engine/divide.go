package engine

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/division"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Replicas is the stage that rejects clusters for which a workload has no replicas left.
const Replicas filter.Stage = "Replicas"

// parts returns how many of the workload's clusters have their own part of what it has to complete.
func (r *Request) parts() (n int64) {
	for i := range r.Current {
		if r.Current[i].Part {
			n++
		}
	}
	return n
}

// hasParts reports whether clusters have their own parts of what the workload has to complete.
func (p *plan) hasParts() bool { return p != nil && p.parts > 0 }

// settleParts makes the clusters of a workload that has begun keep what they have to complete.
//
// Invariant: a cluster with its own part keeps at least one replica for as long as the workload may stay there. A part that belongs
// to no cluster goes to a new cluster, so those with a part get no more replicas in its place; if every part belongs to a cluster, no
// new cluster gets any.
func (p *plan) settleParts(r *Request, s *places) {
	if !p.hasParts() {
		return
	}
	kept, parts := int64(len(s.kept)), int64(0)
	for i := range s.kept {
		if s.kept[i].part {
			parts++
		}
		s.kept[i].part = true // one that has none yet is about to get one
	}
	p.replicas = max(r.Workload.Replicas, kept)
	p.open = (r.Unassigned || parts < p.parts) && parts == kept // otherwise a cluster without a part takes the open one
	if !p.open {
		return
	}
	p.replicas = max(r.Workload.Replicas, kept+p.minimum)
	shares, order := make([]int64, len(s.kept)), make([]int, len(s.kept))
	for i := range s.kept {
		shares[i], order[i] = s.kept[i].choice.Replicas, len(order)-1-i
	}
	division.Drain(p.replicas-p.minimum, shares, order, 1, len(order)) // at least that many are for the new cluster
	for i := range s.kept {
		o := &s.kept[i]
		o.choice.Replicas, o.stays, o.room = shares[i], min(o.stays, shares[i]), max(1, shares[i])
	}
}

// roomOn returns how many replicas a cluster may have, and how many there is room for.
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

// fitting returns the most of n replicas that fit; 0 if that is less than a cluster's minimum.
func (p *plan) fitting(n int64, fit func(n int64) bool) int64 {
	n = int64(sort.Search(int(n), func(i int) bool { return !fit(int64(i) + 1) }))
	if n < p.minimum {
		return 0
	}
	return n
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

// need states how many replicas the candidates must have room for, and how many of them can be chosen.
//
// Invariant: when a workload grows, no cluster loses replicas. So a new cluster gets only replicas that no cluster has.
func (p *plan) need(problem *spread.Problem, places *places, candidates []candidate) {
	grows := min(p.replicas-places.has(), p.budget.timesInAll(p.one.Requests))
	problem.Fewest = p.division.By == v1alpha1.DivideAggregated
	problem.InOrder = p.division.By == v1alpha1.DivideOverflow
	for i := range candidates {
		problem.Candidates[i].Room = candidates[i].room
	}
	before := make([]int64, len(places.kept)+1) // how many more replicas the kept clusters before each one take
	for i := range places.kept {
		before[i+1] = before[i] + places.kept[i].room - places.kept[i].choice.Replicas
	}
	problem.Need = max(0, grows-before[len(places.kept)])
	for i := 0; i < len(candidates) && problem.InOrder; i++ {
		o := candidates[i].place()
		first := sort.Search(len(places.kept), func(k int) bool { return byRank(&o, &places.kept[k]) < 0 })
		problem.Candidates[i].Until = max(0, grows-before[first])
	}
	problem.Number = int(max(0, min(int64(problem.Number), grows/p.minimum)))
	problem.Least = max(0, min(problem.Number, p.classes[0].Placement.MinClusters-len(places.kept)-places.retained))
	if problem.Need == 0 && problem.Fewest {
		problem.Number = problem.Least
	}
}

// retain makes a workload keep clusters that it should leave as long as others lack room for its replicas, or are too few: first those where
// a part of its replicas stays, then doubtful clusters. It reports whether this retains more than before.
func (p *plan) retain(places *places, others []place) (more bool) {
	left := p.replicas - places.has() // replicas that no cluster has
	if p.division.Partial {
		left = min(left, p.budget.timesInAll(p.one.Requests))
	}
	lacking, missing := left-p.more(slices.Concat(places.kept, others)), p.fewest(places)-len(places.kept)-places.retained-len(others)
	if p.lacks == "" && lacking > 0 {
		p.lacks = fmt.Sprintf("there is room for %d of %d replicas", p.replicas-lacking, p.replicas)
	}
	keep := func(o *place, n int64) {
		left, lacking = left-(n-o.stays), lacking-(n-o.stays)
		o.choice.Replicas, o.room, o.retained, more = n, n, true, true
	}
	for i := range places.kept {
		if o := &places.kept[i]; lacking > 0 && o.departure != nil && o.stays < o.has && !o.retained {
			keep(o, min(o.has, o.stays+left))
		}
	}
	for (lacking > 0 || missing > 0) && places.retained < len(places.doubtful) {
		missing--
		o, most := &places.doubtful[places.retained], left
		for i := places.retained + 1; i <= places.retained+missing && i < len(places.doubtful); i++ {
			most -= min(p.minimum, places.doubtful[i].has) // at least that many are for the others
		}
		if o.departure.Stage == filter.Unschedulable {
			most = min(most, lacking) // a drained cluster keeps only what has no other place
		}
		keep(o, min(o.has, max(p.minimum, most)))
		places.retained++
	}
	return more
}

// running returns the request without the clusters that have none of the replicas: these are chosen anew.
func (p *plan) running(r *Request) *Request {
	if p.division == nil {
		return r
	}
	running := *r
	running.Current = slices.DeleteFunc(slices.Clone(r.Current), func(c Choice) bool { return c.Replicas == 0 && !c.Part })
	return &running
}

// countReplicas records how many replicas wait, and which clusters the workload leaves because it has no replicas for them.
func (d *Decision) countReplicas(r *Request, all []place) {
	d.Waiting = d.plan.replicas
	for i := range all {
		o := &all[i]
		d.Waiting -= o.choice.Replicas
		if o.departure != nil && o.choice.Replicas == o.stays {
			d.plan.trimmed = append(d.plan.trimmed, fmt.Sprintf("%s keeps %d of %d replicas: %s", o.choice.Name, o.stays, o.has, o.departure))
		}
	}
	for i := range r.Current {
		name := r.Current[i].Name
		if !d.chose(name) && !slices.ContainsFunc(d.Left, func(v Verdict) bool { return v.Cluster == name }) {
			d.Left = append(d.Left, Verdict{Cluster: name, Rejection: noReplica(d.plan.replicas)})
		}
	}
}

func noReplica(replicas int64) *filter.Rejection {
	return &filter.Rejection{Stage: Replicas, Message: fmt.Sprintf("no replica is left for it: the workload has %d", replicas)}
}

// divide gives each of a workload's clusters its share of the replicas, and returns those that get any. If it retains replicas that
// it should move while another cluster loses some, divide instead returns fewer, the request with no more than that on each cluster:
// with fewer replicas there may be a better place.
//
// Invariant: deciding again when nothing has changed gives the same decision.
func (w *workspace) divide(plan *plan, r *Request, held *holding, p *places, others []place) (given []place, fewer *Request) {
	all := w.join(p.kept, p.doubtful[:p.retained], others)
	slices.SortStableFunc(all, bestFirst)
	has, want := p.has(), plan.replicas
	lack := func(room int64) {
		plan.why = cmp.Or(plan.why, fmt.Sprintf("there is room for %d of %d replicas", room, plan.replicas))
		if !plan.division.Partial { // keep what there is, or place nothing
			if want = has; room > has {
				plan.why += "; partial: true would place these"
			}
			all = slices.DeleteFunc(all, func(o place) bool { return o.has == 0 })
		}
	}
	if room := has + plan.more(all); room < want {
		lack(room)
	}
	shares := plan.sharesWithin(want, has, all, w.weights(plan.division, all))
	if plan.budget != nil && sumOf(shares) < want { // sets overlap
		all = plan.apart(all)
		if shares = plan.shares(want, has, all, w.weights(plan.division, all)); sumOf(shares) < want {
			lack(sumOf(shares))
			shares = plan.shares(want, has, all, w.weights(plan.division, all))
		}
	}
	retains, loses, current := false, false, map[string]int64{}
	given = make([]place, 0, len(all))
	for i, share := range shares {
		o := &all[i]
		had := o.stays
		if o.retained {
			retains, had = true, o.has
		}
		if share < had {
			loses, current[o.choice.Name] = true, share
		}
		switch o.retained = o.departure != nil && share > o.stays; {
		case share == 0:
			continue
		case share == o.has:
		case o.has == 0:
			o.choice.Reserved = plan.classes[0].Whole.Share(share).Requests
		default:
			current := r.Current[slices.IndexFunc(r.Current, func(c Choice) bool { return c.Name == o.choice.Name })]
			current.Replicas = share
			on, _ := w.placeOn(plan.classes[o.tier], r, held, nil, plan, &current, o.key.Position())
			o.choice = on.choice
		}
		o.choice.Replicas = share
		given = append(given, *o)
	}
	if retains && loses {
		less := *r
		less.Current = slices.Clone(r.Current)
		for i := range less.Current {
			if share, loses := current[less.Current[i].Name]; loses {
				less.Current[i].Replicas = share
			}
		}
		return nil, plan.running(&less)
	}
	return given, nil
}

func sumOf(shares []int64) (sum int64) {
	for _, share := range shares {
		sum += share
	}
	return sum
}

// shares divides n replicas among clusters, best first, that together have has of them.
func (p *plan) shares(n, has int64, all []place, weights []int64) []int64 {
	shrinks, clusters := n < has, make([]division.Cluster, len(all))
	for i := range all {
		have := all[i].choice.Replicas
		switch c := &clusters[i]; {
		case all[i].part:
			*c = division.Cluster{Low: 1, High: max(1, have)}
			if !shrinks {
				*c = division.Cluster{Low: max(1, have), High: max(1, all[i].room)}
			}
		case shrinks:
			*c = division.Cluster{Low: min(p.minimum, have), High: have}
		case have > 0:
			*c = division.Cluster{Low: have, High: all[i].room}
		default:
			*c = division.Cluster{Low: p.minimum, High: all[i].room}
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
		least, fewest := p.minimum, int(min(int64(p.classes[0].Placement.MinClusters), n/p.minimum))
		if p.hasParts() {
			least, fewest = 1, len(all)
		}
		division.Drain(n, shares, order, least, fewest)
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
	copy(shares, division.Fill(n, clusters[:number])) // clusters of weight 0 keep what is left
	return shares
}

// enough returns on how many clusters, best first, n replicas stay: as many as can have their Low, but no fewer than have room for
// all. If these cannot have their Low, every Low becomes 0.
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

// weights returns the weights of clusters in a division, scaled down to at most division.MaxWeight.
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

func (w *workspace) rowOf(p *place) *snapshot.Row { return w.seen.Row(p.key.Position()) }
