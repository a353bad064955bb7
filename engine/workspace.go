package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kcp-dev/logicalcluster/v3"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/internal/lru"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// workspace is all that the engine knows of one logical cluster.
type workspace struct {
	name     logicalcluster.Name
	options  *Options
	policies atomic.Pointer[policy.Set]
	// views by placement, bounded by maxViews.
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
	// current and row are scratch space of selectFrom.
	current []positionedKey
	row     snapshot.Row
	// holds counts the reservations that have been held.
	holds atomic.Int64
}

type positionedKey struct {
	position int
	key      ranking.Key
}

// class is an equivalence class with its ranking.
type class struct {
	*ranking.Class
	hash uint64
	// evaluating is held while all clusters are ranked: who waits for it finds that done.
	evaluating sync.Mutex
	// ranking and last are guarded by the workspace's mu; ranking is nil until clusters are ranked.
	ranking *ranking.Ranking
	last    selection
}

// selection is what was last selected for a class. It is valid for one generation, for a workload that holds the same.
type selection struct {
	generation int64
	held       holding
	chosen     []ranking.Key
}

type cacheKey struct {
	kind kind
	hash uint64
}

type kind uint8

const (
	classes kind = iota
	policyClasses
	answers
)

const (
	// entryBytes is about what an entry of the cache takes beside what grows with the fleet.
	entryBytes = 1 << 10
	// maxViews bounds how many placements a workspace keeps views of.
	maxViews = 4096
	// maxTogether is how many decisions of a batch are allocated together at most: one that is kept keeps the others.
	maxTogether = 64
	// maxLockedChanges is how many changes of clusters a ranking takes up under the workspace's lock; more are taken up
	// on a copy, without it.
	maxLockedChanges = 256
)

func (e *Engine) newWorkspace(name logicalcluster.Name) *workspace {
	w := &workspace{
		name: name, options: &e.options, ledger: capacity.NewLedger(), judge: newJudge(),
		cache: lru.New[cacheKey, any](lru.Options{
			MaxBytes: e.options.CacheBytes, TTL: e.options.CacheTTL, OnBytes: e.options.Metrics.CacheBytes,
		}),
	}
	w.policies.Store(e.policies.Builtin())
	return w
}

// view returns what is read of the workloads of a placement under the policies in force.
func (w *workspace) view(p *placement.Placement) *ranking.View {
	policies := w.policies.Load()
	if v, found := w.views.Load(p); found && v.(*ranking.View).Policies == policies {
		return v.(*ranking.View)
	}
	v := ranking.NewView(p, policies)
	if w.numViews.Add(1) > maxViews {
		w.views.Clear()
		w.numViews.Store(1)
	}
	w.views.Store(p, v)
	return v
}

func (w *workspace) setPolicies(set *policy.Set) {
	if w.policies.Swap(set) != set {
		w.views.Clear()
		w.numViews.Store(0)
	}
}

// classOf returns the class of a workload, from the cache where it is there. Otherwise the policies are evaluated, unless
// they have been for a workload that is the same to them.
func (w *workspace) classOf(ctx context.Context, r *Request) (_ *class, cached bool, err error) {
	v := w.view(r.Placement)
	hash := v.ClassHash(r.Workload)
	if c, found := w.cachedClass(v, hash, r); found {
		return c, true, nil
	}
	p, err := w.policyClassOf(ctx, v, r)
	if err != nil {
		return nil, false, err
	}
	return &class{Class: ranking.NewClass(p, v.Class.Only(r.Workload)), hash: hash}, false, nil
}

func (w *workspace) cachedClass(v *ranking.View, hash uint64, r *Request) (*class, bool) {
	if kept, found := w.cache.Get(cacheKey{classes, hash}, w.options.Now()); found {
		if c := kept.(*class); v.InClass(r.Workload, c.Class) {
			return c, true
		}
	}
	return nil, false
}

func (w *workspace) inputsDigest(r *Request) string {
	v := w.view(r.Placement)
	if c, found := w.cachedClass(v, v.ClassHash(r.Workload), r); found {
		return c.Digest
	}
	return ranking.Digest(r.Placement, v.Policies, v.Class.Only(r.Workload))
}

// keep puts a value into the cache.
func (w *workspace) keep(k kind, hash uint64, value any, bytes int) {
	for _, gone := range w.cache.Put(cacheKey{k, hash}, value, bytes+entryBytes, w.options.Now()) {
		if c, ok := gone.(*class); ok {
			w.evicted.Store(c)
		}
	}
}

