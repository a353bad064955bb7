// Package engine decides where workloads may run, and why there: hard constraints in CEL and judgement in Rego over
// snapshots of capacity, with every promise kept in a ledger. It does no I/O, has no clock of its own and knows no
// Kubernetes client.
//
// The data flows one way:
//
//	clusters -> snapshot -> filter (CEL) -> rank (Rego weights x factors) -> select -> reserve (ledger) -> decision
package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/selection"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Defaults of Options.
const (
	DefaultCacheTTL   = 5 * time.Minute
	DefaultCacheBytes = 64 << 20
)

// Options of an Engine; the zero value is good.
type Options struct {
	// CacheTTL is how long an unused ranking is kept. A ranking that is used is brought up to date first,
	// whatever its age.
	CacheTTL time.Duration
	// CacheBytes is how much memory rankings, and what they rest on, may take in each workspace. The one that was
	// used last is kept even if it is larger.
	CacheBytes int
	// Now tells the time for CacheTTL and Metrics; time.Now if nil.
	Now func() time.Time
	// Metrics counts what the engine does, unless it is nil.
	Metrics *Metrics
	// Policies compiles Rego; one with default options if nil.
	Policies *policy.Compiler
	// Constraints compiles CEL; one with default options if nil.
	Constraints *constraint.Compiler
}

// Engine decides for any number of workspaces, which share compiled text and nothing else. It is safe for concurrent
// use; deciding in one workspace does not wait for another.
type Engine struct {
	options     Options
	constraints *constraint.Compiler
	policies    *policy.Compiler
	// workspaces by name: *workspace by logicalcluster.Name.
	workspaces sync.Map
}

