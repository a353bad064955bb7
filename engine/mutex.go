package engine

import "sync"

// briefMutex is a sync.Mutex that is held for a microsecond or two: Lock spins for about ten microseconds before it sleeps. A goroutine
// that sleeps lets another one run that wants the same lock, until in the end all of them queue for it.
type briefMutex struct{ sync.Mutex }

// briefTries is how often Lock tries; a try takes about ten nanoseconds.
const briefTries = 1000

// Lock implements sync.Locker.
func (m *briefMutex) Lock() {
	for range briefTries {
		if m.TryLock() {
			return
		}
	}
	m.Mutex.Lock()
}
