package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// plan is how the clusters of a decision were chosen together.
type plan struct {
	// division of replicas; nil where each cluster gets all of them.
	division *placement.Division
	replicas int64
	spread   []spreadOver
	// cost of the spread constraints that do not hold, in points of the score.
	cost int64
	// bounded: there may be a better choice.
	bounded bool
	// why there is no choice, or none that has all replicas; empty where there is.
	why string
	// others are the decisions by other fallback groups, of which none has a place.
	others []*Decision
	// classes that were chosen from, in order; problem is what was asked of their candidates, chosen the answer.
	classes    []*class
	problem    *spread.Problem
	candidates []candidate
	chosen     []int
}

// spreadOver is a spread constraint with what it counts, after the decision, in each domain.
type spreadOver struct {
	placement.Spread
	domains []string
	counts  []int
	// eligible are the domains that the constraint is about.
	eligible []bool
}

var errBehind = errors.New("a ranking is far behind")

// planIn chooses from the clusters of one group, or of several in order. It is whole if the workload gets all that it has to have
// and stands nowhere that it should leave; only then, or where the choice is final, it is reserved.
func (w *workspace) planIn(ctx context.Context, r *Request, tiers []*placement.Placement, reserve, final bool) (d *Decision, whole bool, err error) {
	in := *r
	in.Placement = tiers[0]
	classes := make([]*class, len(tiers))
	var behind *class
	for {
		var cached bool
		for i, tier := range tiers {
			of := in
			of.Placement = tier
			var known bool
			if classes[i], known, err = w.classOf(ctx, &of); err != nil {
				return nil, false, err
			}
			cached = known && (cached || i == 0)
		}
		d = new(Decision)
		err = w.withRanking(ctx, classes[0], func(s snapshot.Snapshot) error {
			if w.policies.Load() != classes[0].Policy.Policies {
				return errNewPolicies
			}
			for _, c := range classes[1:] {
				if current, err := w.refresh(ctx, c, &s); !current || err != nil {
					behind = c
					return cmp.Or(err, errBehind)
				}
			}
			chosen := w.chooseTogether(d, classes, &in, &s, cached)
			if whole = d.whole(); !reserve || !whole && !final {
				return nil
			}
			return w.reserve(&in, d, chosen)
		})
		switch {
		case errors.Is(err, errNewPolicies):
		case errors.Is(err, errBehind):
			if err := w.rank(ctx, behind); err != nil {
				return nil, false, err
			}
		case err != nil:
			return nil, false, err
		default:
			w.options.Metrics.Request(cached)
			return d, whole, nil
		}
	}
}

// whole reports whether a decision has all that the workload has to have.
func (d *Decision) whole() bool {
	return len(d.Clusters) > 0 && len(d.Standing) == 0 && d.Waiting == 0 && d.plan.why == ""
}

// candidate is a feasible cluster that the workload does not run on.
type candidate struct {
	key ranking.Key
	// tier is the index of its class.
	tier int
	// room and free are how many replicas it can take: as many as the workload may have, and in all.
	room, free, value int64
}

// chooseTogether makes the decision in d, and returns the keys of its clusters. The workspace is locked, and all rankings are
// current for the snapshot.
func (w *workspace) chooseTogether(d *Decision, classes []*class, r *Request, s *snapshot.Snapshot, cached bool) []ranking.Key {
	c := classes[0]
	held := w.held(c, r)
	*d = w.newDecision(c, r, s, held, cached)
	d.plan = &plan{division: c.Placement.Divides(r.Workload), replicas: r.Workload.Replicas}
	places := w.placesOf(r, &held, classes...)
	candidates := w.candidates(classes, r, &held, d.plan.division)
	p := &spread.Problem{Number: c.Strategy.Number - len(places.kept), Candidates: make([]spread.Candidate, len(candidates))}
	if d.plan.division != nil {
		d.plan.need(p, &places, candidates)
	}
	w.constrain(d.plan, p, c, &places, candidates, r, &held)
	solution := spread.Choose(p)
	others := make([]place, len(solution.Chosen))
	for i, at := range solution.Chosen {
		o := &candidates[at]
		others[i] = place{key: o.key, tier: o.tier, room: o.room, free: o.free, choice: w.choose(classes[o.tier], o.key)}
	}
	if least := c.Placement.MinClusters; len(r.Current) == 0 && len(others) < least {
		d.plan.why = d.plan.tooFew(len(others), least, len(candidates))
		others, solution = nil, spread.Solution{}
	}
	d.plan.record(p, &solution)
	d.plan.classes, d.plan.problem, d.plan.candidates, d.plan.chosen = classes, p, candidates, solution.Chosen
	var chosen []ranking.Key
	if d.plan.division == nil {
		standing := max(0, min(c.Strategy.Number-len(places.kept), len(places.doubtful))-len(others))
		chosen = d.settleOn(append(places.kept, others...), &places, standing)
	} else {
		chosen = w.divide(d, c, &places, others)
	}
	if c.Placement.AllClusters || d.plan.division != nil {
		d.Asked = max(len(d.Clusters), c.Placement.MinClusters)
	}
	if d.Group = c.Placement.Group; len(classes) > 1 {
		d.Group = w.lastGroup(d, classes, &places, others)
	}
	d.changes = d.differs(r)
	return chosen
}

