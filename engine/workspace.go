package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// quarantineAfter is how many times in a row policies are stopped before they are not evaluated any more.
const quarantineAfter = 3

// workspace is all that the engine knows of one logical cluster.
type workspace struct {
	options  Options
	policies atomic.Pointer[policy.Set]
	// snapshot is replaced under mu and read without it.
	snapshot atomic.Pointer[snapshot.Snapshot]
	// plans by class digest.
	plans *lru.Cache[string, *plan]
	// judging is held while the policies are evaluated, by one at a time; it guards stopped.
	judging chan struct{}
	stopped stopped

	// mu makes ledger and snapshot change together.
	mu     sync.Mutex
	ledger *capacity.Ledger
}

type workspaces struct{ sync.Map }

func (e *Engine) workspace(name logicalcluster.Name) *workspace {
	if w, found := e.workspaces.Load(name); found {
		return w.(*workspace)
	}
	plans, _ := lru.New[string, *plan](e.options.CacheSize) // fails only for a size that New refuses
	w := &workspace{options: e.options, plans: plans, judging: make(chan struct{}, 1), ledger: capacity.NewLedger()}
	w.policies.Store(e.policies.Builtin())
	w.snapshot.Store(&snapshot.Snapshot{})
	actual, _ := e.workspaces.LoadOrStore(name, w)
	return actual.(*workspace)
}

// plan is a class with its latest ranking.
type plan struct {
	class    *class
	policies *policy.Set
	ranking  *ranking
	// cached tells whether ranking came from the cache.
	cached bool
	made   time.Time
}

// plan returns the plan of the request's class, from the cache where it is there.
func (w *workspace) plan(ctx context.Context, request Request) (*plan, error) {
	policies := w.policies.Load()
	seen := request.seenBy(policies)
	key := digest(request.Placement, policies, seen)
	if p, found := w.plans.Get(key); found && w.options.Now().Sub(p.made) < w.options.CacheTTL {
		again := *p
		again.cached = true
		return &again, nil
	}
	judgement, err := w.judge(ctx, policies, policy.Input{
		Workspace: request.Workspace.String(), Placement: request.Placement.Placement, Workload: seen,
	})
	if err != nil {
		return nil, err
	}
	return &plan{
		class:    &class{digest: key, placement: request.Placement, workload: seen, judgement: judgement},
		policies: policies,
	}, nil
}

// stopped counts how many times in a row a set of policies was stopped for what it cost.
type stopped struct {
	policies *policy.Set
	times    int
	last     error
}

