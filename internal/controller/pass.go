package controller

import (
	"context"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/engine/placement"
)

// pass is one pass over the workloads of a workspace.
type pass struct {
	*workspace
	placements []*placementState
	selectors  []placement.Selector
	// unselective are the placements of which it is not known what they select.
	unselective []*placementState
	// explained is the latest attempt of each equivalence class in this pass, by the digest of its inputs.
	explained map[string]attempt
	// decided counts the decisions of this pass, the first of which began at firstAt. cut is set once it has left a workload
	// to the next pass.
	decided int
	firstAt time.Time
	cut     bool
	// next is the carry-over to the next pass.
	next   carryOver
	result *result
}

// confirmWithin is how long an informer may take to show what was written before it is looked up.
const confirmWithin = 5 * time.Second

// reconcile makes one pass: it brings the engine up to date, decides what is due, publishes.
func (w *workspace) reconcile(ctx context.Context, o cacheView) (r result) {
	registrations := w.watchHealth(ctx, &o, &r)
	w.updateClusters(registrations, o.unreadable, &r)
	w.updatePolicies(ctx, o, &r)
	placements := w.compile(o.placements, o.unreadable)
	if err := w.load(ctx, o.decisions); err != nil {
		err = fmt.Errorf("reading the decisions: %w", err)
		r.fail(err)
		for _, p := range placements {
			p.unread = err
		}
		w.updateStatus(ctx, placements, &r)
		return r
	}
	cut := w.newPass(placements, &r).place(ctx, o.workloads)
	w.setQuarantine(w.engine.Quarantine(w.name))
	w.publish(ctx, placements, &r)
	freed := w.releaseHeld()
	freed = w.applyReviews() || freed
	r.again = r.again || cut || freed && len(w.waiting) > 0
	if w.store.unconfirmed() {
		r.within(confirmWithin)
	}
	if rest := w.restUntil.Sub(w.now()); rest > 0 {
		r.within(rest)
	}
	w.sendPlacedEvents(placements, &r)
	w.updateStatus(ctx, placements, &r)
	w.watchCapacity(ctx, &o, &r)
	if !cut {
		w.setLoaded()
		w.prefetch(ctx)
	}
	return r
}

func (w *workspace) newPass(placements []*placementState, r *result) *pass {
	p := &pass{
		workspace: w, placements: placements, selectors: make([]placement.Selector, len(placements)),
		explained: map[string]attempt{}, next: newCarryOver(), result: r,
	}
	for i, state := range placements {
		p.selectors[i] = state.selector
		if state.selectorErr != nil {
			p.unselective = append(p.unselective, state)
		}
	}
	return p
}

// prefetchWithin is how long a pass may go on for the sake of the next.
const prefetchWithin = 2 * time.Second

// prefetch brings the rankings in use up to date while nobody waits for them.
func (w *workspace) prefetch(ctx context.Context) {
	if !w.inForce || w.now().Before(w.restUntil) {
		return
	}
	ctx, done := context.WithTimeout(ctx, prefetchWithin)
	defer done()
	if err := w.engine.Prefetch(ctx, w.name); err != nil {
		klog.FromContext(ctx).V(2).Info("Rankings are not ready yet: the next request waits for them", "reason", err.Error())
		w.restIfSlow(err)
	}
}
