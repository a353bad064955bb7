package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
)

// overdue reports whether all clusters that a workload is to leave are drained and past their deadlines.
func (p *pass) overdue(due *engine.Decision) bool {
	for _, v := range due.Left {
		if v.Rejection.Stage != engine.Replicas && (v.Rejection.Stage != filter.Unschedulable || !p.deadlinePassed(v.Cluster)) {
			return false
		}
	}
	return true
}

func (w *workspace) deadlinePassed(cluster string) bool {
	r := w.clusters[cluster].registration
	return r != nil && r.Spec.Drain != nil && r.Spec.Drain.Deadline != nil && !w.now().Before(r.Spec.Drain.Deadline.Time)
}

// followDrains determines what remains on the clusters that are being drained.
func (p *pass) followDrains() {
	p.drains = nil
	for name, c := range p.clusters {
		if c.registration == nil || c.registration.Spec.Drain == nil {
			continue
		}
		if p.drains == nil {
			p.drains = map[string]*v1alpha1.ClusterDrainStatus{}
		}
		p.drains[name] = &v1alpha1.ClusterDrainStatus{}
	}
	if p.drains == nil {
		return
	}
	for name, drain := range p.drains {
		remaining := slices.DeleteFunc(slices.SortedFunc(maps.Keys(p.index.on[name]), byTurn), (*workItem).runsNowhere)
		drain.Remaining = int32(len(remaining))
		for _, item := range remaining[:min(len(remaining), v1alpha1.MaxDrainedWorkloads)] {
			drain.Workloads = append(drain.Workloads, p.drained(item))
		}
	}
	for key := range p.store.leaving {
		d, _, _ := p.store.get(key)
		for _, from := range d.Leaving {
			if drain := p.drains[from.Name]; drain != nil {
				drain.Leaving++
			}
		}
	}
	if p.host == nil {
		p.guestDrains()
	}
}

// runsNowhere reports whether a workload has finished or is suspended, so that no drain waits for it. A place is found for it when it is
// resumed.
func (item *workItem) runsNowhere() bool {
	return item.object != nil && item.object.end.RequestsNothing()
}

// byTurn orders workloads by when they leave; those that have never been seen come last.
func byTurn(a, b *workItem) int {
	switch unseen := a.turn.Workload == nil; {
	case unseen != (b.turn.Workload == nil):
		return map[bool]int{true: 1, false: -1}[unseen]
	case unseen:
		return byKey(a, b)
	default:
		return inTurn(a, b)
	}
}

// maxDrainedMessage bounds the message about one remaining workload, in bytes.
const maxDrainedMessage = 512

// drained describes why a workload is still on a cluster that is being drained.
func (p *pass) drained(item *workItem) v1alpha1.DrainedWorkload {
	d := v1alpha1.DrainedWorkload{Namespace: item.key.namespace, Workload: item.stored.Workload, Reason: "Due"}
	switch {
	case item.object == nil || item.owner == nil:
		d.Reason, d.Message = "NotSeen", "the workload, or its placement, cannot be seen: it stays as it is"
	case item.paced:
		d.Reason, d.Message = "Paced", fmt.Sprintf("waits for its turn: at most %s lose a cluster in this workspace", p.brake.String(p.placedBefore))
	case item.owner.suspension != nil:
		d.Reason, d.Message = item.owner.suspension.reason, item.owner.suspension.message
	case item.err != nil:
		d.Reason, d.Message = "NotDecided", item.err.Error()
	case item.reason != "":
		d.Reason, d.Message = "NotDecided", item.reason
	case item.attempt.message != "":
		d.Reason, d.Message = noBetterPlace, item.attempt.message
	}
	d.Message = shortenTo(d.Message, maxDrainedMessage)
	return d
}

// Reasons of condition Drained. The last one is of events.
const (
	drainingReason      = "Draining"
	drainDeadlineReason = "DeadlineExceeded"
	drainedReason       = "Drained"
)

// drainCondition reports the progress of a drain.
func (w *workspace) drainCondition(r *v1alpha1.ClusterRegistration, s *v1alpha1.ClusterDrainStatus) *conditionsv1alpha1.Condition {
	if s.Remaining+s.Leaving == 0 {
		return conditions.TrueCondition(v1alpha1.DrainedCondition)
	}
	reason, severity := drainingReason, conditionsv1alpha1.ConditionSeverityInfo
	message := fmt.Sprintf("%d workloads remain, %d have left and keep a copy until the new place has one that is ready.", s.Remaining, s.Leaving)
	var why []string
	for i := range s.Workloads[:min(len(s.Workloads), maxExamples)] {
		d := &s.Workloads[i]
		why = append(why, strings.TrimSuffix(fmt.Sprintf("%s %s/%s: %s: %s", d.Workload.Kind, d.Namespace, d.Workload.Name, d.Reason, d.Message), ": "))
	}
	if deadline := r.Spec.Drain.Deadline; w.deadlinePassed(r.Name) {
		reason, severity = drainDeadlineReason, conditionsv1alpha1.ConditionSeverityWarning
		message += fmt.Sprintf(" The deadline, %s, has passed: what has another place leaves at once, what has none stays.", deadline.UTC().Format(time.RFC3339))
	}
	if len(why) > 0 {
		message += " " + andMore(why, int(s.Remaining))
	}
	return conditions.FalseCondition(v1alpha1.DrainedCondition, reason, severity, "%s", shorten(message))
}

// watchDrain writes the progress of a cluster's drain: at once if the condition transitions, otherwise every countsEvery.
func (w *workspace) watchDrain(ctx context.Context, shown *v1alpha1.ClusterRegistration, r *result) {
	current := w.latest(shown)
	before, status := conditionOf(current, v1alpha1.DrainedCondition), w.drains[shown.Name]
	if shown.Spec.Drain == nil && current.Status.Drain == nil && before == nil || shown.Spec.Drain != nil && status == nil {
		return
	}
	updated := current.DeepCopy()
	if shown.Spec.Drain == nil {
		updated.Status.Drain = nil
		conditions.Delete(updated, v1alpha1.DrainedCondition)
	} else {
		updated.Status.Drain = status
		conditions.Set(updated, w.drainCondition(shown, status))
		if deadline := shown.Spec.Drain.Deadline; deadline != nil && w.now().Before(deadline.Time) {
			r.within(deadline.Sub(w.now()))
		}
	}
	after := conditionOf(updated, v1alpha1.DrainedCondition)
	turned := conditionsTransitioned(current.Status.Conditions, updated.Status.Conditions)
	if !turned && equality.Semantic.DeepEqual(current.Status, updated.Status) {
		return
	}
	if wait := w.reports[shown.UID].at.Add(countsEvery).Sub(w.now()); !turned && wait > 0 {
		r.within(wait)
		return
	}
	written, err := w.writeReport(ctx, shown, updated, "the drain")
	r.fail(err)
	if written == nil || !turned || after == nil {
		return
	}
	switch {
	case after.Status == corev1.ConditionTrue:
		w.event(shown, corev1.EventTypeNormal, drainedReason, "no workload is placed here any more")
	case after.Reason == drainDeadlineReason:
		w.event(shown, corev1.EventTypeWarning, drainDeadlineReason, after.Message)
	default:
		w.event(shown, corev1.EventTypeNormal, drainingReason, after.Message)
	}
}
