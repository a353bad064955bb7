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
	"github.com/kcp-placement/placement/internal/panics"
)

// compiledPlacement is a placement compiled for deciding.
type compiledPlacement struct {
	// selector works even if the rest of the placement does not compile: its workloads stay with it. If the selector does not compile
	// either, selectorErr is why, and the placement keeps the workloads that it has placed.
	selector    placement.Selector
	selectorErr error
	placement   *placement.Placement
	// affinityPart is the placement, or as much of it as affinity between workloads needs; nil if nothing can be known.
	affinityPart *placement.Placement
	// err is why the placement cannot be used.
	err error
}

// placementState is a placement with the findings of passes.
type placementState struct {
	object     *v1alpha1.WorkloadPlacement
	unreadable string
	// content is the first object with the same content as object, apart from the status.
	content *v1alpha1.WorkloadPlacement
	compiledPlacement
	// selection changes when what the placement selects changes. changed is set until its workloads are due for that.
	selection int
	changed   bool
	// items are the workloads that belong to it, and tally is their sum.
	items map[*workItem]bool
	tally
	// unrelated are its placed workloads for which it is not known whether policies make them repel others.
	unrelated []string
	// suspension is why nothing is decided on its workloads, nil where it is not suspended.
	suspension *suspension
	// basis is everything that its status was made from.
	basis statusBasis
	// candidate is set while the shadow policies decide for it, in a rollout.
	candidate bool
	// visible reports whether all workloads that it can select can be seen.
	visible *conditionsv1alpha1.Condition
	ofPass
}

// ofPass is what one pass finds out about a placement.
type ofPass struct {
	// disrupted counts the workloads that have lost a cluster in this pass, heldBack those that stay on a lost one because much of the
	// fleet is silent; pacing describes which wait for their turn, with the reason pacedFor.
	disrupted, heldBack int
	pacing, pacedFor    string
	// effective reports whether parts of it have no effect.
	effective *conditionsv1alpha1.Condition
	// unread is why the decisions could not be read; nothing is known of the workloads then. unpublished are the slices that
	// could not be written, with the reason.
	unread      error
	unpublished []string
	// uncounted is set if the pass did not get to decide: the counts of the workloads are those of an earlier pass.
	uncounted bool
}

// counted reports whether the pass has counted the workloads.
func (o *ofPass) counted() bool { return o.unread == nil && !o.uncounted }

// compile returns the placements, oldest first. A placement of which only the status has changed is not compiled again.
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

// recompile takes over another version of a placement.
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
	if err := panics.Recovered(func() { s.compiledPlacement = w.compileOne(object, problems) }); err != nil {
		s.selectorErr, s.err = err, err
	}
	if !same || selects != (s.selectorErr == nil) || before.Spec.Priority != object.Spec.Priority ||
		!equality.Semantic.DeepEqual(before.Spec.WorkloadSelector, object.Spec.WorkloadSelector) {
		s.selection++
	}
	s.changed = true
}

func (w *workspace) compileOne(object *v1alpha1.WorkloadPlacement, unreadable decode.Problems) (c compiledPlacement) {
	unreadable = unreadable.Outside("status") // which the controller writes itself
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
		// Workloads that it has placed continue to repel others.
		spec := object.Spec
		rest := *object
		rest.Spec = v1alpha1.WorkloadPlacementSpec{WorkloadSelector: spec.WorkloadSelector, WorkloadAffinity: spec.WorkloadAffinity}
		c.affinityPart, _ = w.engine.CompilePlacement(&rest)
	}
	return c
}
