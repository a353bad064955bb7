package engine

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/selection"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// few changes of clusters are taken up under the workspace's lock, more of them on a snapshot without it.
const few = 256

// workspace is all that the engine knows of one logical cluster.
type workspace struct {
	options  *Options
	metrics  *Metrics
	seed     maphash.Seed
	policies atomic.Pointer[policy.Set]
	cache    *cache
	// judging is held while the policies are evaluated, by one at a time; it guards stopped.
	judging chan struct{}
	stopped stopped

	// mu makes ledger and fleet change together.
	mu     sync.Mutex
	fleet  snapshot.Fleet
	ledger *capacity.Ledger
	// reports counts what clusters have reported.
	reports int64
	// before and less are used again and again by selected.
	before []stood
	less   snapshot.Row
}

// stood is where a cluster stood in a ranking.
type stood struct {
	place int
	key   selection.Key
}

func (e *Engine) workspace(name logicalcluster.Name) *workspace {
	if w, found := e.workspaces.Load(name); found {
		return w.(*workspace)
	}
	w := &workspace{
		options: &e.options, metrics: e.options.Metrics, seed: maphash.MakeSeed(),
		cache:   newCache(e.options.CacheBytes, e.options.CacheTTL, e.options.Metrics),
		judging: make(chan struct{}, 1), ledger: capacity.NewLedger(),
	}
	w.policies.Store(e.policies.Builtin())
	actual, _ := e.workspaces.LoadOrStore(name, w)
	return actual.(*workspace)
}

// ranked locks the workspace with the class's ranking true for the fleet as it stands. What takes long is done before
// that, on a snapshot: nobody else waits for it.
func (w *workspace) ranked(ctx context.Context, c *class) (s snapshot.Snapshot, err error) {
	w.mu.Lock()
	s = w.fleet.Snapshot()
	for changes, known := c.ranking.behind(&s); !known || len(changes) > few; changes, known = c.ranking.behind(&s) {
		w.mu.Unlock()
		if err := w.rank(ctx, c); err != nil {
			return s, err
		}
		w.mu.Lock()
		s = w.fleet.Snapshot()
	}
	if err = c.ranking.refresh(ctx, &s); err != nil {
		c.ranking = nil
		w.mu.Unlock()
	}
	return s, err
}

// rank brings the ranking of a class up to date, unless another has done so meanwhile.
func (w *workspace) rank(ctx context.Context, c *class) error {
	c.evaluating.Lock()
	defer c.evaluating.Unlock()
	w.mu.Lock()
	s := w.fleet.Whole()
	changes, known := c.ranking.behind(&s)
	var r *ranking
	var spare *selection.Ranking
	if known && len(changes) > few {
		r = c.ranking.clone()
	} else if dropped := w.cache.takeDropped(); !known && dropped != nil && dropped.ranking != nil {
		spare, dropped.ranking = dropped.ranking.Ranking, nil
	}
	w.mu.Unlock()
	if known && r == nil {
		return nil
	}
	defer w.metrics.time(stageRank, w.options.Now)()
	if known {
		if err := r.refresh(ctx, &s); err != nil {
			return err
		}
	} else {
		var err error
		if r, err = c.rank(ctx, w, &s, spare); err != nil {
			return err
		}
		w.cache.keep(c.key, c, r.bytes(), w.options.Now())
	}
	w.mu.Lock()
	c.ranking = r
	w.mu.Unlock()
	return nil
}

// choose selects from the class's ranking, from which what the workload itself holds is left out. The workspace is
// locked, and the ranking is true for the snapshot.
func (w *workspace) choose(c *class, r *Request, s *snapshot.Snapshot, cached bool) *Decision {
	held := w.held(c, r)
	chosen := w.selected(c, r, &held)
	d := &Decision{
		Workload:     r.Workload.Reference,
		Reserved:     c.workload.Requests,
		Weights:      c.family.judgement.Weights,
		Terms:        c.family.judgement.Terms,
		PolicyDigest: c.family.policies.Digest(),
		InputsDigest: c.digest,
		Generation:   s.Generation,
		Cached:       cached,
		class:        c,
		snapshot:     *s,
		held:         held,
	}
	if len(chosen) > 0 {
		d.Clusters = make([]Choice, len(chosen))
	}
	for i, key := range chosen {
		total := key.Total()
		d.Clusters[i] = Choice{
			Name: w.fleet.Row(key.Place()).Name, Replicas: c.workload.Replicas, Score: total, Reason: scoring.Reason(total),
		}
	}
	return d
}

