package controller

import (
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
	"github.com/kcp-placement/placement/engine/batch"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// decideWithin bounds one decision; a workspace that exceeds it, or the deadline of its policies, rests for restFor.
const (
	decideWithin = 2 * time.Second
	restFor      = 5 * time.Second
)

var errTooLong = fmt.Errorf("deciding took longer than %s and was stopped", decideWithin)

// decider is what decides batches: the engine, in bounded time, measured. A batch has the time that its decisions would
// have one by one. What can take long, the first of a class or a move, is a batch of one, see placing.
func decider(e *engine.Engine, m *metrics) func(context.Context, []engine.Request) []engine.Result {
	return func(ctx context.Context, requests []engine.Request) []engine.Result {
		ctx, done := context.WithTimeoutCause(ctx, decideWithin*time.Duration(len(requests)), errTooLong)
		defer done()
		start := time.Now()
		results := e.DecideBatch(ctx, requests)
		each := time.Since(start).Seconds() / float64(len(requests))
		for range requests {
			m.duration.Observe(each)
		}
		return results
	}
}

// compiled is what becomes of a placement, whichever pass looks at it.
type compiled struct {
	// selector is there where the placement does not compile, too, if it is sound itself: its workloads stay with it.
	selector  placement.Selector
	placement *placement.Placement
	// err is why the placement cannot be used.
	err error
}

// owned is a placement with what becomes of its workloads in this pass.
type owned struct {
	object *v1alpha1.WorkloadPlacement
	compiled
	// policyErr is why the policies gave no judgement for one of its workloads.
	policyErr error
	workloads int
	placed    int
	clusters  map[string]bool
	// workload by workload: what waits, has fewer clusters than asked for, or belongs to another placement.
	waiting, fewer, elsewhere []string
	// expired are the workloads for which nothing is reserved any more on some cluster.
	expired []string
}

// compile makes the placements ready for deciding, oldest first. One that is the object that the pass before saw is not
// compiled again: an informer never changes an object, it shows another.
func (w *workspace) compile(objects []*v1alpha1.WorkloadPlacement) []*owned {
	placements := make([]*owned, len(objects))
	last := w.compiled
	w.compiled = make(map[*v1alpha1.WorkloadPlacement]compiled, len(objects))
	for i, object := range objects {
		c, found := last[object]
		if !found {
			c.selector, _ = placement.CompileSelector(object) // what is wrong with it is in err
			c.placement, c.err = w.engine.CompilePlacement(object)
		}
		w.compiled[object] = c
		placements[i] = &owned{object: object, compiled: c, clusters: map[string]bool{}}
	}
	slices.SortFunc(placements, func(a, b *owned) int { return placement.ByAge(a.object, b.object) })
	return placements
}

// placing is a pass on its way through the workloads.
type placing struct {
	*workspace
	placements []*owned
	selectors  []placement.Selector
	// steps are those that are not settled yet, in order; asked counts those of them that wait for an answer.
	steps []*step
	asked int
	// judged are the classes, by the digest of their inputs, for which the policies have given a judgement in this pass.
	judged map[string]bool
	// told is what the last of a class was told that waits, and about which generation of the fleet.
	told map[string]attempt
	// next is what the next pass is to know, result what this one comes to.
	next   known
	result *result
}

// known is what a pass tells the next of workloads.
type known struct {
	// waiting are the workloads that found no cluster, unread what has been told of those that cannot be read.
	waiting map[workloadKey]attempt
	unread  map[types.UID]string
	// fewer are the workloads on fewer clusters than asked for, with the generation at which more were looked for.
	fewer map[workloadKey]int64
	// short is since when clusters that count have not counted all of a workload that is placed there.
	short map[located]time.Time
}

func newKnown() known {
	return known{
		waiting: map[workloadKey]attempt{}, unread: map[types.UID]string{}, fewer: map[workloadKey]int64{}, short: map[located]time.Time{},
	}
}

// step is what a pass does for one workload.
type step struct {
	owner  *owned
	object *workloadObject
	key    workloadKey
	turn   placement.Turn
	// stored is the decision that the workload has, where found, and because why it moves.
	stored  v1alpha1.WorkloadDecision
	found   bool
	because string
	// answer to what the engine was asked; nil where nothing is to be decided.
	answer *batch.Pending
	// alone tells that nothing else is to be decided before the step is settled.
	alone bool
	// reason says why the workload waits, err why the policies gave no judgement on it.
	reason string
	err    error
}

// place goes through the workloads in turn and makes the decisions that are due. What is due is found for one
// workload after the other, and what is to be decided goes to the engine in that order; settling the answers, again in
// that order, comes behind, so that decisions gather meanwhile and are made together.
func (w *workspace) place(ctx context.Context, placements []*owned, workloads []*workloadObject, r *result) {
	p := &placing{
		workspace: w, placements: placements, selectors: make([]placement.Selector, len(placements)),
		judged: map[string]bool{}, told: map[string]attempt{}, next: newKnown(), result: r,
	}
	for i, owner := range placements {
		p.selectors[i] = owner.selector
	}
	present := make(map[workloadKey]bool, len(workloads))
	for _, object := range workloads {
		present[keyOf(object.workload.Reference)] = true
	}
	for key := range w.store.where {
		if !present[key] {
			w.release(key)
		}
	}
	waitedBefore := len(w.waiting)
	for _, s := range p.inTurn(workloads) {
		if !p.due(ctx, s) {
			continue
		}
		p.steps = append(p.steps, s)
		if s.alone || p.asked == 0 {
			p.settle(ctx)
		}
	}
	p.settle(ctx)
	w.metrics.waiting.Add(float64(len(p.next.waiting) - waitedBefore))
	w.known = p.next
}

// inTurn puts the workloads into the order in which they are decided on.
func (p *placing) inTurn(workloads []*workloadObject) []*step {
	steps := make([]*step, len(workloads))
	for i, object := range workloads {
		s := &step{owner: ownerOf(p.placements, p.selectors, object), object: object, key: keyOf(object.workload.Reference)}
		s.turn = placement.Turn{Workload: object, Kind: object.Kind, APIVersion: object.APIVersion}
		if s.owner != nil {
			s.turn.Priority = s.owner.object.Spec.Priority
		}
		steps[i] = s
	}
	slices.SortFunc(steps, func(a, b *step) int { return a.turn.Compare(b.turn) })
	return steps
}

// due finds what is to be done for a workload, and asks the engine if that is to decide. It is false for a workload that
// no placement selects, or that is nowhere and has finished.
func (p *placing) due(ctx context.Context, s *step) bool {
	var placement types.NamespacedName
	s.stored, placement, s.found = p.store.get(s.key)
	if s.found && (s.owner == nil || placement != namespacedName(s.owner.object) || s.stored.Workload.UID != s.object.UID) {
		p.settle(ctx) // what is given up is not there for those before it
		p.release(s.key)
		s.stored, s.found = v1alpha1.WorkloadDecision{}, false
	}
	switch {
	case s.owner == nil, s.object.end == workload.HasFinished && !s.found:
		return false
	case s.object.err != nil:
		s.reason = s.object.err.Error()
	case s.owner.err != nil:
		s.reason = "the placement is not valid"
	case !p.inForce:
		s.reason = "the policies of the workspace are not in force"
	case p.now().Before(p.restUntil):
		s.err = p.tooSlow
	case s.found:
		p.dueToMove(ctx, s)
	default:
		p.dueToPlace(ctx, s)
	}
	return true
}

// dueToMove has a workload decided anew that has a reason to move: by itself and after all that comes before it, since
// what it leaves has to be held before anything else is decided.
func (p *placing) dueToMove(ctx context.Context, s *step) {
	clusters := clusterNames(s.stored.Clusters)
	if len(clusters) < s.owner.placement.NumberOfClusters {
		p.settle(ctx) // whether there is room for more depends on those before it
	}
	generation := p.engine.Snapshot(p.name).Generation
	forMore := p.fewer[s.key] != generation
	p.fewer[s.key] = generation
	bounded, done := context.WithTimeoutCause(ctx, decideWithin, errTooLong)
	defer done()
	s.because, s.err = p.engine.ReasonToMove(bounded, p.request(s), clusters, s.stored.InputsDigest, forMore)
	switch {
	case s.err != nil:
		p.failed(s.err)
	case s.because == "" || s.object.end != "":
	default:
		p.settle(ctx)
		s.alone = true
		p.ask(ctx, s)
	}
}

// dueToPlace has a workload decided that has no decision yet. One that was tried in vain waits until a cluster is
// feasible: not what has changed is asked, but whether that is enough, so nothing is tried that still has to wait.
func (p *placing) dueToPlace(ctx context.Context, s *step) {
	inputs := p.engine.InputsDigest(p.request(s))
	// The first of a class is decided by itself. For it the policies are evaluated and all clusters looked at: if that
	// takes too long, the workspace is to rest before anything else is tried.
	if !p.judged[inputs] {
		p.settle(ctx)
		s.alone = true
	}
	if last, tried := p.waiting[s.key]; tried && last.inputs == inputs {
		p.settle(ctx) // those before it may take what has become free
		if feasible, err := p.feasible(ctx, s); err != nil || !feasible {
			s.err, s.reason = err, p.waiting[s.key].message
			return
		}
	}
	if s.object.end != "" {
		s.reason = string(s.object.end)
		return
	}
	p.ask(ctx, s)
}

func (p *placing) request(s *step) engine.Request {
	return engine.Request{Workspace: p.name, Placement: s.owner.placement, Workload: s.object.workload}
}

func (p *placing) ask(ctx context.Context, s *step) {
	s.answer = p.batcher.Submit(ctx, p.request(s))
	p.asked++
}

// settle deals with all steps so far, in their order.
func (p *placing) settle(ctx context.Context) {
	for _, s := range p.steps {
		if s.answer != nil {
			p.settleAnswer(ctx, s)
		}
		p.tell(s)
	}
	clear(p.steps)
	p.steps, p.asked = p.steps[:0], 0
}

// settleAnswer waits for what the engine has decided, and records it.
func (p *placing) settleAnswer(ctx context.Context, s *step) {
	decision, err := s.answer.Wait()
	p.metrics.decided(decision, err)
	var panicked *batch.PanicError
	switch {
	case errors.As(err, &panicked):
		s.reason = "deciding failed and is tried again"
		p.result.fail(fmt.Errorf("deciding on %s: %w", s.object.workload, &panicError{panicked.Value, panicked.Stack}))
		return
	case err != nil:
		s.err = err
		p.failed(err)
		return
	}
	p.judged[decision.InputsDigest] = true
	if len(decision.Clusters) == 0 {
		p.release(s.key)
		before := p.waiting[s.key].message
		if s.reason = p.wait(s, decision); s.reason != before {
			p.event(s.object, corev1.EventTypeWarning, "NotPlaced", s.reason)
		}
		return
	}
	delete(p.waiting, s.key)
	result := toAPI(decision, s.object, p.now())
	p.store.put(s.key, namespacedName(s.owner.object), result)
	before, after := clusterNames(s.stored.Clusters), clusterNames(result.Clusters)
	p.hold(s.key, s.stored, after, decision.Reserved)
	klog.FromContext(ctx).V(2).Info("Placed", "workload", s.object.workload, "placement", s.owner.object.Name, "clusters", after)
	switch {
	case !s.found:
		p.note(s.owner.object, s.key)
	case !slices.Equal(before, after):
		p.event(s.object, corev1.EventTypeNormal, "Moved", fmt.Sprintf("moved from %s to %s: %s", strings.Join(before, ", "), describe(result.Clusters), s.because))
	}
}

// tell notes how a workload stands, for its placement's status and for the next pass.
func (p *placing) tell(s *step) {
	owner, object := s.owner, s.object
	owner.workloads++
	if object.err != nil {
		p.next.unread[object.UID] = object.err.Error()
		if p.unread[object.UID] != object.err.Error() {
			p.event(object, corev1.EventTypeWarning, "InvalidWorkload", object.err.Error())
		}
	}
	if s.err != nil {
		owner.policyErr = s.err
		s.reason = s.err.Error()
	}
	if decision, placement, found := p.store.get(s.key); found && placement == namespacedName(owner.object) {
		owner.placed++
		decision = p.reviewReservation(s, placement, decision)
		for _, told := range expiredSince(decision) {
			owner.expired = append(owner.expired, fmt.Sprintf("%s %s", object.workload, told))
		}
		for _, c := range decision.Clusters {
			owner.clusters[c.Name] = true
		}
		if has := len(decision.Clusters); owner.placement != nil && has < owner.placement.NumberOfClusters {
			p.next.fewer[s.key] = p.fewer[s.key]
			owner.fewer = append(owner.fewer, fmt.Sprintf("%s has %d of %d", object.workload, has, owner.placement.NumberOfClusters))
		}
		return
	}
	if a, tried := p.waiting[s.key]; tried {
		p.next.waiting[s.key] = a
	}
	owner.waiting = append(owner.waiting, fmt.Sprintf("%s: %s", object.workload, s.reason))
}

// ownerOf finds the placement that a workload belongs to, and tells the others that select it.
func ownerOf(placements []*owned, selectors []placement.Selector, object *workloadObject) *owned {
	i, others := placement.Owner(selectors, object.workload)
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

// failed notes that the policies gave no judgement. A workspace that is too slow rests before it is tried again, so
// that its slowness costs it and not the others.
func (w *workspace) failed(err error) {
	var quarantine *policy.QuarantineError
	switch {
	case errors.As(err, &quarantine): // trying again costs nothing
	case policy.Stopped(err), errors.Is(err, errTooLong):
		w.tooSlow, w.restUntil = err, w.now().Add(restFor)
	}
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
