package controller

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
)

// trialWithin is how long one pass may evaluate policies that are not in force yet. The next pass goes on, after other
// workspaces have had their turns.
const trialWithin = 500 * time.Millisecond

// errOnTrial means that policies have not been evaluated for all workloads yet.
var errOnTrial = errors.New("the policies are being evaluated for the workloads before they come into force")

// trial is of policies that are not in force: they are evaluated for every workload that there is, once for those that are the
// same to them.
type trial struct {
	set  *policy.Set
	seed maphash.Seed
	// outcomes are the errors of workloads by what the policies see of them; nil where they do not fail.
	outcomes map[string]error
}

// fails returns why policies do not come into force: they fail for a workload that is to be decided on. It returns errOnTrial
// where it has not come to all of them.
func (w *workspace) fails(ctx context.Context, set *policy.Set, o *cacheView, placements []*placementState) error {
	if w.trial == nil || w.trial.set != set {
		w.trial = &trial{set: set, seed: maphash.MakeSeed(), outcomes: map[string]error{}}
	}
	selectors := make([]placement.Selector, len(placements))
	of := make([]string, len(placements))
	for i, p := range placements {
		selectors[i] = p.selector
		of[i] = fmt.Sprintf("%s/%s %s ", p.object.Namespace, p.object.Name, labels.Set(p.object.Labels))
	}
	var failing []string // workloads
	var why error
	start, cut := w.now(), false
	outcomes := make(map[string]error, len(w.trial.outcomes))
	for _, object := range o.workloads {
		owner, _ := placement.Owner(selectors, object.workload)
		if owner < 0 || placements[owner].placement == nil || object.err != nil || object.end != "" {
			continue
		}
		class := of[owner] + fmt.Sprint(set.Reads().Hash(w.trial.seed, object.workload))
		outcome, known := outcomes[class]
		if !known {
			outcome, known = w.trial.outcomes[class]
		}
		if !known {
			if cut = cut || why != nil || w.now().Sub(start) >= trialWithin; cut {
				continue
			}
			_, outcome = set.Judge(ctx, policy.Input{Workspace: w.name.String(), Placement: placements[owner].placement.Placement, Workload: object.workload})
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case policy.Stopped(outcome) && !policy.OverBudget(outcome):
				outcome = nil // a clock stopped it, which says nothing about the policies
			}
		}
		outcomes[class] = outcome
		if outcome != nil && (why == nil || why.Error() == outcome.Error()) {
			why, failing = outcome, append(failing, object.workload.String())
		}
	}
	w.trial.outcomes = outcomes
	switch {
	case why != nil:
		return forWorkload(why, slices.Min(failing))
	case cut:
		return errOnTrial
	}
	w.trial = nil
	return nil
}

// forWorkload adds to errors of policies for which workload they fail.
func forWorkload(err error, name string) error {
	var errs policy.Errors
	if !errors.As(err, &errs) {
		errs = policy.Errors{{Code: "limit_error", Message: err.Error()}}
	}
	errs = slices.Clone(errs)
	for i := range errs {
		errs[i].Message += fmt.Sprintf(" (for %s)", name)
	}
	return errs
}
