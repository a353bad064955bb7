package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/internal/outcome"
)

// fleet is the clusters of a workspace (the host) as known to the passes of all workspaces that use them. The host's own passes read and
// write the registrations; passes of guests read what the host's last pass has published.
//
// Invariant: nothing is decided on a fleet before all slices that are kept with it are in the ledger: until then a guest finds no
// clusters, and the fleet is opened only once.
type fleet struct {
	name logicalcluster.Name
	// actions are those of the host; kept returns the slices that the host's informer shows for a guest.
	actions
	kept func(logicalcluster.Name) []*v1alpha1.PlacementDecision
	// works are the Works for its clusters; nil if nothing is delivered.
	works *keptWorks
	// wake enqueues a workspace; gone reports whether the server confirms that a placement of a workspace does not exist, or, without a
	// name, that the workspace is no longer bound.
	wake func(logicalcluster.Name)
	gone func(context.Context, logicalcluster.Name, types.NamespacedName) (bool, error)
	// published is nil until the fleet is open.
	published atomic.Pointer[publishedFleet]

	// homeless is set while the namespace for slices is missing and the controller cannot create it.
	homeless atomic.Bool

	// writing is held by writers of guests' slices; close waits for them.
	writing sync.RWMutex
	closed  bool

	mu     sync.Mutex
	guests map[logicalcluster.Name]*guest
	// left are workspaces that have stopped using the fleet: their last decisions may not have been written.
	left sets.Set[logicalcluster.Name]
}

// publishedFleet is what a pass knows of the clusters. It is immutable.
type publishedFleet struct {
	// registrations are as they were last shown or written.
	registrations []*v1alpha1.ClusterRegistration
	clusters      map[string]clusterState
	usages        map[string]*v1alpha1.ClusterUsage
	counting      map[string]time.Time
	binding       *apisv1alpha2.APIBinding
}

// guest is a workspace that uses the clusters of another one.
type guest struct {
	// open is set while some of its workloads wait, or should have other clusters, or more.
	open bool
	// drains are the guest's workloads on clusters that are being drained.
	drains map[string]*v1alpha1.ClusterDrainStatus
}

func newFleet(name logicalcluster.Name, a actions) *fleet {
	return &fleet{
		name: name, actions: a, kept: func(logicalcluster.Name) []*v1alpha1.PlacementDecision { return nil }, wake: func(logicalcluster.Name) {},
		guests: map[logicalcluster.Name]*guest{}, left: sets.New[logicalcluster.Name](),
	}
}

// errNotOpen is why nothing is decided on the clusters of another workspace yet.
type errNotOpen struct{ fleet logicalcluster.Name }

func (e errNotOpen) Error() string {
	return fmt.Sprintf("what is promised on the clusters of workspace %s is not known yet: everything stays as it is until it is", e.fleet)
}

// addGuest makes a workspace a guest of the fleet.
func (f *fleet) addGuest(name logicalcluster.Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.guests[name] = &guest{open: true}
	f.left.Delete(name)
}

// removeGuest ends that. What is promised to the guest stays promised; before the fleet is open, that is read when it opens.
func (f *fleet) removeGuest(name logicalcluster.Name) {
	f.mu.Lock()
	delete(f.guests, name)
	if f.published.Load() != nil {
		f.left.Insert(name)
	}
	f.mu.Unlock()
	f.wake(f.name)
}

// hasGuest reports whether a workspace is a guest of the fleet.
func (f *fleet) hasGuest(name logicalcluster.Name) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.guests[name] != nil
}

// haveLeft returns the workspaces that have stopped using the fleet since the last call.
func (f *fleet) haveLeft() (left sets.Set[logicalcluster.Name]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left, f.left = f.left, sets.New[logicalcluster.Name]()
	return left
}

// close prevents further writes of decisions made on the fleet. It returns once no write is in flight, so that another fleet of the same
// clusters finds them all.
func (f *fleet) close() {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.closed = true
}

// setHomeless records whether slices can be kept, and wakes the host if that has changed.
func (f *fleet) setHomeless(is bool) {
	if f.homeless.Swap(is) != is {
		f.wake(f.name)
	}
}

// guestNames returns the workspaces that use the fleet.
func (f *fleet) guestNames() []logicalcluster.Name {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.guests))
}

// recordPass records the outcome of a pass over a guest. freed means that there is more room now: guests that wait for room get a pass.
func (f *fleet) recordPass(by logicalcluster.Name, open bool, drains map[string]*v1alpha1.ClusterDrainStatus, freed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g := f.guests[by]; g != nil {
		if !sameDrains(g.drains, drains) {
			f.wake(f.name)
		}
		g.open, g.drains = open, drains
	}
	if freed {
		if by != f.name {
			f.wake(f.name)
		}
		for name, g := range f.guests {
			if g.open && name != by {
				f.wake(name)
			}
		}
	}
}

