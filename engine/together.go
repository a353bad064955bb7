package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

var errBehind = errors.New("a ranking is far behind")

// planIn chooses from the clusters of one group, or of several in order. whole reports whether the workload gets everything that
// it has to have and retains no cluster that it should leave. The decision is reserved only if it is whole, or if it is final.
func (w *workspace) planIn(ctx context.Context, r *Request, tiers []*placement.Placement, reserve, final bool) (d *Decision, whole bool, err error) {
	in := *r
	in.Placement = tiers[0]
	classes, cached, err := w.classesOf(ctx, &in, tiers)
	if err != nil {
		return nil, false, err
	}
	defer func() { w.use(classes, -1) }()
	var behind *class
	for {
		d = new(Decision)
		err = w.withRanking(ctx, classes[0], func(s snapshot.Snapshot) error {
			if w.policiesOf(&in) != classes[0].Policy.Policies {
				return errNewPolicies
			}
			for _, c := range classes[1:] {
				seen := s
				seen.Usual = w.usual(c)
				if current, err := w.refresh(ctx, c, &seen); !current || err != nil {
					behind = c
					return cmp.Or(err, errBehind)
				}
			}
			asked := &in
			if in.MinGain > 0 {
				asked = w.forGain(asked, classes, func(r *Request) *Decision {
					d := new(Decision)
					w.chooseTogether(d, classes, tiers, r, &s, cached)
					return d
				})
			}
			chosen := w.chooseTogether(d, classes, tiers, asked, &s, cached)
			switch whole = d.whole(); {
			case !whole && !final:
				return nil
			case !reserve:
				return w.mayYield(&in, d)
			}
			return w.reserve(&in, d, chosen)
		})
		switch {
		case err == nil:
			return d, whole, nil
		case errors.As(err, new(*capacity.QuotaError)) && !in.strict:
			in.strict = true
		case errors.Is(err, errNewPolicies):
			w.use(classes, -1)
			if classes, cached, err = w.classesOf(ctx, &in, tiers); err != nil {
				return nil, false, err
			}
		case errors.Is(err, errTaken):
		case errors.Is(err, errBehind):
			if err := w.rank(ctx, behind); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, err
		}
	}
}

// classesOf returns the class of a workload in each of several groups, marked as in use: see use.
func (w *workspace) classesOf(ctx context.Context, r *Request, tiers []*placement.Placement) (classes []*class, cached bool, err error) {
	for i, tier := range tiers {
		of := *r
		of.Placement = tier
		c, known, err := w.classOf(ctx, &of)
		if err != nil {
			w.use(classes, -1)
			return nil, false, err
		}
		w.use([]*class{c}, 1)
		classes, cached = append(classes, c), known && (cached || i == 0)
	}
	return classes, cached, nil
}

// use marks classes as in use by one decision, or no longer if by is -1.
func (w *workspace) use(classes []*class, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range classes {
		c.users += by
	}
}

// chooseTogether makes the decision in d, and returns the keys of its clusters. The workspace is locked, and all rankings are
// current for the snapshot.
func (w *workspace) chooseTogether(d *Decision, classes []*class, tiers []*placement.Placement, r *Request, s *snapshot.Snapshot, cached bool) []ranking.Key {
	c := classes[0]
	claimed := w.holdingOf(c, r)
	w.begin(d, c, r, s, &claimed, cached)
	d.plan = newPlan(r)
	d.plan.classes = classes
	d.plan.attraction = w.attractionOf(r, &claimed)
	var places places
	var all, others []place
	for running := d.plan.running(r); running != nil; {
		places = w.placesOf(running, &claimed, d.plan, classes...)
		d.plan.settleParts(r, &places)
		others = w.chooseOthers(d.plan, classes, running, &claimed, &places)
		if d.plan.division == nil {
			for d.plan.exceeds(&places, others) {
				d.plan.most = len(others) - 1
				others = w.chooseOthers(d.plan, classes, running, &claimed, &places)
			}
			if c.Placement.AllClusters {
				places.loseDrained(len(others))
			}
			places.retained = places.unreplaced(c.Strategy.Number, len(others))
			all = w.join(places.kept, others, places.retainedPlaces())
			break
		}
		for d.plan.retain(&places, others) {
			others = w.chooseOthers(d.plan, classes, running, &claimed, &places)
		}
		all, running = w.divide(d.plan, running, &claimed, &places, others)
	}
	chosen := d.settleOn(all, &places)
	if d.plan.division != nil {
		d.countReplicas(r, all)
	}
	if c.Placement.AllClusters || d.plan.division != nil {
		d.Asked = max(len(d.Clusters), c.Placement.MinClusters)
	}
	if len(d.Clusters) < c.Strategy.Number || d.Waiting > 0 {
		d.quota = d.plan.budget
	}
	d.Group = tiers[d.lastTier(&places, others)].Group
	if d.changes = d.differs(r); !d.changes && slices.ContainsFunc(tiers, func(t *placement.Placement) bool { return t.Group == r.Group }) {
		d.Group = r.Group // another group by which it may stay on the same clusters changes nothing
	}
	d.changes = d.changes || d.Group != r.Group
	return chosen
}

