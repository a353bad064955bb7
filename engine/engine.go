// Package engine decides where workloads may run, and why there: hard constraints in CEL and scoring in Rego over
// snapshots of capacity, with every promise recorded in a ledger. It does no I/O, has no clock of its own and depends
// on no Kubernetes client.
//
// The data flows one way:
//
//	clusters -> snapshot -> filter (CEL) -> rank (Rego weights x factors) -> select -> reserve (ledger) -> decision
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Defaults of Options.
const (
	DefaultCacheTTL   = 5 * time.Minute
	DefaultCacheBytes = 64 << 20
	// DefaultNotReadyDelay is the delay of Kubernetes for pods on a node that is not ready.
	DefaultNotReadyDelay = 5 * time.Minute
	// DefaultGatherAfter is long compared to what most workloads wait, since a cluster that gathers room is partly idle.
	DefaultGatherAfter = time.Hour
)

// Options of an Engine. The zero value is usable.
type Options struct {
	// CacheTTL is how long an unused ranking is kept. It does not affect staleness: a ranking is brought up to date
	// whenever it is used.
	CacheTTL time.Duration
	// CacheBytes is how much memory rankings, and what they depend on, may take in each workspace. The most recently used
	// one is kept even if it is larger.
	CacheBytes int
	// NotReadyDelay is how long workloads stay on a cluster whose Ready condition is False, unless their placement tolerates
	// v1alpha1.TaintNotReady; DefaultNotReadyDelay if 0.
	NotReadyDelay time.Duration
	// GatherAfter is how long a workload may wait in line on shared clusters before they gather room for it, and how long the first
	// attempt at that lasts; DefaultGatherAfter if 0.
	GatherAfter time.Duration
	// Now returns the time for CacheTTL and Metrics; time.Now if nil.
	Now func() time.Time
	// Metrics observes what the engine does, unless it is nil.
	Metrics Metrics
	// Policies compiles Rego; one with default options if nil.
	Policies *policy.Compiler
	// Constraints compiles CEL; one with default options if nil.
	Constraints *constraint.Compiler
}

// Engine decides for any number of workspaces. They share compiled policies and, after a call of Share, a fleet. It is safe for
// concurrent use, and deciding in one workspace does not wait for another's policies.
type Engine struct {
	options     Options
	constraints *constraint.Compiler
	policies    *policy.Compiler
	// workspaces holds *workspace by logicalcluster.Name.
	workspaces sync.Map
	// fleets by the workspaces whose clusters they are. making guards fleets, and is held to create or forget a workspace.
	making sync.Mutex
	fleets map[logicalcluster.Name]*fleet
	// heldCount counts the reservations that have been held.
	heldCount atomic.Int64
}