func sameDrains(a, b map[string]*v1alpha1.ClusterDrainStatus) bool {
	return maps.EqualFunc(a, b, func(x, y *v1alpha1.ClusterDrainStatus) bool {
		return x.Remaining == y.Remaining && x.Leaving == y.Leaving
	})
}

// keptIn returns the actions of a workspace whose decisions are kept with a fleet.
func (a actions) keptIn(f *fleet, of logicalcluster.Name) actions {
	kept := a
	kept.listDecisions = func(ctx context.Context) ([]*v1alpha1.PlacementDecision, error) {
		all, err := f.listKept(ctx, of)
		return keptFor(of, all), err
	}
	kept.writeDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
		f.writing.RLock()
		defer f.writing.RUnlock()
		if f.closed {
			return nil, fmt.Errorf("%w: %w", errFenced, errNotOpen{f.name})
		}
		written, err := f.writeDecision(ctx, keep(of, d))
		if d.ResourceVersion == "" && apierrors.IsNotFound(err) {
			if err := f.makeNamespace(ctx, v1alpha1.DecisionNamespace); err != nil && !apierrors.IsAlreadyExists(err) {
				f.setHomeless(true)
				return nil, fmt.Errorf("namespace %s is missing in the workspace of the clusters, and the controller cannot make it: its owners run kubectl create namespace %[1]s: %w", v1alpha1.DecisionNamespace, err)
			}
			written, err = f.writeDecision(ctx, keep(of, d))
		}
		if err != nil {
			return nil, err
		}
		f.setHomeless(false)
		_, slice, ok := fromKept(written)
		if !ok {
			return nil, fmt.Errorf("the server has stored PlacementDecision %s/%s as something else", written.Namespace, written.Name)
		}
		return slice, nil
	}
	kept.deleteDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) error {
		return f.deleteDecision(ctx, keep(of, d))
	}
	kept.liveUIDs = func(ctx context.Context, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
		if resource != clusterResource {
			return a.liveUIDs(ctx, resource, names)
		}
		now := f.published.Load()
		if now == nil {
			return nil, errNotOpen{f.name}
		}
		there, err := f.liveUIDs(ctx, resource, names)
		if err != nil {
			return nil, err
		}
		bound, err := f.stillBound(ctx, now.binding)
		if err == nil && !bound {
			err = errors.New("the APIBinding of the workspace with the clusters has changed meanwhile")
		}
		return there, err
	}
	return kept
}

// currentFleet returns the fleet that a workspace uses.
func (w *workspace) currentFleet() *fleet {
	if w.host != nil {
		return w.host
	}
	return w.fleet
}

// split returns the slices of the workspace itself, and those that it keeps for others, which are remembered until the fleet is open.
func (w *workspace) split(all []*v1alpha1.PlacementDecision) (own, kept []*v1alpha1.PlacementDecision) {
	own, kept = splitKept(all)
	if w.host != nil || w.fleet.published.Load() != nil {
		return own, kept
	}
	w.listedKept = map[logicalcluster.Name][]*v1alpha1.PlacementDecision{}
	for _, d := range kept {
		if of, slice, ok := fromKept(d); ok {
			w.listedKept[of] = append(w.listedKept[of], slice)
		}
	}
	return own, kept
}

// followClusters brings what is known of the clusters up to date.
func (w *workspace) followClusters(ctx context.Context, o *cacheView, r *result) {
	if w.host != nil {
		r.do(func() { w.followHost(o, r) })
	} else {
		w.registrations = o.clusters
		r.do(func() { w.registrations = w.watchHealth(ctx, o, r) })
		r.do(func() { w.updateClusters(w.registrations, o, r) })
	}
	w.watchLoss(ctx, w.registrations)
	r.do(w.countRest)
}

// followHost takes over the clusters that a guest sees from what its host has published.
func (w *workspace) followHost(o *cacheView, r *result) {
	w.registrations, w.clusters, w.counting = nil, map[string]clusterState{}, map[string]time.Time{}
	defer func() { o.clusters = w.registrations }()
	now := w.host.published.Load()
	if now == nil {
		return
	}
	if !w.shared || !equality.Semantic.DeepEqual(w.grants, o.grants) {
		if err := w.engine.Share(w.name, w.host.name, o.grants); err != nil {
			r.fail(fmt.Errorf("the grants of workspace %s: %w", w.host.name, err))
		}
		w.shared, w.grants = true, o.grants
	}
	o.usages = now.usages
	seen := map[string]bool{}
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		seen[row.Name] = true
	}
	for _, registration := range now.registrations {
		name := registration.Name
		if !seen[name] {
			continue
		}
		w.registrations = append(w.registrations, registration)
		w.clusters[name] = now.clusters[name]
		if heard, counts := now.counting[name]; counts {
			w.counting[name] = heard
		}
	}
	w.facts = w.factsHash(w.registrations)
}

