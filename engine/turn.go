package engine

import (
	"slices"
	"time"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/fairness"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Turn is the stage that rejects clusters where another workload comes first for the room: one of another workspace, or any workload for
// which the cluster gathers room.
const Turn filter.Stage = "Turn"

// notItsTurn does not name whose turn it is: a workspace sees nothing of others.
var notItsTurn = &filter.Rejection{Stage: Turn, Message: "another workload comes first for what is free there"}

// TurnWithin is how long others wait for a workspace to take its turn once room has become free. After that they go on, until it has.
const TurnWithin = 5 * time.Second

// hasTurn reports whether any workload in a line now comes first on a cluster where others came first when it was last evaluated. If
// not, the line waits from now on for those that come first now. If no workload in the line is blind, hasTurn returns true, since
// workloads that are not in the line may have waited. fronts caches the fronts of clusters from one line to the next, as nothing
// changes meanwhile.
func (l *lines) hasTurn(of *line, fronts map[string][]front) bool {
	blind, known := false, map[string]int{} // by cluster, how many fronts, counted from the first, know that the line waits for them
	for _, o := range of.waiting {
		for _, cluster := range o.blind {
			blind = true
			row := l.row(cluster)
			if row == nil || len(l.gatheredFor(cluster)) > 0 {
				continue
			}
			all, found := fronts[cluster]
			if !found {
				all = l.fronts(row)
				fronts[cluster] = all
			}
			me := l.claimant(of, cluster, o.asks(o.classes[0], row), o.priority, o.since, o.name)
			n := known[cluster]
			for ; n < len(all) && all[n].first.Compare(&me) < 0; n++ {
				if all[n].line != of {
					all[n].by[of.name] = true
				}
			}
			known[cluster] = n
			if len(all) > 0 && all[0].line == of {
				all = all[1:]
			}
			if len(all) == 0 || all[0].first.Compare(&me) >= 0 {
				return true
			}
		}
	}
	return !blind
}

// hasLines reports whether any workload waits on the shared fleet that the workspace uses.
func (w *workspace) hasLines() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.window == nil || w.window.grants == nil {
		return false
	}
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	return w.fleet.lines.waiting > 0
}

// othersFirst is the error of a decision that would give a workload more on clusters where others come first.
type othersFirst struct{ clusters []string }

func (o *othersFirst) Error() string { return notItsTurn.Message }

// yields returns *othersFirst if a decision would give a workload more on clusters where others come first: a workload waits there that
// precedes it by the rules of fairness, or the cluster gathers room for another one. The fleet is locked.
//
// A workload that gets no more in all than it is promised, for example one that has to move, never waits for its turn. Nor does the
// fleet's own workspace.
func (w *workspace) yields(r *Request, d *Decision) error {
	f := w.fleet
	l := f.lines.of[w.name]
	if l == nil || f.lines.waiting == 0 || len(r.Instead) > 0 || r.alone || !d.getsMore() {
		return nil
	}
	var others othersFirst
	for i := range d.Clusters {
		c := &d.Clusters[i]
		if c.Expired {
			continue
		}
		more, row := c.Reserved.Without(promisedOn(d.holding.Claim, c.Name)), f.row(c.Name)
		if more.IsZero() || row == nil {
			continue
		}
		if d.Divides() { // it takes its turns part by part, as it does in line
			more = r.Workload.Share(max(1, d.plan.minimum)).Requests
		}
		if f.lines.yields(l, r, row, more) {
			others.clusters = append(others.clusters, c.Name)
		}
	}
	if len(others.clusters) == 0 {
		return nil
	}
	return &others
}

// mayYield is yields for a decision that is not reserved.
func (w *workspace) mayYield(r *Request, d *Decision) error {
	if w.window == nil || w.window.grants == nil {
		return nil
	}
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	return w.yields(r, d)
}

// yields reports whether others come before a request of a workspace for more on a cluster, and records that they are waited for.
func (l *lines) yields(of *line, r *Request, row *snapshot.Row, more capacity.Resources) (others bool) {
	l.advance(r.Now)
	for _, g := range l.gatheredFor(row.Name) { // the workload that has waited too long comes before the one that reclaims
		if l.of[g.of].absent(r.Now) {
			continue
		}
		if g.of == of.name && g.owner == r.owner() {
			return false
		}
		g.by[of.name] = true
		return true
	}
	me := l.claimant(of, row.Name, more, r.Priority, r.Since, nameOf(r.owner()))
	for _, other := range l.of {
		if other == of || other.absent(r.Now) {
			continue
		}
		if f := l.front(other, row); f.first == nil || f.first.Compare(&me) >= 0 {
			continue
		}
		if other.by[of.name], others = true, true; other.owed.IsZero() {
			other.owed = r.Now
		}
	}
	for _, o := range of.waiting {
		o.refused = o.refused || others && o.owner == r.owner()
	}
	return others
}

