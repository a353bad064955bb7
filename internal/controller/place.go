package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/panics"
)

// decideWithin is how long the engine may take for one workload by the clock. It is the last line of defense behind the budgets of
// Rego and the cost limits of CEL, which stop at the same step on every machine, so it is longer than honest policies take on a
// large fleet in a throttled container. A workspace that exceeds it or a budget rests for restFor.
const (
	decideWithin = 10 * time.Second
	restFor      = 5 * time.Second
)

var (
	errTooLong  = fmt.Errorf("deciding took longer than %s and was stopped", decideWithin)
	errPanicked = errors.New("deciding failed and is tried again")
)

// place decides on the due workloads in turn. For each it asks the engine if the decision may change, and records the answer.
//
// A full pass leaves the remaining workloads as they are, and the next pass continues at once. What has been decided is no longer
// due then unless something has changed, so the order is that of one long pass.
func (p *pass) place(ctx context.Context, o *cacheView) (cut bool) {
	p.followNominations()
	p.due = p.gather(o)
	p.kept = p.findUnseen(ctx, o, p.due, p.result)
	p.followDepartures()
	p.line(p.due)
	p.giveBack()
	if p.engine.Revision(p.name) != p.revision { // what was released repelled others
		p.reopen(nil)
	}
	for item := p.nextInTurn(); item != nil; item = p.nextInTurn() {
		p.process(ctx, item)
	}
	p.result.do(func() { p.moveForGain(ctx) })
	p.reportUnseen(o)
	p.followDrains()
	p.suggest(ctx)
	p.pace()
	p.wakeForEvictions()
	p.wakeNext()
	p.metrics.waiting.Add(float64(p.index.waiting - p.waited))
	p.waited = p.index.waiting
	if p.shifted && p.index.waiting > 0 && p.affine(p.placements) {
		p.result.again = true // they may have waited for what was placed after them
	}
	return p.cut
}

// line queues the due workloads that belong to a placement. What the others hold is released.
func (p *pass) line(due []*workItem) {
	p.queue = btree.NewG(16, func(a, b *workItem) bool { return inTurn(a, b) < 0 })
	var unowned []*workItem
	for _, item := range due {
		p.find(item)
		switch {
		case p.kept[item.key] != nil:
			p.keep(item)
		case item.object == nil && len(p.running[item.key]) > 0:
			p.release(item.key)
			p.index.drop(item)
			p.index.add(item, leftOver)
		case item.object == nil:
			p.release(item.key)
			p.index.forget(item)
		case item.unowned:
			unowned = append(unowned, item)
		case item.idle:
			p.rest(item)
		default:
			p.lineUp(item)
		}
	}
	p.releaseUnowned(unowned)
}

// find looks up the placement and the decision of a workload.
func (p *pass) find(item *workItem) {
	item.withdraw()
	item.stored, _, item.found = p.store.get(item.key)
	item.stale, item.unowned, item.idle = false, false, false
	if item.object == nil {
		item.setOwner(nil)
		p.index.setTurn(item, placement.Turn{})
		return
	}
	item.stale = item.found && item.stored.Workload.UID != item.object.UID
	owner, others := p.ownerOf(item)
	item.setOwner(owner)
	item.others = others
	turn := placement.Turn{Workload: item.object, Kind: item.object.Kind, APIVersion: item.object.APIVersion}
	if owner != nil {
		turn.Priority = owner.object.Spec.Priority
		turn.Displaced, turn.Size = p.loss.displaced(item)
	}
	p.index.setTurn(item, turn)
	if owner == nil {
		item.unowned = true
		return
	}
	item.idle = !item.found && (item.object.end == workload.HasFinished || item.object.end == workload.Suspended || item.object.end == workload.Controlled)
}

// setOwner assigns a workload to a placement, nil for none.
func (item *workItem) setOwner(by *placementState) {
	if item.owner == by {
		return
	}
	if item.owner != nil {
		delete(item.owner.items, item)
	}
	if item.owner = by; by != nil {
		by.items[item] = true
	}
}