// New makes an engine without workspaces.
func New(options Options) (*Engine, error) {
	if options.CacheTTL == 0 {
		options.CacheTTL = DefaultCacheTTL
	}
	if options.CacheBytes == 0 {
		options.CacheBytes = DefaultCacheBytes
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.CacheBytes < 0 || options.CacheTTL < 0 {
		return nil, fmt.Errorf("cache bytes %d and time to live %s must not be negative", options.CacheBytes, options.CacheTTL)
	}
	e := &Engine{options: options, constraints: options.Constraints, policies: options.Policies}
	var err error
	if e.policies == nil {
		if e.policies, err = policy.NewCompiler(policy.Options{}); err != nil {
			return nil, err
		}
	}
	if e.constraints == nil {
		if e.constraints, err = constraint.NewCompiler(constraint.Options{}); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Decide chooses clusters for a workload and reserves its requests on each of them. What the workload held before is
// released in the same step. Where no cluster is feasible the decision has no clusters and the workload holds
// nothing. Decide fails where the policies fail or ctx ends; then nothing has changed.
func (e *Engine) Decide(ctx context.Context, request Request) (*Decision, error) {
	defer e.options.Metrics.time(stageDecide, e.options.Now)()
	return e.decide(ctx, &request, true)
}

func (e *Engine) decide(ctx context.Context, r *Request, reserve bool) (*Decision, error) {
	w := e.workspace(r.Workspace)
	for {
		// What the policies say of workloads like this one.
		c, cached, err := w.class(ctx, r)
		if err != nil {
			return nil, err
		}
		// How the clusters rank for them: locked, and true for the fleet as it stands, so that what is chosen is there
		// to be reserved.
		s, err := w.ranked(ctx, c)
		if err != nil {
			return nil, err
		}
		if w.policies.Load() != c.family.policies {
			w.mu.Unlock()
			continue
		}
		d := w.choose(c, r, &s, cached)
		if reserve {
			err = w.reserve(r, d)
		}
		w.mu.Unlock()
		w.metrics.request(cached)
		return d, err
	}
}

// Result is the answer to one request of a batch.
type Result struct {
	// Decision is nil where Err is not.
	Decision *Decision
	Err      error
}

// DecideBatch decides for several workloads, and answers as Decide would if it were asked for one after the other in
// this order. Each class of workloads is ranked once for all of its workloads.
func (e *Engine) DecideBatch(ctx context.Context, requests []Request) []Result {
	defer e.options.Metrics.time(stageDecide, e.options.Now)()
	results := make([]Result, len(requests))
	for i := range requests {
		results[i].Decision, results[i].Err = e.decide(ctx, &requests[i], true)
	}
	return results
}

// Explain gives the decision that Decide would give, and reserves nothing.
func (e *Engine) Explain(ctx context.Context, request Request) (*Decision, error) {
	return e.decide(ctx, &request, false)
}

// Feasible tells whether any cluster is feasible now for a workload that holds nothing. It costs next to nothing where
// others of its class have been asked about before: only clusters that have changed since are looked at.
func (e *Engine) Feasible(ctx context.Context, request Request) (bool, error) {
	w := e.workspace(request.Workspace)
	c, _, err := w.class(ctx, &request)
	if err != nil {
		return false, err
	}
	if _, err := w.ranked(ctx, c); err != nil {
		return false, err
	}
	defer w.mu.Unlock()
	var best [1]selection.Key
	return len(c.ranking.Best(1, best[:0])) > 0, nil
}

// Prefetch brings the rankings that are in use in a workspace up to date with its clusters and policies, so that the
// next requests find them so. It fails where the policies fail or ctx ends.
func (e *Engine) Prefetch(ctx context.Context, workspace logicalcluster.Name) error {
	w := e.workspace(workspace)
	for _, c := range w.cache.classes(w.options.Now()) {
		if c.family.policies != w.policies.Load() {
			var err error
			if c, err = w.underNewPolicies(ctx, workspace, c); err != nil {
				return err
			}
			if c == nil {
				continue
			}
		}
		if _, err := w.ranked(ctx, c); err != nil {
			return err
		}
		w.mu.Unlock()
	}
	return nil
}

// Inadmissible returns the verdict on the first of the clusters where the workload may not stay: one that is gone or
// is rejected for what it is. How full a cluster is does not count, nor that it is not known whether it is Ready: what runs
// there may well go on. It returns nil where the workload may stay.
func (e *Engine) Inadmissible(ctx context.Context, request Request, clusters []string) (*Verdict, error) {
	w := e.workspace(request.Workspace)
	c, _, err := w.class(ctx, &request)
	if err != nil {
		return nil, err
	}
	s := w.snapshot()
	for _, name := range clusters {
		row := s.Row(name)
		if row == nil {
			return &Verdict{Cluster: name, Rejection: &Rejection{
				Stage: StageRegistration, Message: "the cluster is not registered any more",
			}}, nil
		}
		if failure := c.infeasible(row, true); failure != nil {
			return &Verdict{Cluster: name, Rejection: c.rejection(row, failure)}, nil
		}
	}
	return nil, nil
}

// ReasonToMove tells why a workload that runs on clusters, decided for inputs of that digest, is to be decided anew;
// empty where it may stay. How full a cluster is, is no reason; that it could have more of the clusters that its
// placement asks for is one, where forMore asks to look for them.
func (e *Engine) ReasonToMove(ctx context.Context, request Request, clusters []string, inputsDigest string, forMore bool) (string, error) {
	if e.InputsDigest(request) != inputsDigest {
		return "its inputs have changed", nil
	}
	verdict, err := e.Inadmissible(ctx, request, clusters)
	if err != nil {
		return "", err
	}
	if verdict != nil {
		return fmt.Sprintf("%s: %s", verdict.Cluster, verdict.Rejection.Message), nil
	}
	if forMore && len(clusters) < request.Placement.NumberOfClusters() {
		decision, err := e.Explain(ctx, request)
		if err != nil {
			return "", err
		}
		if len(decision.Clusters) > len(clusters) {
			return "more clusters have become feasible", nil
		}
	}
	return "", nil
}

// InputsDigest identifies all that a decision rests on but the clusters: while it is the same, there is no reason to
// decide again unless a cluster has become inadmissible.
func (e *Engine) InputsDigest(request Request) string {
	w := e.workspace(request.Workspace)
	v := w.view(request.Placement)
	if c, _, found := w.lookUp(v, &request); found {
		return c.digest
	}
	return digest(request.Placement, v.policies, v.class.Only(request.Workload))
}

// SetPolicies puts policies into force in a workspace.
func (e *Engine) SetPolicies(workspace logicalcluster.Name, set *policy.Set) {
	e.workspace(workspace).policies.Store(set)
}

// Quarantine returns a *policy.QuarantineError where the policies in force in a workspace were stopped so often that
// they are not evaluated any more; new policies end that.
func (e *Engine) Quarantine(workspace logicalcluster.Name) error {
	w := e.workspace(workspace)
	w.judging <- struct{}{}
	defer func() { <-w.judging }()
	return w.stopped.quarantine(w.policies.Load())
}

// PolicyDigest identifies the policies in force in a workspace.
func (e *Engine) PolicyDigest(workspace logicalcluster.Name) string {
	return e.workspace(workspace).policies.Load().Digest()
}

// SetCluster adds a cluster to a workspace or replaces it.
func (e *Engine) SetCluster(workspace logicalcluster.Name, c *snapshot.Cluster) (changed bool) {
	return e.workspace(workspace).setCluster(c)
}

// RemoveCluster takes a cluster out of a workspace.
func (e *Engine) RemoveCluster(workspace logicalcluster.Name, name string) {
	e.workspace(workspace).removeCluster(name)
}

// Snapshot returns the fleet of a workspace as it stands now.
func (e *Engine) Snapshot(workspace logicalcluster.Name) *snapshot.Snapshot {
	s := e.workspace(workspace).snapshot()
	return &s
}

// Forget drops all that is known of a workspace.
func (e *Engine) Forget(name logicalcluster.Name) {
	if w, found := e.workspaces.LoadAndDelete(name); found {
		w.(*workspace).cache.clear()
	}
}
