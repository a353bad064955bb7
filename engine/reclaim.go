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
	"github.com/kcp-placement/placement/engine/workload"
)

// maxOffers is how many workloads of a workspace others can reclaim from: the least important ones.
const maxOffers = 128

// SetOffers replaces the list of placed workloads of a workspace from which others may reclaim what they are guaranteed, the least
// important first. If the list has gained workloads, it returns the workspaces, by name, with workloads that wait for what is guaranteed:
// they should call SetLine again.
func (e *Engine) SetOffers(workspace logicalcluster.Name, offers []Candidate) (call []logicalcluster.Name) {
	w := e.lookUp(workspace)
	w.mu.Lock()
	f := w.fleet
	w.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lines.of[workspace]
	if l == nil {
		return nil
	}
	before := make(map[workload.Reference]bool, len(l.offers))
	for _, c := range l.offers {
		before[c.Workload] = true
	}
	l.offers = offers[:min(len(offers), maxOffers)]
	if f.lines.waiting == 0 || !slices.ContainsFunc(l.offers, func(c Candidate) bool { return !before[c.Workload] }) {
		return nil
	}
	for name, other := range f.lines.of {
		if other != l && f.lines.waitsWithin(other) {
			call = append(call, name)
		}
	}
	slices.Sort(call)
	return call
}

// waitsWithin reports whether any workload of a workspace waits for what the workspace is guaranteed. The fleet is locked.
func (l *lines) waitsWithin(of *line) bool {
	if !of.grants.guarantee() {
		return false
	}
	for i := range of.grants.all {
		g := &of.grants.all[i]
		one := slices.IndexFunc(g.Clusters, func(cluster string) bool { return l.row(cluster) != nil })
		if one >= 0 && slices.ContainsFunc(of.waiting, func(o *waiter) bool { return !o.turn && o.single && l.guarantees(of, o, g.Clusters[one]) }) {
			return true
		}
	}
	return false
}

// guarantees reports whether a waiting workload stays within what its workspace is guaranteed if it gets a place on a cluster.
func (l *lines) guarantees(of *line, o *waiter, cluster string) bool {
	row := l.row(cluster)
	return row != nil && slices.ContainsFunc(o.classes, func(c *ranking.Class) bool { return of.grants.guarantees(of.ledger, cluster, o.asks(c, row)) })
}

// guarantees reports whether a workspace stays within what any set guarantees it if it gets more on a cluster.
func (g *grants) guarantees(claims *capacity.Ledger, cluster string, more capacity.Resources) bool {
	for g := range g.on(cluster) {
		if quotas := g.quotas(); quotas.Guarantees(claims.Promised(g.Set), more) {
			return true
		}
	}
	return false
}

// Reclaimed returns the workloads of a workspace that are to give up clusters for what others are guaranteed, first those for the claimant
// that has waited longest. They should do so as soon as the workspace's disruption budget allows it; what they give up goes to the workload
// that then comes first there.
//
// Invariant: no workspace is asked for anything that it is guaranteed itself, nor for anything that is no longer guaranteed to another:
// sets, grants and promises may have changed since the victims were found.
func (e *Engine) Reclaimed(workspace logicalcluster.Name) (all []Victim) {
	w := e.lookUp(workspace)
	w.mu.Lock()
	f := w.fleet
	w.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	of := f.lines.of[workspace]
	if of == nil {
		return nil
	}
	left := of.borrowed()
	for _, g := range f.lines.reclaimers() {
		granted := slices.Collect(of.grants.on(g.cluster))
		if len(granted) == 0 || !f.isDue(g) {
			continue
		}
		for _, v := range g.victims[workspace] {
			share := of.shareOf(v.Workload, g.cluster)
			if share == nil || !left.take(granted, share.Amount) {
				continue
			}
			if i := slices.IndexFunc(all, func(o Victim) bool { return o.Workload == v.Workload }); i >= 0 {
				all[i].Clusters = append(slices.Clone(all[i].Clusters), v.Clusters...)
			} else {
				all = append(all, v)
			}
		}
	}
	return all
}

