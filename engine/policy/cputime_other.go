//go:build !linux

package policy

import "time"

// threadCPUTime stands still where the platform does not count the processor time of a thread.
func threadCPUTime() time.Duration { return 0 }
