package live

import (
	"context"
	"time"
)

const (
	// settle is how long changes gather before they are told of, retryAfter when a workspace is read again that could not be.
	settle, retryAfter = time.Second, 5 * time.Second
	// pause is how many times as long as telling takes nothing is told, so that a large workspace that always changes leaves time for
	// other things.
	pause = 4
)

// Follow reads the workspace, and tells of it whenever it has changed or cannot be read, until ctx ends.
func (r *Reader) Follow(ctx context.Context, tell func(*Reading, error)) {
	cache := newCache(ctx, r.Config)
	for ctx.Err() == nil {
		start := time.Now()
		cache.begin()
		reading, err := r.read(ctx, cache)
		if ctx.Err() != nil {
			return
		}
		tell(reading, err)
		if err == nil {
			cache.sweep() // what was not asked for, such as the clusters of a binding that is gone
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