// borrowed is what a workspace has in each of its sets beyond what it is guaranteed.
type borrowed map[*Grant]capacity.Resources

func (l *line) borrowed() borrowed {
	all := borrowed{}
	for i := range l.grants.all {
		g := &l.grants.all[i]
		quotas := g.quotas()
		all[g] = quotas.Borrowed(l.ledger.Promised(g.Set))
	}
	return all
}

// take subtracts what a workload gives up on a cluster in these sets. It returns false and changes nothing if any of it is guaranteed to
// the workspace.
func (b borrowed) take(of []*Grant, amount capacity.Resources) bool {
	for _, g := range of {
		if _, more := b[g].Lacking(amount); more {
			return false
		}
	}
	for _, g := range of {
		b[g] = b[g].Sub(amount)
	}
	return true
}

// shareOf returns what a workload of the workspace has on a cluster, nil if nothing.
func (l *line) shareOf(of workload.Reference, cluster string) *capacity.Share {
	if claim := l.ledger.Claim(ownerOf(of)); claim != nil && claim.UID == of.UID {
		return claim.ShareOn(cluster)
	}
	return nil
}

// isDue reports whether the workload for which others give back room still waits for what its workspace is guaranteed there. The fleet is
// locked.
func (f *fleet) isDue(g *gathering) bool {
	of := f.lines.of[g.of]
	return of != nil && slices.ContainsFunc(of.waiting, func(o *waiter) bool { return o.owner == g.owner && f.lines.guarantees(of, o, g.cluster) })
}

// Reclaim is what others are to give up on a cluster for a workload that waits within what its workspace is guaranteed.
type Reclaim struct {
	Workspace logicalcluster.Name
	Workload  workload.Reference
	Cluster   string
	// Victims by workspace.
	Victims map[logicalcluster.Name][]Victim
}

// Reclaims returns what is to be given up on a fleet, and for whom, the workload that has waited longest first. It is for the owners of the
// fleet: no other workspace may see any of it.
func (e *Engine) Reclaims(fleet logicalcluster.Name) (all []Reclaim) {
	f := e.fleetOf(fleet)
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.lines.reclaimers() {
		of := workload.Reference{APIVersion: g.owner.APIVersion, Kind: g.owner.Kind, Namespace: g.owner.Namespace, Name: g.owner.Name}
		all = append(all, Reclaim{Workspace: g.of, Workload: of, Cluster: g.cluster, Victims: g.victims})
	}
	return all
}

// reclaimers returns the workloads for which others are to give up something, the one that has waited longest first.
func (l *lines) reclaimers() []*gathering {
	return slices.SortedFunc(maps.Values(l.reclaiming), (*gathering).compare)
}

// offer is what can be reclaimed from a workload on a cluster.
type offer struct {
	Candidate
	of                        logicalcluster.Name
	line                      int64
	borrowed                  borrowed
	granted                   []*Grant
	amount, reserved, counted capacity.Resources
}

// coming returns what victims have given up on each cluster that is not free yet: it is held until the change is durable, or the cluster
// still counts it. The fleet is locked.
func (l *lines) coming() map[string]capacity.Resources {
	coming, held := map[string]capacity.Resources{}, map[logicalcluster.Name]map[located]bool{}
	for _, g := range l.reclaiming {
		for name := range g.gave {
			if of := l.of[name]; of != nil && held[name] == nil {
				held[name] = map[located]bool{}
				for owner, s := range of.heldShares {
					coming[s.Cluster] = coming[s.Cluster].Add(s.Amount)
					held[name][located{owner, s.Cluster}] = true
				}
			}
		}
	}
	for _, g := range l.reclaiming {
		row := l.row(g.cluster)
		if row == nil {
			continue
		}
		for name, victims := range g.gave {
			of := l.of[name]
			for _, v := range victims {
				if owner := ownerOf(v.Workload); of == nil || v.Workload.UID == "" || held[name][located{owner, g.cluster}] || of.ledger.Claim(owner).ShareOn(g.cluster) != nil {
					continue
				}
				coming[g.cluster] = coming[g.cluster].Add(row.Counted[v.Workload.UID])
			}
		}
	}
	return coming
}

