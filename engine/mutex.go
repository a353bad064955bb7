package engine

import "sync"

// briefMutex is a sync.Mutex that is held for a microsecond or two: who finds it locked tries for some ten microseconds before it sleeps.
// A goroutine that sleeps lets another run that wants the same, and in the end all of them take turns.
type briefMutex struct{ sync.Mutex }

// briefTries is how often Lock tries, some ten nanoseconds each.
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
