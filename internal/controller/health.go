package controller

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// heartbeats records when clusters were last heard from, by the clock of this process. The clocks of clusters may differ, so only
// a change of renewTime counts, not its value.
type heartbeats struct {
	mu    sync.Mutex
	heard map[clusterKey]heartbeat
}

type clusterKey struct {
	workspace logicalcluster.Name
	name      string
}

// heartbeat is a renewal of the Lease of a cluster.
type heartbeat struct {
	// renewed is its renewTime; at is when it was seen, by our clock.
	renewed, at time.Time
	// holder is the cluster that renewed it; usage is the ClusterUsage that was current then, as in AnnotationUsage.
	holder types.UID
	usage  string
}

// hear records a Lease. It reports whether the heartbeat of a cluster has begun, ended or passed to another cluster.
func (h *heartbeats) hear(lease *coordinationv1.Lease, now time.Time) (turned bool) {
	if lease.Namespace != v1alpha1.AgentNamespace {
		return false
	}
	key := leaseKey(lease)
	h.mu.Lock()
	defer h.mu.Unlock()
	before, found := h.heard[key]
	if lease.Spec.RenewTime == nil || lease.Spec.HolderIdentity == nil {
		delete(h.heard, key)
		return found
	}
	if found && before.renewed.Equal(lease.Spec.RenewTime.Time) {
		return false
	}
	after := heartbeat{lease.Spec.RenewTime.Time, now, types.UID(*lease.Spec.HolderIdentity), lease.Annotations[v1alpha1.AnnotationUsage]}
	h.heard[key] = after
	return before.holder != after.holder
}

func (h *heartbeats) forget(key clusterKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.heard, key)
}

func (h *heartbeats) get(key clusterKey) (beat heartbeat, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	beat, found = h.heard[key]
	return beat, found
}

func leaseKey(lease *coordinationv1.Lease) clusterKey {
	return clusterKey{logicalcluster.From(lease), lease.Name}
}

// of returns the heartbeats of registrations. A registration without one has no Lease, or the workspace does not let us see it. A
// Lease that is renewed by a cluster other than the one that reports does not count.
func (h *heartbeats) of(workspace logicalcluster.Name, registrations []*v1alpha1.ClusterRegistration) map[types.UID]heartbeat {
	h.mu.Lock()
	defer h.mu.Unlock()
	beats := make(map[types.UID]heartbeat, len(registrations))
	for _, r := range registrations {
		if beat, found := h.heard[clusterKey{workspace, r.Name}]; found && beat.holder == r.Status.ClusterUID {
			beats[r.UID] = beat
		}
	}
	return beats
}

// reported is a registration as this controller last wrote it, which the informer may not show yet.
type reported struct {
	// at is when it was written, basedOn the resource version that the informer showed then.
	at      time.Time
	basedOn string
	object  *v1alpha1.ClusterRegistration
}

// latest returns a registration as it was last shown or written.
func (w *workspace) latest(r *v1alpha1.ClusterRegistration) *v1alpha1.ClusterRegistration {
	if last, found := w.reports[r.UID]; found && last.basedOn == r.ResourceVersion {
		return last.object
	}
	return r
}

// conditionOf returns a condition of a registration without copying it, nil if there is none: every pass asks for those of all clusters.
func conditionOf(r *v1alpha1.ClusterRegistration, kind conditionsv1alpha1.ConditionType) *conditionsv1alpha1.Condition {
	for i := range r.Status.Conditions {
		if r.Status.Conditions[i].Type == kind {
			return &r.Status.Conditions[i]
		}
	}
	return nil
}

// readyReason is the reason of the Ready condition of a cluster, empty where it has none.
func readyReason(r *v1alpha1.ClusterRegistration) string {
	if ready := conditionOf(r, v1alpha1.ReadyCondition); ready != nil {
		return ready.Reason
	}
	return ""
}

