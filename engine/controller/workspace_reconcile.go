package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
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
	clusters []*v1alpha1.ClusterRegistration
	// heard is when clusters that have a heartbeat were last heard of.
	heard      map[types.UID]time.Time
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
	limits

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
	// held is what workloads have left in this pass, reserved until that is written; reviewed are those whose reservations
	// are to be in line with what is written.
	held     []workload.Reference
	reviewed []workloadKey
	// reports are the registrations that we have written, counting are the clusters that say which workloads they count,
	// with when they were last heard of.
	reports       map[types.UID]reported
	counting      map[string]time.Time
	overcommitted int
	known
	// statuses and news of placements, by their UID.
	statuses map[types.UID]writtenStatus
	news     map[types.UID]*news
	// loaded is set once a first pass has been made.
	loaded bool
}

func newWorkspace(name logicalcluster.Name, e *engine.Engine, b *batch.Batcher, policies *policy.Compiler, m *metrics, l limits, a actions) *workspace {
	return &workspace{
		name: name, engine: e, batcher: b, policies: policies, metrics: m, now: time.Now, limits: l, actions: a, known: newKnown(),
		news: map[types.UID]*news{}, reports: map[types.UID]reported{},
	}
}

// limits are how long to wait for clusters.
type limits struct {
	// grace is how long a cluster may be silent before its Ready condition becomes Unknown; 0 is for ever.
	grace time.Duration
	// failoverAfter is how long it may be silent before it is taken for lost; 0 is for ever.
	failoverAfter time.Duration
	// reservationTimeout is how long a cluster may go without counting a workload that is placed there; 0 is for ever.
	reservationTimeout time.Duration
}

// actions are what reconciling does to the world, as functions so that it is tested without an API server.
type actions struct {
	listDecisions func(context.Context) ([]*v1alpha1.PlacementDecision, error)
	// writeDecision creates an object without resource version, and updates one with.
	writeDecision  func(context.Context, *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error)
	deleteDecision func(context.Context, *v1alpha1.PlacementDecision) error
	writeStatus    func(context.Context, *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error)
	// writeConditions fails with a conflict where the registration has changed.
	writeConditions func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error)
	annotate        func(ctx context.Context, configMap *corev1.ConfigMap, key, value string) error
	event           func(about runtime.Object, kind, reason, message string)
}

// fenced returns actions that write decisions only while a fence lets them, and not for long.
func (a actions) fenced(fence func() error) actions {
	if fence == nil {
		return a
	}
	f := a
	f.writeDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
		if err := fence(); err != nil {
			return nil, err
		}
		ctx, done := context.WithTimeout(ctx, WriteWithin)
		defer done()
		return a.writeDecision(ctx, d)
	}
	f.deleteDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) error {
		if err := fence(); err != nil {
			return err
		}
		ctx, done := context.WithTimeout(ctx, WriteWithin)
		defer done()
		return a.deleteDecision(ctx, d)
	}
	return f
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
	registrations, healthErr := w.watchHealth(ctx, &o, &r)
	w.updateClusters(registrations)
	policyErr := w.updatePolicies(ctx, o.configMaps)
	placements := w.compile(o.placements)
	placeErr := w.place(ctx, placements, o.workloads, &r)
	w.setQuarantine(w.engine.Quarantine(w.name))
	if err := w.publish(ctx, placements); err != nil {
		w.stale = true
		return result{}, err
	}
	freed := w.letGo()
	r.again = (w.takeUpReviews() || freed) && len(w.waiting) > 0
	if w.store.unconfirmed() {
		r.within(confirmWithin)
	}
	if rest := w.restUntil.Sub(w.now()); rest > 0 {
		r.within(rest)
	}
	w.tellNews(placements, &r)
	err = errors.Join(policyErr, healthErr, placeErr, w.updateStatus(ctx, placements, &r), w.watchCapacity(ctx, o.clusters, &r))
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
	w.metrics.overcommitted.Sub(float64(w.overcommitted))
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
