package controller

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// reviewReservation updates what a placed workload reserves: nothing once it has finished or while it is suspended, and nothing more on a
// cluster that has not counted it in time. The decision itself stays: its pods may run there or be on their way, and nothing is evicted
// unasked.
func (p *pass) reviewReservation(item *workItem) {
	if !item.found || item.stale {
		return
	}
	clusters, reserved := p.expire(item), item.stored.Reserved
	if item.object.end.RequestsNothing() && reservesAnything(&item.stored) {
		p.free(&item.stored)
		clusters, reserved = slices.Clone(item.stored.Clusters), nil
		for i := range clusters {
			// Nothing is reserved either that a cluster could fail to count.
			clusters[i].Reserved, clusters[i].ReservationExpiredAt = nil, nil
		}
	}
	if clusters == nil {
		return
	}
	item.stored.Clusters, item.stored.Reserved = clusters, reserved
	p.store.put(item.key, namespacedName(item.owner.object), item.stored)
	p.restoreReservation(item.key)
}

// reservesAnything reports whether a decision reserves an amount on any cluster.
func reservesAnything(d *v1alpha1.WorkloadDecision) bool {
	return len(d.Reserved) > 0 || slices.ContainsFunc(d.Clusters, func(c v1alpha1.ClusterDecision) bool { return len(c.Reserved) > 0 })
}

// expire marks the clusters of a workload that have not counted it in time, and unmarks those that count it in full. It returns the
// updated clusters, nil if nothing changes.
func (p *pass) expire(item *workItem) (changed []v1alpha1.ClusterDecision) {
	if item.object.end.RequestsNothing() || !slices.ContainsFunc(item.stored.Clusters, p.countsOrExpired) {
		return nil
	}
	uncounted := p.engine.Uncounted(p.name, item.key.reference())
	for i, c := range item.stored.Clusters {
		expired := c.ReservationExpiredAt
		switch missing := slices.Contains(uncounted, c.Name); {
		case !missing:
			expired = nil
		case expired == nil && p.missedFor(item, c.Name):
			expired = &metav1.Time{Time: p.now()}
			p.metrics.expired.Inc()
			p.event(item.object, corev1.EventTypeWarning, "ReservationExpired", fmt.Sprintf(
				"%s has not counted all pods of this workload for %s: what was reserved there is given up. Do its pods bear the label %s=%s?",
				c.Name, p.reservationTimeout, v1alpha1.LabelWorkloadUID, item.object.UID))
		}
		if expired == c.ReservationExpiredAt {
			continue
		}
		if changed == nil {
			changed = slices.Clone(item.stored.Clusters)
		}
		changed[i].ReservationExpiredAt = expired
	}
	return changed
}

func (p *pass) countsOrExpired(c v1alpha1.ClusterDecision) bool {
	_, counting := p.counting[c.Name]
	return counting || c.ReservationExpiredAt != nil
}

// missedFor reports whether a cluster that counts workloads has reported without this one for the reservation timeout.
func (p *pass) missedFor(item *workItem, cluster string) bool {
	heard, counting := p.counting[cluster]
	if !counting || p.reservationTimeout == 0 {
		return false
	}
	since, known := item.before.missing[cluster]
	if !known {
		since = p.now()
	}
	if item.missing == nil {
		item.missing = map[string]time.Time{}
	}
	item.missing[cluster] = since
	if heard.Sub(since) >= p.reservationTimeout {
		return true
	}
	p.index.wakeAt(item, since.Add(p.reservationTimeout))
	return false
}

// expiredSince lists the clusters of a decision on which its reservation has expired.
func expiredSince(d v1alpha1.WorkloadDecision) (expired []string) {
	for _, c := range d.Clusters {
		if c.ReservationExpiredAt != nil {
			expired = append(expired, fmt.Sprintf("on %s since %s", c.Name, c.ReservationExpiredAt.UTC().Format(time.RFC3339)))
		}
	}
	return expired
}

// restoreReservation makes the ledger reserve for a workload what the store records, and hold what it has given up.
func (w *workspace) restoreReservation(key workloadKey) {
	before := w.renewHeld(key)
	if d, placement, found := w.store.get(key); found {
		if r, err := engine.ReservationOf(placement, &d); err == nil { // one that cannot be read was never restored
			_ = w.engine.Restore(w.name, r) // what can be read is valid
		}
	} else {
		w.engine.Release(w.name, key.reference())
	}
	w.dropHeld(before)
}

// release removes the decision on a workload.
func (w *workspace) release(key workloadKey) {
	if d, _, found := w.store.get(key); found {
		w.free(&d)
		w.store.remove(key)
		w.restoreReservation(key)
	}
}

