package lru_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/internal/lru"
)

// TestCache compares the cache with a list in order of use, over random histories: what it keeps, what it returns as
// evicted, and the bytes that it reports.
func TestCache(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			key, value, bytes int
			used              time.Time
		}
		const ttl = 10 * time.Second
		limit := rapid.IntRange(1, 40).Draw(t, "bytes")
		reported := 0
		cache := lru.New[int, int](lru.Options{MaxBytes: limit, TTL: ttl, OnBytes: func(delta int) { reported += delta }})
		var model []entry // least recently used first
		now := time.Unix(0, 0)
		find := func(key int) int { return slices.IndexFunc(model, func(e entry) bool { return e.key == key }) }
		sum := func() (bytes int) {
			for _, e := range model {
				bytes += e.bytes
			}
			return bytes
		}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "seconds")) * time.Second)
			key := rapid.IntRange(0, 8).Draw(t, "key")
			i := find(key)
			if rapid.Bool().Draw(t, "put") {
				e := entry{key, step, rapid.IntRange(1, 20).Draw(t, "size"), now}
				if i >= 0 {
					model = slices.Delete(model, i, i+1)
				}
				model = append(model, e)
				var gone []int
				for len(model) > 1 && (sum() > limit || now.Sub(model[0].used) >= ttl) {
					gone, model = append(gone, model[0].value), model[1:]
				}
				if evicted := cache.Put(key, step, e.bytes, now); !slices.Equal(evicted, gone) {
					t.Fatalf("evicted %v, want %v", evicted, gone)
				}
			} else {
				value, found := cache.Get(key, now)
				alive := i >= 0 && now.Sub(model[i].used) < ttl
				if found != alive || found && value != model[i].value {
					t.Fatalf("key %d: %d, %v", key, value, found)
				}
				if i >= 0 {
					e := model[i]
					if alive {
						e.used = now
					}
					model = append(slices.Delete(model, i, i+1), e)
				}
			}
			if reported != sum() {
				t.Fatalf("%d bytes reported, %d kept", reported, sum())
			}
		}
		var want []int
		for _, e := range slices.Backward(model) {
			if now.Sub(e.used) < ttl {
				want = append(want, e.value)
			}
		}
		if values := cache.Values(now); !slices.Equal(values, want) {
			t.Fatalf("values %v, want %v", values, want)
		}
		if cache.Clear(); reported != 0 {
			t.Fatalf("%d bytes in an empty cache", reported)
		}
	})
}
