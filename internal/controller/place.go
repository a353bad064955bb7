package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// decideWithin is how long the engine may take for one workload by the clock. It is the last line behind the budgets of Rego
// and the cost limits of CEL, which stop at the same step on every machine, so it is longer than honest policies take on a
// large fleet in a container that is throttled. A workspace that exceeds it or a budget rests for restFor.
const (
	decideWithin = 10 * time.Second
	restFor      = 5 * time.Second
)

var (
	errTooLong  = fmt.Errorf("deciding took longer than %s and was stopped", decideWithin)
	errPanicked = errors.New("deciding failed and is tried again")
)

// carryOver is what one pass knows about workloads that the next one needs.
type carryOver struct {
	// waiting are the workloads that no cluster is feasible for.
	waiting map[workloadKey]attempt
	// unreadable are the reported errors of workloads that cannot be decoded.
	unreadable map[types.UID]string
	// settled are the placed workloads that should have other clusters, or more, and found none.
	settled map[workloadKey]attempt
	// missing is since when a cluster that counts workloads has not counted all of a workload placed there.
	missing map[located]time.Time
	// returning is since when a better fallback group has had a place for a workload, without a break.
	returning map[workloadKey]betterGroup
	// supposed is what would be decided on workloads of placements that are suspended.
	supposed map[workloadKey]supposed
	// failures are why workloads could not be decided on.
	failures map[workloadKey]error
}

func newCarryOver() carryOver {
	return carryOver{
		waiting: map[workloadKey]attempt{}, unreadable: map[types.UID]string{}, settled: map[workloadKey]attempt{},
		missing: map[located]time.Time{}, failures: map[workloadKey]error{}, returning: map[workloadKey]betterGroup{}, supposed: map[workloadKey]supposed{},
	}
}

// workItem is a workload on its way through a pass.
type workItem struct {
	owner  *placementState
	object *workloadObject
	key    workloadKey
	turn   placement.Turn
	// stored is the decision that the workload has, where found. It is stale where it was made for an earlier workload of
	// the same name.
	stored       v1alpha1.WorkloadDecision
	found, stale bool
	// attempt is the latest one in vain: to place the workload, where tried, or to find a better place for it.
	attempt attempt
	tried   bool
	// adopted are the clusters where it runs, where it has no decision.
	adopted []engine.Choice
	// returnTo is the fallback group that the workload is to return to, move what it is to leave for another reason than what the
	// clusters are.
	returnTo string
	move     *move
	// reason is why the workload waits, err why it could not be decided on.
	reason string
	err    error
	// deferred says that the pass was cut short before this workload.
	deferred bool
}

// place decides on the workloads in turn. For each it asks the engine, if a decision is due, and records the answer.
//
// A pass that is full leaves the remaining workloads as they are, and the next one goes on at once. It starts from the
// top, where nothing is due any more unless something has changed, so the order is that of one long pass.
func (p *pass) place(ctx context.Context, o *cacheView) (cut bool) {
	shown := make(map[workloadKey]bool, len(o.workloads))
	for _, object := range o.workloads {
		shown[keyOf(object.workload.Reference)] = true
	}
	p.kept = p.findUnseen(ctx, o, shown, p.result)
	p.reportUnseen(o, p.placements, p.kept)
	p.releaseGone(shown)
	p.followDepartures()
	p.items = p.inTurn(o.workloads)
	for _, item := range p.items {
		err := recovered(func() {
			if decision := p.decide(ctx, item); decision != nil {
				p.record(ctx, item, decision)
			}
			p.reviewReservation(item)
		})
		if err != nil {
			p.failed(item, err)
		}
		p.report(ctx, item)
	}
	p.pace()
	p.wakeForEvictions()
	if p.shifted && len(p.next.waiting) > 0 && p.affine(p.placements) {
		p.result.again = true // they may have waited for what was placed after them
	}
	p.metrics.waiting.Add(float64(len(p.next.waiting) - len(p.waiting)))
	p.carryOver = p.next
	return p.cut
}

// releaseGone releases what workloads hold that do not exist any more.
func (p *pass) releaseGone(shown map[workloadKey]bool) {
	for _, key := range p.store.byDecision() {
		if !shown[key] && p.kept[key] == nil {
			p.release(key)
		}
	}
}

