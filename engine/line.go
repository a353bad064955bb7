package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// At most MaxInLineEach workloads of a placement, and maxInLine of a workspace in all, are in line.
const (
	MaxInLineEach = 8
	maxInLine     = 64
)

// lines are the workloads that wait for room on a fleet, by workspace. The fleet's lock guards them.
//
// Invariant: nobody gets more on a cluster while a workload of another workspace waits that comes first, would fit there by what is free
// and what its quota leaves, and has not been evaluated since more became free there. One that was evaluated and found no place blocks
// nobody.
type lines struct {
	// row returns the row of a cluster of the fleet, nil if it is not registered.
	row func(cluster string) *snapshot.Row
	// of has a line for each guest of the fleet; waiting is the number of lines that are not empty.
	of      map[logicalcluster.Name]*line
	waiting int
	// ticks counts events that free something; grown is the last such tick of each cluster.
	ticks int64
	grown map[string]int64
	// capacities counts the changes of allocatable capacity.
	capacities int64
	// came is how many workspaces have joined the line, and now the latest time of any request.
	came int64
	now  time.Time
	// gathering is the workload for which clusters gather room, nil if there is none.
	gathering *gathering
	// reclaiming are the workloads for which others give back what is guaranteed, by cluster. Invariant: they are of different workspaces.
	reclaiming map[string]*gathering
}

// line is the waiting workloads of one workspace.
type line struct {
	*workspace
	// came is its place among all lines: those that joined before have lower numbers. It breaks ties in place of names, which others have
	// chosen.
	came    int64
	grants  *grants
	ledger  *capacity.Ledger
	waiting []*waiter
	// fronts caches the fronts on clusters since waiting last changed.
	fronts map[string]front
	// offers are the placed workloads from which others may reclaim.
	offers []Candidate
	// next is the workload that would gather room next, and patience what is known of those that wait or have waited.
	next     *gathering
	patience map[capacity.Owner]*patience
	// eased is the tick at which its quota last left more.
	eased int64
	// called is set while the workspace has been called to decide again, or itself waits for others to do so.
	called bool
	// by are the workspaces that wait for this one to take its turn; owed is when the first of them began to wait.
	by   map[logicalcluster.Name]bool
	owed time.Time
	// totals is what the clusters of each set have together, when capacities was totalsOf.
	totals   map[*Grant]capacity.Resources
	totalsOf int64
}

// waiter is one waiting workload.
type waiter struct {
	owner    capacity.Owner
	name     string // nameOf the owner
	request  *Request
	priority int32
	since    time.Time
	// classes are the classes by which clusters are feasible for it. part is the smallest share that it can use if its replicas are
	// divided; has is what it is promised already.
	classes []*ranking.Class
	part    *workload.Workload
	has     *capacity.Claim
	// single is set if a place on any one cluster is of use to it. now is the time at which it was evaluated.
	single bool
	now    time.Time
	// at is the tick at which a place for it was looked for, turn is set if there was one, and refused if it could not have it after all
	// because others came first.
	at            int64
	turn, refused bool
	// evaluatedAt is the tick after which it does not know what has become free. blind are the clusters where it knows nothing, because others
	// came first there.
	evaluatedAt int64
	blind       []string // in order
}

func (o *waiter) isBlind(cluster string) bool {
	_, blind := slices.BinarySearch(o.blind, cluster)
	return blind
}

func nameOf(o capacity.Owner) string {
	return fmt.Sprint(o.Namespace, "/", o.Name, " ", o.Kind, " ", o.APIVersion)
}

