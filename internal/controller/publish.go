package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/internal/outcome"
	"github.com/kcp-placement/placement/internal/panics"
)

// A slice that could not be written is retried after retryFirst, then after twice that, up to retryLast.
const (
	retryFirst = 200 * time.Millisecond
	retryLast  = time.Minute
)

// writeFailure is why the last attempt to write a slice failed.
type writeFailure struct {
	err     error
	retryAt time.Time
	// backOff is 0 after a first conflict, which most likely ends when the decisions are read again.
	backOff time.Duration
}

// publish writes the slices that have changed. One that cannot be written holds up no other: it is retried later, its
// placement reports why, and only what must not be lost before it is written waits for it.
func (w *workspace) publish(ctx context.Context, placements []*placementState, r *result) {
	states := make(map[types.NamespacedName]*placementState, len(placements))
	for _, p := range placements {
		states[namespacedName(p.object)] = p
	}
	w.store.assign()
	w.publishing.Add(1)
	defer w.publishing.Add(-1)
	w.writeSlices(ctx, states, r)
	for _, sl := range w.store.sorted() {
		if f, p := w.writeFailures[sl.name], states[sl.placement]; f.delay() > 0 && p != nil {
			p.unpublished = append(p.unpublished, fmt.Sprintf("PlacementDecision %s: %v", sl.name.Name, f.err))
		}
	}
}

// verifyUnwritten takes back decisions that are not durable and no longer fit, because their clusters have shrunk since they
// were made. The durable decisions on those workloads become current again.
//
// Invariant: what is decided and published in a pass fits on the clusters as they are then. The engine lets a workload stay on a
// cluster however full it is, which is right only for durable decisions: nothing runs yet on a cluster that was never told to run it.
func (w *workspace) verifyUnwritten() {
	for _, key := range w.store.unwritten() {
		e := w.store.records[key].current
		reservation, err := engine.ReservationOf(e.placement, &e.decision)
		if err != nil {
			continue
		}
		if w.engine.Reserve(w.name, reservation, w.store.promised(key)...) != nil {
			w.revert(key)
		}
	}
}

// revert makes the durable decision on a workload current again; if there is none, the workload has no decision.
func (w *workspace) revert(key workloadKey) {
	durable := w.store.records[key].superseded(key)
	if len(durable) == 0 {
		w.release(key)
		return
	}
	w.store.put(key, durable[0].placement, durable[0].decision)
	w.restoreReservation(key)
}

func (w *workspace) writeSlices(ctx context.Context, states map[types.NamespacedName]*placementState, r *result) {
	for _, sl := range w.store.slices {
		sl.owner = nil
		if p := states[sl.placement]; p != nil {
			sl.owner = p.object
		}
	}
	before, failures := w.writeFailures, map[types.NamespacedName]*writeFailure{}
	w.writeFailures = failures
	w.store.reportDue(w.now())
	pending := w.store.pending()
	for _, sl := range pending {
		if f := before[sl.name]; f != nil && w.now().Before(f.retryAt) {
			failures[sl.name] = f
			r.within(f.retryAt.Sub(w.now()))
		}
	}
	// Slices that failed before come last, since they may take long to fail again.
	slices.SortStableFunc(pending, func(a, b *slice) int { return cmp.Compare(before[a.name].delay(), before[b.name].delay()) })
	w.store.flush(pending, func(sl *slice, content map[workloadKey]*entry) bool {
		if failures[sl.name] != nil {
			return true
		}
		err := w.write(ctx, sl, content)
		if err == nil {
			return true
		}
		r.fail(fmt.Errorf("PlacementDecision %s: %w", sl.name, err))
		if !outcome.Refused(err) {
			w.stale = true // it may have been written all the same
		}
		if errors.Is(err, errFenced) {
			return false
		}
		failures[sl.name] = before[sl.name].again(err, w.now())
		if outcome.Conflicts(err) {
			return false // the decisions may rest on outdated state: the other slices are written once that has been read
		}
		r.within(failures[sl.name].backOff)
		return true
	})
	if wait := w.store.reportDue(w.now()); wait > 0 { // a slice written for another reason includes its reports
		r.within(wait)
	}
}

// write writes a slice with its content, or deletes it if the content is empty.
func (w *workspace) write(ctx context.Context, sl *slice, content map[workloadKey]*entry) (err error) {
	defer panics.RecoverTo(&err)
	var written *v1alpha1.PlacementDecision
	if len(content) > 0 {
		if written, err = w.writeDecision(ctx, w.store.object(sl, content)); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	} else {
		if err := w.deleteDecision(ctx, sl.written); err != nil {
			return fmt.Errorf("deleting: %w", err)
		}
		w.deleted[sl.written.UID] = true
	}
	w.store.wrote(sl, written, content, w.now())
	return nil
}

func (f *writeFailure) delay() time.Duration {
	if f == nil {
		return 0
	}
	return f.backOff
}

