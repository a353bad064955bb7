package controller

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
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
	err := recovered(step)
	r.fail(err)
	return err == nil
}

// report logs the error of each step according to its class.
func (r *result) report(ctx context.Context) {
	logger := klog.FromContext(ctx)
	for _, err := range r.errs {
		var panicked *panicError
		switch {
		case errors.As(err, &panicked):
			logger.Error(err, "A step panicked and is retried", "stack", string(panicked.stack))
		case apierrors.IsConflict(err):
			logger.V(4).Info("Written by another client in the meantime: retrying", "reason", err.Error())
		default:
			logger.Error(err, "A step failed and is retried")
		}
	}
}

// panicError is a panic in one step of a pass. It ends that step alone: one workspace must not stop the work for all.
type panicError struct {
	value any
	stack []byte
}

// Error implements error.
func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// recoverTo turns a panic of the function that defers it into an error: defer recoverTo(&err).
func recoverTo(err *error) {
	if value := recover(); value != nil {
		*err = &panicError{value: value, stack: debug.Stack()}
	}
}

// recovered runs f and returns its panic, if any.
func recovered(f func()) (err error) {
	defer recoverTo(&err)
	f()
	return nil
}