// selected takes clusters from the ranking for a workload that holds so much.
func (w *workspace) selected(c *class, r *Request, held *holding) []selection.Key {
	ranking, strategy := c.ranking, &c.family.placement.strategy
	if last := &ranking.last; last.held.same(held) && last.generation == ranking.generation && !strategy.Rotates {
		return last.chosen
	}
	ranking.look.ctx = context.Background() // a decision is not given up half-way
	w.before = w.before[:0]
	for i, name := range held.Clusters {
		if place, there := w.fleet.Position(name); there {
			w.before = append(w.before, stood{place, ranking.At(place)})
			w.less = held.without(i, w.fleet.Row(place))
			ranking.Set(place, ranking.look.key(place, &w.less))
		}
	}
	chosen := strategy.Select(ranking.Ranking, func(place int) int { return w.inUse(r, held, place) }, ranking.last.chosen[:0])
	for _, b := range w.before {
		ranking.Set(b.place, b.key)
	}
	ranking.last = answer{generation: ranking.generation, held: *held, chosen: chosen}
	return chosen
}

// holding is what a workload holds: it does not count when the workload itself is decided on.
type holding struct {
	*capacity.Claim
	// counted is what its clusters counted of the workload at that number of reports; nil where none does.
	counted []capacity.Resources
	reports int64
	// former tells that this is what an earlier workload of the name holds: its pods are not those of the one that is decided on.
	former bool
}

func (h *holding) same(o *holding) bool {
	return h.Claim == o.Claim && h.reports == o.reports && h.former == o.former
}

// nothing is what a workload holds that holds nothing.
var nothing = holding{Claim: &capacity.Claim{}}

func (w *workspace) held(c *class, r *Request) holding {
	claim := w.ledger.Claim(r.owner())
	if claim == nil {
		return nothing
	}
	h := holding{Claim: claim, reports: w.reports, former: claim.UID != r.Workload.UID}
	if last := &c.ranking.last.held; last.same(&h) {
		return *last
	}
	h.counted = w.ledger.Counted(claim)
	return h
}

// without returns the row of one of the clusters as it would be if the workload were not there.
func (h *holding) without(i int, row *snapshot.Row) snapshot.Row {
	var counted capacity.Resources
	if h.counted != nil {
		counted = h.counted[i]
	}
	reserved := h.Reserved(row.Name, counted)
	if h.former {
		counted = capacity.Resources{}
	}
	return row.Without(reserved, counted)
}

// inUse counts the workloads of the request's placement on the cluster of a place, the request's own left out.
func (w *workspace) inUse(r *Request, held *holding, place int) int {
	name, group := w.fleet.Row(place).Name, r.group()
	n := w.ledger.Group(group)[name]
	if held.Group == group && slices.Contains(held.Clusters, name) {
		n--
	}
	return n
}

// reserve puts what was decided into the ledger, in place of what the workload held before.
func (w *workspace) reserve(r *Request, d *Decision) error {
	group, before := r.group(), d.held.Clusters
	if d.held.Group == group && d.held.Amount.Same(d.Reserved) && d.held.UID == r.Workload.UID && len(d.held.Expired) == 0 &&
		slices.EqualFunc(before, d.Clusters, func(name string, c Choice) bool { return name == c.Name }) {
		return nil
	}
	if len(d.Clusters) == 0 {
		w.ledger.Release(r.owner())
		w.refresh(before)
		return nil
	}
	claim := &capacity.Claim{UID: r.Workload.UID, Group: group, Amount: d.Reserved, Clusters: make([]string, len(d.Clusters))}
	for i := range d.Clusters {
		claim.Clusters[i] = d.Clusters[i].Name
	}
	if err := w.ledger.Reserve(r.owner(), claim); err != nil {
		// The ranking is true for what the ledger holds, under the same lock: the two cannot differ.
		return fmt.Errorf("the ledger refuses what was decided: %w", err)
	}
	w.refresh(before)
	w.refresh(claim.Clusters)
	return nil
}

// refresh makes new rows for clusters on which what is reserved has changed.
func (w *workspace) refresh(clusters []string) {
	for _, name := range clusters {
		w.fleet.Reserve(name, w.ledger.Reserved(name))
	}
}

// snapshot returns the fleet as it stands.
func (w *workspace) snapshot() snapshot.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fleet.Snapshot()
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

// grant records a claim that is there already, if it fits or without asking.
func (w *workspace) grant(owner capacity.Owner, claim *capacity.Claim, verify bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.ledger.Claim(owner)
	if !verify {
		w.ledger.Restore(owner, claim)
	} else if err := w.ledger.Reserve(owner, claim); err != nil {
		return err
	}
	if before != nil {
		w.refresh(before.Clusters)
	}
	w.refresh(claim.Clusters)
	return nil
}

func (w *workspace) release(owner capacity.Owner) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	claim := w.ledger.Release(owner)
	if claim == nil {
		return false
	}
	w.refresh(claim.Clusters)
	return true
}
