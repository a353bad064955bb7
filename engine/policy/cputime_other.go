//go:build !linux

package policy

import "time"

// threadCPUTime is constant where the platform does not count processor time by thread.
func threadCPUTime() time.Duration { return 0 }
