package engine

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// forGain returns the request to decide in place of one with a MinGain: it leaves clusters for others that are known to be better
// by that much, or leaves none. It leaves as many as it can, the worst first. decide decides without reserving. The workspace is
// locked, and the rankings are current.
func (w *workspace) forGain(r *Request, classes []*class, decide func(*Request) *Decision) *Request {
	asis := *r
	asis.Leave, asis.MinGain = nil, 0
	stay := decide(&asis)
	if !stay.keeps(r.Current) {
		return &asis
	}
	leave := slices.Clone(r.Leave)
	slices.SortFunc(leave, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(stay.worth(a.Cluster), stay.worth(b.Cluster)), cmp.Compare(a.Cluster, b.Cluster))
	})
	for ; len(leave) > 0; leave = leave[:len(leave)-1] {
		move := asis
		move.Leave, move.Into = leave, w.gainful(&asis, classes, stay, stay.floor(leave, r.MinGain))
		if len(move.Into) > 0 && decide(&move).gains(stay, leave, r.MinGain) {
			return &move
		}
	}
	return &asis
}

// keeps reports whether a workload goes on as it runs: on the same clusters, with the same number of replicas on each.
func (d *Decision) keeps(current []Choice) bool {
	return len(d.Left)+len(d.Retained) == 0 && len(d.Clusters) == len(current) && !slices.ContainsFunc(current, func(c Choice) bool {
		return !slices.ContainsFunc(d.Clusters, func(chosen Choice) bool {
			return chosen.Name == c.Name && (chosen.Replicas == c.Replicas || !d.Divides())
		})
	})
}

// worth returns the total score of a chosen cluster plus what affinity to other workloads adds to it.
func (d *Decision) worth(cluster string) int64 {
	return d.scoreOf(cluster) + d.pointsOf(cluster)
}

func (d *Decision) scoreOf(cluster string) int64 {
	i := slices.IndexFunc(d.Clusters, func(c Choice) bool { return c.Name == cluster })
	if i < 0 {
		return 0
	}
	return d.Clusters[i].Score
}

func (d *Decision) pointsOf(cluster string) int64 {
	position, found := d.snapshot.Position(cluster)
	if !found {
		return 0
	}
	return d.attraction().points(position)
}

// floor is what a cluster needs to be a gain: a total score, a worth (the score with affinity to other workloads), and, if
// replicas overflow, a tier that is not later.
type floor struct {
	total, worth int64
	tier         int
}

func (d *Decision) floor(leave []Verdict, gain int64) floor {
	f := floor{total: math.MinInt64, worth: math.MinInt64, tier: math.MaxInt}
	for _, v := range leave {
		f.total, f.worth = max(f.total, d.scoreOf(v.Cluster)+gain), max(f.worth, d.worth(v.Cluster)+gain)
		if row := d.row(v.Cluster); row != nil {
			_, tier := d.classFor(row)
			f.tier = min(f.tier, tier)
		}
	}
	return f
}

// gainful returns the clusters at or above a floor, of those that may be added or get more replicas.
func (w *workspace) gainful(r *Request, classes []*class, stay *Decision, f floor) (into []string) {
	for i := range stay.Clusters {
		if c := &stay.Clusters[i]; stay.Divides() && r.mayAdd(c.Name) && c.Score >= f.total && stay.worth(c.Name) >= f.worth {
			into = append(into, c.Name)
		}
	}
	running, better := len(into), make([]bool, w.seen.Len())
	for tier, c := range classes[:min(len(classes), f.tier+1)] {
		claimed, ranked := w.holdingOf(c, r), c.take()
		w.current = w.takeOut(c, ranked, r, &claimed)
		for position, key := range ranked.Keys() {
			total := c.Strategy.Total(key)
			if key == 0 || total < f.total || total+stay.attraction().points(position) < f.worth || better[position] {
				continue
			}
			if name := w.seen.Row(position).Name; !stay.chose(name) && w.firstTier(classes[:tier], position) {
				better[position], into = true, append(into, name)
			}
		}
		putBack(ranked, w.current)
		c.ranking = ranked
	}
	slices.Sort(into[running:])
	return into
}

// firstTier reports whether a cluster is feasible by none of the earlier classes.
func (w *workspace) firstTier(before []*class, position int) bool {
	return !slices.ContainsFunc(before, func(c *class) bool { return c.ranking.At(position) != 0 })
}

// gains reports whether a decision leaves exactly what it is to leave, and whether the gain is still large enough after what that
// costs in spread constraints that are not required.
func (d *Decision) gains(stay *Decision, leave []Verdict, gain int64) bool {
	if len(d.Retained) > 0 || len(d.Left) != len(leave) || d.Waiting > stay.Waiting ||
		slices.ContainsFunc(leave, func(v Verdict) bool { return d.chose(v.Cluster) }) {
		return false
	}
	if d.plan == nil || d.plan.problem == nil || len(d.plan.chosen) == 0 {
		return true
	}
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range d.Clusters {
		if name := d.Clusters[i].Name; !stay.chose(name) {
			least = min(least, d.worth(name))
		}
	}
	for _, v := range leave {
		most = max(most, stay.worth(v.Cluster))
	}
	return least-most-d.costBeyond(leave) >= gain
}