// watchHealth makes the Ready condition of a silent cluster Unknown after the grace period and False once it counts as lost,
// and returns the registrations with these conditions. Only what is written counts: if the write fails, the cluster stays as it
// was.
//
// A cluster whose Lease is not seen is as healthy as its conditions say, because a workspace that has not accepted the claim on
// Leases shows none. Before a condition is written the Lease is read from the server, so that a watch that is late or deaf, or a
// claim that has just been withdrawn, does not look like clusters that have all fallen silent at once.
func (w *workspace) watchHealth(ctx context.Context, o *cacheView, r *result) []*v1alpha1.ClusterRegistration {
	registrations := make([]*v1alpha1.ClusterRegistration, len(o.clusters))
	w.counting = map[string]time.Time{}
	unseen, missed := map[types.UID]time.Time{}, map[types.UID]time.Time{}
	reading, done := context.WithTimeout(ctx, readWithin) // for all Leases together
	defer done()
	read := func(cluster string) (heartbeat, bool, error) { return w.readHeartbeat(reading, cluster) }
	for i, shown := range o.clusters {
		beat, seen := o.heard[shown.UID]
		writable := conditionsReadable(shown, o)
		if seen {
			seen = w.watchSilence(ctx, read, shown, beat, o.usages[shown.Name], writable, r)
		}
		if !seen && shown.Status.ClusterUID != "" {
			unseen[shown.UID] = w.unseenSince(shown)
		}
		if writable {
			w.watchUnseen(ctx, shown, seen, unseen[shown.UID], o.hides(leaseResource), r)
		}
		registrations[i] = w.latest(shown)
		if readyReason(registrations[i]) == v1alpha1.HeartbeatMissedReason {
			missed[shown.UID] = w.missedSince(shown)
		}
	}
	w.unseen, w.missed = unseen, missed
	return registrations
}

// missedSince returns since when this process has known a cluster to be silent.
func (w *workspace) missedSince(r *v1alpha1.ClusterRegistration) time.Time {
	if since, known := w.missed[r.UID]; known {
		return since
	}
	return w.now()
}

// watchSilence writes the Ready condition of a silent cluster. It returns whether the cluster has a Lease.
func (w *workspace) watchSilence(ctx context.Context, read func(cluster string) (heartbeat, bool, error), shown *v1alpha1.ClusterRegistration, beat heartbeat, usage *v1alpha1.ClusterUsage, writable bool, r *result) bool {
	c := w.latest(shown)
	reason := readyReason(c)
	var known time.Duration
	switch reason {
	case v1alpha1.HeartbeatMissedReason:
		known = w.now().Sub(w.missedSince(shown))
	case v1alpha1.ClusterLostReason:
		known = w.failoverAfter
	}
	condition, consequence := w.silence(w.now().Sub(beat.at), known, r)
	switch {
	case condition == nil:
		// Invariant: the usage is no older than the heartbeat. Otherwise pods that have been counted since would look missing.
		if ready := conditionOf(c, v1alpha1.ReadyCondition); ready != nil && ready.Status == corev1.ConditionTrue && usage != nil && usage.OmittedWorkloads == 0 && v1alpha1.UsageAtLeast(usage, beat.usage) {
			w.counting[c.Name] = beat.at
		}
		return true
	case !writable || reason == condition.Reason || reason == v1alpha1.ClusterLostReason: // after a restart the silence looks shorter than it is
		return true
	}
	now, found, err := read(c.Name)
	switch {
	case err != nil:
		r.fail(fmt.Errorf("reading the Lease of ClusterRegistration %s: %w", c.Name, err))
		return true
	case !found:
		return false
	case !now.renewed.Equal(beat.renewed): // the watch has not shown it yet
		r.within(w.grace)
		return true
	}
	written, err := w.setCondition(ctx, shown, condition)
	if err != nil {
		r.fail(err)
	} else if written != nil {
		w.event(c, corev1.EventTypeWarning, condition.Reason, condition.Message+": "+consequence)
	}
	return true
}

// noLeaseReason is the reason of HeartbeatSeen False.
const noLeaseReason = "NoLease"

func (w *workspace) unseenSince(r *v1alpha1.ClusterRegistration) time.Time {
	if since, known := w.unseen[r.UID]; known {
		return since
	}
	return w.now()
}

