package engine

import (
	"context"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
)

// decideTogether decides for a workload whose clusters are chosen together: by the first fallback group that has a place for it, if there
// are groups. A running workload stays in its group, unless it has to leave it or returns to a better one.
func (w *workspace) decideTogether(ctx context.Context, r *Request, reserve bool) (*Decision, error) {
	groups := r.Placement.Groups
	if len(groups) == 0 {
		d, _, err := w.planIn(ctx, r, []*placement.Placement{r.Placement}, reserve, true)
		return d, err
	}
	finish := func(d *Decision, err error) (*Decision, error) {
		if err == nil {
			d.InputsDigest = w.inputsDigest(r)
		}
		return d, err
	}
	if overflows(r) {
		d, _, err := w.planIn(ctx, r, groups, reserve, true)
		return finish(d, err)
	}
	current, err := w.currentGroup(ctx, r)
	if err != nil {
		return nil, err
	}
	order := groups
	if current != nil {
		order = slices.Concat([]*placement.Placement{current}, groups)
		if r.Return != "" {
			better := slices.IndexFunc(groups, func(g *placement.Placement) bool { return g.Group == r.Return })
			if better >= 0 && better < slices.Index(groups, current) {
				order = slices.Concat(groups[better:better+1], order)
			}
		}
	}
	var tried []*Decision
	seen := map[*placement.Placement]bool{}
	for _, g := range order {
		if seen[g] {
			continue
		}
		seen[g] = true
		d, whole, err := w.planIn(ctx, r, []*placement.Placement{g}, reserve, false)
		if err != nil || whole {
			return finish(d, err)
		}
		tried = append(tried, d)
		if g == current && len(d.Clusters) > 0 && len(d.Retained) == 0 {
			break // it has a place here, even if not all that it asks for
		}
	}
	// No group has all that it asks for: it stays in its group, or takes what the first group with any clusters has.
	chosen := slices.IndexFunc(tried, func(d *Decision) bool { return current != nil && d.Group == current.Group && len(d.Clusters) > 0 })
	if chosen < 0 {
		chosen = max(0, slices.IndexFunc(tried, func(d *Decision) bool { return len(d.Clusters) > 0 }))
	}
	in, err := w.groupAfter(ctx, r, tried[chosen])
	if err != nil {
		return nil, err
	}
	d, _, err := w.planIn(ctx, r, []*placement.Placement{r.Placement.GroupNamed(in)}, reserve, true)
	if err == nil {
		d.plan.others = slices.DeleteFunc(tried, func(o *Decision) bool { return o.Group == in })
	}
	return finish(d, err)
}

// groupAfter returns the group of a workload once it has what a decision leaves of its clusters. Other groups have no place for all
// that it has now, but may have one for fewer clusters: then it goes there at once, since deciding again would move it.
func (w *workspace) groupAfter(ctx context.Context, r *Request, d *Decision) (group string, err error) {
	if n := len(d.Clusters); n == 0 || n >= len(r.Current) {
		return d.Group, nil
	}
	rest := *r
	rest.Current, rest.Group, rest.Return = d.Clusters, d.Group, ""
	next, err := w.decideTogether(ctx, &rest, false)
	if err != nil || len(next.Clusters) == 0 {
		return d.Group, err
	}
	return next.Group, nil
}

// overflows reports whether the replicas of a workload fill one group after the other; then there is no group to return to.
func overflows(r *Request) bool {
	division := r.Placement.Divides(r.Workload)
	return division != nil && division.By == v1alpha1.DivideOverflow
}

// currentGroup returns the fallback group of a workload; nil if it runs nowhere. If its group is no longer known, it is the first
// group in which the most of its clusters may stay.
func (w *workspace) currentGroup(ctx context.Context, r *Request) (*placement.Placement, error) {
	if len(r.Current) == 0 {
		return nil, nil
	}
	if g := r.Placement.GroupNamed(r.Group); g != nil {
		return g, nil
	}
	var most *placement.Placement
	fewest := 0
	for _, g := range r.Placement.Groups {
		d, _, err := w.planIn(ctx, r, []*placement.Placement{g}, false, false)
		if err != nil {
			return nil, err
		}
		if leaves := len(d.Left) + len(d.Retained); most == nil || leaves < fewest {
			most, fewest = g, leaves
		}
		if fewest == 0 {
			break
		}
	}
	return most, nil
}

// BetterGroup returns the first fallback group before the current one that has a place for a workload now and has a
// ReturnAfter; "" if there is none. It does not know how long that has been so: a caller that has seen the group for its
// ReturnAfter sets Request.Return.
func (e *Engine) BetterGroup(ctx context.Context, request Request) (group string, err error) {
	if err := request.validate(ctx); err != nil {
		return "", err
	}
	w := e.lookUp(request.Workspace)
	in, _, err := w.scheduled(ctx, &request)
	if err != nil {
		return "", err
	}
	overflows := overflows(in)
	for _, g := range in.Placement.Groups {
		if g.Group == request.Group || overflows {
			break
		}
		if g.ReturnAfter == 0 {
			continue
		}
		_, whole, err := w.planIn(ctx, in, []*placement.Placement{g}, false, false)
		if err != nil || whole {
			return g.Group, err
		}
	}
	return "", nil
}
