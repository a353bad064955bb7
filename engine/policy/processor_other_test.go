//go:build !linux

package policy_test

import "time"

var start = time.Now()

// processorTime is the time on the wall where that of a thread is not known.
func processorTime() time.Duration { return time.Since(start) }
