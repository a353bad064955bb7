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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
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
	policies *policy.Compiler
	metrics  *metrics
	now      func() time.Time
	actions

	// store is nil until the durable decisions have been read, and stale after a write has failed: then they are read
	// anew, so that memory and what is durable cannot stay apart.
	store *store
	stale bool
	// deleted are slices that the informer may go on showing for a moment.
	deleted  map[types.UID]bool
	clusters map[string]bool
	// policyErr is why the policies as written are not in force; inForce tells whether any are.
	policyErr error
	inForce   bool
	// freed tells whether capacity was freed after a workload that may want it had its turn.
	freed bool
	// waiting are the workloads that found no cluster, unread what has been told of those that cannot be read.
	waiting map[workloadKey]attempt
	unread  map[types.UID]string
	// fewer are the workloads on fewer clusters than asked for, with the generation at which more were looked for.
	fewer    map[workloadKey]int64
	statuses map[types.UID]writtenStatus
}

func newWorkspace(name logicalcluster.Name, e *engine.Engine, policies *policy.Compiler, m *metrics, a actions) *workspace {
	return &workspace{
		name: name, engine: e, policies: policies, metrics: m, now: time.Now, actions: a,
		waiting: map[workloadKey]attempt{}, fewer: map[workloadKey]int64{},
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

// attempt is a decision that found no cluster: there is no point in another while the inputs and the fleet are the
// same.
type attempt struct {
	inputs     string
	generation int64
	message    string
}

// owned is a placement with what becomes of its workloads in this pass.
type owned struct {
	object   *v1alpha1.WorkloadPlacement
	compiled *engine.Placement
	// err is why the placement cannot be used.
	err error
	// policyErr is why the policies gave no judgement for one of its workloads.
	policyErr error
	workloads int
	placed    int
	clusters  map[string]bool
	// workload by workload: what waits, has fewer clusters than asked for, or belongs to another placement.
	waiting, fewer, elsewhere []string
}

// result of a pass that went well.
type result struct {
	// again asks for another pass at once: capacity was freed that a workload may have been waiting for.
	again bool
	// after asks for another pass in a while, unless it is 0: the informers are to have shown by then what was written.
	after time.Duration
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
	w.place(ctx, placements, o.workloads)
	if err := w.publish(ctx, placements); err != nil {
		w.stale = true
		return result{}, err
	}
	r.again = w.freed && len(w.waiting) > 0
	if w.store.unconfirmed() {
		r.after = confirmWithin
	}
	return r, errors.Join(policyErr, w.updateStatus(ctx, placements))
}

// retire takes a workspace that is gone out of the metrics.
func (w *workspace) retire() {
	w.metrics.workspaces.Dec()
	w.metrics.waiting.Sub(float64(len(w.waiting)))
	if w.policyErr != nil {
		w.metrics.policyErrs.Dec()
	}
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
		clusters := make([]string, len(d.Clusters))
		for i, c := range d.Clusters {
			clusters[i] = c.Name
		}
		w.engine.Restore(w.name, sl.placement, key.reference(), clusters, reserved)
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

func (w *workspace) updateClusters(registrations []*v1alpha1.ClusterRegistration) {
	gone := w.clusters
	w.clusters = make(map[string]bool, len(registrations))
	for _, r := range registrations {
		c := snapshot.FromRegistration(r)
		if w.engine.SetCluster(w.name, c) && c.Invalid != "" {
			w.event(r, corev1.EventTypeWarning, "InvalidRegistration", "no workloads are placed here: "+c.Invalid)
		}
		w.clusters[r.Name] = true
		delete(gone, r.Name)
	}
	for name := range gone {
		w.engine.RemoveCluster(w.name, name)
	}
}

func (w *workspace) compile(objects []*v1alpha1.WorkloadPlacement) []*owned {
	placements := make([]*owned, len(objects))
	for i, object := range objects {
		placements[i] = &owned{object: object, clusters: map[string]bool{}}
		placements[i].compiled, placements[i].err = w.engine.CompilePlacement(object)
	}
	// The oldest comes first: a workload that several select belongs to it.
	slices.SortFunc(placements, func(a, b *owned) int {
		return cmp.Or(a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time),
			strings.Compare(a.object.Namespace, b.object.Namespace), strings.Compare(a.object.Name, b.object.Name))
	})
	return placements
}

// place goes through the workloads in order of age and makes the decisions that are due.
func (w *workspace) place(ctx context.Context, placements []*owned, workloads []*workloadObject) {
	slices.SortFunc(workloads, func(a, b *workloadObject) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.workload.String(), b.workload.String()))
	})
	waiting, fewer := map[workloadKey]attempt{}, map[workloadKey]int64{}
	unread := map[types.UID]string{}
	// What is gone comes first: others may wait for what it held.
	present := make(map[workloadKey]bool, len(workloads))
	for _, object := range workloads {
		present[keyOf(object.workload.Reference)] = true
	}
	for key := range w.store.where {
		if !present[key] {
			w.release(key)
		}
	}
	w.freed = false
	for _, object := range workloads {
		key := keyOf(object.workload.Reference)
		owner := ownerOf(placements, object)
		if owner == nil {
			w.release(key)
			continue
		}
		owner.workloads++
		if object.err != nil {
			unread[object.UID] = object.err.Error()
			if w.unread[object.UID] != object.err.Error() {
				w.event(object, corev1.EventTypeWarning, "InvalidWorkload", object.err.Error())
			}
		}
		reason := w.placeOne(ctx, owner, object, key)
		if decision, placement, found := w.store.get(key); found && placement == namespacedName(owner.object) {
			owner.placed++
			for _, c := range decision.Clusters {
				owner.clusters[c.Name] = true
			}
			if has := len(decision.Clusters); owner.compiled != nil && has < owner.compiled.NumberOfClusters() {
				fewer[key] = w.fewer[key]
				owner.fewer = append(owner.fewer, fmt.Sprintf("%s has %d of %d", object.workload, has, owner.compiled.NumberOfClusters()))
			}
			continue
		}
		if a, tried := w.waiting[key]; tried {
			waiting[key] = a
		}
		owner.waiting = append(owner.waiting, fmt.Sprintf("%s: %s", object.workload, reason))
	}
	w.metrics.waiting.Add(float64(len(waiting) - len(w.waiting)))
	w.waiting, w.fewer, w.unread = waiting, fewer, unread
}