// inTurn returns the workloads that belong to a placement, in the order in which they are decided on. What others hold is
// released.
func (p *pass) inTurn(workloads []*workloadObject) []*workItem {
	items := make([]*workItem, 0, len(workloads))
	for _, object := range workloads {
		if p.kept[keyOf(object.workload.Reference)] != nil {
			continue
		}
		item := &workItem{owner: p.ownerOf(object), object: object, key: keyOf(object.workload.Reference)}
		if item.owner == nil {
			p.unowned = append(p.unowned, object)
			continue
		}
		item.stored, _, item.found = p.store.get(item.key)
		item.stale = item.found && item.stored.Workload.UID != object.UID
		switch {
		case item.found:
		case object.end == workload.HasFinished:
			p.idle = append(p.idle, object)
			continue
		case object.end == workload.Suspended, object.end == workload.Controlled:
			item.owner.idle = append(item.owner.idle, fmt.Sprintf("%s: %s", object.workload, object.workload.WhyNot()))
			p.idle = append(p.idle, object)
			continue
		}
		if item.attempt, item.tried = p.waiting[item.key]; !item.tried {
			item.attempt = p.settled[item.key]
		}
		item.turn = placement.Turn{Priority: item.owner.object.Spec.Priority, Workload: object, Kind: object.Kind, APIVersion: object.APIVersion}
		items = append(items, item)
	}
	p.releaseUnowned(p.unowned)
	slices.SortFunc(items, func(a, b *workItem) int { return a.turn.Compare(b.turn) })
	return items
}

// ownerOf returns the placement that a workload belongs to, and says so in the state of others that select it. While it is not
// known what a placement selects, it keeps the workloads that are placed by it.
func (p *pass) ownerOf(object *workloadObject) *placementState {
	for _, owner := range p.unselective {
		if _, by, placed := p.store.get(keyOf(object.workload.Reference)); placed && by == namespacedName(owner.object) {
			return owner
		}
	}
	i, others := placement.Owner(p.selectors, object.workload)
	if i < 0 {
		return nil
	}
	owner := p.placements[i]
	for _, other := range others {
		p.placements[other].elsewhere = append(p.placements[other].elsewhere, fmt.Sprintf("%s belongs to %s", object.workload, owner.object.Name))
	}
	return owner
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
	ctx, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
	defer done()
	due, err := p.isDue(ctx, item)
	switch {
	case err == nil && due && suspended:
		err = p.suppose(ctx, item)
	case err == nil && due:
		var decision *engine.Decision
		if decision, err = p.askEngine(ctx, item); err == nil {
			return decision
		}
	}
	if err != nil {
		item.err = err
		p.restIfSlow(err)
	}
	return nil
}

// undecidable says whether the engine is not asked about a workload at all, and why in its reason or err.
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

// full says whether the pass has to publish what it has decided before it decides more. Each pass decides at least once.
func (p *pass) full() bool {
	return p.decided >= p.batchSize || p.decided > 0 && p.now().Sub(p.firstAt) >= p.batchTimeout
}

// isDue says whether a workload is to be decided on: it has no decision and may find a cluster, or it is to have others.
func (p *pass) isDue(ctx context.Context, item *workItem) (bool, error) {
	if !item.found {
		return p.mayFindCluster(ctx, item)
	}
	request := p.request(item)
	returns, err := p.mayReturn(ctx, item, &request)
	if err != nil || !returns && p.stillSettled(item, &request) {
		return false, err
	}
	review, err := p.engine.Review(ctx, request)
	switch {
	case err != nil:
		return false, err
	case review == nil:
		item.attempt = attempt{}
		return false, nil
	case review.Changes():
		return !p.waitsItsTurn(item, review), nil
	default:
		p.settle(item, review)
		return false, nil
	}
}

// request asks about a workload and where it runs.
func (p *pass) request(item *workItem) engine.Request {
	r := engine.Request{Workspace: p.name, Placement: item.owner.placement, Workload: item.object.workload, Now: p.now()}
	if item.found && !item.stale {
		r.Current = make([]engine.Choice, len(item.stored.Clusters))
		for i, c := range item.stored.Clusters {
			r.Current[i] = engine.Choice{Name: c.Name, Replicas: int64(max(0, c.Replicas))}
		}
		r.Group, r.Return = item.stored.Group, item.returnTo
	} else {
		r.Current = item.adopted
	}
	item.move.ask(&r)
	return r
}