// Answers and Keep implement ranking.Store.
func (w *workspace) Answers(hash uint64) (*ranking.Answers, bool) {
	a, found := w.cache.Get(cacheKey{answers, hash}, w.options.Now())
	if !found {
		return nil, false
	}
	return a.(*ranking.Answers), true
}

// Keep keeps answers for later evaluations.
func (w *workspace) Keep(hash uint64, a *ranking.Answers) { w.keep(answers, hash, a, a.Bytes()) }

// lockRanked locks the workspace with the ranking of a class current for the fleet. What takes long is done before that,
// on a snapshot: nobody else waits for it.
func (w *workspace) lockRanked(ctx context.Context, c *class) (s snapshot.Snapshot, err error) {
	w.mu.Lock()
	for {
		s = w.fleet.Snapshot()
		changes, known := c.ranking.Behind(&s)
		if known && len(changes) <= maxLockedChanges {
			break
		}
		w.mu.Unlock()
		if err := w.rank(ctx, c); err != nil {
			return s, err
		}
		w.mu.Lock()
	}
	current := false
	defer func() {
		if !current { // it failed or panicked
			c.ranking = nil
			w.mu.Unlock()
		}
	}()
	err = w.refresh(ctx, c, &s)
	current = err == nil
	return s, err
}

// selectAndReserve decides with a ranking that lockRanked has made current, and unlocks the workspace. It returns nil if the
// policies of the class are not in force any more.
//
// Invariant: a panic leaves no lock behind, and no ranking in which a workload's own clusters have the keys that they have
// without it.
func (w *workspace) selectAndReserve(c *class, r *Request, s *snapshot.Snapshot, cached, reserve bool) (d *Decision, err error) {
	done := false
	defer func() {
		if !done {
			c.ranking = nil
		}
		w.mu.Unlock()
	}()
	if w.policies.Load() == c.Policy.Policies {
		d = new(Decision)
		w.selectFor(d, &choices{}, c, r, s, cached)
		if reserve {
			err = w.reserve(r, d)
		}
	}
	done = true
	if err != nil {
		return nil, err
	}
	return d, nil
}

// refresh makes a ranking current that is not far behind. The workspace is locked.
func (w *workspace) refresh(ctx context.Context, c *class, s *snapshot.Snapshot) error {
	if c.ranking.Generation() == s.Generation {
		return nil
	}
	changes, _ := c.ranking.Behind(s)
	if err := c.ranking.Refresh(ctx, s); err != nil {
		c.ranking = nil
		return err
	}
	w.options.Metrics.Evaluated(len(changes))
	return nil
}

// rank brings the ranking of a class up to date outside of the lock, unless another has done so meanwhile.
func (w *workspace) rank(ctx context.Context, c *class) error {
	c.evaluating.Lock()
	defer c.evaluating.Unlock()
	w.mu.Lock()
	s := w.fleet.Whole()
	changes, known := c.ranking.Behind(&s)
	var r *ranking.Ranking
	var memory *ranking.Tournament
	switch {
	case known && len(changes) <= maxLockedChanges:
		w.mu.Unlock()
		return nil
	case known:
		r = c.ranking.Clone()
	default:
		if gone := w.evicted.Swap(nil); gone != nil && gone.ranking != nil {
			memory, gone.ranking = gone.ranking.Tournament, nil
		}
	}
	w.mu.Unlock()

	defer w.options.time(StepRank)()
	evaluated := len(changes)
	if known {
		if err := r.Refresh(ctx, &s); err != nil {
			return err
		}
	} else {
		var err error
		if r, err = ranking.New(ctx, c.Class, w, &s, memory); err != nil {
			return err
		}
		evaluated = r.Len()
		w.keep(classes, c.hash, c, r.Bytes())
	}
	w.options.Metrics.Evaluated(evaluated)
	w.mu.Lock()
	c.ranking, c.last = r, selection{}
	w.mu.Unlock()
	return nil
}