// lineUp queues a workload for its turn.
func (p *pass) lineUp(item *workItem) {
	if item.queued == p.index.passes {
		return
	}
	item.queued = p.index.passes
	p.queue.ReplaceOrInsert(item)
}

// nextInTurn returns the workload whose turn is next, nil if there is none.
func (p *pass) nextInTurn() *workItem {
	item, _ := p.queue.DeleteMin()
	return item
}

// process decides on a workload and updates the tallies with the outcome.
func (p *pass) process(ctx context.Context, item *workItem) {
	item.begin(p)
	err := panics.Recovered(func() {
		if decision := p.decide(ctx, item); decision != nil {
			p.record(ctx, item, decision)
		}
		if err := p.preempt(ctx, item); err != nil {
			item.err = err
			p.restIfSlow(err)
		}
		p.reviewReservation(item)
	})
	if err != nil {
		p.failed(item, err)
	}
	p.report(ctx, item)
	item.move = nil
	p.processed = append(p.processed, item)
	p.followUp(item)
}

// begin takes a workload out of the tallies and discards the findings of the last pass over it.
func (item *workItem) begin(p *pass) {
	item.withdraw()
	if item.found && item.tried { // it was placed by another client meanwhile
		item.attempt = attempt{}
		p.index.setWaiting(item, false)
	}
	p.index.sleep(item)
	item.before.missing, item.before.returning, item.before.supposed, item.before.err = item.missing, item.returning, item.supposed, item.err
	item.missing, item.returning, item.supposed, item.err = nil, betterGroup{}, nil, nil
	item.adopted, item.instead, item.returnTo, item.reason = nil, nil, "", ""
	item.deferred, item.unevaluated, item.satisfied, item.paced = false, false, false, false
}

// followUp queues the workloads that the outcome for another one affects and whose turn is later. Affected workloads whose turn has passed
// are left to the next pass.
func (p *pass) followUp(item *workItem) {
	if !p.reopened && p.engine.Revision(p.name) != p.revision {
		p.reopened = true
		p.reopen(item)
	}
	for _, waits := range item.owner.waiting.upTo(maxExamples) { // the status names these
		if !waits.item.attempt.named {
			p.lineUpAfter(waits.item, item)
		}
	}
}

// reopen queues the open workloads whose turn is after that of another one, or all if after is nil.
func (p *pass) reopen(after *workItem) {
	for item := range p.index.open {
		p.lineUpAfter(item, after)
	}
}

func (p *pass) lineUpAfter(item, after *workItem) {
	if item.owner != nil && (after == nil || inTurn(item, after) > 0) {
		p.lineUp(item)
	}
}

// rest records that a workload without a decision gets none.
func (p *pass) rest(item *workItem) {
	a := account{to: item.owner, elsewhere: item.others}
	if item.object.end != workload.HasFinished {
		a.idle = fmt.Sprintf("%s: %s", item.object.workload, item.object.workload.WhyNot())
	}
	p.index.drop(item)
	p.index.setClusters(item, nil)
	item.enter(a)
}

// ownerOf returns the placement that a workload belongs to, and the others that select it. While it is not known what a placement
// selects, it keeps the workloads that it has placed.
func (p *pass) ownerOf(item *workItem) (owner *placementState, others []*placementState) {
	for _, owner := range p.unselective {
		if _, by, placed := p.store.get(item.key); placed && by == namespacedName(owner.object) {
			return owner, nil
		}
	}
	i, more := placement.Owner(p.selectors, item.object.workload)
	if i < 0 {
		return nil, nil
	}
	for _, other := range more {
		others = append(others, p.placements[other])
	}
	return p.placements[i], others
}

// decide asks the engine for a decision on a workload, if one is due; otherwise it returns nil.
func (p *pass) decide(ctx context.Context, item *workItem) *engine.Decision {
	undecidable := p.undecidable(item)
	suspended := item.owner.suspension != nil
	if !undecidable && !suspended && p.full() {
		item.deferred, p.cut = true, true
		return nil
	}
	if item.stale {
		p.releaseItem(item)
	}
	if undecidable {
		return nil
	}
	within, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
	defer done()
	due, err := p.isDue(within, item)
	switch {
	case err == nil && due && suspended:
		err = p.suppose(within, item)
	case err == nil && due:
		var decision *engine.Decision
		if decision, err = p.askEngine(within, item); err == nil {
			return decision
		}
	}
	switch {
	case err != nil && ctx.Err() == nil && p.failsFor(item, err):
		return p.decide(ctx, item) // now by the policies in force
	case err != nil:
		item.err = err
		p.restIfSlow(err)
	}
	return nil
}

