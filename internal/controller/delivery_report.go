package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery"
)

// maxReported bounds the messages about one workload in its decision, in bytes: a slice has up to a hundred decisions.
const maxReported = 2048

// deliveryReport summarizes the state of a placement's delivered workloads.
type deliveryReport struct {
	// delivering counts the workloads that are delivered, delivered those of them that are ready on all of their clusters.
	delivering, delivered int
	// wrong holds a line for each workload with a problem, by reason; underWay the others that are not ready.
	wrong    map[string]*lines
	underWay lines
}

// deliveryAccount is what one workload contributes to a deliveryReport.
type deliveryAccount struct {
	delivering, ready bool
	// wrong is the reason of its problem, if it has one, and text its line.
	wrong, text string
}

func (d *deliveryReport) count(item *workItem, sign int) {
	switch a := &item.account.delivery; {
	case !a.delivering:
		return
	case a.wrong != "":
		d.wrong = countLine(d.wrong, a.wrong, line{item: item, text: a.text}, sign)
	case a.ready:
		d.delivered += sign
	default:
		d.underWay.count(line{item: item, text: a.text}, sign)
	}
	d.delivering += sign
}

// reportDelivery records in the decision on a workload, and for its placement, how its delivery is going.
func (p *pass) reportDelivery(item *workItem) (a deliveryAccount) {
	if p.handOver == nil {
		p.store.setDelivery(item.key, nil)
		return a
	}
	if p.clustersDelivering == nil {
		p.clustersDelivering = make(map[string]*delivery.Cluster, len(p.delivering))
		for name, c := range p.delivering {
			p.clustersDelivering[name] = &c
		}
	}
	r := &delivery.Rollout{
		Assignment: &delivery.Assignment{Source: item.object.source, State: delivery.Decided, Placement: item.owner.object},
		Copies:     p.copies.Of(item.object.UID), Clusters: p.clustersDelivering, Problems: p.problems[item.object.UID],
	}
	reports, ready, room := map[string]v1alpha1.ClusterDelivery{}, true, maxReported
	for _, c := range item.stored.Clusters {
		t := delivery.Target{Cluster: c.Name, Replicas: c.Replicas}
		d := r.On(t)
		if d == nil {
			continue
		}
		if room -= len(d.Message); room < 0 {
			d.Message = ""
		}
		reports[c.Name], ready = *d, ready && r.Ready(t)
		r.Targets = append(r.Targets, t)
	}
	p.store.setDelivery(item.key, reports)
	if len(reports) == 0 {
		return a
	}
	slices.SortFunc(r.Targets, func(a, b delivery.Target) int { return strings.Compare(a.Cluster, b.Cluster) })
	a.delivering, a.ready, a.text = true, ready, item.object.workload.String()
	if wrong := r.Wrong(); wrong != nil {
		a.wrong, a.text = wrong.Reason, a.text+": "+wrong.String()
	}
	return a
}

// condition returns condition Delivered of the placement; nil if nothing is delivered.
func (d *deliveryReport) condition() *conditionsv1alpha1.Condition {
	reason, n := "", 0
	for why, some := range d.wrong {
		if n == 0 || compareReasons(why, reason) < 0 {
			reason = why
		}
		n += some.Len()
	}
	switch {
	case d.delivering == 0:
		return nil
	case n > 0:
		text := d.wrong[reason].String()
		if reason == v1alpha1.ClaimNotAcceptedReason {
			text = d.wrong[reason].first().text // the command is the same for all
		}
		message := shorten(fmt.Sprintf("Something is wrong with %d of %d workloads. %s", n, d.delivering, text))
		if reason == v1alpha1.ClusterSilentReason {
			return conditions.UnknownCondition(v1alpha1.DeliveredCondition, reason, "%s", message)
		}
		return conditions.FalseCondition(v1alpha1.DeliveredCondition, reason, conditionsv1alpha1.ConditionSeverityWarning, "%s", message)
	case d.underWay.Len() > 0:
		return conditions.FalseCondition(v1alpha1.DeliveredCondition, v1alpha1.InProgressReason, conditionsv1alpha1.ConditionSeverityInfo, "%s",
			shorten(fmt.Sprintf("%d of %d workloads are on their way: %s", d.underWay.Len(), d.delivering, &d.underWay)))
	default:
		return conditions.TrueCondition(v1alpha1.DeliveredCondition)
	}
}

// worst are the reasons that a placement reports first: what its team can fix for all of its workloads at once.
var worst = []string{v1alpha1.ClaimNotAcceptedReason, v1alpha1.NotClaimedReason, v1alpha1.OverridesInvalidReason, v1alpha1.FailedReason, v1alpha1.NotAppliedReason, v1alpha1.UnhealthyReason}