// watchUnseen makes HeartbeatSeen False on a cluster that has an agent but no Lease, since its silence would go unnoticed, Unknown
// where Leases cannot be read, and True once it has one. A cluster that always had a Lease does not get the condition.
func (w *workspace) watchUnseen(ctx context.Context, shown *v1alpha1.ClusterRegistration, seen bool, since time.Time, hidden *hidden, r *result) {
	c := w.latest(shown)
	before := conditionOf(c, v1alpha1.HeartbeatSeenCondition)
	reported := before != nil && before.Status != corev1.ConditionTrue
	reason := noLeaseReason
	if hidden != nil {
		reason = hidden.reason
	}
	var condition *conditionsv1alpha1.Condition
	switch {
	case w.grace == 0 || seen && !reported || !seen && (since.IsZero() || reported && before.Reason == reason):
		return
	case seen:
		condition = conditions.TrueCondition(v1alpha1.HeartbeatSeenCondition)
	case w.now().Sub(since) < w.grace:
		r.within(since.Add(w.grace).Sub(w.now()))
		return
	case hidden != nil:
		condition = conditions.UnknownCondition(v1alpha1.HeartbeatSeenCondition, reason, "%s", shorten("nobody notices if its agent falls silent: "+hidden.Error()))
	default:
		condition = conditions.FalseCondition(v1alpha1.HeartbeatSeenCondition, reason, conditionsv1alpha1.ConditionSeverityWarning,
			"no Lease %s/%s that cluster %s renews is seen, so that nobody notices if its agent falls silent: may the agent renew its Lease, with the label %s?",
			v1alpha1.AgentNamespace, c.Name, c.Status.ClusterUID, v1alpha1.LabelHeartbeat)
	}
	written, err := w.setCondition(ctx, shown, condition)
	r.fail(err)
	if written != nil && !seen {
		w.event(c, corev1.EventTypeWarning, condition.Reason, condition.Message)
	}
}

// silence returns the condition of a cluster that has been silent for some time, nil if it is too early for one, and what it means for
// workloads. It asks for a pass at the time when the condition changes next.
//
// Invariant: a cluster counts as lost only after its condition has reported it silent for another grace period. So a controller that
// has seen nothing for long, because it or the server was cut off or suspended, first waits for clusters to report.
func (w *workspace) silence(silent, known time.Duration, r *result) (condition *conditionsv1alpha1.Condition, consequence string) {
	wait := max(w.failoverAfter-silent, min(w.grace, w.failoverAfter-w.grace)-known)
	switch {
	case w.grace == 0:
		return nil, ""
	case silent < w.grace:
		r.within(w.grace - silent)
		return nil, ""
	case w.failoverAfter == 0 || wait > 0:
		if w.failoverAfter > 0 {
			r.within(wait)
		}
		return conditions.UnknownCondition(v1alpha1.ReadyCondition, v1alpha1.HeartbeatMissedReason, "the cluster has not reported for %s", w.grace),
			"no workloads are placed there until it does"
	default:
		return conditions.FalseCondition(v1alpha1.ReadyCondition, v1alpha1.ClusterLostReason, conditionsv1alpha1.ConditionSeverityError,
			"the cluster has not reported for %s", w.failoverAfter), "its workloads are placed anew"
	}
}

// setCondition writes a condition of a registration. It returns nil if another writer came first. The condition is merged into
// the resource version that was read and replaces only that version, so neither the agent's conditions nor ours are lost.
func (w *workspace) setCondition(ctx context.Context, shown *v1alpha1.ClusterRegistration, condition *conditionsv1alpha1.Condition) (*v1alpha1.ClusterRegistration, error) {
	updated := w.latest(shown).DeepCopy()
	conditions.Set(updated, condition)
	return w.writeReport(ctx, shown, updated, fmt.Sprintf("condition %s", condition.Type))
}

// writeReport writes the conditions and the drain of a registration; it returns nil if another writer came first.
func (w *workspace) writeReport(ctx context.Context, shown, updated *v1alpha1.ClusterRegistration, what string) (*v1alpha1.ClusterRegistration, error) {
	written, err := w.writeConditions(ctx, updated)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s of ClusterRegistration %s: %w", what, shown.Name, err)
	}
	w.reports[shown.UID] = reported{at: w.now(), basedOn: shown.ResourceVersion, object: written}
	return written, nil
}