// undecidable reports whether the engine is not asked about a workload at all; its reason or err explains why.
func (p *pass) undecidable(item *workItem) bool {
	switch {
	case item.object.err != nil:
		item.reason = item.object.err.Error()
	case item.object.end != "":
		item.reason = item.object.workload.WhyNot()
	case item.owner.err != nil:
		item.reason = "the placement is not valid"
	case !p.inForce:
		item.reason = "the policies of the workspace are not in force"
	case p.now().Before(p.restUntil):
		item.err = p.tooSlow
	default:
		return false
	}
	return true
}

// full reports whether the pass has to publish its decisions before it makes more. Each pass makes at least one.
func (p *pass) full() bool {
	return p.decided >= p.batchSize || p.decided > 0 && p.now().Sub(p.firstAt) >= p.batchTimeout
}

// isDue reports whether a workload is to be decided on: it has no decision and may find a cluster, or it is to have other clusters.
func (p *pass) isDue(ctx context.Context, item *workItem) (bool, error) {
	if !item.found {
		return p.mayFindCluster(ctx, item)
	}
	if p.carryOut(ctx, item) {
		return true, nil
	}
	request := p.request(item)
	returns, err := p.mayReturn(ctx, item, &request)
	if err != nil || !returns && item.move == nil && p.stillSettled(item, &request) {
		return false, err
	}
	review, err := p.engine.Review(ctx, request)
	switch {
	case err != nil:
		return false, err
	case review == nil:
		groups := request.Placement.Groups
		item.attempt, item.satisfied = attempt{}, len(groups) == 0 || request.Group == groups[0].Group
		return false, nil
	case review.Changes():
		return !p.waitsItsTurn(item, review), nil
	default:
		p.settle(item, review, request.Current)
		return false, nil
	}
}

// request returns the engine request for a workload, including where it runs.
func (p *pass) request(item *workItem) engine.Request {
	r := engine.Request{Workspace: p.name, Placement: item.owner.placement, Workload: p.asks(item), Shadow: item.owner.candidate, Now: p.now(), Priority: item.turn.Priority, Since: item.waitingSince}
	if item.found && !item.stale {
		r.Current = make([]engine.Choice, len(item.stored.Clusters))
		for i, c := range item.stored.Clusters {
			r.Current[i] = engine.Choice{Name: c.Name, Replicas: int64(max(0, c.Replicas))}
		}
		r.Group, r.Return = item.stored.Group, item.returnTo
		p.progress(item, &r)
	} else {
		r.Current, r.Instead = item.adopted, item.instead
	}
	item.move.ask(&r)
	return r
}

func (p *pass) askEngine(ctx context.Context, item *workItem) (*engine.Decision, error) {
	start, began := time.Now(), p.now()
	p.adopt(item)
	request := p.request(item)
	request.Hold = true
	decision, err := p.ask(ctx, request)
	p.metrics.duration.Observe(time.Since(start).Seconds())
	p.metrics.decided(decision, err)
	if err != nil {
		p.disown(item)
		return nil, err // not final: the next pass tries again and has to get further than this one
	}
	if p.decided == 0 {
		p.firstAt = began
	}
	p.decided++
	p.shadowed(request)
	return decision, nil
}

