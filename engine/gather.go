package engine

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
)

// gathering is a workload that has waited too long, or for which others give up something, with the clusters on which nobody else gets
// more until it has a place.
type gathering struct {
	of logicalcluster.Name
	// line is the place of its workspace among those in line.
	line  int64
	owner capacity.Owner
	// since is when its wait counts from, reported when the workspace says that it began to wait.
	since, reported time.Time
	// clusters are where a workload that has waited too long gathers room, from began to until; cluster is where others give up something.
	clusters     []string
	began, until time.Time
	cluster      string
	// by are the workspaces that have found the cluster taken.
	by map[logicalcluster.Name]bool
	// victims are the workloads that are to give up something for it, by workspace; gave are those that may have done so.
	victims, gave map[logicalcluster.Name][]Victim
}

// compare orders candidates for gathering room: the one that has waited longest comes first.
func (g *gathering) compare(o *gathering) int {
	return cmp.Or(g.since.Compare(o.since), g.reported.Compare(o.reported), cmp.Compare(g.line, o.line), cmp.Compare(nameOf(g.owner), nameOf(o.owner)))
}

// over reports whether an attempt has lasted as long as it may.
func (g *gathering) over(now time.Time) bool { return !g.until.IsZero() && !now.Before(g.until) }

// gather sets the workload for which a workspace would gather room next, nil for none. It adds to call the workspaces that have to decide
// again if this changes who gathers, or where.
//
// Invariant: an attempt goes on until its workload has a place, or no longer waits for one, or until its time is over: no other attempt
// ends it. Then the workload that has waited longest, since it began to wait or since its last attempt, is next. So every waiting workload
// has its turn.
func (l *lines) gather(of *line, next *gathering, call map[logicalcluster.Name]bool) {
	if of.next = next; next != nil {
		next.line = of.came
	}
	now := l.gathering
	switch over := now != nil && now.over(l.now); {
	case now == nil:
	case !over && now.of != of.name:
		return
	case !over && next != nil && next.owner == now.owner:
		next.began, next.until = now.began, now.until
		l.gathering = next
		succeed(now, next, call)
		return
	default:
		l.stop(now)
	}
	l.gathering = l.elect()
	succeed(now, l.gathering, call)
}

// stop ends an attempt, whether or not its time is over. The workload makes no other attempt for as long as this one took.
func (l *lines) stop(g *gathering) {
	l.gathering = nil
	of := l.of[g.of]
	if of == nil || of.patience[g.owner] == nil {
		return
	}
	of.patience[g.owner].stop(g, l.now)
}

// elect begins the next attempt, and returns nil if no workload is to gather room.
func (l *lines) elect() (first *gathering) {
	for _, of := range l.of {
		if of.next == nil {
			continue
		}
		p := of.patience[of.next.owner]
		if p == nil || l.now.Before(p.again) || !slices.ContainsFunc(of.waiting, func(o *waiter) bool { return o.owner == of.next.owner }) {
			continue
		}
		next := *of.next
		next.since, next.by = latest(next.since, p.ended), map[logicalcluster.Name]bool{}
		next.began, next.until = l.now, l.now.Add(p.lasts(next.clusters, of.options.GatherAfter))
		if first == nil || next.compare(first) < 0 {
			first = &next
		}
	}
	return first
}

// succeed adds to call the workspaces to call when next gathers room in place of now, either of which may be nil: those with victims and, if
// the cluster or the claimant has changed, all others concerned.
func succeed(now, next *gathering, call map[logicalcluster.Name]bool) {
	if next != nil && (now == nil || !next.asksFor(now)) {
		for name := range next.victims {
			call[name] = true
		}
	}
	if now != nil && next != nil && next.of == now.of && next.owner == now.owner && next.cluster == now.cluster && slices.Equal(next.clusters, now.clusters) {
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
		call[next.of] = true // no other workload comes first there any more
	}
}

// remember adds the current victims to those of before.
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

// gatheredFor returns the workloads for which a cluster gathers room.
func (l *lines) gatheredFor(cluster string) (all []*gathering) {
	if g := l.gathering; g != nil && slices.Contains(g.clusters, cluster) && !g.over(l.now) {
		all = append(all, g)
	}
	if g := l.reclaiming[cluster]; g != nil {
		all = append(all, g)
	}
	return all
}

// patience records how long a workload has been in line, and the outcome of its attempts to gather room.
type patience struct {
	uid string
	// first is when it was first seen in line, seen when it was last seen there.
	first, seen time.Time
	// tried is how many attempts ran out of time, by cluster; ended is when the last attempt ended, again when the next one may begin.
	tried        map[string]int
	ended, again time.Time
}