// absent reports whether others have waited for the workspace for longer than TurnWithin.
func (l *line) absent(now time.Time) bool {
	return !now.IsZero() && !l.owed.IsZero() && now.Sub(l.owed) > TurnWithin
}

// front is the workload of a line that comes first on a cluster; first is nil if there is none.
type front struct {
	*line
	first *fairness.Claimant
	// as is everything that first depends on, besides the line itself.
	as frontAs
}

type frontAs struct {
	row                         *snapshot.Row
	grants                      *grants
	grown, promised, capacities int64
}

// front returns the workload of a line that comes first on a cluster, among those that would fit there and have not been evaluated since
// more became free. It is cached until anything that it depends on changes. So to find who comes before a claimant, it suffices to compare
// it with one workload per line.
func (l *lines) front(of *line, row *snapshot.Row) front {
	if len(of.waiting) == 0 {
		return front{}
	}
	as := frontAs{row, of.grants, max(l.grown[row.Name], of.eased), of.ledger.Version(), l.capacities}
	if kept := of.fronts[row.Name]; kept.as == as {
		return kept
	}
	f := front{line: of, as: as}
	for _, o := range of.waiting {
		if o.evaluatedAt >= as.grown && !o.isBlind(row.Name) {
			continue
		}
		for _, c := range o.classes {
			asks := o.asks(c, row)
			if lacks, _ := row.Lacking(asks, c.Replica); lacks != "" || !of.ledger.Allows(row.Name, asks) || !c.Admits(row) {
				continue
			}
			if me := l.claimant(of, row.Name, asks, o.priority, o.since, o.name); f.first == nil || me.Compare(f.first) < 0 {
				f.first = &me
			}
		}
	}
	if of.fronts == nil {
		of.fronts = map[string]front{}
	}
	of.fronts[row.Name] = f
	return f
}

// fronts returns the fronts of all lines that have one on a cluster, the first in turn first.
func (l *lines) fronts(row *snapshot.Row) (all []front) {
	for _, of := range l.of {
		if f := l.front(of, row); f.first != nil {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b front) int { return a.first.Compare(b.first) })
	return all
}

// claimant returns a workload of a workspace that asks for more on a cluster. If the cluster is in several sets, the set counts by which
// the claimant comes first.
func (l *lines) claimant(of *line, cluster string, more capacity.Resources, priority int32, since time.Time, name string) fairness.Claimant {
	me := fairness.Claimant{Priority: priority, Since: since, Line: of.came, Workload: name}
	var first *fairness.Claimant
	for g := range of.grants.on(cluster) {
		quotas, promised, by := g.quotas(), of.ledger.Promised(g.Set), me
		by.Share, by.Guaranteed = fairness.DominantShare(promised, l.total(of, g), g.Weight), quotas.Guarantees(promised, more)
		if first == nil || by.Compare(first) < 0 {
			first = &by
		}
	}
	if first == nil {
		return me
	}
	return *first
}

// total returns what the clusters of a set have together.
func (l *lines) total(of *line, g *Grant) capacity.Resources {
	if of.totals == nil || of.totalsOf != l.capacities {
		of.totals, of.totalsOf = map[*Grant]capacity.Resources{}, l.capacities
	}
	total, known := of.totals[g]
	if !known {
		for _, cluster := range g.Clusters {
			if row := l.row(cluster); row != nil {
				total = total.Add(row.Allocatable)
			}
		}
		of.totals[g] = total
	}
	return total
}

// withholds reports whether a cluster could not be chosen because others come first there.
func (d *Decision) withholds(cluster string) bool {
	return slices.Contains(d.withheld, cluster) && !d.chose(cluster)
}

// AwaitsTurn reports whether any cluster would be feasible if others did not come first there.
func (d *Decision) AwaitsTurn() bool {
	if len(d.withheld) > 0 { // otherwise it is free
		for v := range d.EachVerdict {
			if v.Rejection == notItsTurn {
				return true
			}
		}
	}
	return false
}

// countWithheld returns how many clusters would be feasible for a class if others did not come first there.
func (d *Decision) countWithheld(c *ranking.Class) (n int) {
	for _, cluster := range d.withheld {
		if row := d.row(cluster); row != nil && c.First(row, false, d.now) == nil && !d.chose(cluster) {
			n++
		}
	}
	return n
}
