package engine

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// maxOffers is how many workloads of a workspace are looked at for what others reclaim: the least important.
const maxOffers = 128

// SetOffers says which placed workloads of a workspace may lose clusters so that others get back what they are guaranteed and it has
// borrowed, the least important first, in place of those that it said before.
func (e *Engine) SetOffers(workspace logicalcluster.Name, offers []Candidate) {
	w := e.lookUp(workspace)
	w.mu.Lock()
	f := w.fleet
	w.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.lines.of[workspace]; l != nil {
		l.offers = offers[:min(len(offers), maxOffers)]
	}
}

// Reclaimed returns which workloads of a workspace are to give up clusters for what another is guaranteed. They should do so as soon as
// the workspace's budget of disruptions allows it; what they give up goes to whoever comes first there.
//
// Invariant: no workspace is asked for anything that it is guaranteed.
func (e *Engine) Reclaimed(workspace logicalcluster.Name) []Victim {
	w := e.lookUp(workspace)
	w.mu.Lock()
	f := w.fleet
	w.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if g := f.lines.reclaiming; g != nil {
		return g.victims[workspace]
	}
	return nil
}

// offer is what a workload that may be reclaimed has on a cluster.
type offer struct {
	Candidate
	of                        logicalcluster.Name
	borrowed                  *capacity.Resources
	amount, reserved, counted capacity.Resources
}

// comingTo is what others have given up on each cluster that is not free yet: it is held until that is durable and gone, or the cluster still
// counts it for those who have made room for a workload of the workspace. The fleet is locked.
func (l *lines) comingTo(w logicalcluster.Name) map[string]capacity.Resources {
	coming, held := map[string]capacity.Resources{}, map[located]bool{}
	if l.reclaiming == nil || l.reclaiming.of != w {
		return coming
	}
	for name, victims := range l.reclaiming.gave {
		of := l.of[name]
		if of == nil {
			continue
		}
		for owner, claim := range of.ledger.EachClaim {
			for i := range claim.Shares {
				if s := &claim.Shares[i]; owner.Held != 0 {
					coming[s.Cluster] = coming[s.Cluster].Add(s.Amount)
					owner.Held = 0
					held[located{owner, s.Cluster}] = true
				}
			}
		}
		for _, v := range victims {
			owner := ownerOf(v.Workload)
			claim := of.ledger.Claim(owner)
			for _, cluster := range v.Clusters {
				position, there := l.rows.Position(cluster)
				if there && !held[located{owner, cluster}] && (claim == nil || claim.ShareOn(cluster) == nil) && v.Workload.UID != "" {
					coming[cluster] = coming[cluster].Add(l.rows.Row(position).Counted[v.Workload.UID])
				}
			}
		}
	}
	return coming
}

// offersTo returns what others offer, by cluster, the least important first. The fleet is locked.
func (l *lines) offersTo(w logicalcluster.Name) map[string][]offer {
	on := map[string][]offer{}
	for name, of := range l.of {
		if name == w {
			continue
		}
		borrowed := map[*Grant]*capacity.Resources{}
		for i := range of.offers {
			c := &of.offers[i]
			claim := of.ledger.Claim(ownerOf(c.Workload))
			if claim == nil || claim.UID != c.Workload.UID {
				continue
			}
			counted := of.ledger.Counted(claim)
			for k := range claim.Shares {
				s := &claim.Shares[k]
				g := of.grants.of(s.Cluster)
				if g == nil {
					continue
				}
				if borrowed[g] == nil {
					terms := g.terms()
					beyond := terms.Borrowed(of.ledger.Promised(s.Cluster))
					borrowed[g] = &beyond
				}
				o := offer{Candidate: *c, of: name, borrowed: borrowed[g], amount: s.Amount}
				if counted != nil {
					o.counted = counted[k]
				}
				o.reserved = s.Reserved(o.counted)
				on[s.Cluster] = append(on[s.Cluster], o)
			}
		}
	}
	for _, all := range on {
		slices.SortFunc(all, func(a, b offer) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), b.Since.Compare(a.Since), cmp.Compare(a.of, b.of), cmp.Compare(a.Workload.String(), b.Workload.String()))
		})
	}
	return on
}