// decideBatch decides for requests of this workspace, one after the other in their order. A class of the batch is looked
// up once, and the lock is kept from one request to the next unless clusters have to be ranked.
func (w *workspace) decideBatch(ctx context.Context, requests []Request, results []Result) {
	found := make(map[uint64]*class, 16)
	var decisions []Decision
	var choices choices
	locked := false
	unlock := func() {
		if locked {
			w.mu.Unlock()
			locked = false
		}
	}
	var selecting *class
	defer func() {
		if selecting != nil { // it panicked
			selecting.ranking = nil
		}
		unlock()
	}()
	for i := range requests {
		r := &requests[i]
		v := w.view(r.Placement)
		hash := v.ClassHash(r.Workload)
		c := found[hash]
		cached := c != nil && v.InClass(r.Workload, c.Class)
		if !cached {
			unlock()
			var err error
			if c, cached, err = w.classOf(ctx, r); err != nil {
				results[i].Err = err
				continue
			}
			found[hash] = c
		}
		var s snapshot.Snapshot
		var err error
		if !locked {
			s, err = w.lockRanked(ctx, c)
		} else if s = w.fleet.Snapshot(); w.isNear(c, &s) {
			selecting = c
			err = w.refresh(ctx, c, &s)
			selecting = nil
			if err != nil {
				unlock()
			}
		} else {
			unlock()
			s, err = w.lockRanked(ctx, c)
		}
		if err != nil {
			results[i].Err = err
			continue
		}
		locked = true
		if w.policies.Load() != c.Policy.Policies { // they have changed since the class was looked up
			unlock()
			results[i].Decision, results[i].Err = w.decide(ctx, r, true)
			continue
		}
		if len(decisions) == 0 {
			decisions = make([]Decision, min(len(requests)-i, maxTogether))
		}
		d := &decisions[0]
		decisions = decisions[1:]
		choices.left = len(requests) - i
		selecting = c
		w.selectFor(d, &choices, c, r, &s, cached)
		err = w.reserve(r, d)
		selecting = nil
		if err != nil {
			results[i].Err = err
		} else {
			results[i].Decision = d
		}
		w.options.Metrics.Request(cached)
	}
}

// isNear reports whether the ranking of a class can be made current under the lock.
func (w *workspace) isNear(c *class, s *snapshot.Snapshot) bool {
	changes, known := c.ranking.Behind(s)
	return known && len(changes) <= maxLockedChanges
}

func (w *workspace) prefetch(ctx context.Context) error {
	for _, value := range w.cache.Values(w.options.Now()) {
		c, ok := value.(*class)
		if !ok {
			continue
		}
		if p := c.Policy; p.Policies != w.policies.Load() {
			// The same workloads under the new policies, unless these read more of a workload than is known of it.
			if !p.Policies.Reads().Union(p.Placement.Reads).Covers(w.policies.Load().Reads()) {
				continue
			}
			var err error
			if c, _, err = w.classOf(ctx, &Request{Workspace: w.name, Placement: p.Placement, Workload: c.Workload}); err != nil {
				return err
			}
		}
		if _, err := w.lockRanked(ctx, c); err != nil {
			return err
		}
		w.mu.Unlock()
	}
	return nil
}

func (w *workspace) firstViolation(ctx context.Context, r *Request, clusters []string) (*Verdict, error) {
	c, _, err := w.classOf(ctx, r)
	if err != nil {
		return nil, err
	}
	s := w.snapshot()
	for _, name := range clusters {
		row := s.Row(name)
		if row == nil {
			return &Verdict{Cluster: name, Rejection: &filter.Rejection{
				Stage: filter.Registration, Message: "the cluster is not registered any more",
			}}, nil
		}
		if violation := c.First(row, true); violation != nil {
			return &Verdict{Cluster: name, Rejection: c.Reject(row, violation)}, nil
		}
	}
	return nil, nil
}

// selectFor selects clusters for a workload from the ranking of its class, and makes the decision in d. What the workload
// itself holds does not count. The workspace is locked, and the ranking is current for the snapshot.
func (w *workspace) selectFor(d *Decision, choices *choices, c *class, r *Request, s *snapshot.Snapshot, cached bool) {
	held := w.held(c, r)
	chosen := w.selectFrom(c, r, &held)
	*d = Decision{
		Workload:     r.Workload.Reference,
		Reserved:     c.Workload.Requests,
		Weights:      c.Judgement.Weights,
		Terms:        c.Judgement.Terms,
		PolicyDigest: c.Policy.Policies.Digest(),
		InputsDigest: c.Digest,
		Generation:   s.Generation,
		Cached:       cached,
		class:        c.Class,
		snapshot:     *s,
		held:         held,
	}
	if len(chosen) == 0 {
		return
	}
	d.Clusters = choices.take(len(chosen))
	for i, key := range chosen {
		total := key.Total()
		d.Clusters[i] = Choice{
			Name: w.fleet.Row(key.Position()).Name, Replicas: c.Workload.Replicas, Score: total, Reason: scoring.Reason(total),
		}
	}
}

// choices allocates what the decisions of a batch choose together. The zero value allocates each by itself.
type choices struct {
	free []Choice
	// left is for how many decisions more.
	left int
}

