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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
)

// decideWithin bounds one decision; a workspace that exceeds it, or the deadline of its policies, rests for restFor.
const (
	decideWithin = 2 * time.Second
	restFor      = 5 * time.Second
)

// owned is a placement with what becomes of its workloads in this pass.
type owned struct {
	object *v1alpha1.WorkloadPlacement
	// selector is there where the placement does not compile, too, if it is sound itself: its workloads stay with it.
	selector engine.Selector
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

// attempt is a decision that found no cluster: there is no point in another while the inputs and the fleet are the
// same.
type attempt struct {
	inputs     string
	generation int64
	message    string
}

func (w *workspace) compile(objects []*v1alpha1.WorkloadPlacement) []*owned {
	placements := make([]*owned, len(objects))
	for i, object := range objects {
		placements[i] = &owned{object: object, clusters: map[string]bool{}}
		placements[i].selector, _ = engine.CompileSelector(object) // what is wrong with it is in err
		placements[i].compiled, placements[i].err = w.engine.CompilePlacement(object)
	}
	slices.SortFunc(placements, func(a, b *owned) int { return engine.ByAge(a.object, b.object) })
	return placements
}

// place goes through the workloads in order of age and makes the decisions that are due.
func (w *workspace) place(ctx context.Context, placements []*owned, workloads []*workloadObject) {
	slices.SortFunc(workloads, func(a, b *workloadObject) int {
		return cmp.Or(engine.ByAge(a, b), strings.Compare(a.Kind, b.Kind), strings.Compare(a.APIVersion, b.APIVersion))
	})
	selectors := make([]engine.Selector, len(placements))
	for i, p := range placements {
		selectors[i] = p.selector
	}
	waitedBefore := len(w.waiting)
	waiting, fewer := map[workloadKey]attempt{}, map[workloadKey]int64{}
	unread := map[types.UID]string{}
	present := make(map[workloadKey]bool, len(workloads))
	for _, object := range workloads {
		present[keyOf(object.workload.Reference)] = true
	}
	for key := range w.store.where {
		if !present[key] {
			w.release(key)
		}
	}
	for _, object := range workloads {
		key := keyOf(object.workload.Reference)
		owner := ownerOf(placements, selectors, object)
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
	w.metrics.waiting.Add(float64(len(waiting) - waitedBefore))
	w.waiting, w.fewer, w.unread = waiting, fewer, unread
}

// release takes back what a workload was given.
func (w *workspace) release(key workloadKey) {
	stored, _, found := w.store.get(key)
	if !found {
		return
	}
	w.store.remove(key)
	w.engine.Release(w.name, key.reference())
	w.hold(key, stored, nil)
}

// hold keeps what a workload had on clusters that it leaves reserved until that has been written: were it given to
// another at once and this process killed between two writes, both would stand in the durable decisions.
func (w *workspace) hold(key workloadKey, stored v1alpha1.WorkloadDecision, now []string) {
	left := slices.DeleteFunc(clusterNames(stored.Clusters), func(name string) bool { return slices.Contains(now, name) })
	reserved, err := capacity.FromResourceList(stored.Reserved)
	if err != nil || len(left) == 0 {
		return // what cannot be read was never restored
	}
	held := key.reference()
	held.APIVersion = "held until written/" + held.APIVersion
	w.engine.Restore(w.name, types.NamespacedName{}, held, left, reserved)
	w.held = append(w.held, held)
}

// letGo frees what was held, once all is written or known not to be.
func (w *workspace) letGo() (freed bool) {
	for _, held := range w.held {
		freed = w.engine.Release(w.name, held) || freed
	}
	w.held = nil
	return freed
}

// ownerOf finds the placement that a workload belongs to, and tells the others that select it.
func ownerOf(placements []*owned, selectors []engine.Selector, object *workloadObject) *owned {
	i, others := engine.Owner(selectors, object.workload)
	if i < 0 {
		return nil
	}
	owner := placements[i]
	for _, other := range others {
		p := placements[other]
		p.elsewhere = append(p.elsewhere, fmt.Sprintf("%s belongs to %s", object.workload, owner.object.Name))
	}
	return owner
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
	case w.now().Before(w.restUntil):
		owner.policyErr = w.tooSlow
		return w.tooSlow.Error()
	}
	ctx, done := context.WithTimeoutCause(ctx, decideWithin, fmt.Errorf("deciding took longer than %s and was stopped", decideWithin))
	defer done()
	request := engine.Request{Workspace: w.name, Placement: owner.compiled, Workload: object.workload}
	because := ""
	if found {
		generation := w.engine.Snapshot(w.name).Generation
		forMore := w.fewer[key] != generation
		w.fewer[key] = generation
		var err error
		if because, err = w.engine.ReasonToMove(ctx, request, clusterNames(stored.Clusters), stored.InputsDigest, forMore); err != nil {
			return w.failed(ctx, owner, err)
		}
		if because == "" {
			return ""
		}
	}
	inputs := w.engine.InputsDigest(request)
	if a, tried := w.waiting[key]; tried && !found && a.inputs == inputs && a.generation == w.engine.Snapshot(w.name).Generation {
		return a.message
	}
	if object.DeletionTimestamp != nil {
		return "it is being deleted"
	}
	decision, err := w.decide(ctx, request)
	if err != nil {
		return w.failed(ctx, owner, err)
	}
	if len(decision.Clusters) == 0 {
		w.release(key)
		return w.wait(object, key, decision)
	}
	delete(w.waiting, key)
	result := toAPI(decision, object, w.now())
	w.store.put(key, namespacedName(owner.object), result)
	before, after := clusterNames(stored.Clusters), clusterNames(result.Clusters)
	w.hold(key, stored, after)
	klog.FromContext(ctx).V(2).Info("Placed", "workload", object.workload, "placement", owner.object.Name, "clusters", after)
	switch {
	case !found:
		w.event(object, corev1.EventTypeNormal, "Placed", fmt.Sprintf("placed on %s by placement %s", describe(result.Clusters), owner.object.Name))
	case !slices.Equal(before, after):
		w.event(object, corev1.EventTypeNormal, "Moved", fmt.Sprintf("moved from %s to %s: %s", strings.Join(before, ", "), describe(result.Clusters), because))
	}
	return ""
}

// failed notes that the policies gave no judgement. A workspace that is too slow rests before it is tried again, so
// that its slowness costs it and not the others.
func (w *workspace) failed(ctx context.Context, owner *owned, err error) string {
	var quarantine *policy.QuarantineError
	switch {
	case errors.As(err, &quarantine): // trying again costs nothing
	case policy.Stopped(err), errors.Is(ctx.Err(), context.DeadlineExceeded):
		w.tooSlow, w.restUntil = err, w.now().Add(restFor)
	}
	owner.policyErr = err
	return err.Error()
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

// wait notes that a workload found no cluster.
func (w *workspace) wait(object *workloadObject, key workloadKey, decision *engine.Decision) string {
	message := waitingFor(decision)
	if last, tried := w.waiting[key]; !tried || last.message != message {
		w.event(object, corev1.EventTypeWarning, "NotPlaced", message)
	}
	w.waiting[key] = attempt{inputs: decision.InputsDigest, generation: w.engine.Snapshot(w.name).Generation, message: message}
	return message
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
