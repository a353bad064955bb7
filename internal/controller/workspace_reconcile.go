package controller

import (
	"context"
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
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// cacheView is a workspace as the informers see it. Nothing in it may be changed.
type cacheView struct {
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

// confirmWithin is how long an informer may take to show what was written before it is looked up.
const confirmWithin = 5 * time.Second

// reconcile makes one pass: it brings the engine up to date, decides what is to be decided, publishes.
func (w *workspace) reconcile(ctx context.Context, o cacheView) (r result) {
	if err := w.load(ctx, o.decisions); err != nil {
		r.fail(fmt.Errorf("reading the decisions: %w", err))
		return r
	}
	registrations := w.watchHealth(ctx, &o, &r)
	w.updateClusters(registrations)
	w.updatePolicies(ctx, o.configMaps, &r)
	placements := w.compile(o.placements)
	w.place(ctx, placements, o.workloads, &r)
	w.setQuarantine(w.engine.Quarantine(w.name))
	if err := w.publish(ctx, placements); err != nil {
		w.stale = true
		r.fail(err)
		return r
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
	w.updateStatus(ctx, placements, &r)
	w.watchCapacity(ctx, o.clusters, &r)
	if !w.loaded {
		w.loaded = true
		w.metrics.loaded.Inc()
	}
	w.prefetch(ctx)
	return r
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