// someCandidates is how many of the best clusters are considered first if replicas are divided: nearly every choice is settled by
// them.
const someCandidates = 16

// chooseOthers chooses clusters that the workload does not run on.
func (w *workspace) chooseOthers(plan *plan, classes []*class, r *Request, claimed *holding, places *places) (others []place) {
	c := classes[0]
	number := c.Strategy.Number - len(places.kept) - places.retained
	plan.spread, plan.problem, plan.candidates, plan.chosen, plan.cost, plan.bounded, plan.why = nil, nil, nil, nil, 0, false, ""
	if running := len(places.kept) + len(places.doubtful); running > 0 && c.Placement.Division != nil && r.Workload.Replicas == 0 {
		number = min(number, len(places.doubtful)) // scaled to zero, it gets no more clusters than it leaves
	}
	plan.budget = w.budgetBeside(plan, r, claimed, places)
	if number = min(number, plan.most); number <= 0 || plan.hasParts() && !plan.open {
		return nil
	}
	barred := bars{}
	plan.groups = w.groupsOf(c)
	constraints := w.countDomains(plan, classes, r, claimed, places)
	for most := max(someCandidates, 2*number); ; most *= 8 {
		candidates, all := w.candidates(plan, classes, r, claimed, constraints, number, most)
		if len(barred) > 0 {
			candidates = slices.DeleteFunc(candidates, func(o feasibleCluster) bool { return barred.has(plan.budget, o.key.Position()) })
		}
		p := &spread.Problem{
			Number: number, Candidates: make([]spread.Candidate, len(candidates)), Constraints: constraints, Groups: plan.groups.domains,
		}
		for i := range candidates {
			p.Candidates[i].Value, p.Candidates[i].Group = candidates[i].value, plan.groups.of[candidates[i].key.Position()]
		}
		if plan.division != nil {
			plan.need(p, places, candidates)
		}
		solution := spread.Choose(p)
		if !all && !p.Settles(&solution) || w.bar(barred, plan, classes, candidates, solution.Chosen) {
			continue
		}
		if least := plan.fewest(places) - len(places.kept) - places.retained; len(solution.Chosen) < least {
			plan.why = plan.tooFew(len(solution.Chosen), least, len(candidates))
			plan.problem, plan.candidates = p, candidates
			return nil
		}
		others = slices.Grow(w.others[:0], len(solution.Chosen))[:len(solution.Chosen)]
		w.others = others
		for i, at := range solution.Chosen {
			o := &candidates[at]
			chosen := &others[i]
			*chosen = o.place()
			if chosen.choice = w.choose(classes[o.tier], o.key); plan.division != nil {
				chosen.choice.Replicas = 0 // until they are divided
			}
		}
		plan.problem, plan.candidates, plan.chosen = p, candidates, solution.Chosen
		plan.bounded, plan.cost = solution.Bounded, solution.Cost/ranking.Point
		return others
	}
}

// lastTier returns the last tier that the workload has clusters of.
func (d *Decision) lastTier(p *places, others []place) (last int) {
	for _, all := range [][]place{p.kept, p.doubtful, others} {
		for i := range all {
			if d.chose(all[i].choice.Name) {
				last = max(last, all[i].tier)
			}
		}
	}
	return last
}

// candidates returns feasible clusters that the workload does not run on, best first: as many as can matter if number are chosen
// or, if replicas are divided, at most most of each class. all is false if others could matter as well.
func (w *workspace) candidates(plan *plan, classes []*class, r *Request, claimed *holding, constraints []spread.Constraint, number, most int) (found []feasibleCluster, all bool) {
	taken := make([]int, 0, len(r.Current))
	for i := range r.Current {
		if position, there := w.seen.Position(r.Current[i].Name); there {
			taken = append(taken, position)
		}
	}
	var turn ranking.Turn
	if slices.ContainsFunc(classes, func(c *class) bool { return c.Strategy.Prefer != nil }) {
		turn = w.strategyTurn(r, *claimed, number)
	}
	plan.attraction.begin(taken)
	found, all = make([]feasibleCluster, 0, min(w.seen.Len(), max(most, 2*plan.groups.n))), true
	for tier, c := range classes {
		first, prefer := len(found), c.Strategy.Prefer
		w.eachFeasible(c, tier, r, claimed, plan, constraints, number, func(key ranking.Key) bool {
			position := key.Position()
			if slices.Contains(taken, position) || tier > 0 && slices.ContainsFunc(found[:first], func(o feasibleCluster) bool { return o.key.Position() == position }) {
				return true
			}
			if w.exceedsQuota(plan, c, position) {
				return true
			}
			one := feasibleCluster{key: key, tier: tier, order: plan.valueOf(c, key)}
			if one.value = one.order; prefer != nil {
				one.value = prefer(key, &turn) + plan.attraction.points(position)*ranking.Point
			}
			if plan.division != nil {
				row := w.rowWithout(claimed, position)
				one.room, one.free = plan.roomOn(row)
				one.room = min(one.room, plan.budget.timesOn(plan.budget.groupAt(position), plan.one.Requests))
				if one.room < plan.minimum || plan.division.Excludes(row.Cluster) {
					return true
				}
				if prefer == nil && len(found)-first == most {
					all = false
					return false
				}
			}
			found = append(found, one)
			return true
		})
		if prefer != nil {
			slices.SortStableFunc(found[first:], func(a, b feasibleCluster) int { return cmp.Compare(b.value, a.value) })
		}
		if !all { // candidates of later classes rank after the missing ones
			break
		}
	}
	return found, all
}

