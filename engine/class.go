package engine

import (
	"context"
	"sync"

	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// class is an equivalence class with its ranking.
type class struct {
	*ranking.Class
	hash uint64
	// evaluating is held while all clusters are ranked: a caller that waits for it finds the ranking made.
	evaluating sync.Mutex
	// ranking and last are guarded by the workspace's mu; ranking is nil until clusters are ranked.
	ranking *ranking.Ranking
	last    selection
	// users is the number of decisions in progress that rank several classes: until it is 0, the memory of the ranking is not
	// reused.
	users int
	// eligible has an entry for each topology key of the spread constraints.
	eligible []eligible
	groups   *groups
	kinds    *kinds
}

// selection is what was last selected for a class. It is valid for one generation, and for workloads with the same holding.
type selection struct {
	generation int64
	holding    holding
	chosen     []ranking.Key
}

// maxLockedChanges is how many changes of clusters a ranking takes up under the workspace's lock; more are taken up
// on a copy, without it.
const maxLockedChanges = 256

// viewKey identifies a view: it differs for the policies in force and the shadow policies.
type viewKey struct {
	placement *placement.Placement
	policies  *policy.Set
}

// view returns what is read of the workloads of a placement under the policies of a request.
func (w *workspace) view(r *Request) *ranking.View {
	key := viewKey{r.Placement, w.policiesOf(r)}
	if v, found := w.views.Load(key); found {
		return v.(*ranking.View)
	}
	v := ranking.NewView(key.placement, key.policies)
	if w.numViews.Add(1) > maxViews {
		w.views.Clear()
		w.numViews.Store(1)
	}
	w.views.Store(key, v)
	return v
}

// classOf returns the class of a workload, from the cache if it is there. Otherwise the policies are evaluated, unless
// they have been for a workload of the same policy class.
func (w *workspace) classOf(ctx context.Context, r *Request) (_ *class, cached bool, err error) {
	v := w.view(r)
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
	v := w.view(r)
	if c, found := w.cachedClass(v, v.ClassHash(r.Workload), r); found {
		return c.Digest
	}
	return ranking.Digest(r.Placement, v.Policies, v.Class.Only(r.Workload))
}

// withRanking calls do with the workspace locked and the ranking of a class current for the fleet. Anything that takes
// long is done before that, on a snapshot, without making others wait.
func (w *workspace) withRanking(ctx context.Context, c *class, do func(snapshot.Snapshot) error) error {
	for {
		if done, err := w.tryWithRanking(ctx, c, do); done || err != nil {
			return err
		}
		if err := w.rank(ctx, c); err != nil {
			return err
		}
	}
}

// tryWithRanking is withRanking, except that it does nothing and returns false if the ranking is too far behind.
func (w *workspace) tryWithRanking(ctx context.Context, c *class, do func(snapshot.Snapshot) error) (done bool, err error) {
	w.lock()
	defer w.mu.Unlock()
	s := w.snapshotFor(c)
	if current, err := w.refresh(ctx, c, &s); !current || err != nil {
		return false, err
	}
	return true, do(s)
}

// refresh makes the ranking of a class current, and returns false if it is too far behind. The workspace is locked.
func (w *workspace) refresh(ctx context.Context, c *class, s *snapshot.Snapshot) (current bool, err error) {
	changes, known := c.ranking.Behind(s)
	if !known || len(changes) > maxLockedChanges {
		return false, nil
	}
	if len(changes) == 0 {
		return true, nil
	}
	r := c.take()
	if err := r.Refresh(ctx, s); err != nil {
		return false, err
	}
	c.ranking = r
	w.options.Metrics.Evaluated(len(changes))
	return true, nil
}

// take removes the ranking from the class in order to change it. The caller puts it back on success, so a panic leaves no
// half-changed ranking.
func (c *class) take() *ranking.Ranking {
	r := c.ranking
	c.ranking = nil
	return r
}

// rank brings the ranking of a class up to date without the lock, unless another goroutine has done so meanwhile.
func (w *workspace) rank(ctx context.Context, c *class) error {
	c.evaluating.Lock()
	defer c.evaluating.Unlock()
	w.lock()
	s := w.seen.Whole()
	s.Usual = w.usual(c)
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
		if gone := w.evicted.Swap(nil); gone != nil && gone.ranking != nil && gone.users == 0 {
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

func (w *workspace) prefetch(ctx context.Context) error {
	for _, value := range w.cache.Values(w.options.Now()) {
		c, ok := value.(*class)
		if !ok {
			continue
		}
		if p := c.Policy; p.Policies != w.policies.Load() && p.Policies != w.shadow.Load() {
			// Rank the same workloads under the new policies, unless these read more of a workload than is known.
			if !p.Policies.Reads().Union(p.Placement.Reads).Covers(w.policies.Load().Reads()) {
				continue
			}
			var err error
			if c, _, err = w.classOf(ctx, &Request{Workspace: w.name, Placement: p.Placement, Workload: c.Whole}); err != nil {
				return err
			}
		}
		if err := w.withRanking(ctx, c, func(snapshot.Snapshot) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}