// open restores everything promised on the clusters of the workspace into the ledger, and publishes the clusters.
func (w *workspace) open(o *cacheView) error {
	if w.host != nil {
		return nil
	}
	f := w.fleet
	before := f.published.Load()
	if before == nil {
		for of, slices := range w.listedKept {
			if err := w.restoreFor(of, slices); err != nil {
				return fmt.Errorf("what is promised to workspace %s: %w", of, err)
			}
			w.orphans[of] = &orphan{slices: slices, askAt: w.now().Add(orphanedFor)}
		}
	}
	f.published.Store(&publishedFleet{registrations: w.registrations, clusters: w.clusters, usages: o.usages, counting: w.counting, binding: o.binding})
	for of := range w.listedKept {
		f.wake(of)
	}
	w.listedKept = nil
	w.wakeGuests(before == nil)
	return nil
}

// restoreFor reserves what the slices of another workspace promise.
func (w *workspace) restoreFor(of logicalcluster.Name, slices []*v1alpha1.PlacementDecision) error {
	s := newStore(slices, w.now(), w.slicing)
	var restored, given []engine.Reservation
	for _, key := range s.byDecision() {
		current := s.records[key].current
		r, err := engine.ReservationOf(current.placement, &current.decision)
		if err != nil {
			klog.Background().Error(err, "A stored decision cannot be read and promises nothing", "workspace", of, "workload", key.reference().String())
			continue
		}
		restored = append(restored, r)
		for _, g := range s.givenUp(key) {
			given = append(given, g.Reservation)
		}
	}
	return w.engine.RestoreAll(of, w.name, restored, given)
}

// orphan is a workspace that something is kept for though it does not use the clusters: it is gone, not followed yet, or uses other
// clusters.
type orphan struct {
	// slices are those that are in the ledger.
	slices []*v1alpha1.PlacementDecision
	// unread is set while the ledger may hold other promises than slices.
	unread bool
	// askAt is when the server is next asked what has become of it. stays is set while the server says that it still has placements.
	askAt time.Time
	stays bool
}

// orphanedFor is how long a workspace has to be an orphan before the server is asked about its placements, and how often it is asked
// after that.
const orphanedFor = time.Minute

// tendKept takes care of the slices of workspaces that do not use the clusters. What they promise stays promised until the server
// confirms that their placement is gone. A slice that no controller has written is deleted.
func (w *workspace) tendKept(ctx context.Context, o *cacheView, r *result) {
	kept, guests := map[logicalcluster.Name][]*v1alpha1.PlacementDecision{}, sets.New(w.fleet.guestNames()...)
	for _, d := range o.kept {
		of, _, ok := nameOfKept(d)
		if ok && guests.Has(of) {
			continue
		}
		if _, slice, ok := fromKept(d); ok {
			kept[of] = append(kept[of], slice)
			continue
		}
		w.event(d, corev1.EventTypeWarning, decisionDiscarded, "says that it is kept for another workspace, and no controller has written it so: it promises nothing")
		if err := w.deleteDecision(ctx, d); err != nil && !outcome.Conflicts(err) {
			r.fail(fmt.Errorf("deleting PlacementDecision %s/%s: %w", d.Namespace, d.Name, err))
		}
	}
	works := map[logicalcluster.Name][]*v1alpha1.Work{}
	for _, work := range o.keptWorks {
		of := logicalcluster.Name(work.Spec.Workspace)
		if work, ok := workFromKept(of, work); ok && !guests.Has(of) {
			works[of] = append(works[of], work)
		}
	}
	for of := range w.fleet.haveLeft() {
		w.orphans[of] = &orphan{unread: true, askAt: w.now().Add(orphanedFor)}
	}
	for _, of := range sets.List(sets.KeySet(kept).Union(sets.KeySet(works)).Union(sets.KeySet(w.orphans))) {
		if w.fleet.hasGuest(of) {
			delete(w.orphans, of)
		} else if err := w.tendOrphan(ctx, of, kept[of], works[of], r); err != nil {
			r.fail(fmt.Errorf("what is kept for workspace %s: %w", of, err))
		}
	}
}

