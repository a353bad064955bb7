package policy

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// What a compiled set takes in memory, as measured: for the built-in modules and the compiler's tables, and for each
// byte of text.
const (
	bytesPerSet  = 64 << 10
	bytesPerByte = 100
)

// cache keeps sets by the digest of their text, and forgets those that were not used for longest where together they
// would take too much memory.
type cache struct {
	mu          sync.Mutex
	sets        *simplelru.LRU[string, compiled]
	bytes, most int
}

// compiled is a set, or why there is none.
type compiled struct {
	set   *Set
	err   error
	bytes int
}

func newCache(most int) (*cache, error) {
	c := &cache{most: most}
	var err error
	c.sets, err = simplelru.NewLRU(math.MaxInt, func(_ string, gone compiled) { c.bytes -= gone.bytes })
	return c, err
}

func (c *cache) get(digest string) (compiled, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sets.Get(digest)
}

func (c *cache) add(digest string, known compiled, modules map[string]string) {
	known.bytes = bytesPerSet
	if known.set == nil {
		known.bytes = maxErrors * maxMessage
	} else {
		for _, text := range modules {
			known.bytes += bytesPerByte * len(text)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets.Contains(digest) {
		return // compiled twice at once
	}
	c.bytes += known.bytes
	c.sets.Add(digest, known)
	for c.bytes > c.most && c.sets.Len() > 1 {
		c.sets.RemoveOldest()
	}
}
