package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// publish writes the slices that have changed.
func (w *workspace) publish(ctx context.Context, placements []*placementState) error {
	owners := make(map[types.NamespacedName]*v1alpha1.WorkloadPlacement, len(placements))
	for _, p := range placements {
		owners[namespacedName(p.object)] = p.object
	}
	for _, sl := range w.store.pending() {
		owner := owners[sl.placement]
		if len(sl.decisions) == 0 {
			if sl.written != nil {
				if err := w.deleteDecision(ctx, sl.written); err != nil {
					return fmt.Errorf("deleting PlacementDecision %s: %w", sl.name, err)
				}
				w.deleted[sl.written.UID] = true
			}
			delete(w.store.slices, sl.name)
			continue
		}
		written, err := w.writeDecision(ctx, sl.object(owner))
		if err != nil {
			return fmt.Errorf("writing PlacementDecision %s: %w", sl.name, err)
		}
		sl.written, sl.since, sl.shown, sl.dirty, sl.gains = written, w.now(), false, false, false
	}
	return nil
}

func namespacedName(p *v1alpha1.WorkloadPlacement) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// load rebuilds the ledger from the durable decisions, on the first pass and whenever they have been changed by
// another hand.
func (w *workspace) load(ctx context.Context, seen []*v1alpha1.PlacementDecision) error {
	if w.store != nil && !w.stale && !w.changedByOthers(seen) {
		return nil
	}
	// Not from the informer: a leader before us may have written what it does not show yet.
	written, err := w.listDecisions(ctx)
	if err != nil {
		return err
	}
	w.releaseHeld()
	w.reviewed = nil
	previous := w.store
	w.store, w.stale, w.deleted = newStore(written, w.now()), false, map[types.UID]bool{}
	if previous != nil {
		for key := range previous.where {
			if w.store.where[key] == nil {
				w.engine.Release(w.name, key.reference())
			}
		}
	}
	w.restore(ctx, previous)
	return nil
}

// restore reserves what the durable decisions promise. What we have known before was granted before. What another has
// written while we were at work, as a leader can that does not know yet that it leads no more, has to fit beside that: what
// does not is promised twice, and is taken back.
func (w *workspace) restore(ctx context.Context, previous *store) {
	logger := klog.FromContext(ctx)
	known := previous.known()
	var foreign []workloadKey
	for key, sl := range w.store.where {
		d := sl.decisions[key]
		r, err := engine.ReservationOf(sl.placement, &d)
		switch {
		case err != nil:
			logger.Error(err, "A stored decision cannot be read and is made anew", "slice", sl.name, "workload", d.Workload.Name)
			w.store.remove(key)
		case previous == nil || slices.ContainsFunc(known[key], func(k v1alpha1.WorkloadDecision) bool { return reservesTheSame(k, d) }):
			w.engine.Restore(w.name, r)
		default:
			foreign = append(foreign, key)
		}
	}
	slices.SortFunc(foreign, func(a, b workloadKey) int {
		of := func(key workloadKey) time.Time { return w.store.where[key].decisions[key].DecidedAt.Time }
		return cmp.Or(of(a).Compare(of(b)), strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name), strings.Compare(a.kind, b.kind))
	})
	for _, s := range w.store.second {
		w.hold(s.key, s.decision, nil, capacity.Resources{})
	}
	for _, key := range foreign {
		d, placement, _ := w.store.get(key)
		r, _ := engine.ReservationOf(placement, &d)
		if err := w.engine.Reserve(w.name, r); err != nil {
			logger.Error(err, "A decision of another controller does not fit beside what is promised, and is made anew", "workload", key.reference().String())
			w.release(key)
		}
	}
}

// changedByOthers tells whether the slices that the informer shows are other than those we wrote, and not merely
// older: once it has shown what we wrote, anything else is another's doing.
func (w *workspace) changedByOthers(seen []*v1alpha1.PlacementDecision) bool {
	shown := make(map[types.NamespacedName]*v1alpha1.PlacementDecision, len(seen))
	for _, object := range seen {
		name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
		shown[name] = object
		if w.store.slices[name] == nil && !w.deleted[object.UID] {
			return true
		}
	}
	for name, sl := range w.store.slices {
		object := shown[name]
		switch {
		case sl.written == nil:
		case object != nil && object.ResourceVersion == sl.written.ResourceVersion:
			sl.shown = true
		case object != nil && newer(object.ResourceVersion, sl.written.ResourceVersion):
			return true
		case sl.shown || w.now().Sub(sl.since) >= confirmWithin:
			return true
		}
	}
	return false
}

// newer tells whether one resource version is known to come after another.
func newer(version, than string) bool {
	order, err := resourceversion.CompareResourceVersion(version, than)
	return err == nil && order > 0
}