// lastGroup is the name of the last group that a workload has clusters of.
func (w *workspace) lastGroup(d *Decision, classes []*class, p *places, others []place) string {
	last := 0
	for _, all := range [][]place{p.kept, p.doubtful, others} {
		for i := range all {
			if d.chose(all[i].choice.Name) {
				last = max(last, all[i].tier)
			}
		}
	}
	return classes[last].Placement.Group
}

func (d *Decision) chose(cluster string) bool {
	return slices.ContainsFunc(d.Clusters, func(c Choice) bool { return c.Name == cluster })
}

// tooFew says why fewer clusters than needed are chosen.
func (p *plan) tooFew(chosen, least, feasible int) string {
	if feasible == 0 {
		return ""
	}
	if feasible < least {
		return fmt.Sprintf("at least %d are asked for", least)
	}
	var keys []string
	for i := range p.spread {
		if p.spread[i].Required {
			keys = append(keys, string(p.spread[i].Key))
		}
	}
	if chosen == 0 && len(keys) > 0 {
		return "none of them keeps the spread over " + strings.Join(keys, " and ")
	}
	if len(keys) > 0 {
		return fmt.Sprintf("at least %d are asked for, and only %d keep the spread over %s", least, chosen, strings.Join(keys, " and "))
	}
	return fmt.Sprintf("at least %d are asked for, and %d can be chosen", least, chosen)
}

// candidates returns the feasible clusters that the workload does not run on, the best first.
func (w *workspace) candidates(classes []*class, r *Request, held *holding, by *placement.Division) (all []candidate) {
	seen := map[int]bool{}
	for i := range r.Current {
		if position, there := w.fleet.Position(r.Current[i].Name); there {
			seen[position] = true
		}
	}
	turn := w.turn(r, *held, classes[0].Strategy.Number)
	for tier, c := range classes {
		strategy, first := &c.Strategy, len(all)
		for _, key := range w.feasible(c, r, held) {
			position := key.Position()
			if seen[position] {
				continue
			}
			if len(classes) > 1 {
				seen[position] = true
			}
			one := candidate{key: key, tier: tier, value: strategy.Value(key)}
			if strategy.Prefer != nil {
				one.value = strategy.Prefer(key, &turn)
			}
			if by != nil {
				row := w.rowWithout(held, position)
				one.room, one.free = roomFor(row, c.Whole, by)
				if one.room < min(by.Min, c.Whole.Replicas) || by.Excludes(row.Cluster) {
					continue
				}
			}
			all = append(all, one)
		}
		slices.SortStableFunc(all[first:], func(a, b candidate) int { return cmp.Compare(b.value, a.value) })
	}
	return all
}

// feasible returns the keys of the feasible clusters, best first, as they are without the workload.
func (w *workspace) feasible(c *class, r *Request, held *holding) []ranking.Key {
	ranked := c.take()
	w.current = w.takeOutEnded(c, ranked, r.Now, w.withoutHeld(ranked, held))
	keys := ranked.Best(ranked.Len(), nil)
	putBack(ranked, w.current)
	c.ranking = ranked
	return keys
}

// rowWithout is the row of a position without what the workload holds there.
func (w *workspace) rowWithout(held *holding, position int) *snapshot.Row {
	row := w.fleet.Row(position)
	if i := held.index(row.Name); i >= 0 {
		without := new(snapshot.Row)
		held.without(i, row, without)
		return without
	}
	return row
}

// roomFor is how many replicas of a workload a cluster may have, and how many there is room for.
func roomFor(row *snapshot.Row, w *workload.Workload, by *placement.Division) (room, free int64) {
	one := w.Share(1)
	if row.LargestFree != nil {
		if _, short := row.LargestFree.Lacking(one.Replica()); short {
			return 0, 0
		}
	}
	free = math.MaxInt32
	for name, amount := range one.Requests.Each {
		if amount > 0 {
			free = min(free, max(0, row.Free.Get(name))/amount)
		}
	}
	if room = min(free, w.Replicas); by.Max > 0 {
		room = min(room, by.Max)
	}
	return room, free
}

