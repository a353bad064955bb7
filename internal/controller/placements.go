package controller

import (
	"slices"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/internal/decode"
)

// compiledPlacement is a placement ready for deciding.
type compiledPlacement struct {
	// selector works even where the rest of the placement does not compile: its workloads stay with it. Where selectorErr is
	// why even the selector does not, those that are placed stay with it.
	selector    placement.Selector
	selectorErr error
	placement   *placement.Placement
	// terms is the placement, or as much of it as affinity between workloads has to know; nil where nothing can be known.
	terms *placement.Placement
	// err is why the placement cannot be used.
	err error
}

// placementState is a placement with what a pass finds out about it.
type placementState struct {
	object *v1alpha1.WorkloadPlacement
	compiledPlacement
	// policyErr is why one of its workloads could not be decided on.
	policyErr error
	// unrelated are the placed workloads of which it is not known whether policies have them keep others away.
	unrelated []string
	workloads int
	placed    int
	// undecided counts the workloads without a decision that the pass, cut short, has not come to.
	undecided int
	clusters  map[string]bool
	// A line for each workload that waits, stands where it should not for want of a better place, has fewer clusters than
	// asked for, or belongs to another placement.
	waiting, standing, fewer, elsewhere []string
	// A line for each workload that is placed in part, and how many replicas of all of them wait.
	partial         []string
	waitingReplicas int32
	// idle are the workloads without a decision that get none: they are suspended, or another object controls them.
	idle []string
	// disrupted counts the workloads that have lost a cluster in this pass, paced are those that wait for their turn, and
	// pacing says so.
	disrupted int
	paced     []string
	pacing    string
	// expired are the workloads that have no reservation any more on some cluster.
	expired []string
	// samples are the ways in which policies schedule its workloads, by digest, as far as they are looked at.
	samples map[string]sample
	// timed are those in which tolerations end, one for each list of tolerations.
	timed map[string]*placement.Placement
	// delivery says how its workloads fare that are delivered.
	delivery deliveryReport
	// suspension is set while nothing is decided on its workloads.
	suspension *suspension
	// effective says whether anything in it is in vain.
	effective *conditionsv1alpha1.Condition
	// visible says whether all workloads that it can select can be seen.
	visible *conditionsv1alpha1.Condition
	// unread is why the decisions could not be read: nothing is known of the workloads then. unpublished are the slices that
	// could not be written, with the reason.
	unread      error
	unpublished []string
}

// compile compiles the placements, oldest first. An informer never changes an object but replaces it, so one that is still
// the same pointer is not compiled again.
func (w *workspace) compile(objects []*v1alpha1.WorkloadPlacement, unreadable map[types.UID]decode.Problems) []*placementState {
	placements := make([]*placementState, len(objects))
	last := w.compiled
	w.compiled = make(map[*v1alpha1.WorkloadPlacement]compiledPlacement, len(objects))
	for i, object := range objects {
		c, found := last[object]
		if !found {
			if err := recovered(func() { c = w.compileOne(object, unreadable[object.UID]) }); err != nil {
				c.selectorErr, c.err = err, err
			}
		}
		w.compiled[object] = c
		placements[i] = &placementState{object: object, compiledPlacement: c, clusters: map[string]bool{}, samples: map[string]sample{}, timed: map[string]*placement.Placement{}}
	}
	slices.SortFunc(placements, func(a, b *placementState) int { return placement.ByAge(a.object, b.object) })
	return placements
}

func (w *workspace) compileOne(object *v1alpha1.WorkloadPlacement, unreadable decode.Problems) (c compiledPlacement) {
	unreadable = unreadable.Outside("status") // which is ours to write
	if selector := unreadable.In("spec.workloadSelector"); len(selector) > 0 {
		c.selectorErr = selector
	} else if selector, err := placement.CompileSelector(object); err != nil {
		c.selectorErr = err
	} else {
		c.selector = selector
	}
	if c.err = unreadable.Err(); c.err == nil {
		c.placement, c.err = w.engine.CompilePlacement(object)
	}
	if c.terms = c.placement; c.terms == nil && c.selectorErr == nil {
		// What it has placed goes on repelling others.
		spec := object.Spec
		rest := *object
		rest.Spec = v1alpha1.WorkloadPlacementSpec{WorkloadSelector: spec.WorkloadSelector, WorkloadAffinity: spec.WorkloadAffinity}
		c.terms, _ = w.engine.CompilePlacement(&rest)
	}
	return c
}