// again returns the failure after another attempt.
func (f *writeFailure) again(err error, now time.Time) *writeFailure {
	backOff := min(max(2*f.delay(), retryFirst), retryLast)
	if f == nil && outcome.Conflicts(err) {
		backOff = 0
	}
	return &writeFailure{err: err, backOff: backOff, retryAt: now.Add(backOff)}
}

func namespacedName(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// load reads the durable decisions on the first pass, after a write whose outcome is not known, and whenever another client
// has changed them. What they promise replaces all reservations.
func (w *workspace) load(ctx context.Context, shown []*v1alpha1.PlacementDecision) error {
	if w.host != nil && w.host.published.Load() == nil {
		return errNotOpen{w.host.name}
	}
	if w.store != nil && !w.stale && !w.changedByOthers(shown) {
		return nil
	}
	// Not from the informer: a previous leader may have written what it does not show yet.
	all, err := w.listDecisions(ctx)
	if err != nil {
		w.stale = true
		return err
	}
	listed, kept := w.split(all)
	if host := w.unseenHost(listed, shown); host != "" {
		w.stale = true
		return errNotOpen{host}
	}
	// The informer may lag behind the list: what it shows and the list does not is deleted.
	w.deleted = map[types.UID]bool{}
	for _, object := range shown {
		w.deleted[object.UID] = true
	}
	for _, object := range listed {
		delete(w.deleted, object.UID)
	}
	first, previous := w.store == nil, w.store
	w.store, w.stale = newStore(listed, w.now(), w.slicing), false
	w.store.avoid(kept)
	for _, item := range w.index.items {
		if !item.tried {
			item.attempt = attempt{} // it may have other clusters now
		}
	}
	if first && w.store.placed > 0 {
		// What an earlier process has disrupted is not known: processes that keep restarting move nothing.
		w.brake.Exhaust(w.now(), w.store.placed)
		w.slowed.Exhaust(w.now(), w.store.placed)
	}
	w.gains.recount(w.store)
	return w.restore(ctx, previous)
}

// restore reserves what the durable decisions promise. Whatever this process knew before was granted before. What another client has
// written since, such as a former leader that has not noticed yet, has to fit in addition: what does not fit is promised
// twice, and is decided anew.
func (w *workspace) restore(ctx context.Context, previous *store) error {
	logger := klog.FromContext(ctx)
	var restored, given, foreign []engine.Reservation
	var givenBy, foreignKeys []workloadKey
	var leaving []bool
	w.dropVoid()
	for _, key := range w.store.byDecision() {
		current := w.store.records[key].current
		r, err := engine.ReservationOf(current.placement, &current.decision)
		switch {
		case err != nil:
			logger.Error(err, "A stored decision cannot be read and is made anew", "slice", current.slice.name, "workload", key.reference().String())
			w.store.remove(key)
		case previous == nil || previous.knows(key, current.decision):
			restored = append(restored, r)
		default:
			foreign, foreignKeys = append(foreign, r), append(foreignKeys, key)
		}
		for _, g := range w.store.givenUp(key) {
			if r := w.notNominated(key, g.Reservation); len(r.Shares) > 0 {
				given, givenBy, leaving = append(given, r), append(givenBy, key), append(leaving, g.leaving)
			}
		}
	}
	holds, refusals, err := w.engine.Replace(w.name, restored, given, foreign)
	if err != nil {
		w.stale = true
		return err
	}
	w.heldReservations = map[workloadKey][]heldReservation{}
	for i, h := range holds {
		w.heldReservations[givenBy[i]] = append(w.heldReservations[givenBy[i]], heldReservation{h, leaving[i]})
	}
	w.renominate()
	for i, err := range refusals {
		if err != nil {
			logger.Error(err, "A decision of another controller does not fit beside what is promised, and is made anew", "workload", foreignKeys[i].reference().String())
			w.release(foreignKeys[i])
		}
	}
	return nil
}

// changedByOthers reports whether the slices that the informer shows differ from those that we wrote, and are not merely
// older: once it has shown what we wrote, anything else was written by another client.
func (w *workspace) changedByOthers(seen []*v1alpha1.PlacementDecision) bool {
	shown, deleted := make(map[types.NamespacedName]*v1alpha1.PlacementDecision, len(seen)), map[types.UID]bool{}
	for _, object := range seen {
		name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
		shown[name] = object
		switch {
		case w.deleted[object.UID]:
			deleted[object.UID] = true
		case w.store.slices[name] == nil:
			return true
		}
	}
	w.deleted = deleted // what is no longer shown will not be shown again
	for name, sl := range w.store.slices {
		object := shown[name]
		switch {
		case sl.written == nil:
		case object != nil && object.ResourceVersion == sl.written.ResourceVersion:
			sl.shown = true
		case object != nil && outcome.Newer(object.ResourceVersion, sl.written.ResourceVersion):
			return true
		case sl.shown || w.now().Sub(sl.since) >= confirmWithin:
			return true
		}
	}
	return false
}
