package controller

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// heartbeats knows when clusters were last heard of, by the clock of this process: those of clusters may differ from it and
// from each other. So only that a heartbeat has changed counts, not what it says.
type heartbeats struct {
	mu    sync.Mutex
	heard map[types.UID]heartbeat
}

type heartbeat struct {
	// said is what the cluster said, at when that was heard.
	said, at time.Time
}

// hear takes note of a registration as it is shown.
func (h *heartbeats) hear(r *v1alpha1.ClusterRegistration, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Status.LastHeartbeatTime == nil {
		delete(h.heard, r.UID)
		return
	}
	if said := r.Status.LastHeartbeatTime.Time; !said.Equal(h.heard[r.UID].said) {
		h.heard[r.UID] = heartbeat{said, now}
	}
}

func (h *heartbeats) forget(r *v1alpha1.ClusterRegistration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.heard, r.UID)
}

// of returns when registrations were last heard of; those that have no heartbeat are left out.
func (h *heartbeats) of(registrations []*v1alpha1.ClusterRegistration) map[types.UID]time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := make(map[types.UID]time.Time, len(registrations))
	for _, r := range registrations {
		if beat, found := h.heard[r.UID]; found {
			at[r.UID] = beat.at
		}
	}
	return at
}

// onlyHeartbeat tells whether nothing has changed but the heartbeat.
func onlyHeartbeat(before, after *v1alpha1.ClusterRegistration) bool {
	a, b := *before, *after
	a.ResourceVersion, a.Status.LastHeartbeatTime = b.ResourceVersion, b.Status.LastHeartbeatTime
	return equality.Semantic.DeepEqual(a, b)
}

// reported is a registration as we last wrote it, which the informer may not show yet.
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

// watchHealth makes the Ready condition of a cluster Unknown that has not been heard of for too long, False if it is taken for
// lost, and returns the registrations as they are then. The condition is the truth: where it cannot be written, the cluster is
// as it was, and where the cluster has reported meanwhile, which the server knows better than our informer, all is well.
func (w *workspace) watchHealth(ctx context.Context, o *cacheView, r *result) []*v1alpha1.ClusterRegistration {
	registrations := make([]*v1alpha1.ClusterRegistration, len(o.clusters))
	w.counting = map[string]time.Time{}
	for i, shown := range o.clusters {
		c := w.latest(shown)
		registrations[i] = c
		heard, reports := o.heard[shown.UID]
		if !reports {
			continue
		}
		said := conditions.GetReason(c, v1alpha1.ReadyCondition)
		condition, consequence := w.silence(w.now().Sub(heard), r)
		switch {
		case condition == nil:
			if conditions.IsTrue(c, v1alpha1.ReadyCondition) && conditions.IsTrue(c, v1alpha1.WorkloadsCountedCondition) {
				w.counting[c.Name] = heard
			}
		case len(o.unreadable[shown.UID].In("status.conditions")) > 0: // to write one of them would lose others
		case said == condition.Reason || said == v1alpha1.ClusterLostReason: // after a restart the silence seems shorter than it is
		default:
			written, err := w.setCondition(ctx, shown, condition)
			if err != nil {
				r.fail(err)
			} else if written != nil {
				w.event(c, corev1.EventTypeWarning, condition.Reason, condition.Message+": "+consequence)
				registrations[i] = written
			}
		}
	}
	return registrations
}

// silence is what becomes of a cluster that has been silent for so long, and what that means for workloads; nil if nothing. It
// asks for another pass when it may be something else.
func (w *workspace) silence(silent time.Duration, r *result) (condition *conditionsv1alpha1.Condition, consequence string) {
	switch {
	case w.grace == 0:
		return nil, ""
	case silent < w.grace:
		r.within(w.grace - silent)
		return nil, ""
	case w.failoverAfter == 0 || silent < w.failoverAfter:
		if w.failoverAfter > 0 {
			r.within(w.failoverAfter - silent)
		}
		return conditions.UnknownCondition(v1alpha1.ReadyCondition, v1alpha1.HeartbeatMissedReason, "the cluster has not reported for %s", w.grace),
			"no workloads are placed there until it does"
	default:
		return conditions.FalseCondition(v1alpha1.ReadyCondition, v1alpha1.ClusterLostReason, conditionsv1alpha1.ConditionSeverityError,
			"the cluster has not reported for %s", w.failoverAfter), "its workloads are placed anew"
	}
}

// setCondition writes a condition of a registration. It returns nil where another has written meanwhile.
func (w *workspace) setCondition(ctx context.Context, shown *v1alpha1.ClusterRegistration, condition *conditionsv1alpha1.Condition) (*v1alpha1.ClusterRegistration, error) {
	updated := w.latest(shown).DeepCopy()
	conditions.Set(updated, condition)
	written, err := w.writeConditions(ctx, updated)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("condition %s of ClusterRegistration %s: %w", condition.Type, shown.Name, err)
	}
	w.reports[shown.UID] = reported{at: w.now(), basedOn: shown.ResourceVersion, object: written}
	return written, nil
}

// watchCapacity tells of clusters that have less than is in use and promised there: at once where that begins or ends,
// otherwise when the time has come. There is nothing to tell of a cluster that always had enough.
func (w *workspace) watchCapacity(ctx context.Context, o *cacheView, r *result) {
	over := map[string]string{}
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		if message := overcommitted(row); message != "" {
			over[row.Name] = message
		}
	}
	reports := make(map[types.UID]reported, len(w.reports))
	for _, shown := range o.clusters {
		if last, found := w.reports[shown.UID]; found {
			reports[shown.UID] = last
		}
		if len(o.unreadable[shown.UID]) > 0 {
			continue // what it has is not known
		}
		c := w.latest(shown)
		before, message := conditions.Get(c, v1alpha1.WithinCapacityCondition), over[shown.Name]
		after := conditions.TrueCondition(v1alpha1.WithinCapacityCondition)
		if message != "" {
			after = conditions.FalseCondition(v1alpha1.WithinCapacityCondition, "Overcommitted", conditionsv1alpha1.ConditionSeverityWarning, "%s", message)
		}
		turned := before == nil && message != "" || before != nil && before.Status != after.Status
		wait := w.reports[shown.UID].at.Add(countsEvery).Sub(w.now())
		switch {
		case !turned && (before == nil || before.Message == after.Message):
		case !turned && wait > 0:
			r.within(wait)
		default:
			written, err := w.setCondition(ctx, shown, after)
			r.fail(err)
			if written != nil {
				reports[shown.UID] = w.reports[shown.UID]
			}
			if turned && message != "" && written != nil {
				w.event(shown, corev1.EventTypeWarning, "Overcommitted", message+": nothing more is placed there, nothing is taken away")
			}
		}
	}
	w.metrics.overcommitted.Add(float64(len(over) - w.overcommitted))
	w.reports, w.overcommitted = reports, len(over)
}

// overcommitted says of what more is in use and promised on a cluster than there is; nothing where all is well.
func overcommitted(row *snapshot.Row) string {
	if row.Invalid != "" || !row.Free.Negative() {
		return ""
	}
	var short []string
	for name, free := range row.Free.Each {
		if free < 0 {
			short = append(short, fmt.Sprintf("%s: %s in use and %s promised of %s", name, capacity.Format(name, row.Allocated.Get(name)),
				capacity.Format(name, row.Reserved.Get(name)), capacity.Format(name, row.Allocatable.Get(name))))
		}
	}
	return shorten(strings.Join(short, "; "))
}