// release takes back what a workload was given.
func (w *workspace) release(key workloadKey) {
	if w.store.where[key] != nil {
		w.store.remove(key)
		w.engine.Release(w.name, key.reference())
		// What it gives back may be what another waits for, and that one may have had its turn already.
		w.freed = true
	}
}

// ownerOf finds the placement that a workload belongs to: the one that its annotation names, otherwise the oldest of
// those that select it. The others are told.
func ownerOf(placements []*owned, object *workloadObject) *owned {
	var owner *owned
	wish := object.Annotations[v1alpha1.AnnotationPlacement]
	var selecting []*owned
	for _, p := range placements {
		// The selector of a placement that does not compile may be sound all the same; its workloads stay with it.
		if p.compiled == nil && !selects(p.object, object.workload) || p.compiled != nil && !p.compiled.Selects(object.workload) {
			continue
		}
		selecting = append(selecting, p)
		if owner == nil || wish != "" && p.object.Name == wish && owner.object.Name != wish {
			owner = p
		}
	}
	for _, p := range selecting {
		if p != owner {
			p.elsewhere = append(p.elsewhere, fmt.Sprintf("%s belongs to %s", object.workload, owner.object.Name))
		}
	}
	return owner
}

func selects(placement *v1alpha1.WorkloadPlacement, w *workload.Workload) bool {
	selector := placement.Spec.WorkloadSelector
	labelsMatch := true
	if selector.LabelSelector != nil {
		compiled, err := metav1.LabelSelectorAsSelector(selector.LabelSelector)
		labelsMatch = err == nil && compiled.Matches(labels.Set(w.Labels))
	}
	return placement.Namespace == w.Namespace && labelsMatch && (len(selector.WorkloadTypes) == 0 ||
		slices.Contains(selector.WorkloadTypes, v1alpha1.WorkloadType{APIVersion: w.APIVersion, Kind: w.Kind}))
}

// placeOne decides for one workload if that is due, and says why it waits if it does.
func (w *workspace) placeOne(ctx context.Context, owner *owned, object *workloadObject, key workloadKey) (reason string) {
	stored, placement, found := w.store.get(key)
	if found && (placement != namespacedName(owner.object) || stored.Workload.UID != object.UID) {
		w.release(key)
		stored, found = v1alpha1.WorkloadDecision{}, false
	}
	switch {
	case object.err != nil:
		return object.err.Error()
	case owner.err != nil:
		return "the placement is not valid"
	case !w.inForce:
		return "the policies of the workspace are not in force"
	}
	request := engine.Request{Workspace: w.name, Placement: owner.compiled, Workload: object.workload}
	inputs := w.engine.InputsDigest(request)
	because := "its inputs have changed"
	if found && stored.InputsDigest == inputs {
		var err error
		because, err = w.reasonToMove(ctx, request, key, clusterNames(stored.Clusters))
		if err != nil {
			owner.policyErr = err
			return err.Error()
		}
		if because == "" {
			return ""
		}
	}
	if a, tried := w.waiting[key]; tried && !found && a.inputs == inputs && a.generation == w.engine.Snapshot(w.name).Generation {
		return a.message
	}
	if object.DeletionTimestamp != nil {
		return "it is being deleted"
	}
	decision, err := w.decide(ctx, request)
	if err != nil {
		owner.policyErr = err
		return err.Error()
	}
	if len(decision.Clusters) == 0 {
		return w.wait(object, key, decision, found)
	}
	delete(w.waiting, key)
	result := toAPI(decision, object, w.now())
	w.store.put(key, namespacedName(owner.object), result)
	before, after := clusterNames(stored.Clusters), clusterNames(result.Clusters)
	klog.FromContext(ctx).V(2).Info("Placed", "workload", object.workload, "placement", owner.object.Name, "clusters", after)
	switch {
	case !found:
		w.event(object, corev1.EventTypeNormal, "Placed", fmt.Sprintf("placed on %s by placement %s", describe(result.Clusters), owner.object.Name))
	case !slices.Equal(before, after):
		w.event(object, corev1.EventTypeNormal, "Moved", fmt.Sprintf("moved from %s to %s: %s", strings.Join(before, ", "), describe(result.Clusters), because))
	}
	return ""
}

