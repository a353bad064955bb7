package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/headroom"
	"github.com/kcp-placement/placement/engine/policy"
)

// maxMessage bounds a condition's message in bytes, maxExamples how many workloads or clusters it names.
const (
	maxMessage  = 2000
	maxExamples = 3
)

// countsEvery is the least time between two status writes that change only counts, clusters and messages. In a steady
// stream of workloads they change with each one, and a status costs the server as much as a small slice.
const countsEvery = 5 * time.Second

// noBetterPlace is the reason of condition Scheduled, and of an event, if a workload is where it should not be.
const noBetterPlace = "NoBetterPlace"

// replicasWaiting is the reason if the placement divides replicas, and no cluster has room for some of them.
const replicasWaiting = "ReplicasWaiting"

// writtenStatus is the status of a placement as we last wrote it, which the informer may not show yet.
type writtenStatus struct {
	// at is when it was written, basedOn the resource version that the informer showed then.
	at      time.Time
	basedOn string
	object  *v1alpha1.WorkloadPlacement
}

// In a burst over many workspaces, statuses and events cost the server as much as the decisions. Decisions go first: what
// people read waits for up to yieldFor while other workspaces publish, and checks again every yieldEvery.
const (
	yieldFor   = 2 * time.Second
	yieldEvery = 200 * time.Millisecond
)

// yields reports whether statuses and events wait for the decisions of other workspaces.
func (w *workspace) yields(r *result) bool {
	switch {
	case w.publishing.Load() == 0:
		w.yielding = time.Time{}
		return false
	case w.yielding.IsZero():
		w.yielding = w.now()
	case w.now().Sub(w.yielding) >= yieldFor:
		w.yielding = time.Time{}
		return false
	}
	r.within(yieldEvery)
	return true
}

// updateStatus writes the statuses that have changed: at once if a condition transitions, otherwise every countsEvery.
func (w *workspace) updateStatus(ctx context.Context, placements []*placementState, r *result) {
	statuses, refused := make(map[types.UID]writtenStatus, len(placements)), 0
	for _, p := range placements {
		current := p.object
		last, found := w.statuses[current.UID]
		if found {
			statuses[current.UID] = last
			if last.basedOn == current.ResourceVersion {
				current = last.object
			}
		}
		says := w.statusBasis(p)
		if first, waits := p.next(); waits {
			says.ahead = ahead(first, placements)
		}
		if p.basis == says {
			continue
		}
		updated := current.DeepCopy()
		w.fill(updated, p)
		if p.counted() {
			updated.Status.Queue = w.queueOf(p, placements)
		}
		only := updated.DeepCopy()
		if keepEstimates(current.Status.Queue, only.Status.Queue); equality.Semantic.DeepEqual(current.Status, only.Status) {
			p.basis = says
			continue
		}
		if wait := last.at.Add(countsEvery).Sub(w.now()); wait > 0 && !transitioned(current.Status, updated.Status) {
			r.within(wait)
			continue
		}
		written, err := w.writeStatus(ctx, updated)
		if err != nil {
			r.fail(fmt.Errorf("status of WorkloadPlacement %s: %w", namespacedName(p.object), err))
			continue
		}
		w.visibleEvent(updated, current)
		if refused < maxRefusedEvents && w.refusedEvent(updated, current) {
			refused++
		}
		statuses[written.UID] = writtenStatus{at: w.now(), basedOn: p.object.ResourceVersion, object: written}
	}
	w.statuses = statuses
}

// statusBasis is everything that the status of a placement is made from.
//
// Invariant: fill reads nothing else. While it is unchanged, a pass does not make the status anew, unless it is a full pass.
type statusBasis struct {
	object                                                    *v1alpha1.WorkloadPlacement
	tally                                                     int64
	effective                                                 *conditionsv1alpha1.Condition
	suspension                                                suspension
	headroom                                                  headroom.Outlook
	headroomKnown                                             bool
	pacing, visible, unread, unpublished, unrelated, policies string
	// ahead is how many workloads wait before the first waiting one of its own.
	ahead   int
	counted bool
}

