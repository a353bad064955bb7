package controller

import (
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
)

// compiledPlacement is a placement ready for deciding.
type compiledPlacement struct {
	// selector works even where the rest of the placement does not compile: its workloads stay with it.
	selector  placement.Selector
	placement *placement.Placement
	// err is why the placement cannot be used.
	err error
}

// placementState is a placement with what a pass finds out about it.
type placementState struct {
	object *v1alpha1.WorkloadPlacement
	compiledPlacement
	// policyErr is why one of its workloads could not be decided on.
	policyErr error
	workloads int
	placed    int
	// undecided counts the workloads without a decision that the pass, cut short, has not come to.
	undecided int
	clusters  map[string]bool
	// A line for each workload that waits, has fewer clusters than asked for, or belongs to another placement.
	waiting, fewer, elsewhere []string
	// expired are the workloads that have no reservation any more on some cluster.
	expired []string
}

// compile compiles the placements, oldest first. An informer never changes an object but replaces it, so one that is still
// the same pointer is not compiled again.
func (w *workspace) compile(objects []*v1alpha1.WorkloadPlacement) []*placementState {
	placements := make([]*placementState, len(objects))
	last := w.compiled
	w.compiled = make(map[*v1alpha1.WorkloadPlacement]compiledPlacement, len(objects))
	for i, object := range objects {
		c, found := last[object]
		if !found {
			if err := recovered(func() {
				c.selector, _ = placement.CompileSelector(object) // its error is in err, too
				c.placement, c.err = w.engine.CompilePlacement(object)
			}); err != nil {
				c.err = err
			}
		}
		w.compiled[object] = c
		placements[i] = &placementState{object: object, compiledPlacement: c, clusters: map[string]bool{}}
	}
	slices.SortFunc(placements, func(a, b *placementState) int { return placement.ByAge(a.object, b.object) })
	return placements
}
