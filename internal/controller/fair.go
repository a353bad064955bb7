package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
)

// Of the workloads of a placement that wait in the same way, the first maxLookedAt are looked at. Of these, maxOfKind of each kind and
// maxCandidates in all may stand in line for room on shared clusters: the engine leaves out those that could never have any. Workloads of a
// kind differ in nothing that decisions depend on.
const (
	maxScanned    = 4096
	maxOfKind     = engine.MaxInLineEach
	maxCandidates = 256
)

// standInLine submits the workloads that wait for room on shared clusters, and enqueues the workspaces whose turn it is to look at what is
// free. While the workspace cannot decide, none of its workloads stand in line.
func (w *workspace) standInLine(ctx context.Context, p *pass, decides bool, r *result) {
	if w.host == nil {
		return
	}
	var waiting []engine.Request
	if decides {
		waiting = p.inLine()
	}
	var offers []engine.Candidate
	if decides {
		offers = p.reclaimable()
	}
	call := w.engine.SetOffers(w.name, offers)
	turns, blind := w.engine.SetLine(ctx, w.name, waiting)
	for _, name := range append(call, turns...) {
		if name == w.name {
			r.again = true
		} else {
			w.host.wake(name)
		}
	}
	if blind {
		r.within(engine.TurnWithin)
	}
}

// inLine returns the workloads that wait for room and would be decided on as soon as there is any, in turn.
func (p *pass) inLine() (waiting []engine.Request) {
	if !p.inForce || p.now().Before(p.restUntil) {
		return nil
	}
	var items []*workItem
	for _, s := range p.placements {
		if s.err != nil || s.suspension != nil {
			continue
		}
		for _, of := range []*lines{&s.waiting, &s.partial, &s.retained} {
			items = p.mayStandInLine(items, of)
		}
	}
	slices.SortFunc(items, inTurn)
	for _, item := range slices.Compact(items) {
		waiting = append(waiting, p.request(item))
	}
	return waiting
}

// mayStandInLine appends the first of the workloads that may stand in line.
func (p *pass) mayStandInLine(items []*workItem, of *lines) []*workItem {
	scanned, most, ofKind := 0, len(items)+maxCandidates, map[string]int{}
	for l := range of.each {
		if scanned++; scanned > maxScanned || len(items) == most {
			break
		}
		item := l.item
		kind := item.attempt.inputs
		if item.err != nil || item.deferred || item.paced || p.nominations[item.key] != nil || kind != "" && ofKind[kind] == maxOfKind {
			continue
		}
		ofKind[kind]++
		items = append(items, item)
	}
	return items
}

// reclaimable returns the placed workloads that may lose clusters so that others get what they are guaranteed, least important first. It
// returns none if there are affinity terms between workloads: removing one workload could break the affinity of another.
func (p *pass) reclaimable() (all []engine.Candidate) {
	if !slices.ContainsFunc(p.placements, func(s *placementState) bool { return s.object.Spec.Preemption.Reclaimable }) || p.affine(p.placements) {
		return nil
	}
	for _, item := range p.index.items {
		if stored, gives := p.mayGiveBack(item); gives {
			all = append(all, engine.Candidate{Workload: item.object.workload.Reference, Priority: item.turn.Priority, Since: stored.DecidedAt.Time})
		}
	}
	slices.SortFunc(all, func(a, b engine.Candidate) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), b.Since.Compare(a.Since), strings.Compare(a.Workload.String(), b.Workload.String()))
	})
	return all
}

// mayGiveBack reports whether a workload may lose clusters for what others are guaranteed, and returns its decision.
func (p *pass) mayGiveBack(item *workItem) (stored v1alpha1.WorkloadDecision, gives bool) {
	if item.owner == nil || item.object == nil || !item.owner.object.Spec.Preemption.Reclaimable || !p.mayLose(item) {
		return stored, false
	}
	stored, _, found := p.store.get(item.key)
	return stored, found && stored.Workload.UID == item.object.UID
}

// giveBack makes workloads give up what others reclaim, as far as the disruption budget allows. The workspace does not learn for whom.
func (p *pass) giveBack() {
	if p.host == nil {
		return
	}
	for _, v := range p.engine.Reclaimed(p.name) {
		item := p.index.items[keyOf(v.Workload)]
		if item == nil {
			continue
		}
		stored, gives := p.mayGiveBack(item)
		on := slices.DeleteFunc(slices.Clone(v.Clusters), func(name string) bool {
			return !slices.ContainsFunc(stored.Clusters, func(c v1alpha1.ClusterDecision) bool { return c.Name == name })
		})
		if !gives || len(on) == 0 {
			continue
		}
		if !item.owner.object.DisruptsAtOnce() && p.brake.Left(p.began, p.placedBefore) < 1 {
			p.result.within(max(1, p.brake.Next(p.began, p.placedBefore).Sub(p.began)))
			continue
		}
		p.makeRoom(item, on, fmt.Sprintf("makes room on %s: another workspace is guaranteed what this one has borrowed", strings.Join(on, ", ")))
	}
}
