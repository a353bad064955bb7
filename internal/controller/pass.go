package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/btree"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/internal/delivery"
)

// pass is one pass over the workloads of a workspace.
type pass struct {
	*workspace
	placements []*placementState
	selectors  []placement.Selector
	// unselective are the placements whose selection is not known.
	unselective []*placementState
	// due are the workloads that were due when the pass began to place.
	due []*workItem
	// queue holds the due workloads that belong to a placement, in turn; processed those that the pass has handled.
	queue     *btree.BTreeG[*workItem]
	processed []*workItem
	// kept holds the workloads whose decisions stay as they are because the workloads cannot be seen.
	kept map[workloadKey]*hidden
	// revision of the workspace when the pass began to place; reopened is set once open workloads have been queued because it changed.
	revision int64
	reopened bool
	// clustersDelivering caches the clusters that deliver, created on demand.
	clustersDelivering map[string]*delivery.Cluster
	// changeable are the clusters where it depends on time whether workloads may stay.
	changeable map[string]bool
	// explained is the latest attempt in this pass for each class of workloads with the same outcome, by Decision.Peers.
	explained map[string]attempt
	// decided counts the decisions of this pass, the first of which began at firstAt. cut is set once the pass has left a workload
	// to the next one.
	decided int
	firstAt time.Time
	cut     bool
	// made are requests decided in this pass that the shadow policies decide again.
	made []engine.Request
	// evaluated counts the workloads of suspended placements that this pass has evaluated anew.
	evaluated int
	// shifted is set once a workload has got or lost clusters.
	shifted bool
	// began is the time that the disruptions of this pass count from, placedBefore how many workloads were placed then.
	began        time.Time
	placedBefore int
	// preemptions counts the workloads for which the pass has searched for victims.
	preemptions int
	result      *result
}

// confirmWithin is how long an informer may take to show a write before the server is asked about it.
const confirmWithin = 5 * time.Second

// reconcile makes one pass: it brings the engine up to date, decides what is due, and publishes. A step that fails or panics
// is reported in the result, and the remaining steps run all the same, as far as they can.
func (w *workspace) reconcile(ctx context.Context, o cacheView) (r result) {
	w.countHidden(o.hidden)
	w.index.take(&o)
	w.claims.watch(o.binding, w.now())
	r.do(func() { w.followConfig(ctx, &o, &r) })
	w.followClusters(ctx, &o, &r)
	loadErr := w.load(ctx, o.decisions)
	if loadErr == nil {
		loadErr = w.open(&o)
	}
	counted := loadErr == nil && r.do(func() { w.countRequests(ctx, &o, &r) })
	placements := w.compile(o.placements, o.unreadable)
	w.suspend(placements, o.unreadable)
	r.do(func() { w.updatePolicies(ctx, o, placements, &r) })
	r.do(func() { w.followRollout(placements, &r) })
	r.do(func() { w.lintPlacements(placements) })

	decided, cut := false, false
	var p *pass
	if loadErr == nil {
		r.do(w.verifyUnwritten)
		known := false
		counted = counted && r.do(func() { w.readDeliveries(&o) }) && r.do(func() {
			known = w.setAffinity(ctx, placements)
			r.again = r.again || !known
		})
		w.followPlans(&o)
		decided = counted && known && r.do(func() { p = w.newPass(placements, &r); cut = p.place(ctx, &o) })
		if !decided {
			w.index.anew()
			for _, p := range placements {
				p.uncounted = true
			}
		} else {
			w.countSuspended(placements)
			r.do(func() { w.limitRollout(placements, &r) })
			r.do(func() { w.lintScheduled(placements) })
		}
		w.setQuarantine(w.engine.Quarantine(w.name))
		r.do(func() { w.publish(ctx, placements, &r) })
		r.do(func() { w.updateCopies(ctx, &o, &r) })
		if decided {
			r.do(p.handOverRound)
			r.do(func() { p.updatePlans(ctx, &o) })
		}
		r.do(func() { w.afterPublishing(cut, &r) })
		if decided {
			r.do(func() { p.compareShadow(ctx) })
		}
		r.do(func() { w.tryShadow(ctx, &o, placements, &r) })
	} else if err := w.notLoaded(loadErr, placements); errors.As(loadErr, new(errNotOpen)) {
		r.within(confirmWithin)
	} else {
		r.fail(err)
	}
	r.do(func() { w.standInLine(ctx, p, decided, &r) })
	if !w.yields(&r) {
		if loadErr == nil {
			r.do(func() { w.sendPlacedEvents(placements, &r) })
		}
		r.do(func() { w.updateStatus(ctx, placements, &r) })
		r.do(func() { w.updateConfig(ctx, placements, &r) })
		r.do(func() { w.updateSharing(ctx, &o, &r) })
	}
	if w.host == nil {
		r.do(func() { w.watchReports(ctx, &o, &r) })
		r.do(func() { w.tendKept(ctx, &o, &r) })
	}
	if decided && !cut {
		w.setLoaded()
		r.do(func() { w.prefetch(ctx) })
		r.do(func() { w.checkHeadroom(ctx, placements, &r) })
	}
	return r
}

// notLoaded makes the placements report that their decisions are not known.
func (w *workspace) notLoaded(err error, placements []*placementState) error {
	err = fmt.Errorf("reading the decisions: %w", err)
	for _, p := range placements {
		p.unread = err
	}
	return err
}

// afterPublishing releases what was held until it was written, and asks for the next pass.
func (w *workspace) afterPublishing(cut bool, r *result) {
	freed := w.releaseHeld()
	w.currentFleet().recordPass(w.name, len(w.index.open) > 0, w.drains, freed)
	r.again = r.again || cut || freed && len(w.index.open) > 0 || w.nominationsPublished()
	if w.store.unconfirmed() {
		r.within(confirmWithin)
	}
	if rest := w.restUntil.Sub(w.now()); rest > 0 {
		r.within(rest)
	}
}

func (w *workspace) newPass(placements []*placementState, r *result) *pass {
	p := &pass{
		workspace: w, placements: placements, selectors: make([]placement.Selector, len(placements)),
		explained: map[string]attempt{}, changeable: map[string]bool{}, result: r,
		began: w.now(), placedBefore: w.store.placed,
	}
	for i, state := range placements {
		p.selectors[i] = state.selector
		if state.selectorErr != nil {
			p.unselective = append(p.unselective, state)
		}
	}
	return p
}

// prefetchWithin is how long a pass may continue for the sake of the next one.
const prefetchWithin = 2 * time.Second

// prefetch refreshes the rankings in use while nobody waits for them.
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
