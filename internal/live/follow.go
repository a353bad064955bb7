package live

import (
	"context"
	"time"
)

const (
	// settle is how long changes are collected before they are reported; retryAfter is when a failed reading is retried.
	settle, retryAfter = time.Second, 5 * time.Second
	// pause is the factor by which the pause exceeds the time that a reading takes, so that a large workspace that always changes leaves time
	// for other things.
	pause = 4
)

// Follow reads the workspace, and calls report whenever it has changed or cannot be read, until ctx ends.
func (r *Reader) Follow(ctx context.Context, report func(*Reading, error)) {
	cache := newCache(ctx, r.Config)
	for ctx.Err() == nil {
		start := time.Now()
		cache.begin()
		reading, err := r.read(ctx, cache)
		if ctx.Err() != nil {
			return
		}
		report(reading, err)
		if err == nil {
			cache.sweep() // no longer asked for, such as the clusters of a binding that is gone
		}
		again := make(<-chan time.Time)
		if err != nil {
			again = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-cache.changed:
		case <-again:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(settle, pause*time.Since(start))):
		}
	}
}
