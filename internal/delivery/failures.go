package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/kcp-placement/placement/internal/panics"
)

// What has failed is retried after retryFirst, then after twice that, up to retryLast.
const (
	retryFirst = 100 * time.Millisecond
	retryLast  = time.Minute
)

// errWaits is returned for something that has failed and is not retried yet.
var errWaits = errors.New("it is tried again later")

// failures records what could not be done, by a description of it.
type failures struct {
	all    map[string]*failure
	now    time.Time
	result *Result
}

type failure struct {
	err     error
	retryAt time.Time
	backOff time.Duration
}

// begin begins a round. It drops entries that have not been tried for long.
func (f *failures) begin(now time.Time, r *Result) {
	f.now, f.result = now, r
	for key, failed := range f.all {
		if now.Sub(failed.retryAt) > retryLast {
			delete(f.all, key)
		}
	}
}

// try calls do, unless what has failed only recently.
func (f *failures) try(what string, do func() error) error {
	failed := f.all[what]
	if failed != nil && f.now.Before(failed.retryAt) {
		f.result.within(failed.retryAt.Sub(f.now))
		return fmt.Errorf("%w: %w", failed.err, errWaits)
	}
	err := safely(do)
	if err == nil {
		delete(f.all, what)
		return nil
	}
	if failed == nil {
		failed = &failure{}
	}
	backOff := min(max(2*failed.backOff, retryFirst), retryLast)
	if f.all == nil {
		f.all = map[string]*failure{}
	}
	f.all[what] = &failure{err: err, retryAt: f.now.Add(backOff), backOff: backOff}
	f.result.within(backOff)
	return err
}

// safely turns a panic into an error.
func safely(do func() error) (err error) {
	defer panics.RecoverTo(&err)
	return do()
}
