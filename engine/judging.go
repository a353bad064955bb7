package engine

import (
	"context"
	"hash/maphash"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// quarantineAfter is how many times in a row policies are stopped before they are not evaluated any more.
const quarantineAfter = 3

// view is how the workloads of a placement are looked at under some policies.
type view struct {
	policies *policy.Set
	seed     maphash.Seed
	// class is what is read of a workload at all, family what is read by policies and facts alone.
	class, family workload.Reads
	// salt tells apart the classes of other placements and policies.
	salt uint64
}

// view returns how the workloads of a placement are looked at in this workspace as it stands.
func (w *workspace) view(p *Placement) *view {
	policies := w.policies.Load()
	if v := p.view.Load(); v != nil && v.policies == policies && v.seed == w.seed {
		return v
	}
	family := p.factsRead.Union(policies.Reads())
	v := &view{
		policies: policies, seed: w.seed, family: family,
		class: family.Union(p.reads).Union(workload.Reads{Fields: workload.Requests | workload.Replicas}),
		salt:  maphash.String(w.seed, p.digest) ^ maphash.Comparable(w.seed, policies),
	}
	p.view.Store(v)
	return v
}

// class returns the class of a workload, from the cache where it is there. Otherwise the policies are asked, unless
// they have been for a workload that is the same to them.
func (w *workspace) class(ctx context.Context, r *Request) (_ *class, cached bool, err error) {
	v := w.view(r.Placement)
	c, key, found := w.lookUp(v, r)
	if found {
		return c, true, nil
	}
	f, err := w.family(ctx, v, r)
	if err != nil {
		return nil, false, err
	}
	return newClass(f, v.class.Only(r.Workload), key), false, nil
}

// underNewPolicies is the class of the same workloads under the policies as they are now, nil where these read more of
// a workload than is known of it.
func (w *workspace) underNewPolicies(ctx context.Context, name logicalcluster.Name, old *class) (*class, error) {
	p := old.family.placement
	before := old.family.policies.Reads().Union(p.reads)
	if !before.Covers(w.policies.Load().Reads()) {
		return nil, nil
	}
	c, _, err := w.class(ctx, &Request{Workspace: name, Placement: p, Workload: old.workload})
	return c, err
}

// lookUp finds the class of a workload in the cache, and tells under which key it is kept.
func (w *workspace) lookUp(v *view, r *Request) (c *class, key cacheKey, found bool) {
	key = cacheKey{ofClass, v.salt ^ v.class.Hash(w.seed, r.Workload)}
	c, found = lookUp[*class](w.cache, key, w.options.Now())
	found = found && c.family.policies == v.policies && c.family.placement.digest == r.Placement.digest && v.class.Same(c.workload, r.Workload)
	return c, key, found
}

func (w *workspace) family(ctx context.Context, v *view, r *Request) (*family, error) {
	key := cacheKey{ofFamily, v.salt ^ v.family.Hash(w.seed, r.Workload)}
	known := func() (*family, bool) {
		f, found := lookUp[*family](w.cache, key, w.options.Now())
		return f, found && f.policies == v.policies && f.placement.digest == r.Placement.digest && v.family.Same(f.workload, r.Workload)
	}
	if f, found := known(); found {
		return f, nil
	}
	// The policies are evaluated for one workload of the workspace at a time, so that no workspace takes more than one
	// processor for them.
	select {
	case w.judging <- struct{}{}:
		defer func() { <-w.judging }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if f, found := known(); found { // who had to wait finds it done
		return f, nil
	}
	f := &family{placement: r.Placement, policies: v.policies, workload: v.family.Only(r.Workload)}
	var err error
	f.judgement, err = w.judge(ctx, v.policies, policy.Input{
		Workspace: r.Workspace.String(), Placement: r.Placement.Placement, Workload: f.workload,
	})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	clusters := w.fleet.Len()
	w.mu.Unlock()
	w.cache.keep(key, f, 8*clusters+entryBytes, w.options.Now())
	return f, nil
}

// stopped counts how many times in a row a set of policies was stopped for what it cost.
type stopped struct {
	policies *policy.Set
	times    int
	last     error
}

// judge evaluates the policies, and not at all once they were stopped quarantineAfter times in a row.
func (w *workspace) judge(ctx context.Context, policies *policy.Set, in policy.Input) (*policy.Judgement, error) {
	if err := w.stopped.quarantine(policies); err != nil {
		return nil, err
	}
	defer w.metrics.time(stageJudge, w.options.Now)()
	judgement, err := policies.Judge(ctx, in)
	if !policy.Stopped(err) {
		w.stopped = stopped{}
		return judgement, err
	}
	if w.stopped.policies != policies {
		w.stopped = stopped{policies: policies}
	}
	w.stopped.times++
	w.stopped.last = err
	return nil, err
}

func (s *stopped) quarantine(policies *policy.Set) error {
	if s.policies != policies || s.times < quarantineAfter {
		return nil
	}
	return &policy.QuarantineError{Times: s.times, Last: s.last}
}