func compareReasons(a, b string) int {
	rank := func(reason string) int {
		if i := slices.Index(worst, reason); i >= 0 {
			return i
		}
		return len(worst)
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// watchDelivery sets condition Delivered of a registration to whether its agent has applied all Works. An agent that merely lags
// behind what has just been written is not worth a write.
func (w *workspace) watchDelivery(ctx context.Context, shown *v1alpha1.ClusterRegistration, r *result) {
	before := conditionOf(w.latest(shown), v1alpha1.DeliveredCondition)
	after := w.carriedOut(shown)
	switch {
	case after == nil && (before == nil || before.Reason == notDelivering):
		return
	case after == nil:
		after = conditions.UnknownCondition(v1alpha1.DeliveredCondition, notDelivering, "its agent does not deliver, and no Works are left")
	case before != nil && before.Status == after.Status && before.Reason == after.Reason && before.Message == after.Message:
		delete(w.behind, shown.UID)
		return
	}
	since, found := w.behind[shown.UID]
	if !found {
		since = w.now()
		w.behind[shown.UID] = since
	}
	patience := time.Duration(0)
	if after.Reason == v1alpha1.InProgressReason {
		patience = countsEvery
	}
	if wait := max(since.Add(patience).Sub(w.now()), w.reports[shown.UID].at.Add(countsEvery).Sub(w.now())); wait > 0 {
		r.within(wait)
		return
	}
	written, err := w.setCondition(ctx, shown, after)
	r.fail(err)
	if delete(w.behind, shown.UID); written != nil && after.Status == corev1.ConditionFalse && after.Reason != v1alpha1.InProgressReason &&
		(before == nil || before.Reason != after.Reason) {
		w.event(shown, corev1.EventTypeWarning, after.Reason, after.Message)
	}
}

// Reasons of condition Delivered of registrations.
const (
	notDelivering  = "NotDelivering"
	worksUnwritten = "WorksNotWritten"
)

// carriedOut returns condition Delivered of a registration; nil if nothing is delivered there.
func (w *workspace) carriedOut(shown *v1alpha1.ClusterRegistration) *conditionsv1alpha1.Condition {
	c, works, progress := w.delivering[shown.Name], slices.Concat(w.copies.Works(shown.Name), w.keptCopies.Works(shown.Name)), w.copies.Progress(shown.Name)
	kept := w.keptCopies.Progress(shown.Name)
	progress.Behind, progress.Removing, progress.Wrong = progress.Behind+kept.Behind, progress.Removing+kept.Removing, slices.Concat(progress.Wrong, kept.Wrong)
	var wrong []string
	for _, m := range progress.Wrong[:min(len(progress.Wrong), maxExamples)] {
		wrong = append(wrong, delivery.Clean(fmt.Sprintf("%s %s/%s: %s", m.Kind, m.Namespace, m.Name, m.Message), maxReported))
	}
	fault := func(reason, format string, args ...any) *conditionsv1alpha1.Condition {
		return conditions.FalseCondition(v1alpha1.DeliveredCondition, reason, conditionsv1alpha1.ConditionSeverityWarning, "%s", shorten(fmt.Sprintf(format, args...)))
	}
	switch {
	case !c.Delivers && len(works) == 0:
		return nil
	case c.Lost || c.Silent:
		message := fmt.Sprintf("its agent is silent: what is in its %d Works may run there or not", len(works))
		if left := w.leftOn(shown.Name); len(left) > 0 {
			message += "; removed once it is back: " + examples(left)
		}
		return conditions.UnknownCondition(v1alpha1.DeliveredCondition, v1alpha1.ClusterSilentReason, "%s", shorten(message))
	case !c.Delivers:
		return conditions.UnknownCondition(v1alpha1.DeliveredCondition, notDelivering, "its agent does not deliver any more: what it has brought here stays, in %d Works", len(works))
	case w.unwritable[shown.Name] != "":
		return fault(worksUnwritten, "%s", w.unwritable[shown.Name])
	case len(wrong) > 0:
		return fault(v1alpha1.NotAppliedReason, "Something is wrong with %d objects. %s", len(progress.Wrong), andMore(wrong, len(progress.Wrong)))
	case progress.Behind > 0:
		return fault(v1alpha1.InProgressReason, "%d of %d Works are not carried out yet", progress.Behind, len(works))
	case progress.Removing > 0:
		return fault(v1alpha1.InProgressReason, "%d objects are being removed", progress.Removing)
	default:
		return conditions.TrueCondition(v1alpha1.DeliveredCondition)
	}
}

// leftOn returns the workloads that may still run on a cluster though no decision places them there.
func (w *workspace) leftOn(cluster string) (left []string) {
	wanted := map[types.UID]bool{}
	for item := range w.index.on[cluster] {
		wanted[item.stored.Workload.UID] = true
	}
	for uid, c := range w.copies.In(cluster) {
		if !wanted[uid] {
			if reference, known := c.Reference(); known {
				left = append(left, reference.String())
			}
		}
	}
	slices.Sort(left)
	return left
}
