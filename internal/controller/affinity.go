package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/panics"
)

// affinityBasis is what the engine's knowledge of affinity between workloads is based on, apart from the workloads themselves.
type affinityBasis struct {
	// store differs once the ledger's claims have been replaced; the new claims carry no labels yet.
	store *store
	// placements, oldest first, each with its spec, the version of what it selects, and the policies that decide for it.
	placements    []*placementState
	affinityParts []*placement.Placement
	selections    []int
	digests       []string
	// relates reports whether policies have affinity terms.
	relates bool
}

func (b *affinityBasis) same(o *affinityBasis) bool {
	return b.store == o.store && slices.Equal(b.placements, o.placements) && slices.Equal(b.affinityParts, o.affinityParts) && slices.Equal(b.selections, o.selections) && slices.Equal(b.digests, o.digests) && b.relates == o.relates
}

// scheduledAs is a placement as policies with a digest schedule one of its workloads, or the error if that is not known.
type scheduledAs struct {
	of     *workload.Workload
	by     *placement.Placement
	digest string
	as     *placement.Placement
	err    error
}

// setAffinity gives the engine what it needs for affinity between workloads: all workloads at first, then those that have changed.
// If policies have affinity terms, they are evaluated for all workloads before the first decision, as far as one pass has time. Nothing may
// be decided until known is true, since placed workloads may repel others. A workload for which the policies fail holds up no other: what
// was known of it is kept, and its placement reports it.
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

// scheduleChanged evaluates the policies in force for the workloads that have changed, and again for those for which they last failed. It
// reports whether it got through all that have changed.
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
	if panicked := panics.Recovered(func() {
		s.as, s.err = w.engine.Scheduled(ctx, engine.Request{Workspace: w.name, Placement: owner.affinityPart, Workload: of, Shadow: owner.candidate})
	}); panicked != nil {
		s.err = panicked
	}
	return s
}

// unknownAffinity returns an error that names the placed workloads for which it is not known whether policies make them repel others.
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
