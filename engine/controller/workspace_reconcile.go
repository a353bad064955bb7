package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/batch"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// observed is a workspace as the informers see it. Nothing in it may be changed.
type observed struct {
	clusters   []*v1alpha1.ClusterRegistration
	placements []*v1alpha1.WorkloadPlacement
	decisions  []*v1alpha1.PlacementDecision
	configMaps []*corev1.ConfigMap
	workloads  []*workloadObject
}

// workspace reconciles one logical cluster. Passes over it do not overlap: what happens during one is taken up by
// the next, so that decisions gather while slices are being written and then go out together.
type workspace struct {
	name     logicalcluster.Name
	engine   *engine.Engine
	batcher  *batch.Batcher
	policies *policy.Compiler
	metrics  *metrics
	now      func() time.Time
	actions

	// store is nil until the durable decisions have been read, and stale after a write has failed: then they are read
	// anew, so that memory and what is durable cannot stay apart.
	store *store
	stale bool
	// deleted are slices that the informer may go on showing for a moment.
	deleted map[types.UID]bool
	// clusters by name and compiled placements are of the objects that the last pass saw: those that are the same
	// objects now are not read again.
	clusters map[string]*v1alpha1.ClusterRegistration
	compiled map[*v1alpha1.WorkloadPlacement]compiled
	// policyErr is why the policies as written are not in force; inForce tells whether any are.
	policyErr error
	inForce   bool
	// restUntil is when a workspace that was too slow is tried again, tooSlow how it was.
	restUntil time.Time
	tooSlow   error
	// quarantine is why the policies are not evaluated any more.
	quarantine error
	// held is what workloads have left in this pass, reserved until that is written.
	held []workload.Reference
	known
	// statuses and news of placements, by their UID.
	statuses map[types.UID]writtenStatus
	news     map[types.UID]*news
	// loaded is set once a first pass has been made.
	loaded bool
}

func newWorkspace(name logicalcluster.Name, e *engine.Engine, b *batch.Batcher, policies *policy.Compiler, m *metrics, a actions) *workspace {
	return &workspace{
		name: name, engine: e, batcher: b, policies: policies, metrics: m, now: time.Now, actions: a, known: newKnown(),
		news: map[types.UID]*news{},
	}
}

// actions are what reconciling does to the world, as functions so that it is tested without an API server.
type actions struct {
	listDecisions func(context.Context) ([]*v1alpha1.PlacementDecision, error)
	// writeDecision creates an object without resource version, and updates one with.
	writeDecision  func(context.Context, *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error)
	deleteDecision func(context.Context, *v1alpha1.PlacementDecision) error
	writeStatus    func(context.Context, *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error)
	annotate       func(ctx context.Context, configMap *corev1.ConfigMap, key, value string) error
	event          func(about runtime.Object, kind, reason, message string)
}

// result of a pass that went well.
type result struct {
	// again asks for another pass at once: capacity was freed that a workload may have been waiting for.
	again bool
	// after asks for another pass in a while, unless it is 0: by then the informers are to have shown what was written,
	// the workspace has rested, or what has gathered is due to be told.
	after time.Duration
}

// within asks for another pass in a while; where several reasons do, the earliest counts.
func (r *result) within(d time.Duration) {
	if r.after == 0 || d < r.after {
		r.after = d
	}
}

// confirmWithin is how long an informer may take to show what was written before it is looked up.
const confirmWithin = 5 * time.Second

// reconcile makes one pass: it brings the engine up to date, decides what is to be decided, publishes.
func (w *workspace) reconcile(ctx context.Context, o observed) (r result, err error) {
	if err := w.load(ctx, o.decisions); err != nil {
		return result{}, fmt.Errorf("reading the decisions: %w", err)
	}
	w.updateClusters(o.clusters)
	policyErr := w.updatePolicies(ctx, o.configMaps)
	placements := w.compile(o.placements)
	placeErr := w.place(ctx, placements, o.workloads)
	w.setQuarantine(w.engine.Quarantine(w.name))
	if err := w.publish(ctx, placements); err != nil {
		w.stale = true
		return result{}, err
	}
	r.again = w.letGo() && len(w.waiting) > 0
	if w.store.unconfirmed() {
		r.within(confirmWithin)
	}
	if rest := w.restUntil.Sub(w.now()); rest > 0 {
		r.within(rest)
	}
	w.tellNews(placements, &r)
	err = errors.Join(policyErr, placeErr, w.updateStatus(ctx, placements, &r))
	if !w.loaded {
		w.loaded = true
		w.metrics.loaded.Inc()
	}
	w.prefetch(ctx)
	return r, err
}

// prefetch makes the rankings in use ready for whatever has changed, while nobody waits for them.
func (w *workspace) prefetch(ctx context.Context) {
	if !w.inForce || w.now().Before(w.restUntil) {
		return
	}
	ctx, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
	defer done()
	if err := w.engine.Prefetch(ctx, w.name); err != nil {
		klog.FromContext(ctx).V(2).Info("Rankings are not ready yet: whoever asks for them waits", "reason", err.Error())
		w.failed(err)
	}
}

// retire takes a workspace that is gone out of the metrics.
func (w *workspace) retire() {
	w.metrics.workspaces.Dec()
	if w.loaded {
		w.metrics.loaded.Dec()
	}
	w.metrics.waiting.Sub(float64(len(w.waiting)))
	if w.policyErr != nil {
		w.metrics.policyErrs.Dec()
	}
	w.setQuarantine(nil)
}

func (w *workspace) setQuarantine(err error) {
	if (err == nil) != (w.quarantine == nil) {
		w.metrics.quarantined.Add(map[bool]float64{true: -1, false: 1}[err == nil])
	}
	w.quarantine = err
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
	w.letGo()
	previous := w.store
	w.store, w.stale, w.deleted = newStore(written, w.now()), false, map[types.UID]bool{}
	for key, sl := range w.store.where {
		d := sl.decisions[key]
		reserved, err := capacity.FromResourceList(d.Reserved)
		if err != nil {
			klog.FromContext(ctx).Error(err, "A stored decision cannot be read and is made anew", "slice", sl.name, "workload", d.Workload.Name)
			w.store.remove(key)
			continue
		}
		w.engine.Restore(w.name, sl.placement, key.reference(), clusterNames(d.Clusters), reserved)
	}
	if previous != nil {
		for key := range previous.where {
			if w.store.where[key] == nil {
				w.engine.Release(w.name, key.reference())
			}
		}
	}
	return nil
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
		case sl.shown || w.now().Sub(sl.since) >= confirmWithin:
			return true
		}
	}
	return false
}

// updateClusters brings the fleet up to date. A registration that is the object that the pass before saw is not read
// again: an informer never changes an object, it shows another.
func (w *workspace) updateClusters(registrations []*v1alpha1.ClusterRegistration) {
	gone := w.clusters
	w.clusters = make(map[string]*v1alpha1.ClusterRegistration, len(registrations))
	for _, r := range registrations {
		if gone[r.Name] != r {
			c := snapshot.FromRegistration(r)
			if w.engine.SetCluster(w.name, c) && c.Invalid != "" {
				w.event(r, corev1.EventTypeWarning, "InvalidRegistration", "no workloads are placed here: "+c.Invalid)
			}
		}
		w.clusters[r.Name] = r
		delete(gone, r.Name)
	}
	for name := range gone {
		w.engine.RemoveCluster(w.name, name)
	}
}

// publish writes the slices that have changed.
func (w *workspace) publish(ctx context.Context, placements []*owned) error {
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
