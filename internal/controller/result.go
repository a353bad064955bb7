package controller

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/internal/panics"
)

// result is the outcome of a pass over a workspace.
type result struct {
	// again asks for another pass at once: capacity was freed that waiting workloads could use, or that may offer a better place.
	again bool
	// after asks for another pass after this time, unless it is 0.
	after time.Duration
	// errs has one error for each step that failed; any of them causes another pass after a back-off. They are kept
	// apart because each is classified on its own: a conflict in one step must not hide a panic in another.
	errs []error
}

// within asks for another pass in at most d; the earliest request counts.
func (r *result) within(d time.Duration) {
	if r.after == 0 || d < r.after {
		r.after = d
	}
}

// fail records the error of one step; nil is no error. The caller must not join errors beforehand.
func (r *result) fail(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// do runs a step, and reports whether it completed without a panic.
func (r *result) do(step func()) bool {
	err := panics.Recovered(step)
	r.fail(err)
	return err == nil
}

// report logs the error of each step according to its class.
func (r *result) report(ctx context.Context) {
	logger := klog.FromContext(ctx)
	for _, err := range r.errs {
		var panicked *panics.Error
		switch {
		case errors.As(err, &panicked):
			panics.Log(logger, err, "A step panicked and is retried")
		case apierrors.IsConflict(err):
			logger.V(4).Info("Written by another client in the meantime: retrying", "reason", err.Error())
		default:
			logger.Error(err, "A step failed and is retried")
		}
	}
}