// decide asks the engine, and counts.
func (w *workspace) decide(ctx context.Context, request engine.Request) (*engine.Decision, error) {
	start := w.now()
	decision, err := w.engine.Decide(ctx, request)
	w.metrics.duration.Observe(w.now().Sub(start).Seconds())
	switch {
	case err != nil:
		w.metrics.decisions.WithLabelValues("failed").Inc()
		return nil, err
	case len(decision.Clusters) == 0:
		w.metrics.decisions.WithLabelValues("waiting").Inc()
	default:
		w.metrics.decisions.WithLabelValues("placed").Inc()
	}
	if decision.Cached {
		w.metrics.cached.Inc()
	}
	return decision, nil
}

// reasonToMove tells why a workload whose inputs are unchanged is to be decided anew; empty if it may stay.
func (w *workspace) reasonToMove(ctx context.Context, request engine.Request, key workloadKey, clusters []string) (string, error) {
	verdict, err := w.engine.Inadmissible(ctx, request, clusters)
	switch {
	case err != nil:
		return "", err
	case verdict != nil:
		return fmt.Sprintf("%s: %s", verdict.Cluster, verdict.Rejection.Message), nil
	case w.canHaveMore(ctx, request, key, len(clusters)):
		return "more clusters have become feasible", nil
	default:
		return "", nil
	}
}

// canHaveMore tells whether a workload on fewer clusters than its placement asks for could have more of them now.
func (w *workspace) canHaveMore(ctx context.Context, request engine.Request, key workloadKey, has int) bool {
	if has >= request.Placement.NumberOfClusters() {
		return false
	}
	generation := w.engine.Snapshot(w.name).Generation
	if w.fewer[key] == generation {
		return false
	}
	w.fewer[key] = generation
	decision, err := w.engine.Explain(ctx, request)
	return err == nil && len(decision.Clusters) > has
}

// wait notes that a workload found no cluster.
func (w *workspace) wait(object *workloadObject, key workloadKey, decision *engine.Decision, hadOne bool) string {
	message := waitingFor(decision)
	if last, tried := w.waiting[key]; !tried || last.message != message {
		w.event(object, corev1.EventTypeWarning, "NotPlaced", message)
	}
	if hadOne {
		w.store.remove(key)
		w.freed = true
	}
	w.waiting[key] = attempt{inputs: decision.InputsDigest, generation: w.engine.Snapshot(w.name).Generation, message: message}
	return message
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

// toAPI is a decision as it is published.
func toAPI(d *engine.Decision, object *workloadObject, now time.Time) v1alpha1.WorkloadDecision {
	result := v1alpha1.WorkloadDecision{
		Workload:           v1alpha1.WorkloadReference{APIVersion: object.APIVersion, Kind: object.Kind, Name: object.Name, UID: object.UID},
		Reserved:           d.Reserved.ResourceList(),
		PolicyDigest:       d.PolicyDigest,
		InputsDigest:       d.InputsDigest,
		SnapshotGeneration: d.Generation,
		DecidedAt:          metav1.NewTime(now),
	}
	for _, c := range d.Clusters {
		result.Clusters = append(result.Clusters, v1alpha1.ClusterDecision{
			Name: c.Name, Replicas: int32(c.Replicas), Score: int32(c.Score), Reason: c.Reason,
		})
	}
	return result
}

func clusterNames(clusters []v1alpha1.ClusterDecision) []string {
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
	}
	return names
}

func describe(clusters []v1alpha1.ClusterDecision) string {
	parts := make([]string, len(clusters))
	for i, c := range clusters {
		parts[i] = fmt.Sprintf("%s (%s, %d)", c.Name, c.Reason, c.Score)
	}
	return strings.Join(parts, ", ")
}

func namespacedName(p *v1alpha1.WorkloadPlacement) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}
