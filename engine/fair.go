package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/fairness"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/int128"
)

// Turn is the stage that rejects clusters for whose room another workload comes first: one of another workspace, or one of any for which the
// cluster gathers room.
const Turn filter.Stage = "Turn"

// notItsTurn does not say whose turn it is: a workspace sees nothing of others.
var notItsTurn = &filter.Rejection{Stage: Turn, Message: "another workload comes first for what is free there"}

// TurnWithin is how long others wait for a workspace to look at what has become free. Then they go on, until it has looked.
const TurnWithin = 5 * time.Second

// maxInLine is how many workloads hold the place of a workspace in line: the first.
const maxInLine = 64

// lines are the workloads that wait for room on a fleet, by workspace. The fleet's lock guards them.
//
// Invariant: nobody gets more on a cluster while one of another workspace that comes before it waits, would fit there by what is free and
// what its quota leaves, and has not looked at the cluster since there is more. One that has looked and found no place keeps nobody
// waiting.
type lines struct {
	// row is that of a cluster of the fleet, nil where it is not registered.
	row func(cluster string) *snapshot.Row
	// of has a line for each workspace that looks at the fleet through grants; waiting is how many of them have anyone in it.
	of      map[logicalcluster.Name]*line
	waiting int
	// ticks counts what becomes free; grown is when there was last more on each cluster.
	ticks int64
	grown map[string]int64
	// capacities counts the changes of what is allocatable.
	capacities int64
	// gathering is the one for which a cluster gathers room, nil where that is none.
	gathering *gathering
	// reclaiming are those for which others give back what they are guaranteed, by cluster. Invariant: they are of different workspaces.
	reclaiming map[string]*gathering
}

// line is who waits of one workspace.
type line struct {
	*workspace
	grants  *grants
	ledger  *capacity.Ledger
	waiting []*waiter
	// fronts are those on clusters that somebody has asked for since waiting has changed.
	fronts map[string]front
	// offers are the placed workloads that others may reclaim.
	offers []Candidate
	// eased is the tick at which its quota last left more.
	eased int64
	// called is set while the workspace is to look again, or waits itself for others to look.
	called bool
	// by are those that wait for the workspace to look, the first of them since owed.
	by   map[logicalcluster.Name]bool
	owed time.Time
	// totals are what the clusters of each set have together, as of these capacities.
	totals   map[*Grant]capacity.Resources
	totalsOf int64
}

// waiter is one workload that waits.
type waiter struct {
	owner    capacity.Owner
	name     string // nameOf the owner
	priority int32
	since    time.Time
	// classes are those by which clusters are feasible for it. part is what it can make use of where its replicas are divided, has what it
	// is promised already.
	classes []*ranking.Class
	part    *workload.Workload
	has     *capacity.Claim
	// single: a place on any one cluster is of use to it. now is the time at which it looked.
	single bool
	now    time.Time
	// at is the tick at which it was looked for a place, turn set if there was one, and refused if it could not be had after all, since others
	// came first.
	at            int64
	turn, refused bool
	// looked is the tick from which on what has become free is news to it, and blind are the clusters where all is: others came first there.
	looked int64
	blind  []string // in order
}

func (o *waiter) isBlind(cluster string) bool {
	_, blind := slices.BinarySearch(o.blind, cluster)
	return blind
}

// gathering is a workload that has waited too long, or for which others give up something, and the cluster on which nobody else gets more
// until it has a place.
type gathering struct {
	of      logicalcluster.Name
	owner   capacity.Owner
	since   time.Time
	cluster string
	// by are those that have found the cluster taken.
	by map[logicalcluster.Name]bool
	// victims are who is to give up something for it, by workspace, and gave those who may have done so.
	victims, gave map[logicalcluster.Name][]Victim
}

