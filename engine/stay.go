package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/scoring"
)

// NumberOfClusters is the stage that rejects the worst clusters of a workload whose placement asks for fewer than it has.
const NumberOfClusters filter.Stage = "NumberOfClusters"

// placesOf finds what becomes of the clusters that a workload runs on, if it may stay by any of the classes. The workspace is
// locked.
func (w *workspace) placesOf(r *Request, claimed *holding, plan *plan, classes ...*class) (s places) {
	growth := w.growthOf(r, claimed)
	for i := range r.Current {
		name := r.Current[i].Name
		position, registered := w.seen.Position(name)
		if !registered {
			s.leave(name, &filter.Rejection{Stage: filter.Registration, Message: "the cluster is not registered any more"})
			continue
		}
		p, evicts := w.placeOn(classes[0], r, claimed, growth, plan, &r.Current[i], position)
		for tier := 1; tier < len(classes) && p.departure != nil; tier++ {
			o, evicted := w.placeOn(classes[tier], r, claimed, growth, plan, &r.Current[i], position)
			if o.departure == nil || o.stays > p.stays || evicts && !evicted {
				p, evicts = o, evicted
				p.tier = tier
			}
		}
		growth.add(name, claimed.promisedOn(name), 1)
		if why := r.leaves(name); why != nil && !evicts && (p.departure == nil || p.stays > 0) {
			p.departure, p.stays = why, 0
		}
		switch {
		case evicts:
			s.leave(name, p.departure)
		case p.departure == nil || p.stays > 0:
			p.choice.Replicas = p.stays
			s.kept = append(s.kept, p)
		default:
			s.doubtful = append(s.doubtful, p)
		}
		if !evicts {
			growth.add(name, plan.reserves(&p, classes[0]), -1)
		}
	}
	slices.SortFunc(s.kept, bestFirst)
	slices.SortFunc(s.doubtful, bestFirst)
	if number := classes[0].Strategy.Number; len(s.kept) > number && !plan.hasParts() {
		more := slices.Clone(s.kept[number:])
		for i := range more {
			more[i].stays, more[i].choice.Replicas = 0, more[i].has
			more[i].departure = &filter.Rejection{Stage: NumberOfClusters, Message: fmt.Sprintf("the placement asks for %d", number)}
		}
		s.kept, s.doubtful = s.kept[:number], append(more, s.doubtful...)
	}
	return s
}

// placeOn finds how much of a workload may stay on a cluster, and what is reserved there if all of it stays.
//
// Invariant: no workload leaves a cluster because of how full it is. Only what it requests beyond what is promised has to fit, there and
// in what the quotas leave (growth).
func (w *workspace) placeOn(c *class, r *Request, claimed *holding, growth *budget, plan *plan, current *Choice, position int) (p place, evicts bool) {
	row, had := w.seen.Row(position), claimed.index(current.Name)
	if claimed.without(row, &w.row) {
		row = &w.row
	}
	var promised capacity.Share
	if had >= 0 && !claimed.former {
		promised = claimed.Shares[had]
	}
	on, divided := c.On(row), plan != nil && plan.division != nil
	score := scoring.Of(row, c.Asked(on.Workload.Requests, w.usual(c)), c.Judgement.Weights)
	if divided {
		if p.room, p.free = plan.roomOn(row); plan.division.Excludes(row.Cluster) || !c.ranking.Admits(position, row) || !r.mayAdd(row.Name) {
			p.room = 0 // it may keep its replicas, but gets no more
		}
		on = on.Asking(c.Whole.Share(current.Replicas))
	}
	on = on.Asking(current.asks(on.Workload, promised.Amount))
	asks := on.Workload
	p.key = c.Strategy.Key(position, score.Total, score.Headroom, score.Factors[scoring.Affinity]+score.Factors[scoring.Location])
	if plan != nil {
		p.value = plan.valueOf(c, p.key)
	}
	p.choice = Choice{Name: current.Name, Replicas: asks.Replicas, Score: score.Total, Reason: scoring.Reason(score.Total), Reserved: asks.Requests}
	why, shortage, unknown := on.Departure(row, r.Now), on.Shortage(row, promised.Amount), on.NodesUnknown()
	if unknown {
		shortage = nil
	} else if grows := on.Grows(row, current.Replicas); grows != nil && !divided {
		shortage = grows
	}
	waits := !unknown && r.withholds(row.Name) && !asks.Requests.MoreThan(promised.Amount).IsZero()
	exceeds := growth.exceeding(position, promised.Amount, asks.Requests)
	if shortage != nil || unknown || waits || exceeds != nil {
		p.choice.Reserved, p.choice.Expired, p.choice.Replicas = promised.Amount, promised.Expired, current.Replicas
	} else {
		p.choice.Expired = promised.Expired && on.Shortage(row, capacity.Resources{}) != nil
	}
	p.has, p.stays, p.part = p.choice.Replicas, p.choice.Replicas, divided && current.Part
	switch {
	case why != nil:
		p.stays = 0
	case shortage != nil || waits || exceeds != nil:
		why, p.stays, p.departure = shortage, 0, exceeds
		if divided {
			p.stays = plan.fitting(current.Replicas, func(n int64) bool {
				part := on.Asking(current.asks(c.Whole.Share(n), promised.Amount))
				more := part.Workload.Requests.MoreThan(promised.Amount)
				return part.Shortage(row, promised.Amount) == nil && growth.exceeding(position, promised.Amount, part.Workload.Requests) == nil && (!waits || more.IsZero())
			})
		}
	}
	p.room = max(p.room, p.stays)
	switch {
	case why != nil:
		p.departure, evicts = on.Reject(row, why), why.Evicts
	case waits && exceeds == nil:
		p.departure = notItsTurn
	}
	return p, evicts
}

