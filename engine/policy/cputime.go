package policy

import (
	"runtime"
	"time"
)

// cpuClock measures the processor time of one evaluation, which is locked to its thread meanwhile.
type cpuClock struct {
	running bool
	start   time.Duration
}

// elapsed returns the processor time since the first call.
func (c *cpuClock) elapsed() time.Duration {
	if !c.running {
		runtime.LockOSThread()
		c.running, c.start = true, threadCPUTime()
	}
	return threadCPUTime() - c.start
}

// stop unlocks the thread. It must be called by the goroutine that called elapsed.
func (c *cpuClock) stop() {
	if c.running {
		runtime.UnlockOSThread()
		c.running = false
	}
}