// constrain states the spread constraints of a placement for the candidates of a problem.
func (w *workspace) constrain(plan *plan, p *spread.Problem, c *class, places *places, candidates []candidate, r *Request, held *holding) {
	constraints := c.Placement.Spread
	domains := make([]int32, len(candidates)*len(constraints))
	for i := range candidates {
		p.Candidates[i].Value, p.Candidates[i].Domains = candidates[i].value, domains[:len(constraints):len(constraints)]
		domains = domains[len(constraints):]
	}
	for k := range constraints {
		constraint := &constraints[k]
		t := w.topology(constraint.Key)
		over := spreadOver{Spread: *constraint, domains: t.domains, counts: make([]int, len(t.domains)), eligible: c.eligibleDomains(w, t)}
		count := func(cluster string, n int) {
			if position, there := w.fleet.Position(cluster); there && t.of[position] != spread.None {
				over.counts[t.of[position]] += n
			}
		}
		if constraint.Workloads {
			for cluster, n := range w.ledger.Group(r.group()) {
				count(cluster, n)
			}
			if held.Group == r.group() {
				for i := range held.Shares {
					count(held.Shares[i].Cluster, -1)
				}
			}
		}
		for i := range places.kept {
			count(places.kept[i].choice.Name, 1)
		}
		problem := spread.Constraint{MaxSkew: constraint.MaxSkew, MinDomains: constraint.MinDomains, Counts: over.counts, Eligible: over.eligible}
		if !constraint.Required {
			problem.Cost = constraint.Weight * ranking.Point
		}
		for i := range candidates {
			p.Candidates[i].Domains[k] = t.of[candidates[i].key.Position()]
		}
		p.Constraints = append(p.Constraints, problem)
		plan.spread = append(plan.spread, over)
	}
}

// record keeps what was found for those who ask.
func (p *plan) record(problem *spread.Problem, s *spread.Solution) {
	p.bounded, p.cost = s.Bounded, s.Cost/ranking.Point
	for k := range p.spread {
		p.spread[k].counts = slices.Clone(p.spread[k].counts)
	}
	for _, i := range s.Chosen {
		for k, domain := range problem.Candidates[i].Domains {
			if domain != spread.None {
				p.spread[k].counts[domain]++
			}
		}
	}
}

// settleOn makes the choices of a decision: those for all, and for so many of the doubtful clusters as it stands on. It returns
// their keys.
func (d *Decision) settleOn(all []place, p *places, standing int) []ranking.Key {
	slices.SortStableFunc(all, bestFirst)
	for i := range p.doubtful {
		verdict := Verdict{Cluster: p.doubtful[i].choice.Name, Rejection: p.doubtful[i].departure}
		if i < standing {
			all, d.Standing = append(all, p.doubtful[i]), append(d.Standing, verdict)
		} else {
			d.Left = append(d.Left, verdict)
		}
	}
	d.Left = append(d.Left, p.left...)
	keys := make([]ranking.Key, len(all))
	for i := range all {
		d.Clusters, keys[i] = append(d.Clusters, all[i].choice), all[i].key
	}
	return keys
}

// Notes say how the clusters were chosen together: the fallback group, how replicas are divided, how domains are spread over and
// what that costs. There are none where the clusters were chosen one by one.
func (d *Decision) Notes() (notes []string) {
	if d == nil || d.plan == nil {
		return nil
	}
	if d.Group != "" && len(d.Clusters) > 0 {
		notes = append(notes, "by fallback group "+d.Group)
	}
	if p := d.plan; p.division != nil && len(d.Clusters) > 0 {
		note := fmt.Sprintf("%d of %d replicas are divided: %s", p.replicas-d.Waiting, p.replicas, p.division.By)
		notes = append(notes, note)
	}
	for i := range d.plan.spread {
		notes = append(notes, d.plan.spread[i].note())
	}
	if d.plan.cost > 0 {
		notes = append(notes, fmt.Sprintf("spread constraints that do not have to hold cost %d points", d.plan.cost))
	}
	if d.plan.bounded {
		notes = append(notes, fmt.Sprintf("the best of the first %d choices: there may be a better one", spread.MaxSteps))
	}
	return notes
}

// note says for example "clusters over location: eu 2, us 1 (max skew 1)".
func (s *spreadOver) note() string {
	var counts []string
	for i, domain := range s.domains {
		if s.eligible[i] || s.counts[i] > 0 {
			counts = append(counts, fmt.Sprintf("%s %d", domain, s.counts[i]))
		}
	}
	slices.Sort(counts)
	what := "clusters"
	if s.Workloads {
		what = "workloads"
	}
	if len(counts) == 0 {
		return fmt.Sprintf("%s over %s: no cluster that passes is in a domain", what, s.Key)
	}
	return fmt.Sprintf("%s over %s: %s (max skew %d)", what, s.Key, strings.Join(counts, ", "), s.MaxSkew)
}