// record stores a decision.
func (p *pass) record(ctx context.Context, item *workItem, decision *engine.Decision) {
	for _, h := range decision.GivenUp {
		p.heldReservations[item.key] = append(p.heldReservations[item.key], heldReservation{Held: h}) // until hold, which knows what is durable
	}
	left := leaves(decision)
	p.shifted = p.shifted || len(decision.Clusters) > 0 || item.found
	if decision.Disrupts() && !item.withdrawn() {
		p.countDisruption(item.owner, decision)
	}
	if len(decision.Clusters) == 0 {
		item.attempt.history = historyOf(item, decision, nil, p.now())
		p.metrics.countMove(item.stored.History, item.attempt.history)
		p.disown(item)
		p.releaseItem(item)
		before := item.attempt.message
		switch p.wait(item, decision); {
		case left != "":
			p.event(item.object, corev1.EventTypeWarning, "Withdrawn", fmt.Sprintf("left %s: %s", left, item.reason))
		case item.reason != before:
			p.event(item.object, corev1.EventTypeWarning, "NotPlaced", item.reason)
		}
		return
	}
	wasFound, before := item.found, clusterNames(item.stored.Clusters)
	result := toAPI(decision, item, p.now())
	result.Leaving = p.leavingBy(&item.stored, &result)
	raised := p.keepDurable(item.key, &result)
	result.History = historyOf(item, decision, result.Clusters, p.now())
	p.metrics.countMove(item.stored.History, result.History)
	after := clusterNames(result.Clusters)
	p.store.put(item.key, namespacedName(item.owner.object), result)
	if raised {
		p.restoreReservation(item.key)
	} else {
		p.hold(item.key)
	}
	if item.tried {
		item.attempt = attempt{}
		p.index.setWaiting(item, false)
	}
	item.stored, item.found = result, true
	p.withdraw(item.key) // the workload now owns what others have given up for it
	p.settle(item, decision, nil)
	klog.FromContext(ctx).V(2).Info("Placed", "workload", item.object.workload, "placement", item.owner.object.Name, "clusters", after)
	switch {
	case !wasFound:
		p.placedEvent(item.owner.object, item.key)
	case left != "":
		p.event(item.object, corev1.EventTypeNormal, "Moved", fmt.Sprintf("moved from %s to %s: left %s", strings.Join(before, ", "), describe(result.Clusters), left))
	case len(after) > len(before):
		p.event(item.object, corev1.EventTypeNormal, "ClustersAdded", fmt.Sprintf("placed on %s, before on %s", describe(result.Clusters), strings.Join(before, ", ")))
	}
}

// withdrawn reports whether a workload without a decision has lost the one that it had. That loss has been counted, though the workload may
// run until its copy is gone.
func (item *workItem) withdrawn() bool {
	h := item.attempt.history
	return !item.found && len(h) > 0 && len(h[0].From) > 0 && len(h[0].To) == 0
}

// leaves lists the clusters that a workload leaves, with the reasons.
func leaves(d *engine.Decision) string {
	var left []string
	for _, v := range d.Left {
		left = append(left, v.Cluster+": "+v.Rejection.Message)
	}
	return shorten(strings.Join(left, "; "))
}

// releaseItem releases everything that a workload holds.
func (p *pass) releaseItem(item *workItem) {
	p.release(item.key)
	item.stored, item.found, item.stale = v1alpha1.WorkloadDecision{}, false, false
}

// failed records that the engine panicked for a workload. Its partial effects are undone: the ledger is restored from the store, and
// both are read again before the next pass.
func (p *pass) failed(item *workItem, err error) {
	p.result.fail(fmt.Errorf("deciding on %s: %w", item.object.workload, err))
	p.metrics.decisions.WithLabelValues("failed").Inc()
	p.stale = true
	p.result.fail(panics.Recovered(func() { p.restoreReservation(item.key) }))
	item.err = errPanicked
	if !errors.Is(item.before.err, errPanicked) {
		p.event(item.object, corev1.EventTypeWarning, "DecidingFailed", item.err.Error())
	}
}

// restIfSlow makes a workspace rest that was too slow, so that its slowness costs only itself.
func (w *workspace) restIfSlow(err error) {
	var quarantine *policy.QuarantineError
	switch {
	case errors.As(err, &quarantine): // trying again costs nothing
	case policy.Stopped(err), errors.Is(err, errTooLong):
		w.tooSlow, w.restUntil = err, w.now().Add(restFor)
	}
}