// SetLine replaces the workloads of a workspace that wait for room on the clusters that it shares, in order of their turn. It looks for a
// place for each workload in line, and returns the workspaces, by name, that should decide again on what waits: those that have waited for
// this one to decide, those that others wait for, and this one itself if there is a place. blind reports whether any workload waits for the
// turn of others; then the workspace should call SetLine again within TurnWithin.
//
// Up to 8 workloads of a placement and 64 of the workspace are in line: first those that could have a place if all known workloads were
// gone, then, if places in line are left, those that could not. Whether a workload could is found out once for all workloads of its kind.
//
// Call it after each round of decisions of a workspace: with nothing if nothing waits, or if what waits cannot be decided on.
func (e *Engine) SetLine(ctx context.Context, workspace logicalcluster.Name, waiting []Request) (call []logicalcluster.Name, blind bool) {
	w := e.lookUp(workspace)
	w.mu.Lock()
	f := w.fleet
	w.mu.Unlock()
	var at time.Time
	if len(waiting) > 0 {
		at = waiting[0].Now
	}
	f.mu.Lock()
	tick, before := f.lines.ticks, f.lines.of[w.name]
	if before == nil {
		f.mu.Unlock()
		return nil, false
	}
	f.lines.advance(at)
	evaluated := before.evaluatedAt()
	known, goesOn := f.lines.known(before)
	f.mu.Unlock()
	v := w.vacating(ctx)
	now, turn := v.findPlaces(waiting), false
	for _, o := range now {
		if o.at, o.evaluatedAt = tick, tick; o.turn {
			had, again := evaluated[o.owner]
			turn, o.evaluatedAt = turn || !again, had
		}
		blind = blind || len(o.blind) > 0
	}
	var gathers, reclaims *gathering
	if len(now) > 0 {
		gathers, reclaims = v.gathers(now, known, goesOn, at), w.reclaims(ctx, now)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lines.of[w.name]
	if l == nil {
		return nil, false // it uses another fleet meanwhile
	}
	all := f.lines.replace(l, now, turn, blind)
	l.remember(now, at, w.options.GatherAfter)
	f.lines.gather(l, gathers, all)
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

// advance advances the time.
func (l *lines) advance(now time.Time) { l.now = latest(l.now, now) }

// findPlaces looks for a place for the workloads of the workspace that get into line.
func (v *vacating) findPlaces(waiting []Request) (now []*waiter) {
	type candidate struct {
		*waiter
		turn  int
		group types.NamespacedName
	}
	var could, never []candidate
	each, inVain := map[types.NamespacedName]int{}, map[types.NamespacedName]int{}
	for i := range waiting {
		if len(could) == maxInLine {
			break
		}
		r := &waiting[i]
		if r.validate(v.ctx) != nil || each[r.group()] == MaxInLineEach {
			continue
		}
		in, _, err := v.scheduled(v.ctx, r)
		if err != nil {
			continue // deciding on it reports the reason
		}
		group, vain := r.group(), v.isVain(in)
		if vain && (inVain[group] == MaxInLineEach || len(never) == maxInLine) {
			continue
		}
		one, err := v.findPlace(v.ctx, in)
		if one == nil || err != nil {
			continue
		}
		if !vain && !one.turn && len(one.blind) == 0 {
			any, err := v.could(one)
			vain = err == nil && !any
		}
		if s := (candidate{one, i, group}); vain {
			inVain[group]++
			never = append(never, s)
		} else {
			each[group]++
			could = append(could, s)
		}
	}
	for _, s := range never {
		if len(could) < maxInLine && each[s.group] < MaxInLineEach {
			each[s.group]++
			could = append(could, s)
		}
	}
	slices.SortFunc(could, func(a, b candidate) int { return cmp.Compare(a.turn, b.turn) })
	for _, s := range could {
		now = append(now, s.waiter)
	}
	return now
}

// evaluatedAt returns the ticks at which the workloads of a line that have a place were evaluated: one that had its turn, and did not take
// what was free then, makes nobody wait for that.
func (l *line) evaluatedAt() map[capacity.Owner]int64 {
	evaluated := make(map[capacity.Owner]int64, len(l.waiting))
	for _, o := range l.waiting {
		if o.turn && !o.refused {
			evaluated[o.owner] = o.at
		}
	}
	return evaluated
}

// findPlace looks for a place for a workload as it is scheduled; nil if it does not wait for more than it has.
func (w *workspace) findPlace(ctx context.Context, r *Request) (one *waiter, err error) {
	d, err := w.decideAs(ctx, r, false)
	if err != nil {
		return nil, err
	}
	one = &waiter{owner: r.owner(), name: nameOf(r.owner()), request: r, priority: r.Priority, since: r.Since, has: d.holding.Claim, now: r.Now, single: d.plan == nil && len(r.Current) == 0}
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
	one.turn = d.getsMore()
	grows := slices.ContainsFunc(d.Retained, func(v Verdict) bool {
		row := d.row(v.Cluster)
		return row != nil && !one.asks(d.class, row).IsZero()
	})
	if len(r.Current) > 0 && d.Waiting == 0 && !one.turn && !grows {
		return nil, nil
	}
	return one, nil
}

// asks returns what the workload asks for on a cluster beyond what it is promised there.
func (o *waiter) asks(c *ranking.Class, row *snapshot.Row) capacity.Resources {
	if o.part != nil {
		return o.part.Requests
	}
	return c.On(row).Workload.Requests.Without(promisedOn(o.has, row.Name))
}

// promisedOn returns what a claim reserves on a cluster, whether or not reports count it.
func promisedOn(claim *capacity.Claim, cluster string) (amount capacity.Resources) {
	if s := claim.ShareOn(cluster); s != nil && !s.Expired {
		amount = s.Amount
	}
	return amount
}

// promises returns what is promised to a workload on all its clusters together, before a decision and after it.
func (d *Decision) promises() (before, now capacity.Resources) {
	for i := range d.holding.Shares {
		before = before.Add(promisedOn(d.holding.Claim, d.holding.Shares[i].Cluster))
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

// replace replaces the waiting workloads of a workspace, and returns the workspaces to call: those whose turn it is now, and those that
// others wait for.
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

// admit lets a workspace join the line.
func (l *lines) admit(w *workspace, through *grants) {
	if l.of == nil {
		l.of, l.grown, l.reclaiming = map[logicalcluster.Name]*line{}, map[string]int64{}, map[string]*gathering{}
	}
	of := l.of[w.name]
	if of == nil {
		l.came++
		of = &line{came: l.came, by: map[logicalcluster.Name]bool{}, patience: map[capacity.Owner]*patience{}}
		l.of[w.name] = of
	}
	of.workspace, of.grants, of.ledger, of.totals, of.fronts = w, through, w.ledger, nil, nil
	l.ease(w.name)
}

// dismiss removes a workspace from the line. Others that wait for it find that out within TurnWithin.
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

// follow records how a cluster has changed; before or now is nil if it was or is not registered.
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
	case before == nil || before.Facts != now.Facts || !now.Free.Without(before.Free).IsZero() || growsOnNode(before, now):
		l.ticks++
		l.grown[now.Name] = l.ticks
	}
}

// followReserved records how the reservations on a cluster have changed.
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

// decided records a decision that is reserved.
func (l *lines) decided(name logicalcluster.Name, owner capacity.Owner, d *Decision) {
	of := l.of[name]
	if of == nil {
		return
	}
	if before, now := d.promises(); !before.Without(now).IsZero() {
		l.ease(name)
	}
	if len(d.Clusters) > 0 && d.Waiting == 0 {
		delete(of.patience, owner)
	}
	if waiting := len(of.waiting); waiting > 0 && len(d.Clusters) > 0 && d.Waiting == 0 {
		of.waiting, of.fronts = slices.DeleteFunc(of.waiting, func(o *waiter) bool { return o.owner == owner }), nil
		l.waiting -= min(1, waiting) - min(1, len(of.waiting))
	}
}