// watchReports reports registrations that are unusable or have parts without effect, and clusters with less capacity than is in use and
// promised there.
func (w *workspace) watchReports(ctx context.Context, o *cacheView, r *result) {
	over := map[string]string{}
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		if message := overcommitted(row); message != "" {
			over[row.Name] = message
		}
	}
	reports, there := make(map[types.UID]reported, len(w.reports)), make(sets.Set[types.UID], len(o.clusters))
	for _, shown := range o.clusters {
		there.Insert(shown.UID)
		if conditionsReadable(shown, o) {
			w.watchReport(ctx, shown, over[shown.Name], r)
			w.watchDrain(ctx, shown, r)
			if w.handOver != nil && w.delivering != nil {
				w.watchDelivery(ctx, shown, r)
			}
		}
		if last, found := w.reports[shown.UID]; found {
			reports[shown.UID] = last
		}
	}
	maps.DeleteFunc(w.behind, func(uid types.UID, _ time.Time) bool { return !there.Has(uid) })
	w.metrics.overcommitted.Add(float64(len(over) - w.overcommitted))
	w.reports, w.overcommitted = reports, len(over)
}

func (w *workspace) watchReport(ctx context.Context, shown *v1alpha1.ClusterRegistration, overcommitted string, r *result) {
	c := w.clusters[shown.Name]
	if c.registration == nil || c.settling {
		return // it could not be given to the engine, or what it has may be known in a moment
	}
	w.reportFault(ctx, shown, v1alpha1.ValidCondition, v1alpha1.InvalidRegistrationReason, shorten(c.invalid), r)
	w.reportFault(ctx, shown, v1alpha1.EffectiveCondition, withoutEffect, c.vain, r)
	if c.invalid != "" {
		return // what it has is not known
	}
	if w.reportFault(ctx, shown, v1alpha1.WithinCapacityCondition, "Overcommitted", overcommitted, r) {
		w.event(shown, corev1.EventTypeWarning, "Overcommitted", overcommitted+": nothing more is placed there, nothing is taken away")
	}
}

// conditionsReadable reports whether conditions of a registration may be written: writing one would lose those that cannot be read.
func conditionsReadable(r *v1alpha1.ClusterRegistration, o *cacheView) bool {
	return len(o.unreadable[r.UID].In("status.conditions")) == 0
}

// reportFault makes a condition False with a message, or True if the message is empty: at once if it transitions, otherwise at most every
// countsEvery. A condition that was never False is not written at all. It returns whether the fault has begun.
func (w *workspace) reportFault(ctx context.Context, shown *v1alpha1.ClusterRegistration, kind conditionsv1alpha1.ConditionType, reason, message string, r *result) (began bool) {
	before := conditionOf(w.latest(shown), kind)
	if before == nil && message == "" {
		return false
	}
	after := conditions.TrueCondition(kind)
	if message != "" {
		after = conditions.FalseCondition(kind, reason, conditionsv1alpha1.ConditionSeverityWarning, "%s", message)
	}
	turned := before == nil || before.Status != after.Status
	if !turned && before.Message == after.Message {
		return false
	}
	if wait := w.reports[shown.UID].at.Add(countsEvery).Sub(w.now()); !turned && wait > 0 {
		r.within(wait)
		return false
	}
	written, err := w.setCondition(ctx, shown, after)
	r.fail(err)
	return turned && message != "" && written != nil
}

// overcommitted lists the resources of which a cluster has less than is in use and promised there; empty if there are none.
func overcommitted(row *snapshot.Row) string {
	if row.Invalid != "" || !row.Free.Negative() {
		return ""
	}
	var short []string
	for name, free := range row.Free.Each {
		if free < 0 {
			short = append(short, fmt.Sprintf("%s: %s in use and %s promised of %s", name, capacity.Format(name, row.Allocated.Get(name), true),
				capacity.Format(name, row.Reserved.Get(name), true), capacity.Format(name, row.Allocatable.Get(name), false)))
		}
	}
	return shorten(strings.Join(short, "; "))
}
