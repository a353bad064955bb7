package engine

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// cache keeps what a workspace has worked out, within a number of bytes: what was not used for longest goes first, and
// what was not used for its time to live goes in any case.
type cache struct {
	mu          sync.Mutex
	entries     *simplelru.LRU[cacheKey, *entry]
	bytes, most int
	ttl         time.Duration
	metrics     *Metrics
	// dropped is the class that was dropped last, until it is taken.
	dropped *class
}

// cacheKey is a hash of what an entry is of. Whoever finds an entry has to see that it is of what was looked for.
type cacheKey struct {
	kind kind
	hash uint64
}

type kind uint8

const (
	ofClass kind = iota
	ofFamily
	admitted
	answered
)

type entry struct {
	value any
	bytes int
	used  time.Time
}

// entryBytes is about what an entry takes beside its parts that grow with the fleet.
const entryBytes = 1 << 10

func newCache(most int, ttl time.Duration, metrics *Metrics) *cache {
	c := &cache{most: most, ttl: ttl, metrics: metrics}
	c.entries, _ = simplelru.NewLRU(math.MaxInt, c.gone) // fails for sizes below 1 alone
	return c
}

func (c *cache) gone(_ cacheKey, e *entry) {
	c.charge(-e.bytes)
	if class, ok := e.value.(*class); ok {
		c.dropped = class
	}
}

func (c *cache) charge(bytes int) {
	c.bytes += bytes
	c.metrics.cacheBytes(bytes)
}

// lookUp returns what is kept under a key, and takes it for used.
func lookUp[T any](c *cache, key cacheKey, now time.Time) (value T, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.entries.Get(key)
	if !found || now.Sub(e.used) >= c.ttl {
		return value, false
	}
	e.used = now
	return e.value.(T), true
}

// keep puts a value under a key, or tells how large it has become.
func (c *cache) keep(key cacheKey, value any, bytes int, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, found := c.entries.Get(key); found {
		c.charge(bytes - e.bytes)
		*e = entry{value, bytes, now}
	} else {
		c.charge(bytes)
		c.entries.Add(key, &entry{value, bytes, now})
	}
	for c.entries.Len() > 1 {
		_, oldest, _ := c.entries.GetOldest()
		if c.bytes <= c.most && now.Sub(oldest.used) < c.ttl {
			return
		}
		c.entries.RemoveOldest()
	}
}

// takeDropped returns a class that was dropped since it was last asked, if there is one.
func (c *cache) takeDropped() *class {
	c.mu.Lock()
	defer c.mu.Unlock()
	dropped := c.dropped
	c.dropped = nil
	return dropped
}

// classes are those that were used within their time to live, the latest first.
func (c *cache) classes(now time.Time) (classes []*class) {
	c.mu.Lock()
	defer c.mu.Unlock()
	values := c.entries.Values() // oldest first
	for i := len(values) - 1; i >= 0; i-- {
		if class, ok := values[i].value.(*class); ok && now.Sub(values[i].used) < c.ttl {
			classes = append(classes, class)
		}
	}
	return classes
}

// clear drops everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Purge()
	c.dropped = nil
}
