package engine

import (
	"sync"
	"sync/atomic"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/lru"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// workspace is all that the engine knows of one logical cluster.
type workspace struct {
	name    logicalcluster.Name
	options *Options
	// policies are in force; shadow are those of requests with Shadow, nil if there are none.
	policies, shadow atomic.Pointer[policy.Set]
	// views by viewKey, bounded by maxViews.
	views    sync.Map
	numViews atomic.Int64
	// cache holds *class, *ranking.PolicyClass and *ranking.Answers.
	cache *lru.Cache[cacheKey, any]
	// evicted is a class that the cache has dropped: the next one is ranked in its memory.
	evicted atomic.Pointer[class]
	judge   judge

	// mu makes ledger and fleet change together.
	// Invariant: what the fleet's rows say is reserved is what the ledger holds.
	mu     sync.Mutex
	fleet  snapshot.Fleet
	ledger *capacity.Ledger
	// reports counts what clusters have reported.
	reports int64
	// current, row and chosen are scratch space of selectFor.
	current []positionedKey
	row     snapshot.Row
	chosen  []ranking.Key
	// topologies are the domains of the topology keys in use.
	topologies map[snapshot.TopologyKey]*topology
	// groups of clusters, by the topology keys of spread constraints.
	groups   map[string]*groups
	affinity affinity
	// holds counts the reservations that have been held.
	holds atomic.Int64
}

type positionedKey struct {
	position int
	key      ranking.Key
}

// maxViews bounds how many placements a workspace keeps views of.
const maxViews = 4096

func (e *Engine) newWorkspace(name logicalcluster.Name) *workspace {
	w := &workspace{
		name: name, options: &e.options, ledger: capacity.NewLedger(), judge: newJudge(),
		topologies: map[snapshot.TopologyKey]*topology{},
		groups:     map[string]*groups{},
		cache: lru.New[cacheKey, any](lru.Options{
			MaxBytes: e.options.CacheBytes, TTL: e.options.CacheTTL, OnBytes: e.options.Metrics.CacheBytes,
		}),
	}
	w.policies.Store(e.policies.Builtin())
	return w
}

func (w *workspace) setPolicies(set *policy.Set) {
	if w.policies.Swap(set) != set {
		w.forgetViews()
	}
}

func (w *workspace) setShadow(set *policy.Set) {
	if w.shadow.Swap(set) != set {
		w.forgetViews()
	}
}

func (w *workspace) forgetViews() {
	w.views.Clear()
	w.numViews.Store(0)
}

// policiesOf are those that a request is decided by.
func (w *workspace) policiesOf(r *Request) *policy.Set {
	if r.Shadow {
		if shadow := w.shadow.Load(); shadow != nil {
			return shadow
		}
	}
	return w.policies.Load()
}

// updateReserved makes new rows for the clusters of a claim, as far as the ledger holds another amount on them.
func (w *workspace) updateReserved(claim *capacity.Claim) {
	for i := range claim.Shares {
		name := claim.Shares[i].Cluster
		w.fleet.Reserve(name, w.ledger.Reserved(name))
	}
}

func (w *workspace) snapshot() snapshot.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fleet.Snapshot()
}

// snapshotFor is the fleet as a class sees it. The workspace is locked.
func (w *workspace) snapshotFor(c *class) snapshot.Snapshot {
	s := w.fleet.Snapshot()
	s.Usual = w.usual(c)
	return s
}

// usual is what the workloads of the workspace usually ask for, nil for a class that does not ask for it.
func (w *workspace) usual(c *class) *capacity.Usual {
	if !c.Packs {
		return nil
	}
	return w.ledger.Usual()
}

func (w *workspace) setCluster(c *snapshot.Cluster) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports++
	return w.fleet.Set(c, w.ledger.SetCluster(c.Name, c.Allocatable.Sub(c.Allocated), c.Counted))
}

func (w *workspace) removeCluster(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports++
	w.ledger.RemoveCluster(name)
	w.fleet.Remove(name)
}

// grant records a claim that exists already, if it fits beyond what is promised, or without asking.
func (w *workspace) grant(owner capacity.Owner, claim *capacity.Claim, verify bool, promised ...*capacity.Claim) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.ledger.Claim(owner)
	claim.SameOwner(before)
	if !verify {
		w.restoreClaim(owner, before, claim)
	} else if err := w.ledger.Reserve(owner, claim, promised...); err != nil {
		return err
	} else {
		w.recount(owner, before, claim)
	}
	if before != nil {
		w.updateReserved(before)
	}
	w.updateReserved(claim)
	return nil
}

func (w *workspace) release(owner capacity.Owner) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	claim := w.ledger.Release(owner)
	if claim == nil {
		return false
	}
	w.recount(owner, claim, nil)
	w.updateReserved(claim)
	return true
}

// restoreClaim records a claim in place of the owner's previous one, if any, without asking whether it fits.
func (w *workspace) restoreClaim(owner capacity.Owner, before, claim *capacity.Claim) {
	w.ledger.Restore(owner, claim)
	w.recount(owner, before, claim)
}