// lasts returns how long an attempt on clusters may last: twice as long each time.
func (p *patience) lasts(clusters []string, first time.Duration) time.Duration {
	times := 0
	for _, cluster := range clusters {
		times = max(times, p.tried[cluster])
	}
	for range times {
		first = min(first, math.MaxInt64/2) * 2
	}
	return first
}

// stop ends an attempt: the workload makes no other for as long as this one took.
func (p *patience) stop(g *gathering, now time.Time) {
	if g.over(now) {
		now = g.until
		tried := maps.Clone(p.tried)
		if tried == nil {
			tried = map[string]int{}
		}
		for _, cluster := range g.clusters {
			tried[cluster]++
		}
		p.tried = tried
	}
	p.ended, p.again = now, now.Add(now.Sub(g.began))
}

// since returns when the wait of a workload counts from, given when it says that it began: not before it was first seen.
func (p *patience) since(began time.Time) time.Time { return latest(p.first, began) }

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// maxPatience bounds the number of workloads of a workspace whose waiting time is remembered.
const maxPatience = 4 * maxInLine

// remember records the workloads in line. One that is missing for a moment, because it cannot be decided on, is not forgotten.
func (l *line) remember(now []*waiter, at time.Time, after time.Duration) {
	if at.IsZero() {
		return
	}
	for _, o := range now {
		p := l.patience[o.owner]
		if uid := o.request.Workload.UID; p == nil || p.uid != uid {
			p = &patience{uid: uid, first: at}
			l.patience[o.owner] = p
		}
		p.seen = at
	}
	maps.DeleteFunc(l.patience, func(_ capacity.Owner, p *patience) bool { return at.Sub(p.seen) > after })
	if more := len(l.patience) - maxPatience; more > 0 {
		first := slices.SortedFunc(maps.Keys(l.patience), func(a, b capacity.Owner) int {
			return cmp.Or(l.patience[a].seen.Compare(l.patience[b].seen), cmp.Compare(nameOf(a), nameOf(b)))
		})
		for _, owner := range first[:more] {
			delete(l.patience, owner)
		}
	}
}

// known returns copies of the patience of a workspace's workloads, as if all attempts whose time is over had been ended, and the attempt
// of the workspace that goes on, nil if none does.
func (l *lines) known(of *line) (all map[capacity.Owner]patience, goesOn *gathering) {
	all = make(map[capacity.Owner]patience, len(of.patience))
	for owner, p := range of.patience {
		all[owner] = *p
	}
	switch g := l.gathering; {
	case g == nil || g.of != of.name:
	case g.over(l.now):
		if p, seen := all[g.owner]; seen {
			p.stop(g, l.now)
			all[g.owner] = p
		}
	default:
		goesOn = g
	}
	return all, goesOn
}

// gathers returns the workload of a workspace that is to gather room next, and where. Of the workloads that have waited too long, and
// would have a place if what known workloads hold were gone, it is the one that has waited longest since it began to wait or since its
// last attempt. An attempt that goes on comes first.
func (v *vacating) gathers(waiting []*waiter, known map[capacity.Owner]patience, goesOn *gathering, now time.Time) *gathering {
	if now.IsZero() || v.grants == nil {
		return nil
	}
	var all []*gathering
	by := map[capacity.Owner]*waiter{}
	for _, o := range waiting {
		p, seen := known[o.owner]
		if !seen || p.uid != o.request.Workload.UID || o.since.IsZero() || now.Before(p.again) || now.Sub(p.since(o.since)) < v.options.GatherAfter {
			continue // a workload that has a place, even one that it should leave, does not wait
		}
		by[o.owner] = o
		all = append(all, &gathering{of: v.name, owner: o.owner, since: latest(p.since(o.since), p.ended), reported: o.since, by: map[logicalcluster.Name]bool{}})
	}
	slices.SortFunc(all, func(a, b *gathering) int {
		if goesOn != nil && (a.owner == goesOn.owner) != (b.owner == goesOn.owner) {
			if a.owner == goesOn.owner {
				return -1
			}
			return 1
		}
		return a.compare(b)
	})
	vain := map[uint64]bool{}
	for _, next := range all {
		o := by[next.owner]
		kind, any := v.kindOf(o.request)
		if any && vain[kind] {
			continue
		}
		on, err := v.find(o, known[o.owner].tried)
		if err != nil {
			continue // deciding on it reports the reason
		}
		if len(on) > 0 {
			next.clusters = on
			return next
		}
		vain[kind] = any
	}
	return nil
}
