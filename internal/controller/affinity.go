package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// affinityBasis is what the engine was last told of affinity between workloads rests on, beside the workloads themselves.
type affinityBasis struct {
	// store is another one once the ledger's claims have been replaced, who knows nothing of labels then.
	store *store
	// placements, oldest first, each with what it says, the version of what it selects, and the policies that decide for it.
	placements    []*placementState
	affinityParts []*placement.Placement
	selections    []int
	digests       []string
	// relates says whether policies have terms.
	relates bool
}

func (b *affinityBasis) same(o *affinityBasis) bool {
	return b.store == o.store && slices.Equal(b.placements, o.placements) && slices.Equal(b.affinityParts, o.affinityParts) && slices.Equal(b.selections, o.selections) && slices.Equal(b.digests, o.digests) && b.relates == o.relates
}

// scheduledAs is what policies with a digest say of a workload that a placement schedules, or why that is not known.
type scheduledAs struct {
	of     *workload.Workload
	by     *placement.Placement
	digest string
	as     *placement.Placement
	err    error
}

// setAffinity tells the engine what affinity between workloads has to know: of all workloads at first, then of those that have changed.
// Where policies have terms, these are evaluated for all workloads before the first decision, as far as one pass has time: until known
// is true, nothing is to be decided, since what is placed may keep others away. A workload for which they fail delays nobody: what was
// known of it stays, and its placement says so.
func (w *workspace) setAffinity(ctx context.Context, placements []*placementState) (known bool) {
	x, last := w.index, w.related
	if w.related = (affinityBasis{}); !w.affine(placements) {
		w.engine.SetAffinity(w.name, nil, nil)
		clear(x.unrelated)
		return true
	}
	now := affinityBasis{store: w.store, placements: placements, relates: w.engine.Relates(w.name)}
	for _, p := range placements {
		now.selections, now.digests = append(now.selections, p.selection), append(now.digests, w.digestFor(p))
		if p.affinityPart != nil {
			now.affinityParts = append(now.affinityParts, p.affinityPart)
		}
	}
	all := !now.same(&last)
	if all {
		for _, item := range x.items {
			x.unrelated[item] = true
		}
	}
	for key := range w.store.changed {
		if item := x.items[key]; item != nil {
			x.unrelated[item] = true
		}
	}
	known = w.scheduleChanged(ctx, placements, now.relates)
	var gone []workload.Reference
	for item := range x.unrelated {
		if item.object == nil {
			gone = append(gone, item.key.reference())
		}
	}
	workloads := func(yield func(*workload.Workload, *placement.Placement) bool) {
		for item := range x.unrelated {
			if item.object != nil && !yield(item.object.workload, item.scheduled.as) {
				return
			}
		}
	}
	if all {
		w.engine.SetAffinity(w.name, now.affinityParts, workloads)
	} else {
		w.engine.UpdateAffinity(w.name, workloads, gone)
	}
	if w.related = now; known {
		clear(x.unrelated)
	}
	return known
}

// scheduleChanged evaluates the policies in force for the workloads that have changed, and again for those that they failed for last. It
// reports whether it has come to all that have changed.
func (w *workspace) scheduleChanged(ctx context.Context, placements []*placementState, relates bool) (all bool) {
	x, start := w.index, w.now()
	late := func() bool { return w.now().Sub(start) >= trialWithin || w.now().Before(w.restUntil) }
	selectors := make([]placement.Selector, len(placements))
	for i, p := range placements {
		selectors[i], p.unrelated = p.selector, nil
	}
	again := slices.SortedFunc(maps.Keys(x.unscheduled), byKey)
	all = true
	for _, item := range slices.SortedFunc(maps.Keys(x.unrelated), byKey) {
		last, o := item.scheduled, item.object
		item.scheduled = scheduledAs{}
		delete(x.unscheduled, item)
		if !relates || o == nil || o.err != nil || o.end.RequestsNothing() {
			continue
		}
		owner, _ := placement.Owner(selectors, o.workload)
		if owner < 0 || placements[owner].affinityPart == nil {
			continue
		}
		if last.of == o.workload && last.by == placements[owner].affinityPart && last.digest == w.digestFor(placements[owner]) {
			item.scheduled = last
		} else if late() {
			all = false
			continue
		} else {
			item.scheduled = w.schedule(ctx, o.workload, placements[owner])
		}
		if item.scheduled.err != nil {
			x.unscheduled[item] = placements[owner]
		}
	}
	for _, item := range again {
		if owner := x.unscheduled[item]; owner != nil && !late() {
			x.unrelated[item] = true
			if item.scheduled = w.schedule(ctx, item.object.workload, owner); item.scheduled.err == nil {
				delete(x.unscheduled, item)
			}
		}
	}
	for _, item := range slices.SortedFunc(maps.Keys(x.unscheduled), byKey) {
		if _, _, placed := w.store.get(item.key); placed {
			owner := x.unscheduled[item]
			owner.unrelated = append(owner.unrelated, item.object.workload.String())
		}
	}
	return all || w.now().Before(w.restUntil)
}

// digestFor identifies the policies that decide for a placement.
func (w *workspace) digestFor(p *placementState) string {
	if p.candidate && w.shadow.set != nil {
		return w.shadow.set.Digest()
	}
	return w.engine.PolicyDigest(w.name)
}

func (w *workspace) schedule(ctx context.Context, of *workload.Workload, owner *placementState) scheduledAs {
	ctx, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
	defer done()
	s := scheduledAs{of: of, by: owner.affinityPart, digest: w.digestFor(owner)}
	if panicked := recovered(func() {
		s.as, s.err = w.engine.Scheduled(ctx, engine.Request{Workspace: w.name, Placement: owner.affinityPart, Workload: of, Shadow: owner.candidate})
	}); panicked != nil {
		s.err = panicked
	}
	return s
}

// unknownAffinity says of which placed workloads it is not known whether policies have them keep others away.
func (p *placementState) unknownAffinity() error {
	if len(p.unrelated) == 0 {
		return nil
	}
	return fmt.Errorf("whether the policies have workloads keep others away is not known while they fail for them, and as it was before: %s", examples(p.unrelated))
}

// affine reports whether any placement, or the policies, may have terms of affinity between workloads.
func (w *workspace) affine(placements []*placementState) bool {
	return w.engine.Relates(w.name) || slices.ContainsFunc(placements, func(p *placementState) bool { return p.affinityPart != nil && len(p.affinityPart.Affinity) > 0 })
}