// heldReservation is a reservation that is held in addition to that of its workload.
type heldReservation struct {
	engine.Held
	// leaving is set if it is held until the workload is gone from the cluster, and not just until giving it up is durable.
	leaving bool
}

// hold keeps what a workload has given up reserved until that is durable, and for a delivered workload until it is gone.
//
// Invariant: the durable decisions promise nothing twice, wherever a pass is killed. If the room were given to another workload
// at once, both would be in the durable decisions between two writes.
func (w *workspace) hold(key workloadKey) {
	w.dropHeld(w.renewHeld(key))
}

// renewHeld holds what a workload has given up by now, and returns what was held for that before. The caller releases the latter by
// dropHeld only afterwards, since other workspaces may decide on the same clusters at any moment.
func (w *workspace) renewHeld(key workloadKey) (before []heldReservation) {
	before = w.heldReservations[key]
	delete(w.heldReservations, key)
	for _, g := range w.store.givenUp(key) {
		r := w.notNominated(key, g.Reservation)
		if len(r.Shares) == 0 {
			continue
		}
		if h, err := w.engine.Hold(w.name, r); err == nil { // always: it is a part of what can be read
			w.heldReservations[key] = append(w.heldReservations[key], heldReservation{h, g.leaving})
		}
	}
	return before
}

func (w *workspace) dropHeld(all []heldReservation) {
	for _, h := range all {
		w.engine.ReleaseHeld(w.name, h.Held)
	}
}

// releaseHeld releases what hold kept once giving it up is durable, and reports whether that freed anything.
func (w *workspace) releaseHeld() (freed bool) {
	for key, all := range w.heldReservations {
		if !w.store.published(key) {
			continue
		}
		var rest []heldReservation
		for _, h := range all {
			if h.leaving {
				rest = append(rest, h)
			} else {
				freed = w.engine.ReleaseHeld(w.name, h.Held) || freed
			}
		}
		if w.heldReservations[key] = rest; rest == nil {
			delete(w.heldReservations, key)
		}
	}
	return freed
}

// promised returns what the durable decisions on a workload reserve.
func (s *store) promised(key workloadKey) (all []engine.Reservation) {
	for e := range s.records[key].durably(key) {
		if r, err := engine.ReservationOf(e.placement, &e.decision); err == nil {
			all = append(all, r)
		}
	}
	return all
}

// givenUp is a part of what a workload had reserved.
type givenUp struct {
	engine.Reservation
	// leaving is set where the workload has not left the cluster yet.
	leaving bool
}

// givenUp returns what the durable decisions on a workload reserve and the current one does not: everything on clusters that it
// leaves, and on others what exceeds its new amount. A workload that was recreated gives up all that its predecessor had.
// What the current decision lists as leaving is given up as well, once the workload is gone there.
func (s *store) givenUp(key workloadKey) (all []givenUp) {
	r := s.records[key]
	if r == nil {
		return nil
	}
	var now, leaving engine.Reservation
	if r.current != nil {
		now, _ = engine.ReservationOf(r.current.placement, &r.current.decision) // what cannot be read is not current
		if leaving = leavingOf(key, &r.current.decision); len(leaving.Shares) > 0 {
			all = append(all, givenUp{leaving, true})
		}
	}
	stays := append(now.Shares, leaving.Shares...)
	for _, e := range r.superseded(key) {
		before, err := engine.ReservationOf(e.placement, &e.decision)
		if err != nil {
			continue // it was never restored
		}
		left := engine.Reservation{Workload: before.Workload} // does not count for the placement's strategy
		kept := left
		// What the cluster counts for the workload is subtracted from its current reservation.
		kept.Workload.UID = ""
		for _, share := range append(before.Shares, leavingOf(key, &e.decision).Shares...) {
			r := &left
			if i := slices.IndexFunc(stays, func(s capacity.Share) bool { return s.Cluster == share.Cluster && !s.Expired }); i >= 0 &&
				before.Workload.UID == now.Workload.UID {
				r, share.Amount = &kept, share.Amount.Without(stays[i].Amount)
			}
			if !share.Amount.IsZero() {
				r.Shares = append(r.Shares, share)
			}
		}
		for _, h := range []engine.Reservation{left, kept} {
			if len(h.Shares) > 0 {
				all = append(all, givenUp{h, false})
			}
		}
	}
	return all
}

// leavingOf returns what a decision reserves on clusters that its workload is leaving.
func leavingOf(key workloadKey, d *v1alpha1.WorkloadDecision) (r engine.Reservation) {
	r.Workload = key.reference()
	r.Workload.UID = string(d.Workload.UID)
	for _, l := range d.Leaving {
		if amount, err := capacity.FromResourceList(l.Reserved); err == nil && !amount.IsZero() {
			r.Shares = append(r.Shares, capacity.Share{Cluster: l.Name, Amount: amount})
		}
	}
	return r
}