func (c *choices) take(n int) []Choice {
	if len(c.free) < n {
		c.free = make([]Choice, n*max(1, min(c.left, maxTogether)))
	}
	c.left--
	taken := c.free[:n:n]
	c.free = c.free[n:]
	return taken
}

// selectFrom takes clusters from the ranking for a workload that holds something already: its clusters get the keys that
// they have without it, until the clusters are selected.
func (w *workspace) selectFrom(c *class, r *Request, held *holding) []ranking.Key {
	generation := c.ranking.Generation()
	// A strategy of its own may look at more than the ranking.
	if c.last.generation == generation && c.last.held.same(held) && c.Strategy.Select == nil {
		return c.last.chosen
	}
	w.current = w.current[:0]
	for i, name := range held.Clusters {
		if position, there := w.fleet.Position(name); there {
			w.current = append(w.current, positionedKey{position, c.ranking.At(position)})
			w.row = held.without(i, w.fleet.Row(position))
			c.ranking.Set(position, c.ranking.KeyOf(position, &w.row))
		}
	}
	chosen := c.last.chosen[:0]
	if c.Strategy.Select == nil {
		chosen = c.ranking.Best(c.Strategy.Number, chosen)
	} else {
		chosen = w.selectByUse(c, r.group(), *held, chosen)
	}
	for _, k := range w.current {
		c.ranking.Set(k.position, k.key)
	}
	c.last = selection{generation: generation, held: *held, chosen: chosen}
	return chosen
}

// selectByUse selects by a strategy of its own. It takes held by value, which would be moved to the heap otherwise.
func (w *workspace) selectByUse(c *class, group types.NamespacedName, held holding, chosen []ranking.Key) []ranking.Key {
	inUse := func(position int) int {
		name := w.fleet.Row(position).Name
		n := w.ledger.Group(group)[name]
		if held.Group == group && slices.Contains(held.Clusters, name) {
			n-- // the workload's own
		}
		return n
	}
	return c.Strategy.Select(c.ranking.Tournament, inUse, chosen)
}

// holding is what a workload holds. It does not count when the workload itself is decided.
type holding struct {
	*capacity.Claim
	// counted is what its clusters counted of the workload at that number of reports; nil where none does.
	counted []capacity.Resources
	reports int64
	// former: an earlier workload of the name holds it, whose pods are not those of the one that is decided.
	former bool
}

func (h *holding) same(o *holding) bool {
	return h.Claim == o.Claim && h.reports == o.reports && h.former == o.former
}

var nothing = holding{Claim: &capacity.Claim{}}

func (w *workspace) held(c *class, r *Request) holding {
	claim := w.ledger.Claim(r.owner())
	if claim == nil {
		return nothing
	}
	h := holding{Claim: claim, reports: w.reports, former: claim.UID != r.Workload.UID}
	if last := &c.last.held; last.same(&h) {
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

// reserve puts a decision into the ledger, in place of what the workload held before.
func (w *workspace) reserve(r *Request, d *Decision) error {
	group, before := r.group(), d.held.Clusters
	if d.held.Group == group && d.held.Amount.Same(d.Reserved) && d.held.UID == r.Workload.UID && len(d.held.Expired) == 0 &&
		slices.EqualFunc(before, d.Clusters, func(name string, c Choice) bool { return name == c.Name }) {
		return nil
	}
	if len(d.Clusters) == 0 {
		w.ledger.Release(r.owner())
		w.updateReserved(before)
		return nil
	}
	claim := &capacity.Claim{UID: r.Workload.UID, Group: group, Amount: d.Reserved, Clusters: make([]string, len(d.Clusters))}
	for i := range d.Clusters {
		claim.Clusters[i] = d.Clusters[i].Name
	}
	if err := w.ledger.Reserve(r.owner(), claim); err != nil {
		// The ranking is current for what the ledger holds, under the same lock: the two cannot differ.
		return fmt.Errorf("the ledger refuses what was decided: %w", err)
	}
	w.updateReserved(before)
	w.updateReserved(claim.Clusters)
	return nil
}

// updateReserved makes new rows for clusters on which the ledger holds another amount.
func (w *workspace) updateReserved(clusters []string) {
	for _, name := range clusters {
		w.fleet.Reserve(name, w.ledger.Reserved(name))
	}
}

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

// grant records a claim that exists already, if it fits or without asking.
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
		w.updateReserved(before.Clusters)
	}
	w.updateReserved(claim.Clusters)
	return nil
}

func (w *workspace) release(owner capacity.Owner) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	claim := w.ledger.Release(owner)
	if claim == nil {
		return false
	}
	w.updateReserved(claim.Clusters)
	return true
}
