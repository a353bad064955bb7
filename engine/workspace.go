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

// workspace is everything that the engine knows of one logical cluster.
type workspace struct {
	name    logicalcluster.Name
	options *Options
	// policies are in force; shadow are the policies of requests with Shadow, nil if there are none.
	policies, shadow atomic.Pointer[policy.Set]
	// views by viewKey, bounded by maxViews.
	views    sync.Map
	numViews atomic.Int64
	// cache holds *class, *ranking.PolicyClass and *ranking.Answers.
	cache *lru.Cache[cacheKey, any]
	// evicted is a class that the cache has dropped: its memory is reused for the next ranking.
	evicted atomic.Pointer[class]
	judge   judge

	// own is the fleet of the clusters that are registered in the workspace itself.
	own *fleet

	// mu guards all fields below, and the rankings.
	mu sync.Mutex
	// fleet is the fleet that the workspace uses, seen its rows as the workspace sees them, and ledger the claims of the
	// workspace there.
	fleet  *fleet
	seen   *snapshot.Fleet
	ledger *capacity.Ledger
	// window is nil as long as no other workspace uses the fleet: then seen is its rows themselves.
	window *window
	// reports counts the reports of clusters.
	reports int64
	// current, row and chosen are scratch space of selectFor, others and places of chooseTogether.
	current        []positionedKey
	row            snapshot.Row
	chosen         []ranking.Key
	others, places []place
	// topologies are the domains of the topology keys in use.
	topologies map[snapshot.TopologyKey]*topology
	// groups of clusters, by the topology keys of spread constraints.
	groups   map[string]*groups
	affinity affinity
	// heldCount counts the reservations that have been held.
	heldCount *atomic.Int64
	// turns counts how often the workspace has been called to decide again on what is free.
	turns atomic.Int64
}

type positionedKey struct {
	position int
	key      ranking.Key
}

// maxViews bounds how many placements a workspace keeps views of.
const maxViews = 4096

func (e *Engine) newWorkspace(name logicalcluster.Name, own *fleet) *workspace {
	w := &workspace{
		name: name, options: &e.options, heldCount: &e.heldCount, judge: newJudge(),
		own: own, fleet: own, seen: &own.rows, ledger: own.ledgers[name],
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

// policiesOf returns the policies by which a request is decided.
func (w *workspace) policiesOf(r *Request) *policy.Set {
	if r.Shadow {
		if shadow := w.shadow.Load(); shadow != nil {
			return shadow
		}
	}
	return w.policies.Load()
}

func (w *workspace) snapshot() snapshot.Snapshot {
	w.lock()
	defer w.mu.Unlock()
	return w.seen.Snapshot()
}

// snapshotFor returns the fleet as a class sees it. The workspace is locked.
func (w *workspace) snapshotFor(c *class) snapshot.Snapshot {
	s := w.seen.Snapshot()
	s.Usual = w.usual(c)
	return s
}

// usual returns what the workloads of the workspace usually ask for; nil for a class that does not weigh packing.
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
	return w.own.setCluster(c)
}

func (w *workspace) removeCluster(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports++
	w.own.removeCluster(name)
}

// grant records an existing claim: if verify is set only if it fits beyond what is promised, else without checking.
func (w *workspace) grant(owner capacity.Owner, claim *capacity.Claim, verify bool, promised ...*capacity.Claim) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
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
		w.fleet.updateReserved(before)
	}
	w.fleet.updateReserved(claim)
	return nil
}

func (w *workspace) release(owner capacity.Owner) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	claim := w.ledger.Release(owner)
	if claim == nil {
		return false
	}
	w.recount(owner, claim, nil)
	w.fleet.updateReserved(claim)
	w.fleet.lines.ease(w.name)
	return true
}

// restoreClaim records a claim in place of the owner's previous one, if any, without checking that it fits.
func (w *workspace) restoreClaim(owner capacity.Owner, before, claim *capacity.Claim) {
	w.ledger.Restore(owner, claim)
	w.recount(owner, before, claim)
}
