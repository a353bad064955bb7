// Package lru is a cache with a bound in bytes: the least recently used values are evicted first, and a value that has
// not been used for its time to live is evicted in any case.
package lru

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Options of a Cache.
type Options struct {
	// MaxBytes is how many bytes the values may take together. The most recently used value is kept even if it is larger.
	MaxBytes int
	// TTL is how long an unused value is kept; 0 means forever.
	TTL time.Duration
	// OnBytes, if not nil, is called with the number of bytes by which the cache has grown or shrunk.
	OnBytes func(delta int)
}

// Cache is safe for concurrent use. It has no clock: callers pass the time.
type Cache[K comparable, V any] struct {
	options Options

	mu      sync.Mutex
	entries *simplelru.LRU[K, *entry[V]]
	bytes   int
	evicted []V // collects while entries are removed
}

type entry[V any] struct {
	value V
	bytes int
	used  time.Time
}

// New makes an empty cache.
func New[K comparable, V any](options Options) *Cache[K, V] {
	c := &Cache[K, V]{options: options}
	c.entries, _ = simplelru.NewLRU(math.MaxInt, func(_ K, e *entry[V]) { // fails only for sizes below 1
		c.charge(-e.bytes)
		c.evicted = append(c.evicted, e.value)
	})
	return c
}

// Get returns the value of a key and marks it as used.
func (c *Cache[K, V]) Get(key K, now time.Time) (value V, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.entries.Get(key)
	if !found || c.expired(e, now) {
		return value, false
	}
	e.used = now
	return e.value, true
}

// Put sets the value of a key and its size, and returns the values that it evicts. A value that it replaces is not
// among them.
func (c *Cache[K, V]) Put(key K, value V, bytes int, now time.Time) (evicted []V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, found := c.entries.Get(key); found {
		c.charge(bytes - e.bytes)
		*e = entry[V]{value, bytes, now}
	} else {
		c.charge(bytes)
		c.entries.Add(key, &entry[V]{value, bytes, now})
	}
	for c.entries.Len() > 1 {
		_, oldest, _ := c.entries.GetOldest()
		if c.bytes <= c.options.MaxBytes && !c.expired(oldest, now) {
			break
		}
		c.entries.RemoveOldest()
	}
	evicted, c.evicted = c.evicted, nil
	return evicted
}

// Values returns the values that have not expired, the most recently used first, and marks none as used.
func (c *Cache[K, V]) Values(now time.Time) (values []V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries := c.entries.Values() // oldest first
	for i := len(entries) - 1; i >= 0; i-- {
		if !c.expired(entries[i], now) {
			values = append(values, entries[i].value)
		}
	}
	return values
}

// Clear removes everything.
func (c *Cache[K, V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Purge()
	c.evicted = nil
}

func (c *Cache[K, V]) expired(e *entry[V], now time.Time) bool {
	return c.options.TTL > 0 && now.Sub(e.used) >= c.options.TTL
}

func (c *Cache[K, V]) charge(bytes int) {
	c.bytes += bytes
	if c.options.OnBytes != nil {
		c.options.OnBytes(bytes)
	}
}