// eachFeasible yields the keys of the feasible clusters, best first, as they are without the workload. If only the key orders them, it
// leaves out clusters with enough better ones in the same domains: as many as can be chosen there, and one more to explain why no other
// is.
func (w *workspace) eachFeasible(c *class, tier int, r *Request, claimed *holding, plan *plan, constraints []spread.Constraint, number int, yield func(ranking.Key) bool) {
	ranked := c.take()
	w.current = w.takeOut(c, ranked, r, claimed)
	plan.budget.count(tier, ranked, func(position int) bool {
		return !r.runsOn(w.seen.Row(position).Name) && w.exceedsQuota(plan, c, position)
	})
	groups, enough := w.groupsOf(c), number+len(r.Current)
	switch each := plan.division != nil || c.Strategy.Prefer != nil; {
	case plan.attraction != nil:
		if each {
			enough = ranked.Len()
		}
		plan.attraction.best(c, tier, ranked, groups, enough, yield)
	case each:
		ranked.Descending(yield)
	default:
		var memory [16]int
		left, full := make([]int, groups.n), 0
		for group := range left {
			left[group] = enough
		}
		for k := range constraints {
			limits := constraints[k].Limits(number, memory[:0])
			for group, domains := range groups.domains {
				if domain := domains[k]; domain != spread.None {
					left[group] = min(left[group], max(0, limits[domain])+1+len(r.Current))
				} else if constraints[k].Cost == 0 {
					left[group] = min(left[group], 1+len(r.Current))
				}
			}
		}
		for key := range ranked.Descending {
			group := groups.of[key.Position()]
			if left[group] == 0 {
				continue
			}
			yield(key)
			if left[group]--; left[group] == 0 {
				if full++; full == groups.n {
					break
				}
			}
		}
	}
	putBack(ranked, w.current)
	c.ranking = ranked
}

// countDomains returns the spread constraints of a placement, with the count of each domain before anything is chosen.
func (w *workspace) countDomains(plan *plan, classes []*class, r *Request, claimed *holding, places *places) (constraints []spread.Constraint) {
	c := classes[0]
	if n := len(c.Placement.Spread); n > 0 {
		plan.spread, constraints = make([]spreadOver, 0, n), make([]spread.Constraint, 0, n)
	}
	for k := range c.Placement.Spread {
		constraint := &c.Placement.Spread[k]
		t := w.topology(constraint.Key)
		counts, eligible := make([]int, len(t.domains)), w.eligibleDomains(classes, t)
		count := func(cluster string, n int) {
			if position, there := w.seen.Position(cluster); there && t.of[position] != spread.None {
				counts[t.of[position]] += n
			}
		}
		if constraint.Workloads {
			w.ledger.EachInGroup(r.group(), count)
			if claimed.Group == r.group() {
				for i := range claimed.Shares {
					count(claimed.Shares[i].Cluster, -1)
				}
			}
		}
		for i := range places.kept {
			count(places.kept[i].choice.Name, 1)
		}
		plan.spread = append(plan.spread, spreadOver{Spread: *constraint, domains: t.domains, before: counts, eligible: eligible})
		problem := spread.Constraint{MaxSkew: constraint.MaxSkew, MinDomains: constraint.MinDomains, Counts: counts, Eligible: eligible}
		if !constraint.Required {
			problem.Cost = constraint.Weight * ranking.Point
		}
		constraints = append(constraints, problem)
	}
	return constraints
}

// settleOn sets the clusters of a decision, and returns their keys.
func (d *Decision) settleOn(all []place, p *places) []ranking.Key {
	all = d.settle(all, p)
	if len(all) == 0 {
		return nil
	}
	keys := make([]ranking.Key, len(all))
	d.Clusters = make([]Choice, len(all))
	for i := range all {
		d.Clusters[i], keys[i] = all[i].choice, all[i].key
	}
	return keys
}
