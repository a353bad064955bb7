package engine

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/int128"
)

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

// gathers returns who of a workspace is to gather room, and where: the one that has waited longest of those that have waited for too long,
// and would have a place on some cluster if that were empty. It gathers on the cluster whose shortfall is the smallest part of its capacity.
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
			if c.First(&empty, false, now) == nil && w.window.grants.groupOf(row.Name) >= 0 && w.ledger.Allows(row.Name, asks) {
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