func (w *workspace) statusBasis(p *placementState) statusBasis {
	b := statusBasis{
		object: p.object, tally: p.version, effective: p.effective, pacing: p.pacing, unpublished: strings.Join(p.unpublished, "; "),
		unrelated: strings.Join(p.unrelated, "; "), policies: w.policyWarnings(), counted: p.counted(),
	}
	b.headroom, b.headroomKnown = w.headroom.found[p.object.UID]
	if p.suspension != nil {
		b.suspension = *p.suspension
	}
	if p.visible != nil {
		b.visible = p.visible.Reason + p.visible.Message
	}
	if p.unread != nil {
		b.unread = p.unread.Error()
	}
	if err := errors.Join(w.policyErr, w.quarantine); err != nil {
		b.policies += fmt.Sprint(w.inForce, err)
	}
	return b
}

// transitioned reports whether a status is for another generation of the spec, or has a condition with another status or reason.
func transitioned(before, after v1alpha1.WorkloadPlacementStatus) bool {
	return before.ObservedGeneration != after.ObservedGeneration || conditionsTransitioned(before.Conditions, after.Conditions)
}

func conditionsTransitioned(before, after conditionsv1alpha1.Conditions) bool {
	return !slices.EqualFunc(before, after, func(a, b conditionsv1alpha1.Condition) bool {
		return a.Type == b.Type && (a.Status == b.Status && a.Reason == b.Reason || isUnderWay(&a) && isUnderWay(&b))
	})
}

// isUnderWay reports whether a condition Delivered reports no fault. It then changes with each workload, as counts do.
func isUnderWay(c *conditionsv1alpha1.Condition) bool {
	return c.Type == v1alpha1.DeliveredCondition && (c.Status == corev1.ConditionTrue || c.Reason == v1alpha1.InProgressReason)
}

func (w *workspace) fill(placement *v1alpha1.WorkloadPlacement, p *placementState) {
	defer conditions.SetSummary(placement, conditions.WithConditions(
		v1alpha1.ConstraintsValidCondition, v1alpha1.PoliciesReadyCondition, v1alpha1.WorkloadsVisibleCondition, v1alpha1.ScheduledCondition,
		v1alpha1.DisruptionAllowedCondition, v1alpha1.PublishedCondition))
	conditions.Set(placement, published(p))
	if p.unread != nil {
		return // nothing else is known
	}

	conditions.Set(placement, condition(v1alpha1.ConstraintsValidCondition, p.err, "InvalidSpec"))
	if p.effective != nil {
		conditions.Set(placement, p.effective.DeepCopy())
	}
	policyErr := errors.Join(w.policyErr, cmp.Or(w.quarantine, p.policyErr()), p.unknownAffinity())
	reason, until := policyErrorReason, "are sound"
	if unseen := new(hidden); errors.As(policyErr, &unseen) {
		reason, until = unseen.reason, "can be read"
	}
	if errors.Is(policyErr, errOnTrial) {
		reason = "PoliciesOnTrial"
	}
	switch {
	case w.policyErr != nil && w.inForce:
		policyErr = fmt.Errorf("the last good policies stay in force: %w", policyErr)
	case w.policyErr != nil:
		policyErr = fmt.Errorf("nothing is decided until the policies %s: %w", until, policyErr)
	}
	if quarantine := new(policy.QuarantineError); errors.As(policyErr, &quarantine) {
		reason = "PolicyQuarantined"
	}
	ready := condition(v1alpha1.PoliciesReadyCondition, policyErr, reason)
	if policyErr == nil {
		ready.Message = w.policyWarnings()
	}
	conditions.Set(placement, ready)

	if p.visible != nil {
		conditions.Set(placement, p.visible)
	}
	if !p.counted() {
		return // the rest stays as the last pass has found it
	}

	status := &placement.Status
	status.ObservedGeneration = p.object.Generation
	status.Workloads, status.Placed, status.Delivered = int32(p.workloads), int32(p.placed), int32(p.delivery.delivered)
	clusters := slices.Sorted(maps.Keys(p.clusters))
	status.SelectedClusters = clusters[:min(len(clusters), v1alpha1.MaxSelectedClusters)]

	if p.suspension != nil {
		conditions.Set(placement, suspendedCondition(p))
	} else {
		conditions.Delete(placement, v1alpha1.SuspendedCondition)
	}

	conditions.Set(placement, scheduled(conditions.Get(placement, v1alpha1.ScheduledCondition), p))

	if paced := disruptionAllowed(conditions.Get(placement, v1alpha1.DisruptionAllowedCondition), p); paced != nil {
		conditions.Set(placement, paced)
	}

	if available := w.headroomCondition(p); available != nil {
		conditions.Set(placement, available)
	} else {
		conditions.Delete(placement, v1alpha1.HeadroomAvailableCondition)
	}

	held := conditions.TrueCondition(v1alpha1.ReservationsHeldCondition)
	if p.expired.Len() > 0 {
		held = conditions.FalseCondition(v1alpha1.ReservationsHeldCondition, "ReservationExpired", conditionsv1alpha1.ConditionSeverityWarning, "%s",
			shorten("Nothing is reserved any more for "+p.expired.String()))
	}
	conditions.Set(placement, held)

	if delivered := p.delivery.condition(); delivered != nil {
		conditions.Set(placement, delivered)
	} else {
		conditions.Delete(placement, v1alpha1.DeliveredCondition)
	}
}

