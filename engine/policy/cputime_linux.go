package policy

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadCPUTime returns the processor time of the calling thread. It is constant if the clock cannot be read.
func threadCPUTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
