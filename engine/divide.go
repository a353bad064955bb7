package engine

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/division"
	"github.com/kcp-placement/placement/engine/internal/spread"
)

// Replicas is the stage that rejects clusters for which a workload has no replicas left.
const Replicas filter.Stage = "Replicas"

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

// need states how many replicas the candidates must have room for, and how many of them can be chosen.
//
// Invariant: when a workload grows, no cluster loses replicas. So a new cluster gets only replicas that no cluster has.
func (p *plan) need(problem *spread.Problem, places *places, candidates []feasibleCluster) {
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
func (w *workspace) divide(plan *plan, r *Request, claimed *holding, p *places, others []place) (given []place, fewer *Request) {
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
			on, _ := w.placeOn(plan.classes[o.tier], r, claimed, nil, plan, &current, o.key.Position())
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
