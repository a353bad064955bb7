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
	"github.com/kcp-placement/placement/engine/workload"
)

// located is a workload on one of its clusters.
type located struct {
	workload workloadKey
	cluster  string
}

// reviewReservation gives up what is reserved for a workload on a cluster that says which workloads it counts, and has gone
// without this one for too long. Once it counts it in full, the mark is taken off. The decision stands: something may run
// there, or be on its way, and nothing is evicted without being asked. A workload that has finished needs nothing more.
func (p *placing) reviewReservation(s *step, placement types.NamespacedName, d v1alpha1.WorkloadDecision) v1alpha1.WorkloadDecision {
	if s.object.end == workload.HasFinished {
		if len(d.Reserved) > 0 {
			d.Reserved, d.Clusters = nil, slices.Clone(d.Clusters)
			for i := range d.Clusters {
				d.Clusters[i].ReservationExpiredAt = nil // there is nothing left that could be missed
			}
			p.store.put(s.key, placement, d)
			p.reviewed = append(p.reviewed, s.key)
		}
		return d
	}
	if !slices.ContainsFunc(d.Clusters, func(c v1alpha1.ClusterDecision) bool {
		_, counting := p.counting[c.Name]
		return counting || c.ReservationExpiredAt != nil
	}) {
		return d
	}
	uncounted, changed := p.engine.Uncounted(p.name, s.key.reference()), false
	for i, c := range d.Clusters {
		heard, counting := p.counting[c.Name]
		short, marked := slices.Contains(uncounted, c.Name), c.ReservationExpiredAt != nil
		switch {
		case !short && marked:
			c.ReservationExpiredAt = nil
		case !short || marked || !counting || p.reservationTimeout == 0:
			continue
		default:
			at := located{s.key, c.Name}
			since, known := p.short[at]
			if !known {
				since = p.now()
			}
			p.next.short[at] = since
			if heard.Sub(since) < p.reservationTimeout {
				p.result.within(max(since.Add(p.reservationTimeout).Sub(p.now()), countsEvery)) // some at a time
				continue
			}
			c.ReservationExpiredAt = &metav1.Time{Time: p.now()}
			p.metrics.expired.Inc()
			p.event(s.object, corev1.EventTypeWarning, "ReservationExpired", fmt.Sprintf(
				"%s has not counted all pods of this workload for %s: what was reserved there is given up. Do its pods bear the label %s=%s?",
				c.Name, p.reservationTimeout, v1alpha1.LabelWorkloadUID, s.object.UID))
		}
		if !changed {
			d.Clusters, changed = slices.Clone(d.Clusters), true
		}
		d.Clusters[i] = c
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
			if r, err := engine.ReservationOf(placement, &d); err == nil { // otherwise it was never restored
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

// release takes back what a workload was given.
func (w *workspace) release(key workloadKey) {
	stored, _, found := w.store.get(key)
	if !found {
		return
	}
	w.store.remove(key)
	w.engine.Release(w.name, key.reference())
	w.hold(key, stored, nil, capacity.Resources{})
}

// hold keeps reserved, until that has been written, what a workload had and has no more: all on clusters that it leaves, and
// on others what it had beyond the amount that it has now. Were it given to another at once and this process killed between
// two writes, both would stand in the durable decisions.
func (w *workspace) hold(key workloadKey, stored v1alpha1.WorkloadDecision, now []string, amount capacity.Resources) {
	r, err := engine.ReservationOf(types.NamespacedName{Namespace: key.namespace}, &stored)
	if err != nil {
		return // what cannot be read was never restored
	}
	r.Placement = types.NamespacedName{} // it is none of the placement's any more
	left, kept := r, r
	left.Clusters, kept.Clusters = nil, nil
	for _, name := range r.Clusters {
		if slices.Contains(now, name) {
			kept.Clusters = append(kept.Clusters, name)
		} else {
			left.Clusters = append(left.Clusters, name)
		}
	}
	// What is counted of the workload there is taken off what it has now.
	kept.Amount, kept.Workload.UID = r.Amount.Without(amount), ""
	for _, h := range []engine.Reservation{left, kept} {
		if len(h.Clusters) > 0 && !h.Amount.IsZero() {
			h.Workload.APIVersion = fmt.Sprintf("held until written, %d/%s", len(w.held), h.Workload.APIVersion)
			w.engine.Restore(w.name, h)
			w.held = append(w.held, h.Workload)
		}
	}
}

// letGo frees what was held, once all is written or known not to be.
func (w *workspace) letGo() (freed bool) {
	for _, held := range w.held {
		freed = w.engine.Release(w.name, held) || freed
	}
	w.held = nil
	return freed
}