// compare orders those that could gather room: the one that has waited longest comes first.
func (g *gathering) compare(o *gathering) int {
	return cmp.Or(g.since.Compare(o.since), cmp.Compare(g.of, o.of), cmp.Compare(nameOf(g.owner), nameOf(o.owner)))
}

func nameOf(o capacity.Owner) string {
	return fmt.Sprint(o.Namespace, "/", o.Name, " ", o.Kind, " ", o.APIVersion)
}

// SetLine says which workloads of a workspace wait for room on the clusters that it shares, the first in turn first, in place of those
// that were in line before. It looks for a place for each, and returns the workspaces, by name, that should decide again on what
// waits: those that have waited for this one to look, those that others wait for, and this one itself where there is a place. It reports
// whether any waits for the turn of others, which it should ask about again within TurnWithin.
//
// It is called after each round of decisions of a workspace: with nothing where nothing waits, or what waits cannot be decided on.
func (e *Engine) SetLine(ctx context.Context, workspace logicalcluster.Name, waiting []Request) (call []logicalcluster.Name, blind bool) {
	w := e.lookUp(workspace)
	w.mu.Lock()
	f := w.fleet
	w.mu.Unlock()
	f.mu.Lock()
	tick, before := f.lines.ticks, f.lines.of[w.name]
	if before == nil {
		f.mu.Unlock()
		return nil, false
	}
	looked := before.looked()
	f.mu.Unlock()
	var now []*waiter
	turn := false
	for i := range waiting[:min(len(waiting), maxInLine)] {
		one, fits, err := w.lookFor(ctx, &waiting[i])
		if one == nil || err != nil {
			continue // where it is decided on, it is told why
		}
		if one.at, one.looked = tick, tick; fits {
			had, again := looked[one.owner]
			turn, one.turn, one.looked = turn || !again, true, had
		}
		blind = blind || len(one.blind) > 0
		now = append(now, one)
	}
	var gathers, reclaims *gathering
	if len(now) > 0 {
		gathers, reclaims = w.gathers(now, waiting[0].Now), w.reclaims(ctx, now)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lines.of[w.name]
	if l == nil {
		return nil, false // it looks elsewhere meanwhile
	}
	all := f.lines.replace(l, now, turn, blind)
	f.lines.gather(w.name, gathers, all)
	f.lines.reclaim(w.name, reclaims, all)
	for name := range all {
		if o := f.lines.of[name]; o != nil {
			o.turns.Add(1)
			call = append(call, name)
		}
	}
	slices.Sort(call)
	return call, blind
}

// looked are the ticks at which those of a line have looked who have a place: one that had its turn before, and did not take what was
// free then, keeps nobody waiting for that.
func (l *line) looked() map[capacity.Owner]int64 {
	looked := make(map[capacity.Owner]int64, len(l.waiting))
	for _, o := range l.waiting {
		if o.turn && !o.refused {
			looked[o.owner] = o.at
		}
	}
	return looked
}

// lookFor looks for a place for one that waits; nil where it does not wait for more than it has. It reports whether there is a place.
func (w *workspace) lookFor(ctx context.Context, r *Request) (one *waiter, fits bool, err error) {
	if err := r.validate(ctx); err != nil {
		return nil, false, err
	}
	in, _, err := w.scheduled(ctx, r)
	if err != nil {
		return nil, false, err
	}
	d, err := w.decideAs(ctx, in, false)
	if err != nil {
		return nil, false, err
	}
	one = &waiter{owner: r.owner(), name: nameOf(r.owner()), priority: r.Priority, since: r.Since, has: d.held.Claim, now: r.Now, single: d.plan == nil && len(r.Current) == 0}
	if d.Divides() {
		one.part = r.Workload.Share(max(1, d.plan.minimum))
		one.single = d.plan.division.Partial && d.attraction() == nil
	}
	all := []*Decision{d}
	if d.plan != nil {
		all = append(all, d.plan.others...)
	}
	for _, d := range all {
		one.classes = append(one.classes, d.class)
		if d.plan != nil {
			for _, c := range d.plan.classes[1:] {
				one.classes = append(one.classes, c.Class)
			}
		}
		for _, cluster := range d.withheld {
			if d.withholds(cluster) {
				one.blind = append(one.blind, cluster)
			}
		}
	}
	slices.Sort(one.blind)
	one.blind = slices.Compact(one.blind)
	fits = d.getsMore()
	grows := slices.ContainsFunc(d.Standing, func(v Verdict) bool {
		row := d.row(v.Cluster)
		return row != nil && !one.asks(d.class, row).IsZero()
	})
	if len(r.Current) > 0 && d.Waiting == 0 && !fits && !grows {
		return nil, false, nil
	}
	return one, fits, nil
}

// asks is what the workload asks for on a cluster beyond what it is promised there.
func (o *waiter) asks(c *ranking.Class, row *snapshot.Row) capacity.Resources {
	if o.part != nil {
		return o.part.Requests
	}
	return c.On(row).Workload.Requests.Without(promisedOn(o.has, row.Name))
}

// promisedOn is what a claim reserves on a cluster, whether or not that is counted.
func promisedOn(claim *capacity.Claim, cluster string) (amount capacity.Resources) {
	if s := claim.ShareOn(cluster); s != nil && !s.Expired {
		amount = s.Amount
	}
	return amount
}

// promises returns what is promised to a workload on all its clusters together, before a decision and by it.
func (d *Decision) promises() (before, now capacity.Resources) {
	for i := range d.held.Shares {
		before = before.Add(promisedOn(d.held.Claim, d.held.Shares[i].Cluster))
	}
	for i := range d.Clusters {
		if c := &d.Clusters[i]; !c.Expired {
			now = now.Add(c.Reserved)
		}
	}
	return before, now
}

// getsMore reports whether a decision promises more to a workload than it has.
func (d *Decision) getsMore() bool {
	before, now := d.promises()
	return !now.Without(before).IsZero()
}

// replace says who waits of a workspace, and returns whom to call: those whose turn it is now, and those that others wait for.
func (l *lines) replace(of *line, now []*waiter, turn, blind bool) (call map[logicalcluster.Name]bool) {
	l.waiting += min(1, len(now)) - min(1, len(of.waiting))
	before := of.by
	of.waiting, of.fronts, of.called, of.by, of.owed = now, nil, turn || blind, map[logicalcluster.Name]bool{}, time.Time{}
	call = map[logicalcluster.Name]bool{}
	if turn {
		call[of.name] = true
	}
	fronts := map[string][]front{}
	for name := range before {
		if other := l.of[name]; other == nil || l.hasTurn(other, fronts) {
			call[name] = true
		}
	}
	for name, other := range l.of {
		if len(other.by) > 0 && !other.called {
			other.called, call[name] = true, true
		}
	}
	return call
}

// hasTurn reports whether anyone in a line comes first now on a cluster where others came first when it looked. If nobody does, it waits
// from now on for those that come first now. Of a line in which nobody is blind, others that are not in it may have waited. fronts are
// those of clusters, kept from one line to the next, as nothing changes meanwhile.
func (l *lines) hasTurn(of *line, fronts map[string][]front) bool {
	blind, known := false, map[string]int{} // how many of the fronts of a cluster know that the line waits for them: the first
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

// gather has one of a workspace gather room in place of another, if that is not of another workspace and has waited longer, and says whom
// to call.
func (l *lines) gather(of logicalcluster.Name, next *gathering, call map[logicalcluster.Name]bool) {
	now := l.gathering
	if now != nil && now.of != of && (next == nil || next.compare(now) > 0) {
		return
	}
	l.gathering = next
	succeed(now, next, call)
}

// succeed says whom to call where one gathers room in place of another, either of which may be nil: who gives up something for it, and where
// the cluster is another one's than before, all whom that concerns.
func succeed(now, next *gathering, call map[logicalcluster.Name]bool) {
	if next != nil && (now == nil || !next.asksFor(now)) {
		for name := range next.victims {
			call[name] = true
		}
	}
	if now != nil && next != nil && next.of == now.of && next.owner == now.owner && next.cluster == now.cluster {
		next.by = now.by
		next.remember(now.gave)
		return
	}
	if now != nil {
		maps.Copy(call, now.by)
	}
	if next == nil {
		return
	}
	next.remember(next.gave)
	if len(next.victims) == 0 {
		call[next.of] = true // nobody comes first there any more
	}
}

// remember adds those who are asked now to those who were before.
func (g *gathering) remember(before map[logicalcluster.Name][]Victim) {
	g.gave = map[logicalcluster.Name][]Victim{}
	for _, all := range []map[logicalcluster.Name][]Victim{before, g.victims} {
		for name, victims := range all {
			for _, v := range victims {
				if !slices.ContainsFunc(g.gave[name], func(o Victim) bool { return o.Workload == v.Workload && slices.Equal(o.Clusters, v.Clusters) }) {
					g.gave[name] = append(g.gave[name], v)
				}
			}
		}
	}
}

// gatheredFor are those for whom a cluster gathers room.
func (l *lines) gatheredFor(cluster string) (all []*gathering) {
	for _, g := range []*gathering{l.gathering, l.reclaiming[cluster]} {
		if g != nil && g.cluster == cluster {
			all = append(all, g)
		}
	}
	return all
}

// admit has a workspace stand in line from now on, as far as it has anyone who waits.
func (l *lines) admit(w *workspace, through *grants) {
	if l.of == nil {
		l.of, l.grown, l.reclaiming = map[logicalcluster.Name]*line{}, map[string]int64{}, map[string]*gathering{}
	}
	of := l.of[w.name]
	if of == nil {
		of = &line{by: map[logicalcluster.Name]bool{}}
		l.of[w.name] = of
	}
	of.workspace, of.grants, of.ledger, of.totals, of.fronts = w, through, w.ledger, nil, nil
	l.ease(w.name)
}

// dismiss has a workspace stand in line no more. Who waits for it finds that out within TurnWithin.
func (l *lines) dismiss(name logicalcluster.Name) {
	if of := l.of[name]; of != nil {
		l.waiting -= min(1, len(of.waiting))
		delete(l.of, name)
		if l.gathering != nil && l.gathering.of == name {
			l.gathering = nil
		}
		maps.DeleteFunc(l.reclaiming, func(_ string, g *gathering) bool { return g.of == name })
	}
}

// ease records that the quota of a workspace may leave more than before.
func (l *lines) ease(name logicalcluster.Name) {
	if of := l.of[name]; of != nil {
		l.ticks++
		of.eased = l.ticks
	}
}

// follow records how a cluster has changed, which is nil where it was or is not there.
func (l *lines) follow(before, now *snapshot.Row) {
	if l.of == nil || before == now {
		return
	}
	if before == nil || now == nil || !before.Allocatable.Same(now.Allocatable) {
		l.capacities++
	}
	switch {
	case now == nil:
		delete(l.grown, before.Name)
	case before == nil || before.Figures.Facts != now.Figures.Facts || !now.Free.Without(before.Free).IsZero() || growsOnNode(before, now):
		l.ticks++
		l.grown[now.Name] = l.ticks
	}
}

// followReserved records how what is reserved on a cluster has changed.
func (l *lines) followReserved(cluster string, before, now capacity.Resources) {
	if l.of != nil && !before.Without(now).IsZero() {
		l.ticks++
		l.grown[cluster] = l.ticks
	}
}

func growsOnNode(before, now *snapshot.Row) bool {
	return before.UsableNodes != now.UsableNodes || before.LargestFree != now.LargestFree &&
		(before.LargestFree == nil || now.LargestFree == nil || !now.LargestFree.Without(*before.LargestFree).IsZero())
}

// decided takes up a decision that is reserved.
func (l *lines) decided(name logicalcluster.Name, owner capacity.Owner, d *Decision) {
	of := l.of[name]
	if of == nil {
		return
	}
	if before, now := d.promises(); !before.Without(now).IsZero() {
		l.ease(name)
	}
	if waiting := len(of.waiting); waiting > 0 && len(d.Clusters) > 0 && d.Waiting == 0 {
		of.waiting, of.fronts = slices.DeleteFunc(of.waiting, func(o *waiter) bool { return o.owner == owner }), nil
		l.waiting -= min(1, waiting) - min(1, len(of.waiting))
	}
}

// hasLines reports whether anybody waits on the fleet that a workspace shares.
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

// othersFirst is the error of a decision that would have a workload get more on clusters where others come first.
type othersFirst struct{ clusters []string }

func (o *othersFirst) Error() string { return notItsTurn.Message }

// yields returns *othersFirst where a decision would have a workload get more on clusters where others come first: one waits there that
// precedes it by the rules of fairness, or the cluster gathers room for another. The fleet is locked.
//
// Who does not get more in all than it is promised, for example one that has to move, waits for nobody's turn. Nor does the workspace
// whose fleet it is.
func (w *workspace) yields(r *Request, d *Decision) error {
	f := w.fleet
	l := f.lines.of[w.name]
	if l == nil || f.lines.waiting == 0 || len(r.Instead) > 0 || !d.getsMore() {
		return nil
	}
	var others othersFirst
	for i := range d.Clusters {
		c := &d.Clusters[i]
		if c.Expired {
			continue
		}
		more, row := c.Reserved.Without(promisedOn(d.held.Claim, c.Name)), f.row(c.Name)
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

// mayYield is yields for who only asks.
func (w *workspace) mayYield(r *Request, d *Decision) error {
	if w.window == nil || w.window.grants == nil {
		return nil
	}
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	return w.yields(r, d)
}

// yields reports whether others come before a request of a workspace that is to have more on a cluster, and has them know.
func (l *lines) yields(of *line, r *Request, row *snapshot.Row, more capacity.Resources) (others bool) {
	for _, g := range l.gatheredFor(row.Name) { // the one that has waited too long before the one that reclaims
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

// absent reports whether others have waited long enough for the workspace to look.
func (l *line) absent(now time.Time) bool {
	return !now.IsZero() && !l.owed.IsZero() && now.Sub(l.owed) > TurnWithin
}

// front is who of a line comes first on a cluster: nobody where first is nil.
type front struct {
	*line
	first *fairness.Claimant
	// as is all that first follows from, beside who is in the line.
	as frontAs
}

type frontAs struct {
	row                         *snapshot.Row
	grants                      *grants
	grown, promised, capacities int64
}

// front is who of a line comes first on a cluster, of those that would fit there and have not looked since there is more. It is kept as long
// as nothing changes by which it could be another: so who comes before a claimant is found by comparing it with one of each line.
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
		if o.looked >= as.grown && !o.isBlind(row.Name) {
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

// fronts are those of all lines on a cluster that have one, the first in turn first.
func (l *lines) fronts(row *snapshot.Row) (all []front) {
	for _, of := range l.of {
		if f := l.front(of, row); f.first != nil {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b front) int { return a.first.Compare(b.first) })
	return all
}

// claimant is one of a workspace that asks for more on a cluster.
func (l *lines) claimant(of *line, cluster string, more capacity.Resources, priority int32, since time.Time, name string) fairness.Claimant {
	me := fairness.Claimant{Priority: priority, Since: since, Workspace: of.name.String(), Workload: name}
	if g := of.grants.of(cluster); g != nil {
		promised := of.ledger.Promised(cluster)
		me.Share = fairness.DominantShare(promised, l.total(of, g), g.Weight)
		terms := g.terms()
		me.Guaranteed = terms.Guarantees(promised, more)
	}
	return me
}

// total is what the clusters of a set have together.
func (l *lines) total(of *line, g *Grant) capacity.Resources {
	if of.totals == nil || of.totalsOf != l.capacities {
		of.totals, of.totalsOf = map[*Grant]capacity.Resources{}, l.capacities
	}
	total, known := of.totals[g]
	if !known {
		for _, cluster := range g.Clusters {
			if row := l.row(cluster); row != nil && of.grants.of(cluster) == g {
				total = total.Add(row.Allocatable)
			}
		}
		of.totals[g] = total
	}
	return total
}

// gathers returns who of a workspace is to gather room, and where: the one that has waited longest of those that have waited for too long,
// and would have a place on some cluster if that were empty. Of such clusters it is the one that lacks the least share of what it has.
func (w *workspace) gathers(waiting []*waiter, now time.Time) *gathering {
	byAge := slices.SortedFunc(slices.Values(waiting), func(a, b *waiter) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.name, b.name))
	})
	for _, o := range byAge {
		if now.IsZero() || o.since.IsZero() || now.Sub(o.since) < w.options.GatherAfter {
			continue // one that has a place, and should leave it, does not wait
		}
		if cluster := w.gathersOn(o, now); cluster != "" {
			return &gathering{of: w.name, owner: o.owner, since: o.since, cluster: cluster, by: map[logicalcluster.Name]bool{}}
		}
	}
	return nil
}

func (w *workspace) gathersOn(o *waiter, now time.Time) (cluster string) {
	w.lock()
	defer w.mu.Unlock()
	if w.window == nil || w.window.grants == nil {
		return ""
	}
	least := int64(math.MaxInt64)
	for position := range w.seen.Len() {
		row := w.seen.Row(position)
		for _, c := range o.classes {
			asks := o.asks(c, row)
			lacks := lacking(row, asks)
			if lacks >= least || lacks == 0 && !o.turn && !o.isBlind(row.Name) {
				continue // it has no use for what is free there
			}
			var empty snapshot.Row
			row.Without(capacity.Resources{}, row.Reserved, row.Allocated, &empty)
			if c.First(&empty, false, now) == nil && w.window.grants.setOf(row.Name) >= 0 && w.ledger.Allows(row.Name, asks) {
				least, cluster = lacks, row.Name
			}
		}
	}
	return cluster
}

// lacking is how much of what is asked for a cluster lacks, in millionths of what it has, 0 only where it lacks nothing.
func lacking(row *snapshot.Row, asks capacity.Resources) (most int64) {
	for name, amount := range asks.Each {
		if short := amount - row.Free.Get(name); amount > 0 && short > 0 {
			share, _ := int128.MulDiv(short, 1_000_000, max(1, row.Allocatable.Get(name)))
			most = max(most, 1, share)
		}
	}
	return most
}

// withholds reports whether a workload may get nothing more on a cluster until others have had their turn there.
func (r *Request) withholds(cluster string) bool { return slices.Contains(r.withheld, cluster) }

// withholds reports whether a cluster was no choice, since others come first there.
func (d *Decision) withholds(cluster string) bool {
	return slices.Contains(d.withheld, cluster) && !d.chose(cluster)
}

// AwaitsTurn reports whether a cluster is feasible but for others, which come first there.
func (d *Decision) AwaitsTurn() bool {
	if len(d.withheld) > 0 { // else it costs nothing
		for v := range d.EachVerdict {
			if v.Rejection == notItsTurn {
				return true
			}
		}
	}
	return false
}

// countWithheld is how many clusters would be feasible for a class if others did not come first there.
func (d *Decision) countWithheld(c *ranking.Class) (n int) {
	for _, cluster := range d.withheld {
		if row := d.row(cluster); row != nil && c.First(row, false, d.now) == nil && !d.chose(cluster) {
			n++
		}
	}
	return n
}
