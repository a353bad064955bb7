// Package exit defines the exit codes of the program and the error that selects between them.
package exit

import (
	"context"
	"errors"
)

// The exit codes.
const (
	OK          = 0
	CheckFailed = 1 // something that was checked is wrong
	Error       = 2 // the command line is wrong, or the command could not be carried out
	Interrupted = 130
)

// Failure is a failed check: the command was carried out and found something wrong. Cause is nil where the output says it
// already.
type Failure struct{ Cause error }

// Error implements error.
func (f Failure) Error() string {
	if f.Cause == nil {
		return ""
	}
	return f.Cause.Error()
}

// Unwrap returns the cause.
func (f Failure) Unwrap() error { return f.Cause }

// Code returns the exit code for what a command returned, and the message to print, if any.
func Code(ctx context.Context, err error) (code int, message string) {
	var failure Failure
	switch {
	case err == nil:
		return OK, ""
	case ctx.Err() != nil:
		return Interrupted, "interrupted"
	case errors.As(err, &failure):
		return CheckFailed, failure.Error()
	default:
		return Error, "kubectl placement: " + err.Error()
	}
}