// reclaims returns for which of a workspace's waiting workloads others give back room, and where: the first in turn that stays within what
// is guaranteed, and has a place once some of what others have borrowed is gone; nil where that is none.
func (w *workspace) reclaims(ctx context.Context, waiting []*waiter) *gathering {
	w.lock()
	defer w.mu.Unlock()
	if w.window == nil || w.window.grants == nil {
		return nil
	}
	w.fleet.mu.Lock()
	offers, coming := w.fleet.lines.offersTo(w.name), w.fleet.lines.comingTo(w.name)
	w.fleet.mu.Unlock()
	for _, o := range waiting {
		if o.turn || !o.single {
			continue
		}
		var best *reclaim
		for position := range w.seen.Len() {
			row := w.seen.Row(position)
			cluster := row.Name
			if len(offers[cluster]) == 0 && coming[cluster].IsZero() {
				continue
			}
			g := w.window.grants.of(cluster)
			if g == nil || ctx.Err() != nil {
				continue
			}
			terms := g.terms()
			for _, c := range o.classes {
				asks := o.asks(c, row)
				if !terms.Guarantees(w.ledger.Promised(cluster), asks) || !w.ledger.Allows(cluster, asks) || !c.Admits(row) {
					continue
				}
				if r := o.reclaimOn(c, row, offers[cluster], coming[cluster]); r != nil && (best == nil || r.compare(&best.sacrifice) < 0) {
					best = r
				}
			}
		}
		if best != nil {
			return &gathering{
				of: w.name, owner: o.owner, since: o.since, cluster: best.cluster, by: map[logicalcluster.Name]bool{}, victims: best.of,
			}
		}
	}
	return nil
}

// reclaim is what is given up on a cluster, by workspace.
type reclaim struct {
	sacrifice
	cluster string
	of      map[logicalcluster.Name][]Victim
}

// reclaimOn returns what has to be given up on a cluster beside what is given up there already, nil where that is not enough. It is found as kube-scheduler finds victims: of all
// that may go those stay that can, the most important first.
func (o *waiter) reclaimOn(c *ranking.Class, row *snapshot.Row, offers []offer, coming capacity.Resources) *reclaim {
	left := map[*capacity.Resources]capacity.Resources{}
	var goes []*offer
	for i := range offers {
		one := &offers[i]
		if _, known := left[one.borrowed]; !known {
			left[one.borrowed] = *one.borrowed
		}
		if _, more := left[one.borrowed].Lacking(one.amount); !more && !one.reserved.Add(one.counted).IsZero() {
			left[one.borrowed] = left[one.borrowed].Sub(one.amount)
			goes = append(goes, one)
		}
	}
	fits := func() bool {
		reserved, counted := coming, capacity.Resources{}
		for _, one := range goes {
			reserved, counted = reserved.Add(one.reserved), counted.Add(one.counted)
		}
		var without snapshot.Row
		row.Without(capacity.Resources{}, reserved, counted, &without)
		asks := c.Asking(c.On(row).Workload)
		if o.part != nil {
			asks = c.Asking(o.part)
		}
		return asks.First(&without, false, o.now) == nil
	}
	if !fits() {
		return nil
	}
	for i := len(goes) - 1; i >= 0; i-- {
		all := goes
		if goes = slices.Delete(slices.Clone(all), i, i+1); !fits() {
			goes = all
		}
	}
	r := &reclaim{sacrifice: sacrifice{highest: math.MinInt32}, cluster: row.Name, of: map[logicalcluster.Name][]Victim{}}
	for _, one := range slices.Backward(goes) { // the most important first
		v := Victim{Candidate: one.Candidate, Clusters: []string{row.Name}}
		r.of[one.of], r.victims = append(r.of[one.of], v), append(r.victims, v)
		r.sum += int64(one.Priority) - math.MinInt32
		if len(r.victims) == 1 || one.Priority == r.highest && one.Since.Before(r.start) {
			r.highest, r.start = one.Priority, one.Since
		}
	}
	return r
}

// asksFor reports whether the same is to be given up for two.
func (g *gathering) asksFor(o *gathering) bool {
	return maps.EqualFunc(g.victims, o.victims, func(a, b []Victim) bool {
		return slices.EqualFunc(a, b, func(x, y Victim) bool { return x.Workload == y.Workload && slices.Equal(x.Clusters, y.Clusters) })
	})
}