// policyErrorReason is the reason of PoliciesReady if policies have errors.
const policyErrorReason = "PolicyError"

// published returns the condition that reports whether the decisions are durable.
func published(p *placementState) *conditionsv1alpha1.Condition {
	switch {
	case p.unread != nil:
		return condition(v1alpha1.PublishedCondition, p.unread, "DecisionsNotRead")
	case len(p.unpublished) > 0:
		return condition(v1alpha1.PublishedCondition, errors.New(examples(p.unpublished)), "DecisionsNotWritten")
	default:
		return conditions.TrueCondition(v1alpha1.PublishedCondition)
	}
}

// scheduled returns condition Scheduled. While some workloads are not decided on yet, only waiting ones make it transition.
func scheduled(current *conditionsv1alpha1.Condition, p *placementState) *conditionsv1alpha1.Condition {
	const deciding = "Deciding"
	next := conditions.TrueCondition(v1alpha1.ScheduledCondition)
	switch {
	case p.waiting.Len() > 0:
		next = conditions.FalseCondition(v1alpha1.ScheduledCondition, "WorkloadsWaiting", conditionsv1alpha1.ConditionSeverityWarning,
			"%d of %d workloads wait. %s", p.waiting.Len(), p.workloads, &p.waiting)
	case p.retained.Len() > 0:
		next = conditions.FalseCondition(v1alpha1.ScheduledCondition, noBetterPlace, conditionsv1alpha1.ConditionSeverityWarning, "")
	case p.partial.Len() > 0:
		next = conditions.FalseCondition(v1alpha1.ScheduledCondition, replicasWaiting, conditionsv1alpha1.ConditionSeverityWarning, "")
	case p.undecided > 0 && current != nil && current.Reason != deciding:
		return current
	case p.undecided > 0:
		next = conditions.FalseCondition(v1alpha1.ScheduledCondition, deciding, conditionsv1alpha1.ConditionSeverityInfo,
			"%d of %d workloads are not decided on yet", p.undecided, p.workloads)
	}
	if p.partial.Len() > 0 {
		next.Message = strings.TrimSpace(fmt.Sprintf("%s %s, of %d of %d workloads. %s", next.Message, replicasWait(p.waitingReplicas), p.partial.Len(), p.workloads, &p.partial))
	}
	if p.retained.Len() > 0 {
		next.Message = strings.TrimSpace(fmt.Sprintf("%s %d of %d workloads keep what they had. %s", next.Message, p.retained.Len(), p.workloads, &p.retained))
	}
	if p.fewer.Len() > 0 {
		next.Message = strings.TrimSpace(fmt.Sprintf("%s On fewer clusters than asked for: %s", next.Message, &p.fewer))
	}
	if p.idle.Len() > 0 {
		next.Message = strings.TrimSpace(fmt.Sprintf("%s Selected, but not to be placed: %s", next.Message, &p.idle))
	}
	if p.elsewhere.Len() > 0 {
		next.Message = strings.TrimSpace(fmt.Sprintf("%s Selected, but of other placements: %s", next.Message, &p.elsewhere))
	}
	next.Message = shorten(next.Message)
	return next
}

func condition(kind conditionsv1alpha1.ConditionType, err error, reason string) *conditionsv1alpha1.Condition {
	if err == nil {
		return conditions.TrueCondition(kind)
	}
	return conditions.FalseCondition(kind, reason, conditionsv1alpha1.ConditionSeverityError, "%s", shorten(err.Error()))
}

func examples(all []string) string { return andMore(all[:min(len(all), maxExamples)], len(all)) }

// andMore joins the first of n items, and adds how many more there are.
func andMore(first []string, n int) string {
	text := strings.Join(first, "; ")
	if more := n - len(first); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

func shorten(message string) string { return shortenTo(message, maxMessage) }

func shortenTo(message string, most int) string {
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most], "") + "..."
}