// costBeyond returns how many points more the added clusters cost in spread constraints than those that are left.
func (d *Decision) costBeyond(leave []Verdict) int64 {
	p, with := *d.plan.problem, make([]int, 0, len(leave))
	p.Candidates, p.Groups = slices.Clone(p.Candidates), slices.Clone(p.Groups)
	for _, v := range leave {
		domains := make([]int32, len(d.plan.spread))
		for k := range d.plan.spread {
			domains[k] = spread.None
			if domain, found := d.plan.spread[k].Key.Domain(d.snapshot.Row(v.Cluster).Cluster); found {
				domains[k] = int32(slices.Index(d.plan.spread[k].domains, domain))
			}
		}
		with, p.Candidates = append(with, len(p.Candidates)), append(p.Candidates, spread.Candidate{Group: int32(len(p.Groups))})
		p.Groups = append(p.Groups, domains)
	}
	var more int64
	for k := range p.Constraints {
		more += int64(p.Excess(k, d.plan.chosen)-p.Excess(k, with)) * p.Constraints[k].Cost
	}
	return more / ranking.Point
}

// GainStage is the stage that rejects a cluster which a workload leaves for a gain.
const GainStage filter.Stage = "Gain"

// ForGain returns the cluster of request.Current that a workload leaves to gain at least request.MinGain, the clusters that it may go to,
// and the resulting decision, which is nil if it stays. It does not go to barred clusters. Nothing is reserved.
func (e *Engine) ForGain(ctx context.Context, request Request, barred []string) (from string, into []string, d *Decision, err error) {
	outscored, err := e.Outscored(ctx, request)
	if err != nil || len(outscored) == 0 {
		return "", nil, nil, err
	}
	if len(barred) > 0 {
		into = []string{}
		s := e.lookUp(request.Workspace).snapshot()
		for _, row := range s.Rows() {
			if !slices.Contains(barred, row.Name) {
				into = append(into, row.Name)
			}
		}
	}
	for _, cluster := range outscored {
		request.Leave, request.Into = []Verdict{{Cluster: cluster, Rejection: &filter.Rejection{Stage: GainStage}}}, into
		d, err := e.Explain(ctx, request)
		if err != nil {
			return "", nil, nil, err
		}
		if slices.ContainsFunc(d.Left, func(v Verdict) bool { return v.Cluster == cluster && v.Rejection.Stage == GainStage }) {
			return cluster, into, d, nil
		}
	}
	return "", nil, nil, nil
}

// Outscored returns the clusters of request.Current that some cluster outscores by at least request.MinGain points, the lowest score
// first: no other cluster is left for a gain. It only reads the rankings, so it is cheap; whether a workload can leave a cluster that it
// returns is decided by Decide and Explain.
func (e *Engine) Outscored(ctx context.Context, request Request) (clusters []string, err error) {
	if err := request.validate(ctx); err != nil {
		return nil, err
	}
	w := e.lookUp(request.Workspace)
	in, _, err := w.scheduled(ctx, &request)
	if err != nil {
		return nil, err
	}
	tiers := []*placement.Placement{in.Placement}
	if overflows(in) && len(in.Placement.Groups) > 0 {
		tiers = in.Placement.Groups
	} else if group := in.Placement.GroupNamed(in.Group); group != nil {
		tiers[0] = group
	}
	best, own := int64(math.MinInt64), make(map[string]int64, len(in.Current))
	for i, tier := range tiers {
		of := *in
		of.Placement = tier
		c, _, err := w.classOf(ctx, &of)
		if err != nil {
			return nil, err
		}
		if err := w.withRanking(ctx, c, func(snapshot.Snapshot) error {
			best = max(best, c.bestBut(len(of.Current), func(position int) bool { return of.runsOn(w.seen.Row(position).Name) }))
			claimed := w.holdingOf(c, &of)
			for k := range of.Current {
				if name := of.Current[k].Name; i == 0 {
					own[name] = w.scoreOn(c, &claimed, name)
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	for name, score := range own {
		highest := best
		for other, its := range own { // another cluster that it runs on may take the replicas
			if in.Placement.Divides(in.Workload) != nil && other != name {
				highest = max(highest, its)
			}
		}
		if score+in.MinGain <= highest {
			clusters = append(clusters, name)
		}
	}
	slices.SortFunc(clusters, func(a, b string) int { return cmp.Or(cmp.Compare(own[a], own[b]), cmp.Compare(a, b)) })
	return clusters, nil
}

// bestBut returns the highest total of a feasible cluster, except for some clusters, of which there are at most n.
func (c *class) bestBut(n int, some func(position int) bool) int64 {
	best, keys := int64(math.MinInt64), c.ranking.Keys()
	if !c.Strategy.Packs && !c.Strategy.ByProximity { // then the keys are ordered by their totals
		keys = c.ranking.Best(n+1, nil)
	}
	for _, key := range keys {
		if key != 0 && c.Strategy.Total(key) > best && !some(key.Position()) {
			best = c.Strategy.Total(key)
		}
	}
	return best
}

// scoreOn returns the total of a cluster for a workload, as it is without what the workload holds there; 0 if the cluster is not
// registered.
func (w *workspace) scoreOn(c *class, claimed *holding, cluster string) int64 {
	position, registered := w.seen.Position(cluster)
	if !registered {
		return 0
	}
	row := w.rowWithout(claimed, position)
	return scoring.Of(row, c.Asked(c.On(row).Workload.Requests, w.usual(c)), c.Judgement.Weights).Total
}

// Gain states what a workload gains by leaving a cluster, for example "scores 71, and vast 90".
func (d *Decision) Gain(cluster string) string {
	row := d.row(cluster)
	if row == nil {
		return ""
	}
	text := fmt.Sprintf("scores %d", scoring.Of(row, d.asked(row), d.Weights).Total)
	for i := range d.Clusters {
		if c := &d.Clusters[i]; d.holding.index(c.Name) < 0 {
			text += fmt.Sprintf(", and %s %d", c.Name, c.Score)
		}
	}
	return text
}
