package engine

import (
	"context"
	"maps"

	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
)

// quarantineAfter is how many times in a row policies may exceed their budget before they are no longer evaluated.
const quarantineAfter = 3

// judge evaluates the policies of a workspace, for one workload at a time: no workspace takes more than one processor
// for them.
type judge struct {
	// turn is held by the goroutine that evaluates. It guards everything else.
	turn chan struct{}
	// overran holds the policies in force, and the shadow policies, that exceeded their budget the last time.
	overran map[*policy.Set]overran
}

// overran is how many times in a row policies exceeded their budget, and why the last time.
type overran struct {
	times int
	last  error
}

func newJudge() judge { return judge{turn: make(chan struct{}, 1), overran: map[*policy.Set]overran{}} }

// policyClassOf returns the policy class of a workload, from the cache if it is there. Otherwise the policies are
// evaluated.
func (w *workspace) policyClassOf(ctx context.Context, v *ranking.View, r *Request) (*ranking.PolicyClass, error) {
	hash := v.PolicyClassHash(r.Workload)
	cached := func() (*ranking.PolicyClass, bool) {
		if kept, found := w.cache.Get(cacheKey{policyClasses, hash}, w.options.Now()); found {
			if p := kept.(*ranking.PolicyClass); v.InPolicyClass(r.Workload, p) {
				return p, true
			}
		}
		return nil, false
	}
	if p, found := cached(); found {
		return p, nil
	}
	select {
	case w.judge.turn <- struct{}{}:
		defer func() { <-w.judge.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if p, found := cached(); found { // another goroutine has evaluated them meanwhile
		return p, nil
	}
	read := v.PolicyClass.Only(r.Workload)
	judgement, err := w.evaluate(ctx, v.Policies, policy.Input{Workspace: w.name.String(), Placement: r.Placement.Placement, Workload: read})
	if err != nil {
		return nil, err
	}
	p := ranking.NewPolicyClass(r.Placement, v.Policies, read, judgement)
	p.Terms = scoring.WithTaints(p.Judgement.Terms, r.Placement.Tolerations)
	w.mu.Lock()
	clusters := w.seen.Len()
	w.mu.Unlock()
	w.keep(policyClasses, hash, p, 8*clusters)
	return p, nil
}

// evaluate evaluates the policies, unless they are in quarantine. The caller has the turn.
func (w *workspace) evaluate(ctx context.Context, policies *policy.Set, in policy.Input) (*policy.Judgement, error) {
	j := &w.judge
	if err := j.quarantine(policies); err != nil {
		return nil, err
	}
	defer w.options.time(StepJudge)()
	judgement, err := policies.Judge(ctx, in)
	switch {
	case policy.OverBudget(err):
	case policy.Stopped(err), ctx.Err() != nil: // the policies are not to blame
		return nil, err
	default:
		delete(j.overran, policies)
		return judgement, err
	}
	maps.DeleteFunc(j.overran, func(other *policy.Set, _ overran) bool { return other != w.policies.Load() && other != w.shadow.Load() })
	j.overran[policies] = overran{j.overran[policies].times + 1, err}
	return nil, err
}

func (w *workspace) quarantine() error {
	w.judge.turn <- struct{}{}
	defer func() { <-w.judge.turn }()
	return w.judge.quarantine(w.policies.Load())
}

func (j *judge) quarantine(policies *policy.Set) error {
	o := j.overran[policies]
	if o.times < quarantineAfter {
		return nil
	}
	return &policy.QuarantineError{Times: o.times, Last: o.last}
}