// heldShares yields what workloads of the workspace have given up that is still held.
func (l *line) heldShares(yield func(capacity.Owner, *capacity.Share) bool) {
	for owner, claim := range l.ledger.EachHeld {
		owner.Held = 0
		for i := range claim.Shares {
			if !yield(owner, &claim.Shares[i]) {
				return
			}
		}
	}
}

// borrowedBeside returns what a workspace has borrowed, without what it has given up and what workspaces other than by reclaim from it.
func (l *lines) borrowedBeside(of *line, by logicalcluster.Name) borrowed {
	left := of.borrowed()
	without := func(s *capacity.Share) {
		for g := range of.grants.on(s.Cluster) {
			left[g] = left[g].Without(s.Amount)
		}
	}
	for _, s := range of.heldShares {
		without(s)
	}
	for _, asked := range l.reclaiming {
		if asked.of == by {
			continue
		}
		for _, v := range asked.victims[of.name] {
			if s := of.ledger.Claim(ownerOf(v.Workload)).ShareOn(asked.cluster); s != nil {
				without(s)
			}
		}
	}
	return left
}

// offersTo returns what others offer to a workspace, by cluster, the least important first. The fleet is locked.
func (l *lines) offersTo(w logicalcluster.Name) map[string][]offer {
	on := map[string][]offer{}
	for name, of := range l.of {
		if name == w || len(of.offers) == 0 {
			continue
		}
		left := l.borrowedBeside(of, w)
		for i := range of.offers {
			c := &of.offers[i]
			claim := of.ledger.Claim(ownerOf(c.Workload))
			if claim == nil || claim.UID != c.Workload.UID {
				continue
			}
			counted := of.ledger.Counted(claim)
			for k := range claim.Shares {
				s := &claim.Shares[k]
				granted := slices.Collect(of.grants.on(s.Cluster))
				if len(granted) == 0 {
					continue
				}
				o := offer{Candidate: *c, of: name, line: of.came, borrowed: left, granted: granted, amount: s.Amount}
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
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), b.Since.Compare(a.Since), cmp.Compare(a.line, b.line), cmp.Compare(a.Workload.String(), b.Workload.String()))
		})
	}
	return on
}

// reclaims returns the waiting workload of a workspace for which others give back room, and where: the first in turn that stays within
// what is guaranteed, and has a place once some of what others have borrowed is gone; nil if there is none. A cluster on which room is
// already given back for another workspace is taken only if there is no other cluster, and only from one that has waited less long.
func (w *workspace) reclaims(ctx context.Context, waiting []*waiter) *gathering {
	w.lock()
	defer w.mu.Unlock()
	if w.window == nil || !w.window.grants.guarantee() {
		return nil
	}
	waiting = slices.DeleteFunc(slices.Clone(waiting), func(o *waiter) bool { return o.turn || !o.single })
	if len(waiting) == 0 {
		return nil
	}
	w.fleet.mu.Lock()
	offers, coming, taken := w.fleet.lines.offersTo(w.name), w.fleet.lines.coming(), w.fleet.lines.takenFrom(w.name)
	var came int64
	if l := w.fleet.lines.of[w.name]; l != nil {
		came = l.came
	}
	w.fleet.mu.Unlock()
	for _, o := range waiting {
		next := &gathering{of: w.name, line: came, owner: o.owner, since: o.since, by: map[logicalcluster.Name]bool{}}
		var best *concession
		for position := range w.seen.Len() {
			row := w.seen.Row(position)
			cluster := row.Name
			if len(offers[cluster]) == 0 && coming[cluster].IsZero() {
				continue
			}
			other := taken[cluster]
			if other != nil && (next.compare(other) > 0 || best != nil && !best.takes) {
				continue
			}
			if ctx.Err() != nil {
				continue
			}
			for _, c := range o.classes {
				asks := o.asks(c, row)
				if !w.window.grants.guarantees(w.ledger, cluster, asks) || !w.ledger.Allows(cluster, asks) || !c.Admits(row) {
					continue
				}
				r := o.reclaimOn(c, row, offers[cluster], coming[cluster])
				if r == nil {
					continue
				}
				r.takes = other != nil
				if best == nil || best.takes && !r.takes || best.takes == r.takes && r.compare(&best.sacrifice) < 0 {
					best = r
				}
			}
		}
		if best != nil {
			next.cluster, next.victims = best.cluster, best.of
			return next
		}
	}
	return nil
}