// judge evaluates the policies: for one workload of the workspace at a time, so that no workspace takes more than one
// processor for its policies, and not at all once they were stopped quarantineAfter times in a row.
func (w *workspace) judge(ctx context.Context, policies *policy.Set, in policy.Input) (*policy.Judgement, error) {
	select {
	case w.judging <- struct{}{}:
		defer func() { <-w.judging }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := w.stopped.quarantine(policies); err != nil {
		return nil, err
	}
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

func (p *plan) rank(ctx context.Context, s *snapshot.Snapshot) (err error) {
	p.ranking, err = p.class.rank(ctx, s, p.ranking)
	return err
}

// ranked returns the request's plan with a ranking of the fleet as it stands, what the workload itself holds left out.
func (w *workspace) ranked(ctx context.Context, request Request) (*plan, error) {
	p, err := w.plan(ctx, request)
	if err != nil {
		return nil, err
	}
	return p, p.rank(ctx, w.without(request.owner()))
}

// without returns the snapshot in which owner holds nothing.
func (w *workspace) without(owner string) *snapshot.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.withoutLocked(owner)
}

func (w *workspace) withoutLocked(owner string) *snapshot.Snapshot {
	s := w.snapshot.Load()
	claim, held := w.ledger.Claim(owner)
	if !held {
		return s
	}
	var rows []*snapshot.Row
	for _, name := range claim.Clusters {
		if row := s.Row(name); row != nil {
			rows = append(rows, snapshot.NewRow(row.Cluster, w.ledger.Reserved(name).Sub(claim.Amount)))
		}
	}
	return s.With(rows...)
}

// commit selects from the plan, brought up to date, and reserves. It is not done where the policies have changed
// since the plan was made.
func (w *workspace) commit(ctx context.Context, request Request, p *plan) (decision *Decision, done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.policies.Load() != p.policies {
		return nil, false, nil
	}
	owner := request.owner()
	if err := p.rank(ctx, w.withoutLocked(owner)); err != nil {
		return nil, false, err
	}
	decision = p.decide(request.Workload, w.ledger.Count(request.group(), owner))
	previous, _ := w.ledger.Claim(owner)
	claim := capacity.Claim{Group: request.group(), Amount: decision.Reserved}
	for _, c := range decision.Clusters {
		claim.Clusters = append(claim.Clusters, c.Name)
	}
	if len(claim.Clusters) == 0 {
		w.ledger.Release(owner)
	} else if err := w.ledger.Reserve(owner, claim); err != nil {
		// The ranking was made under this lock from what the ledger holds: the two cannot differ.
		return nil, false, err
	}
	w.refresh(previous.Clusters, claim.Clusters)
	p.made = w.options.Now()
	w.plans.Add(p.class.digest, p)
	return decision, true, nil
}

// refresh makes new rows for clusters on which what is reserved has changed.
func (w *workspace) refresh(clusters ...[]string) {
	s := w.snapshot.Load()
	var rows []*snapshot.Row
	for _, names := range clusters {
		for _, name := range names {
			if row := s.Row(name); row != nil && !row.Reserved.Equal(w.ledger.Reserved(name)) {
				rows = append(rows, snapshot.NewRow(row.Cluster, w.ledger.Reserved(name)))
			}
		}
	}
	if len(rows) > 0 {
		w.snapshot.Store(s.With(rows...))
	}
}

func (w *workspace) setCluster(c *snapshot.Cluster) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.snapshot.Load()
	if row := s.Row(c.Name); row != nil && reflect.DeepEqual(row.Cluster, c) {
		return false
	}
	w.ledger.SetAvailable(c.Name, c.Allocatable.Sub(c.Allocated))
	w.snapshot.Store(s.With(snapshot.NewRow(c, w.ledger.Reserved(c.Name))))
	return true
}

func (w *workspace) removeCluster(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledger.RemoveCluster(name)
	w.snapshot.Store(w.snapshot.Load().Without(name))
}

func (w *workspace) restore(owner string, claim capacity.Claim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	previous, _ := w.ledger.Claim(owner)
	w.ledger.Restore(owner, claim)
	w.refresh(previous.Clusters, claim.Clusters)
}

func (w *workspace) release(owner string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	claim, held := w.ledger.Release(owner)
	w.refresh(claim.Clusters)
	return held
}

// owner is the key of a workload in the ledger. It leaves out the UID: of two workloads of one name only one exists.
func owner(ref workload.Reference) string {
	return ref.APIVersion + "/" + ref.Kind + "/" + ref.Namespace + "/" + ref.Name
}

func (r Request) owner() string { return owner(r.Workload.Reference) }

// group is the key in the ledger of the placement's claims together.
func (r Request) group() string { return r.Placement.NamespacedName().String() }

// seenBy is the workload with nothing but what the placement and the policies can read of it. Deciding sees no more
// than this, so that all workloads of a class have the same answer.
func (r Request) seenBy(policies *policy.Set) *workload.Workload {
	return r.Workload.Only(r.Placement.reads | policies.Reads())
}

// digest identifies a class.
func digest(placement *Placement, policies *policy.Set, seen *workload.Workload) string {
	h := sha256.New()
	// A workload is strings and numbers: it always encodes.
	_ = json.NewEncoder(h).Encode([]any{placement.digest, policies.Digest(), seen})
	return hex.EncodeToString(h.Sum(nil)[:16])
}
