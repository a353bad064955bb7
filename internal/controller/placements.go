package controller

import (
	"maps"
	"slices"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
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
	// affinityPart is the placement, or as much of it as affinity between workloads has to know; nil where nothing can be known.
	affinityPart *placement.Placement
	// err is why the placement cannot be used.
	err error
}

// placementState is a placement with what passes find out about it.
type placementState struct {
	object     *v1alpha1.WorkloadPlacement
	unreadable string
	// content is the first object that said what object does, but for the status.
	content *v1alpha1.WorkloadPlacement
	compiledPlacement
	// selection changes with what the placement selects, and when. changed is set until its workloads are due for it.
	selection int
	changed   bool
	// items are the workloads that belong to it, and tally is what they come to.
	items map[*workItem]bool
	tally
	// unrelated are the placed workloads of which it is not known whether policies have them keep others away.
	unrelated []string
	// suspension is why nothing is decided on its workloads, nil where it is not suspended.
	suspension *suspension
	// basis is what its status was made of that says all.
	basis statusBasis
	// candidate is set while the shadow policies decide for it, in a rollout.
	candidate bool
	// visible says whether all workloads that it can select can be seen.
	visible *conditionsv1alpha1.Condition
	ofPass
}

// ofPass is what one pass finds out about a placement.
type ofPass struct {
	// disrupted counts the workloads that have lost a cluster in this pass, heldBack those that stay on a lost one since much of the
	// fleet is silent; pacing says which wait for their turn, for the reason pacedFor.
	disrupted, heldBack int
	pacing, pacedFor    string
	// effective says whether anything in it is in vain.
	effective *conditionsv1alpha1.Condition
	// unread is why the decisions could not be read: nothing is known of the workloads then. unpublished are the slices that
	// could not be written, with the reason.
	unread      error
	unpublished []string
	// uncounted is set where the pass did not come to decide: what is counted of the workloads is that of an earlier one.
	uncounted bool
}

// counted reports whether the pass has counted the workloads.
func (o *ofPass) counted() bool { return o.unread == nil && !o.uncounted }

// compile returns the placements, oldest first. One that has not changed but for its status is not compiled again.
func (w *workspace) compile(objects []*v1alpha1.WorkloadPlacement, unreadable map[types.UID]decode.Problems) []*placementState {
	placements := make([]*placementState, len(objects))
	last := w.compiledPlacements
	w.compiledPlacements = make(map[types.NamespacedName]*placementState, len(objects))
	for i, object := range objects {
		s := last[namespacedName(object)]
		if s == nil || s.object.UID != object.UID {
			s = &placementState{items: map[*workItem]bool{}}
		}
		if s.object != object {
			w.recompile(s, object, unreadable[object.UID])
		}
		s.ofPass = ofPass{}
		w.compiledPlacements[namespacedName(object)], placements[i] = s, s
	}
	slices.SortFunc(placements, func(a, b *placementState) int { return placement.ByAge(a.object, b.object) })
	return placements
}

// recompile takes up another version of a placement.
func (w *workspace) recompile(s *placementState, object *v1alpha1.WorkloadPlacement, problems decode.Problems) {
	before, unreadable := s.object, problems.Outside("status").Error()
	s.object = object
	same := before != nil && before.CreationTimestamp.Equal(&object.CreationTimestamp)
	if same && s.unreadable == unreadable && equality.Semantic.DeepEqual(before.Spec, object.Spec) && maps.Equal(before.Labels, object.Labels) &&
		maps.Equal(before.Annotations, object.Annotations) {
		return
	}
	selects := s.selectorErr == nil
	s.unreadable, s.content, s.compiledPlacement = unreadable, object, compiledPlacement{}
	if err := recovered(func() { s.compiledPlacement = w.compileOne(object, problems) }); err != nil {
		s.selectorErr, s.err = err, err
	}
	if !same || selects != (s.selectorErr == nil) || before.Spec.Priority != object.Spec.Priority ||
		!equality.Semantic.DeepEqual(before.Spec.WorkloadSelector, object.Spec.WorkloadSelector) {
		s.selection++
	}
	s.changed = true
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
	if c.affinityPart = c.placement; c.affinityPart == nil && c.selectorErr == nil {
		// What it has placed goes on repelling others.
		spec := object.Spec
		rest := *object
		rest.Spec = v1alpha1.WorkloadPlacementSpec{WorkloadSelector: spec.WorkloadSelector, WorkloadAffinity: spec.WorkloadAffinity}
		c.affinityPart, _ = w.engine.CompilePlacement(&rest)
	}
	return c
}