func (p *pass) askEngine(ctx context.Context, item *workItem) (*engine.Decision, error) {
	start, began := time.Now(), p.now()
	p.adopt(item)
	decision, err := p.ask(ctx, p.request(item))
	p.metrics.duration.Observe(time.Since(start).Seconds())
	p.metrics.decided(decision, err)
	if err != nil {
		p.disown(item)
		return nil, err // does not count: it is tried again in the next pass, which has to come further than this one
	}
	if p.decided == 0 {
		p.firstAt = began
	}
	p.decided++
	return decision, nil
}

// record takes a decision over into the store.
func (p *pass) record(ctx context.Context, item *workItem, decision *engine.Decision) {
	left := leaves(decision)
	p.shifted = p.shifted || len(decision.Clusters) > 0 || item.found
	if decision.Disrupts() {
		p.countDisruption(item.owner)
	}
	if len(decision.Clusters) == 0 {
		item.attempt.history = historyOf(item, decision, nil, p.now())
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
	result.Leaving = p.leaving(&item.stored, &result)
	result.History = historyOf(item, decision, result.Clusters, p.now())
	after := clusterNames(result.Clusters)
	p.store.put(item.key, namespacedName(item.owner.object), result)
	p.hold(item.key)
	if item.tried {
		item.attempt, item.tried = attempt{}, false
	}
	item.stored, item.found = result, true
	p.settle(item, decision)
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

// leaves lists the clusters that a workload leaves, and why.
func leaves(d *engine.Decision) string {
	var left []string
	for _, v := range d.Left {
		left = append(left, v.Cluster+": "+v.Rejection.Message)
	}
	return shorten(strings.Join(left, "; "))
}

// releaseItem releases what a workload has.
func (p *pass) releaseItem(item *workItem) {
	p.release(item.key)
	item.stored, item.found, item.stale = v1alpha1.WorkloadDecision{}, false, false
}

// failed records that the engine panicked for a workload. What it has done before is undone: the ledger holds again what the
// store says, and both are read again before the next pass.
func (p *pass) failed(item *workItem, err error) {
	p.result.fail(fmt.Errorf("deciding on %s: %w", item.object.workload, err))
	p.metrics.decisions.WithLabelValues("failed").Inc()
	p.stale = true
	p.result.fail(recovered(func() { p.restoreReservation(item.key) }))
	item.err = errPanicked
	if !errors.Is(p.failures[item.key], errPanicked) {
		p.event(item.object, corev1.EventTypeWarning, "DecidingFailed", item.err.Error())
	}
}

// report adds a workload to the state of its placement and to the carry-over.
func (p *pass) report(ctx context.Context, item *workItem) {
	owner, object := item.owner, item.object
	owner.workloads++
	if object.err != nil {
		p.next.unreadable[object.UID] = object.err.Error()
		if p.unreadable[object.UID] != object.err.Error() {
			p.event(object, corev1.EventTypeWarning, "InvalidWorkload", object.err.Error())
		}
	}
	if item.deferred {
		item.reason, item.err = item.attempt.message, p.failures[item.key]
	}
	if item.err != nil {
		item.reason = item.err.Error()
		p.next.failures[item.key] = item.err
		if !errors.Is(item.err, errPanicked) {
			owner.policyErr = item.err
		}
	}
	if item.tried {
		p.next.waiting[item.key] = item.attempt
	}
	switch {
	case item.found && !item.stale:
		p.reportPlaced(ctx, item)
	case item.deferred && item.reason == "":
		owner.undecided++
	default:
		owner.waiting = append(owner.waiting, fmt.Sprintf("%s: %s", object.workload, item.reason))
		if object.err == nil && object.end == "" {
			p.asked(ctx, item)
		}
	}
}

// asked returns the placement of a workload as policies schedule it, and keeps it as a sample; nil where that is not known.
func (p *pass) asked(ctx context.Context, item *workItem) *placement.Placement {
	owner := item.owner
	if owner.placement == nil || item.err != nil {
		return nil // it is told why
	}
	under, err := p.engine.Scheduled(ctx, engine.Request{Workspace: p.name, Placement: owner.placement, Workload: item.object.workload})
	if err != nil {
		return nil
	}
	if _, known := owner.samples[under.Digest]; !known && under != owner.placement && len(owner.samples) < maxSamples {
		owner.samples[under.Digest] = sample{item.object.workload, under}
	}
	if under != owner.placement && under.TolerationsEnd {
		if key, err := json.Marshal(under.Tolerations); err == nil {
			owner.timed[string(key)] = under
		}
	}
	return under
}

func (p *pass) reportPlaced(ctx context.Context, item *workItem) {
	owner, has := item.owner, len(item.stored.Clusters)
	owner.placed++
	if item.attempt.inputs != "" {
		p.next.settled[item.key] = item.attempt
	}
	switch {
	case item.attempt.message == "":
	case item.stored.WaitingReplicas > 0:
		owner.partial = append(owner.partial, fmt.Sprintf("%s: %s", item.object.workload, item.attempt.message))
		owner.waitingReplicas += item.stored.WaitingReplicas
	default:
		owner.standing = append(owner.standing, fmt.Sprintf("%s %s", item.object.workload, item.attempt.message))
	}
	for _, c := range item.stored.Clusters {
		owner.clusters[c.Name] = true
	}
	for _, expired := range expiredSince(item.stored) {
		owner.expired = append(owner.expired, fmt.Sprintf("%s %s", item.object.workload, expired))
	}
	if asked := p.asked(ctx, item); asked != nil && asked.Division == nil && !asked.AllClusters && has < asked.NumberOfClusters {
		owner.fewer = append(owner.fewer, fmt.Sprintf("%s has %d of %d", item.object.workload, has, asked.NumberOfClusters))
	}
}

// restIfSlow has a workspace rest that was too slow, so that its slowness costs itself and not the others.
func (w *workspace) restIfSlow(err error) {
	var quarantine *policy.QuarantineError
	switch {
	case errors.As(err, &quarantine): // trying again costs nothing
	case policy.Stopped(err), errors.Is(err, errTooLong):
		w.tooSlow, w.restUntil = err, w.now().Add(restFor)
	}
}

// toAPI is the decision on a workload as it is published.
func toAPI(d *engine.Decision, item *workItem, now time.Time) v1alpha1.WorkloadDecision {
	object := item.object
	result := v1alpha1.WorkloadDecision{
		Workload:           v1alpha1.WorkloadReference{APIVersion: object.APIVersion, Kind: object.Kind, Name: object.Name, UID: object.UID},
		DefaultRequest:     object.defaultRequest,
		PolicyDigest:       d.PolicyDigest,
		InputsDigest:       d.InputsDigest,
		SnapshotGeneration: d.Generation,
		DecidedAt:          metav1.NewTime(now),
		Group:              d.Group,
		Divided:            d.Divides(),
		WaitingReplicas:    int32(d.Waiting),
	}
	alike := true
	for _, c := range d.Clusters {
		alike = alike && c.Reserved.Same(d.Clusters[0].Reserved)
	}
	for _, c := range d.Clusters {
		cluster := v1alpha1.ClusterDecision{Name: c.Name, Replicas: int32(c.Replicas), Score: int32(c.Score), Reason: c.Reason}
		if at := slices.IndexFunc(item.stored.Clusters, func(had v1alpha1.ClusterDecision) bool { return had.Name == c.Name }); c.Expired && at >= 0 {
			cluster.ReservationExpiredAt = item.stored.Clusters[at].ReservationExpiredAt
		}
		if alike {
			result.Reserved = c.Reserved.ResourceList()
		} else {
			cluster.Reserved = c.Reserved.ResourceList()
		}
		result.Clusters = append(result.Clusters, cluster)
	}
	return result
}

func clusterNames(clusters []v1alpha1.ClusterDecision) []string {
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
	}
	return names
}

func describe(clusters []v1alpha1.ClusterDecision) string {
	parts := make([]string, len(clusters))
	for i, c := range clusters {
		parts[i] = fmt.Sprintf("%s (%s, %d)", c.Name, c.Reason, c.Score)
	}
	return strings.Join(parts, ", ")
}