func versionsOf(all []*v1alpha1.PlacementDecision) map[types.NamespacedName]string {
	versions := make(map[types.NamespacedName]string, len(all))
	for _, d := range all {
		versions[namespacedName(d)] = d.ResourceVersion
	}
	return versions
}

// tendOrphan takes care of the slices of one workspace.
func (w *workspace) tendOrphan(ctx context.Context, of logicalcluster.Name, shown []*v1alpha1.PlacementDecision, works []*v1alpha1.Work, r *result) error {
	one := w.orphans[of]
	if one == nil {
		one = &orphan{askAt: w.now().Add(orphanedFor)}
		w.orphans[of] = one
	}
	if one.unread || !maps.Equal(versionsOf(shown), versionsOf(one.slices)) {
		// Not from the informer, which may be behind.
		all, err := w.listKept(ctx, of)
		if err != nil {
			return err
		}
		listed := keptFor(of, all)
		w.fleet.unlessGuest(of, func() { err = w.restoreFor(of, listed) })
		if one.slices, one.unread = listed, err != nil; err != nil {
			return err
		}
	}
	if len(one.slices)+len(works) == 0 {
		delete(w.orphans, of)
		return nil
	}
	if wait := one.askAt.Sub(w.now()); wait > 0 {
		r.within(wait)
		return nil
	}
	one.askAt = w.now().Add(orphanedFor)
	r.within(orphanedFor)
	one.stays = false
	for _, slice := range one.slices {
		gone, err := w.fleet.gone(ctx, of, types.NamespacedName{Namespace: slice.Namespace, Name: slice.PlacementName})
		if err != nil {
			klog.FromContext(ctx).V(2).Info("It is not known what has become of a placement", "of", of, "placement", slice.PlacementName, "reason", err.Error())
			continue
		}
		if one.stays = one.stays || !gone; gone {
			r.again = true // with what is left
			if err := w.deleteDecision(ctx, keep(of, slice)); err != nil && !outcome.Conflicts(err) {
				return err
			}
		}
	}
	if len(works) == 0 || len(one.slices) > 0 {
		return nil
	}
	// What runs without a decision keeps running as long as its workspace exists.
	if unbound, err := w.fleet.gone(ctx, of, types.NamespacedName{}); err != nil || !unbound {
		return err
	}
	for _, work := range works {
		if err := w.fleet.works.actions(of).DeleteWork(ctx, work); err != nil && !outcome.Conflicts(err) && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// unlessGuest calls do unless the workspace is a guest of the fleet.
func (f *fleet) unlessGuest(name logicalcluster.Name, do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.guests[name] == nil {
		do()
	}
}

// fleetMark is the state of a cluster, apart from its free capacity, for whose changes guests are woken.
type fleetMark struct {
	facts, usableNodes, generation int64
}

// wakeGuests wakes the guests that a change concerns: all of them if clusters have changed, and those that wait for room if free
// capacity has.
//
// Invariant: a report costs no work for workspaces that have all that they ask for.
func (w *workspace) wakeGuests(all bool) {
	f := w.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.guests) == 0 {
		w.fleetMarks = nil
		return
	}
	marks := map[string]fleetMark{}
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		m := fleetMark{facts: row.Facts, usableNodes: row.UsableNodes}
		if r := w.clusters[row.Name].registration; r != nil {
			m.generation = r.Generation
		}
		marks[row.Name] = m
	}
	all = all || !maps.Equal(marks, w.fleetMarks)
	revision := w.engine.Revision(w.name)
	for name, g := range f.guests {
		if all || g.open && revision != w.fleetRevision {
			f.wake(name)
		}
	}
	w.fleetMarks, w.fleetRevision = marks, revision
}

// guestDrains adds the workloads of other workspaces to the drains of clusters.
func (w *workspace) guestDrains() {
	for _, one := range w.orphans {
		for _, slice := range one.slices {
			for _, d := range slice.Decisions {
				for _, c := range d.Clusters {
					if drain := w.drains[c.Name]; drain != nil {
						drain.Remaining++
					}
				}
			}
		}
	}
	f := w.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.guests)) {
		for cluster, of := range f.guests[name].drains {
			drain := w.drains[cluster]
			if drain == nil {
				continue
			}
			drain.Remaining, drain.Leaving = drain.Remaining+of.Remaining, drain.Leaving+of.Leaving
			for _, d := range of.Workloads[:min(len(of.Workloads), v1alpha1.MaxDrainedWorkloads-len(drain.Workloads))] {
				d.Workspace = name.String()
				drain.Workloads = append(drain.Workloads, d)
			}
		}
	}
}