// satisfied reports whether a workload has everything that it asks for, and every cluster may go on as it is.
func (w *workspace) satisfied(ctx context.Context, r *Request) (bool, error) {
	in := *r
	if in.Placement = r.Placement.GroupNamed(r.Group); in.Placement == nil || r.Return != "" || len(r.Leave) > 0 {
		return false, nil
	}
	by := in.Placement.Divides(r.Workload)
	if !hasAll(&in, by) {
		return false, nil
	}
	p, err := w.policyClassOf(ctx, w.view(&in), &in)
	if err != nil {
		return false, err
	}
	w.lock()
	defer w.mu.Unlock()
	claim := w.ledger.Claim(r.owner())
	if claim == nil || claim.UID != r.Workload.UID || claim.Group != r.group() {
		return false, nil
	}
	for i := range r.Current {
		current := &r.Current[i]
		position, registered := w.seen.Position(current.Name)
		share := claim.ShareOn(current.Name)
		if !registered || share == nil {
			return false, nil
		}
		row := w.seen.Row(position)
		asks := row.On(r.Workload)
		if by != nil {
			asks = r.Workload.Share(current.Replicas)
		}
		asks = current.asks(asks, share.Amount)
		if current.Replicas != asks.Replicas || !share.Amount.Same(asks.Requests) || !p.Running().MayStay(position, row, r.Now) {
			return false, nil
		}
	}
	return true, nil
}

// hasAll reports whether a workload has all the clusters and replicas that it can ask for.
func hasAll(r *Request, by *placement.Division) bool {
	number := ranking.StrategyFor(r.Placement.Strategy, r.Placement.NumberOfClusters).Number
	if by == nil {
		return len(r.Current) == number && !r.Placement.AllClusters
	}
	replicas, parts := r.Workload.Replicas, r.parts()
	if parts > 0 && r.Unassigned {
		return false
	}
	replicas = max(replicas, parts)
	for i := range r.Current {
		if r.Current[i].Replicas == 0 {
			return false
		}
		replicas -= r.Current[i].Replicas
	}
	if parts > 0 {
		return replicas == 0
	}
	if by.By == v1alpha1.DivideAggregated || by.By == v1alpha1.DivideOverflow {
		return replicas == 0 && len(r.Current) <= number
	}
	return replicas == 0 && int64(len(r.Current)) == min(int64(number), r.Workload.Replicas/min(by.Min, r.Workload.Replicas))
}

// tryKeeping decides for a workload that keeps as many clusters as it asks for, and returns false for any other. It needs no
// ranking.
func (w *workspace) tryKeeping(d *Decision, choices *choices, c *class, r *Request, cached, reserve bool) (decided bool, err error) {
	if len(r.Current) == 0 || r.MinGain > 0 {
		return false, nil
	}
	w.lock()
	defer w.mu.Unlock()
	if w.policiesOf(r) != c.Policy.Policies {
		return false, errNewPolicies
	}
	s := w.snapshotFor(c)
	claimed := w.holdingOf(c, r)
	places := w.placesOf(r, &claimed, nil, c)
	if len(places.kept) < c.Strategy.Number {
		return false, nil
	}
	w.begin(d, c, r, &s, &claimed, cached)
	return true, w.stay(d, choices, c, r, &places, nil, reserve)
}

