// Package panics turns panics into errors that keep their stacks: what one object causes must not end the work for all.
package panics

import (
	"errors"
	"fmt"
	"runtime/debug"

	"k8s.io/klog/v2"
)

// Error is a panic that was recovered.
type Error struct {
	Value any
	Stack []byte
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// RecoverTo turns a panic of the function that defers it into an error: defer panics.RecoverTo(&err).
func RecoverTo(err *error) {
	if value := recover(); value != nil {
		*err = &Error{Value: value, Stack: debug.Stack()}
	}
}

// Recovered runs f and returns its panic, if any.
func Recovered(f func()) (err error) {
	defer RecoverTo(&err)
	f()
	return nil
}

// Log logs an error, a panic with its stack.
func Log(logger klog.Logger, err error, message string, keysAndValues ...any) {
	var panicked *Error
	if errors.As(err, &panicked) {
		keysAndValues = append(keysAndValues, "stack", string(panicked.Stack))
	}
	logger.WithCallDepth(1).Error(err, message, keysAndValues...)
}
