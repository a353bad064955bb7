package controller

import (
	"context"
	"fmt"
	"slices"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// scheduledAs is what policies with a digest say of a workload that a placement schedules, or why that is not known.
type scheduledAs struct {
	by     *placement.Placement
	digest string
	as     *placement.Placement
	err    error
}

// setAffinity tells the engine what affinity between workloads has to know. Where policies have terms, these are evaluated for all
// workloads before the first decision, as far as one pass has time: until known is true, nothing is to be decided, since what is placed
// may keep others away. A workload for which they fail delays nobody: what was known of it stays, and its placement says so.
func (w *workspace) setAffinity(ctx context.Context, placements []*placementState) (known bool) {
	terms := make([]*placement.Placement, 0, len(placements))
	for _, p := range placements {
		if p.terms != nil {
			terms = append(terms, p.terms)
		}
	}
	known = w.engine.Relates(w.name) && w.scheduleAll(ctx, placements)
	if !w.engine.Relates(w.name) {
		w.scheduled, known = nil, true
	}
	w.engine.SetAffinity(w.name, terms, func(yield func(*workload.Workload, *placement.Placement) bool) {
		for o := range w.index.workloads {
			if !yield(o.workload, w.scheduled[o.workload].as) {
				return
			}
		}
	})
	return known
}

// scheduleAll evaluates the policies in force for the workloads that they have not been evaluated for, those for which they failed
// last. It reports whether it has come to all others.
func (w *workspace) scheduleAll(ctx context.Context, placements []*placementState) (all bool) {
	selectors := make([]placement.Selector, len(placements))
	for i, p := range placements {
		selectors[i], p.unrelated = p.selector, nil
	}
	last, start := w.scheduled, w.now()
	w.scheduled = make(map[*workload.Workload]scheduledAs, len(w.index.items))
	late := func() bool { return w.now().Sub(start) >= trialWithin || w.now().Before(w.restUntil) }
	all = true
	var failing []*workloadObject
	var owners []*placementState // of those
	for o := range w.index.workloads {
		owner, _ := placement.Owner(selectors, o.workload)
		if owner < 0 || placements[owner].terms == nil || o.err != nil || o.end.RequestsNothing() {
			continue
		}
		s, found := last[o.workload]
		if found = found && s.by == placements[owner].terms && s.digest == w.digestFor(placements[owner]); !found {
			if late() {
				all = false
				continue
			}
			s = w.schedule(ctx, o.workload, placements[owner])
		}
		if w.scheduled[o.workload] = s; s.err != nil {
			failing, owners = append(failing, o), append(owners, placements[owner])
		}
	}
	for i, o := range failing {
		if _, again := last[o.workload]; again && !late() {
			w.scheduled[o.workload] = w.schedule(ctx, o.workload, owners[i])
		}
		if _, _, placed := w.store.get(keyOf(o.workload.Reference)); placed && w.scheduled[o.workload].err != nil {
			owners[i].unrelated = append(owners[i].unrelated, o.workload.String())
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
	s := scheduledAs{by: owner.terms, digest: w.digestFor(owner)}
	if panicked := recovered(func() {
		s.as, s.err = w.engine.Scheduled(ctx, engine.Request{Workspace: w.name, Placement: owner.terms, Workload: of, Shadow: owner.candidate})
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
	return w.engine.Relates(w.name) || slices.ContainsFunc(placements, func(p *placementState) bool { return p.terms != nil && len(p.terms.Affinity) > 0 })
}
