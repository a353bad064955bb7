package engine

import (
	"context"
	"strings"

	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
)

// scheduled returns a request with its placement as the policies schedule it, and these policies. It is the request itself if the
// policies do not change the scheduling, which is free if they have no rules for it.
//
// Invariant: how the policies schedule a workload is a function of its policy class, so the inputs of the original request identify the
// decision.
func (w *workspace) scheduled(ctx context.Context, r *Request) (*Request, *policy.Set, error) {
	policies := w.policiesOf(r)
	if !policies.Schedules() {
		return r, policies, nil
	}
	c, err := w.policyClassOf(ctx, w.view(r), r)
	if err != nil {
		return nil, nil, err
	}
	under := c.Scheduled()
	if under == r.Placement {
		return r, c.Policies, nil
	}
	in := *r
	in.Placement = under
	return &in, c.Policies, nil
}

// Scheduled returns the placement of a request as the policies schedule its workload. It fails if the policies fail or ctx ends.
func (e *Engine) Scheduled(ctx context.Context, request Request) (*placement.Placement, error) {
	if err := request.validate(ctx); err != nil {
		return nil, err
	}
	r, _, err := e.lookUp(request.Workspace).scheduled(ctx, &request)
	if err != nil {
		return nil, err
	}
	return r.Placement, nil
}

// policyNotes state which parts of a placement's scheduling come from policies, and which policy settings have no effect.
func policyNotes(p *placement.Placement) (notes []string) {
	if len(p.ByPolicies) > 0 {
		notes = append(notes, "by the policies: "+strings.Join(p.ByPolicies, ", "))
	}
	for _, why := range p.Overruled {
		notes = append(notes, "by the policies, and without effect: "+why)
	}
	return notes
}
