package controller

import (
	"context"
	"errors"
	"time"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
)

// trialWithin is how long one pass may evaluate policies that are not in force yet. The next pass continues, after other
// workspaces have had their turns.
const trialWithin = 500 * time.Millisecond

// errOnTrial means that policies have not been evaluated for all workloads yet.
var errOnTrial = errors.New("the policies are being evaluated for the workloads before they come into force")

// fails returns why policies do not come into force: they fail for a workload that is to be decided on. It returns errOnTrial
// if it has not got through all workloads yet.
func (w *workspace) fails(ctx context.Context, trial **policy.Trial, set *policy.Set, placements []*placementState) error {
	if *trial == nil || (*trial).Set != set {
		*trial = policy.NewTrial(set)
	}
	selectors := make([]placement.Selector, len(placements))
	for i, p := range placements {
		selectors[i] = p.selector
	}
	var workloads []policy.Input
	for object := range w.index.workloads {
		owner, _ := placement.Owner(selectors, object.workload)
		if owner >= 0 && placements[owner].placement != nil && object.err == nil && object.end == "" {
			workloads = append(workloads, policy.Input{Workspace: w.name.String(), Placement: placements[owner].placement.Placement, Workload: object.workload})
		}
	}
	start := w.now()
	done, err := (*trial).Run(ctx, workloads, func() bool { return w.now().Sub(start) < trialWithin })
	if err == nil && !done {
		return errOnTrial
	}
	if done {
		*trial = nil
	}
	return err
}
