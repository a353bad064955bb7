package engine

import "github.com/kcp-placement/placement/engine/internal/ranking"

type cacheKey struct {
	kind cacheKind
	hash uint64
}

type cacheKind uint8

const (
	classes cacheKind = iota
	policyClasses
	answers
)

// entryBytes is about the size of a cache entry without what grows with the fleet.
const entryBytes = 1 << 10

// keep puts a value into the cache.
func (w *workspace) keep(k cacheKind, hash uint64, value any, bytes int) {
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