// New makes an engine without workspaces.
func New(options Options) (*Engine, error) {
	if options.CacheTTL == 0 {
		options.CacheTTL = DefaultCacheTTL
	}
	if options.CacheBytes == 0 {
		options.CacheBytes = DefaultCacheBytes
	}
	if options.NotReadyDelay == 0 {
		options.NotReadyDelay = DefaultNotReadyDelay
	}
	if options.GatherAfter == 0 {
		options.GatherAfter = DefaultGatherAfter
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Metrics == nil {
		options.Metrics = noMetrics{}
	}
	if options.CacheBytes < 0 || options.CacheTTL < 0 {
		return nil, fmt.Errorf("cache bytes %d and time to live %s must not be negative", options.CacheBytes, options.CacheTTL)
	}
	e := &Engine{
		options: options, constraints: options.Constraints, policies: options.Policies, fleets: map[logicalcluster.Name]*fleet{},
	}
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

// Constraints returns the compiler of constraints.
func (e *Engine) Constraints() *constraint.Compiler { return e.constraints }

// CompilePlacement validates and compiles a placement. The error is an aggregate of a field.ErrorList that names every
// invalid field.
func (e *Engine) CompilePlacement(object *v1alpha1.WorkloadPlacement) (*placement.Placement, error) {
	if object == nil {
		return nil, invalid("placement", "is nil")
	}
	defer e.options.time(StepCompile)()
	p, err := placement.Compile(object, e.constraints, ranking.ClustersOf)
	if err == nil {
		p.NotReadyDelay = e.options.NotReadyDelay
	}
	return p, err
}

// Decide chooses clusters for a workload and reserves its requests on each of them, in place of what the workload held
// before. If no cluster is feasible, the decision has no clusters and the workload holds nothing. Decide fails if the
// policies fail or ctx ends; then there is no decision and nothing has changed.
//
// Invariant: a workload that runs on request.Current gives up one of these clusters only for a better place, or because it
// has to leave. It keeps the clusters where it may stay: those that pass the filter, regardless of how full they are, and
// have room for what it requests beyond what is reserved for it. It gets others only as far as it asks for more. It retains
// the clusters that it should leave, with the same reservation, while there is no other place for it. It has to leave a
// cluster that is no longer registered or is lost, one with a NoExecute taint that is not tolerated, and one that violates
// what is required during execution. A cluster in request.Leave is one that it should leave.
//
// If the placement asks for clusters that are chosen together, by spread constraints, divided replicas, a minimum or fallback
// groups, each cluster gets its share, and the decision reports its Group and how many replicas are Waiting. When a workload grows,
// no cluster where it may stay loses replicas; when it shrinks, none gets more. If only a part of a share may stay, that part
// stays.
//
// Placement has to be from CompilePlacement of this engine, and nothing in the request may be changed afterwards. Decide
// refuses invalid requests with an *InvalidError: nil fields, amounts below 0 or above capacity.MaxAmount. It does not
// check whether the placement selects the workload, nor whether the workload has ended.
func (e *Engine) Decide(ctx context.Context, request Request) (*Decision, error) {
	defer e.options.time(StepDecide)()
	return e.lookUp(request.Workspace).decide(ctx, &request, true)
}

// Explain returns the decision that Decide would return, and reserves nothing.
func (e *Engine) Explain(ctx context.Context, request Request) (*Decision, error) {
	return e.lookUp(request.Workspace).decide(ctx, &request, false)
}

// Result is the answer to one request of a batch: a decision or an error.
type Result struct {
	Decision *Decision
	Err      error
}

// DecideBatch decides for several workloads, with the same results as Decide called for one after the other in this order. Each class
// is looked up once, and the workspace is locked once for all consecutive requests whose classes are known. On a shared fleet it reads
// what others do only once per 512 requests; what it reserves fits nevertheless.
func (e *Engine) DecideBatch(ctx context.Context, requests []Request) []Result {
	defer e.options.time(StepDecide)()
	results := make([]Result, len(requests))
	for first := 0; first < len(requests); {
		next := first + 1
		for next < len(requests) && requests[next].Workspace == requests[first].Workspace {
			next++
		}
		e.lookUp(requests[first].Workspace).decideBatch(ctx, requests[first:next], results[first:next])
		first = next
	}
	return results
}

// Feasible reports whether any cluster is feasible now for a workload that holds nothing. For a known class it is
// cheap: only clusters that have changed since are evaluated.
func (e *Engine) Feasible(ctx context.Context, request Request) (bool, error) {
	if err := request.validate(ctx); err != nil {
		return false, err
	}
	w := e.lookUp(request.Workspace)
	request.Current, request.Leave = nil, nil
	scheduled, _, err := w.scheduled(ctx, &request)
	if err != nil {
		return false, err
	}
	request = *scheduled
	together := func() (bool, error) {
		d, err := w.decideAs(ctx, &request, false)
		return err == nil && len(d.Clusters) > 0, err
	}
	if request.Placement.Plans() || w.hasLines() {
		return together()
	}
	c, _, err := w.classOf(ctx, &request)
	if err != nil {
		return false, err
	}
	var feasible bool
	err = w.withRanking(ctx, c, func(snapshot.Snapshot) error {
		if w.keepsOut(&request) {
			return errKeptOut
		}
		ranked := c.take()
		ended := w.takeOutOthers(ranked, &request, w.takeOutEnded(c, ranked, request.Now, nil))
		feasible = w.anyWithin(c, ranked)
		putBack(ranked, ended)
		c.ranking = ranked
		return nil
	})
	if errors.Is(err, errKeptOut) {
		return together()
	}
	return feasible, err
}

// Prefetch brings the rankings in use of a workspace up to date with its clusters and policies, so that the next
// requests find them current. It fails if the policies fail or ctx ends.
func (e *Engine) Prefetch(ctx context.Context, workspace logicalcluster.Name) error {
	return e.lookUp(workspace).prefetch(ctx)
}

// Review returns what Decide would decide for a workload that runs on request.Current; nil if it has all that it asks for,
// and every cluster may go on as it is. That is the usual case, and it is cheap: no cluster is ranked, and constraints are
// evaluated once for each change of a cluster's facts.
func (e *Engine) Review(ctx context.Context, request Request) (*Decision, error) {
	if err := request.validate(ctx); err != nil {
		return nil, err
	}
	w := e.lookUp(request.Workspace)
	in, _, err := w.scheduled(ctx, &request)
	if err != nil {
		return nil, err
	}
	if satisfied, err := w.satisfied(ctx, in); err != nil || satisfied {
		return nil, err
	}
	return w.decide(ctx, &request, false)
}

// InputsDigest identifies everything that a decision depends on except the clusters. It is empty for an invalid request.
func (e *Engine) InputsDigest(request Request) string {
	if request.validate(context.Background()) != nil {
		return ""
	}
	return e.lookUp(request.Workspace).inputsDigest(&request)
}

// SetPolicies puts policies into force in a workspace; the built-in ones if set is nil.
func (e *Engine) SetPolicies(workspace logicalcluster.Name, set *policy.Set) {
	if set == nil {
		set = e.policies.Builtin()
	}
	e.workspace(workspace).setPolicies(set)
}

// SetShadowPolicies sets the policies by which requests with Shadow are decided, beside the policies in force; none if set is nil. They
// never change any other decision.
func (e *Engine) SetShadowPolicies(workspace logicalcluster.Name, set *policy.Set) {
	e.workspace(workspace).setShadow(set)
}

// Quarantine returns a *policy.QuarantineError if the policies in force in a workspace have exceeded their budget so
// often that they are no longer evaluated, until there are new policies.
func (e *Engine) Quarantine(workspace logicalcluster.Name) error {
	return e.lookUp(workspace).quarantine()
}

// PolicyDigest identifies the policies in force in a workspace.
func (e *Engine) PolicyDigest(workspace logicalcluster.Name) string {
	return e.lookUp(workspace).policies.Load().Digest()
}

// SetCluster adds a cluster to a workspace or replaces it, and reports whether this has changed anything. It fails with an
// *InvalidError.
func (e *Engine) SetCluster(workspace logicalcluster.Name, c *snapshot.Cluster) (changed bool, err error) {
	if err := validateCluster(c); err != nil {
		return false, err
	}
	return e.workspace(workspace).setCluster(c), nil
}

// RemoveCluster removes a cluster from a workspace.
func (e *Engine) RemoveCluster(workspace logicalcluster.Name, name string) {
	e.lookUp(workspace).removeCluster(name)
}

// Snapshot returns the current clusters as a workspace sees them. What is free is what the workspace can be promised there: no more than
// its quotas leave, including those of whole sets.
func (e *Engine) Snapshot(workspace logicalcluster.Name) *snapshot.Snapshot {
	s := e.lookUp(workspace).snapshotWithin()
	return &s
}

// Forget drops everything known of a workspace: its policies, its clusters, and what is reserved for it on these. What is reserved
// for it on the fleet of another workspace stays until ReleaseAll.
func (e *Engine) Forget(name logicalcluster.Name) {
	e.making.Lock()
	defer e.making.Unlock()
	if w, found := e.workspaces.LoadAndDelete(name); found {
		w.(*workspace).cache.Clear()
		w.(*workspace).leaveLine()
	}
	if f := e.fleets[name]; f != nil && f.forget() {
		delete(e.fleets, name)
	}
}

// workspace returns a workspace to change it, and creates it if it is not known.
func (e *Engine) workspace(name logicalcluster.Name) *workspace {
	if w, found := e.workspaces.Load(name); found {
		return w.(*workspace)
	}
	e.making.Lock()
	defer e.making.Unlock()
	if w, found := e.workspaces.Load(name); found {
		return w.(*workspace)
	}
	own, known := e.fleets[name]
	if !known {
		own = newFleet(name)
		e.fleets[name] = own
	}
	w := e.newWorkspace(name, own)
	if known {
		w.attach(own, nil)
	}
	e.workspaces.Store(name, w)
	return w
}

// lookUp returns a workspace to read it or to decide in it. One that is not known is empty, and is not kept.
func (e *Engine) lookUp(name logicalcluster.Name) *workspace {
	if w, found := e.workspaces.Load(name); found {
		return w.(*workspace)
	}
	return e.newWorkspace(name, newFleet(name))
}