// stay makes the decision for a workload that runs somewhere: it keeps clusters, gets others, and leaves or retains the
// doubtful ones.
func (w *workspace) stay(d *Decision, choices *choices, c *class, r *Request, p *places, others []ranking.Key, reserve bool) error {
	all := p.kept
	for _, key := range others {
		all = append(all, place{key: key, choice: w.choose(c, key)})
	}
	p.retained = p.unreplaced(c.Strategy.Number, len(others))
	all = d.settle(append(all, p.retainedPlaces()...), p)
	chosen := w.chosen[:0]
	if len(all) > 0 {
		d.Clusters = choices.take(len(all))
	}
	for i := range all {
		d.Clusters[i], chosen = all[i].choice, append(chosen, all[i].key)
	}
	w.chosen = chosen
	d.changes = d.Group != r.Group || d.differs(r)
	if !reserve {
		return w.mayYield(r, d)
	}
	return w.reserve(r, d, chosen)
}

// settle orders the places that a workload gets, and records which it retains and which it leaves.
func (d *Decision) settle(all []place, p *places) []place {
	slices.SortStableFunc(all, bestFirst)
	for i := range all {
		if all[i].retained {
			d.Retained = append(d.Retained, Verdict{Cluster: all[i].choice.Name, Rejection: all[i].departure})
		}
	}
	for i := range p.doubtful[p.retained:] {
		gone := &p.doubtful[p.retained+i]
		d.Left = append(d.Left, Verdict{Cluster: gone.choice.Name, Rejection: gone.departure})
	}
	d.Left = append(d.Left, p.left...)
	return all
}

// Changes reports whether a decision gives the workload anything other than what it has: clusters, replicas, reservations,
// or the placement that it belongs to.
func (d *Decision) Changes() bool { return d.changes }

// Disrupts reports whether a workload loses a cluster by a decision for any reason other than that it has no replicas for it:
// scaling is not a disruption.
func (d *Decision) Disrupts() bool {
	return slices.ContainsFunc(d.Left, func(v Verdict) bool { return v.Rejection.Stage != Replicas })
}

// NoBetterPlace states why the workload should leave the clusters that it retains, why it does not, and what would
// help; empty if it retains none. It also states how many replicas wait for room, if they are divided.
func (d *Decision) NoBetterPlace() string {
	switch {
	case d == nil:
		return ""
	case len(d.Retained) == 0 && d.Waiting > 0 && len(d.Clusters) > 0:
		if d.Waiting == 1 {
			return "1 replica waits: " + d.Summary()
		}
		return fmt.Sprintf("%d replicas wait: %s", d.Waiting, d.Summary())
	case len(d.Retained) == 0:
		return ""
	}
	const most = 3
	var why []string
	for i, v := range d.Retained {
		if i == most {
			why = append(why, fmt.Sprintf("and %d more", len(d.Retained)-most))
			break
		}
		why = append(why, v.Cluster+": "+v.Rejection.String())
	}
	message := fmt.Sprintf("stays on clusters that it should leave (%s), because there is no better place: %s", strings.Join(why, "; "), d.Summary())
	nearest, obstacles := d.Nearest()
	if nearest == "" && d.Retained[0].Rejection.Stage != filter.Unschedulable { // ending the drain is not a remedy
		nearest = d.Retained[0].Cluster
		obstacles = d.Obstacles(nearest)
	}
	if remedies := filter.Remedies(obstacles); len(remedies) > 0 {
		message += fmt.Sprintf("; what would help: %s on %s", strings.Join(remedies, " and "), nearest)
	}
	return message
}

func (d *Decision) differs(r *Request) bool {
	return d.holding.UID != r.Workload.UID || d.holding.Group != r.group() || len(d.Clusters) != len(r.Current) ||
		slices.ContainsFunc(d.Clusters, func(c Choice) bool {
			had := d.holding.ShareOn(c.Name)
			return had == nil || !had.Amount.Same(c.Reserved) ||
				!slices.ContainsFunc(r.Current, func(current Choice) bool { return current.Name == c.Name && current.Replicas == c.Replicas })
		})
}
