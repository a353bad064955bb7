package controller

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// reservationOf is what a durable decision reserves.
func reservationOf(key workloadKey, placement types.NamespacedName, d v1alpha1.WorkloadDecision) (engine.Reservation, error) {
	amount, err := capacity.FromResourceList(d.Reserved)
	r := engine.Reservation{Workload: key.reference(), Placement: placement, Clusters: clusterNames(d.Clusters), Amount: amount}
	r.Workload.UID = string(d.Workload.UID)
	for _, c := range d.Clusters {
		if c.ReservationExpiredAt != nil {
			r.Expired = append(r.Expired, c.Name)
		}
	}
	return r, err
}

// reviewReservation gives up what is reserved for a workload on a cluster that says which workloads it counts, and has not
// counted this one in time. Once it does, the mark is taken off. The decision stands: something may run there, or be on
// its way, and nothing is evicted without being asked.
func (p *placing) reviewReservation(s *step, placement types.NamespacedName, d v1alpha1.WorkloadDecision) v1alpha1.WorkloadDecision {
	deadline := d.DecidedAt.Add(p.reservationTimeout)
	due, marked, counting := false, false, false
	for _, c := range d.Clusters {
		_, counts := p.counting[c.Name]
		counting = counting || counts
		marked = marked || c.ReservationExpiredAt != nil
	}
	if p.reservationTimeout > 0 && counting {
		if left := deadline.Sub(p.now()); left > 0 {
			p.result.within(max(left, countsEvery)) // some at a time
		} else {
			due = true
		}
	}
	if !due && !marked {
		return d
	}
	uncounted, changed := p.engine.Uncounted(p.name, s.key.reference()), false
	d.Clusters = slices.Clone(d.Clusters)
	for i := range d.Clusters {
		c := &d.Clusters[i]
		short := slices.Contains(uncounted, c.Name)
		switch heard, counting := p.counting[c.Name]; {
		case !short && c.ReservationExpiredAt != nil:
			c.ReservationExpiredAt, changed = nil, true
		case short && c.ReservationExpiredAt == nil && due && counting && heard.After(deadline):
			c.ReservationExpiredAt, changed = &metav1.Time{Time: p.now()}, true
			p.metrics.expired.Inc()
			p.event(s.object, corev1.EventTypeWarning, "ReservationExpired", fmt.Sprintf(
				"%s has not counted all pods of this workload within %s: what was reserved there is given up. Do its pods bear the label %s=%s?",
				c.Name, p.reservationTimeout, v1alpha1.LabelWorkloadUID, s.object.UID))
		}
	}
	if changed {
		p.store.put(s.key, placement, d)
		p.reviewed = append(p.reviewed, s.key)
	}
	return d
}

// takeUpReviews brings reservations in line with what is written of them, and tells whether there were any.
func (w *workspace) takeUpReviews() (freed bool) {
	for _, key := range w.reviewed {
		if d, placement, found := w.store.get(key); found {
			if r, err := reservationOf(key, placement, d); err == nil { // otherwise it was never restored
				w.engine.Restore(w.name, r)
				freed = true
			}
		}
	}
	w.reviewed = nil
	return freed
}

// expiredSince says where a decision's reservations were given up.
func expiredSince(d v1alpha1.WorkloadDecision) (told []string) {
	for _, c := range d.Clusters {
		if c.ReservationExpiredAt != nil {
			told = append(told, fmt.Sprintf("on %s since %s", c.Name, c.ReservationExpiredAt.UTC().Format(time.RFC3339)))
		}
	}
	return told
}