// guarantee reports whether any grant guarantees anything.
func (g *grants) guarantee() bool {
	return g != nil && slices.ContainsFunc(g.all, func(one Grant) bool { return len(one.Guaranteed) > 0 })
}

// takenFrom returns the workloads of other workspaces for which clusters gather what is reclaimed. The fleet is locked.
func (l *lines) takenFrom(w logicalcluster.Name) map[string]*gathering {
	taken := map[string]*gathering{}
	for cluster, g := range l.reclaiming {
		if g.of != w {
			taken[cluster] = &gathering{of: g.of, line: g.line, owner: g.owner, since: g.since}
		}
	}
	return taken
}

// reclaim makes others give back room for a workload of a workspace, or for none any more, and adds to call the workspaces to call. A
// cluster gathers for one workload at a time, and others give back room for one workload of a workspace at a time.
func (l *lines) reclaim(of logicalcluster.Name, next *gathering, call map[logicalcluster.Name]bool) {
	if next != nil {
		if other := l.reclaiming[next.cluster]; other != nil && other.of != of {
			if next.compare(other) > 0 {
				other.by[of] = true // other has taken the cluster meanwhile
				next = nil
			} else {
				maps.Copy(call, other.by)
				call[other.of] = true
				next.gave = other.gave
			}
		}
	}
	var now *gathering
	for cluster, g := range l.reclaiming {
		if g.of == of {
			now = g
			delete(l.reclaiming, cluster)
		}
	}
	if next != nil {
		l.reclaiming[next.cluster] = next
	}
	succeed(now, next, call)
}

// concession is what is given up on a cluster, by workspace.
type concession struct {
	sacrifice
	cluster string
	of      map[logicalcluster.Name][]Victim
	// takes is set if room is given back for another workload on the cluster so far.
	takes bool
}

// reclaimOn returns what has to be given up on a cluster beyond what is being given up there already, nil if that is not enough. It works
// like kube-scheduler's search for victims: of all that may go, those that can stay do, the most important first.
func (o *waiter) reclaimOn(c *ranking.Class, row *snapshot.Row, offers []offer, coming capacity.Resources) *concession {
	left := map[logicalcluster.Name]borrowed{}
	var goes []*offer
	for i := range offers {
		one := &offers[i]
		if left[one.of] == nil {
			left[one.of] = maps.Clone(one.borrowed)
		}
		if !one.reserved.Add(one.counted).IsZero() && left[one.of].take(one.granted, one.amount) {
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
	r := &concession{sacrifice: sacrifice{highest: math.MinInt32}, cluster: row.Name, of: map[logicalcluster.Name][]Victim{}}
	for _, one := range slices.Backward(goes) { // the most important first
		v := Victim{Candidate: one.Candidate, Clusters: []string{row.Name}}
		r.of[one.of], r.victims = append(r.of[one.of], v), append(r.victims, v)
		r.sum += int64(one.Priority) - math.MinInt32
		r.lines = append(r.lines, one.line)
		if len(r.victims) == 1 || one.Priority == r.highest && one.Since.Before(r.start) {
			r.highest, r.start = one.Priority, one.Since
		}
	}
	return r
}

// asksFor reports whether both have the same victims.
func (g *gathering) asksFor(o *gathering) bool {
	return maps.EqualFunc(g.victims, o.victims, func(a, b []Victim) bool {
		return slices.EqualFunc(a, b, func(x, y Victim) bool { return x.Workload == y.Workload && slices.Equal(x.Clusters, y.Clusters) })
	})
}
