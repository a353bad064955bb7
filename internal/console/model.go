package console

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// model follows a source for as long as somebody asks.
type model struct {
	stop context.CancelFunc

	mu     sync.Mutex
	latest *view
	behind *Behind
	// err is why there is no view.
	err error
	// changed is closed, and replaced, when any of these change.
	changed chan struct{}
	record  record
	// used is when somebody asked last, listeners how many listen to events.
	used      time.Time
	listeners int
}

// follow begins to follow a source. Of files, a workspace without decisions is shown as it would be placed.
func follow(source Source, files bool, boot string) *model {
	ctx, stop := context.WithCancel(context.Background())
	m := &model{stop: stop, changed: make(chan struct{}), used: time.Now()}
	go func() {
		n := 0
		source.Follow(ctx, func(r Reading) {
			n++
			m.take(ctx, fmt.Sprintf("%s-%d", boot, n), r, files)
			if n == 1 || files { // what is left of reading it all is garbage, a lot of it
				debug.FreeOSMemory()
			}
		})
	}()
	return m
}

// take takes over what was read.
func (m *model) take(ctx context.Context, version string, r Reading, simulate bool) {
	var v *view
	if r.Workspaces != nil {
		m.mu.Lock()
		before := m.latest
		m.mu.Unlock()
		if before != nil {
			before.table.leave()
		}
		var err error
		if v, err = newView(ctx, version, r, simulate); err != nil {
			v, r.Err = nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case v != nil:
		m.record.add(m.latest, v)
		m.latest, m.behind, m.err = v, nil, nil
	case r.Denied || m.latest == nil: // no rights, no data
		m.latest, m.behind, m.err = nil, nil, r.Err
	}
	if r.Err != nil && m.latest != nil {
		since := r.At
		if m.behind != nil {
			since = m.behind.Since
		}
		m.behind = &Behind{since, r.Err.Error()}
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// state is what is known at one time.
type state struct {
	view    *view
	behind  *Behind
	err     error
	changed <-chan struct{}
}

func (m *model) state() state {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = time.Now()
	return state{m.latest, m.behind, m.err, m.changed}
}

// first returns the state once there is any. Who waits for it has the source followed.
func (m *model) first(ctx context.Context) (state, error) {
	m.listen(1)
	defer m.listen(-1)
	for {
		s := m.state()
		if s.view != nil || s.err != nil {
			return s, s.err
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

// events are what has been seen to change in a workspace, the latest first.
func (m *model) events(workspace string) []Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Event{}, m.record.events[workspace]...)
}

// charts are what has been watched of a workspace.
func (m *model) charts(workspace string) []Series {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record.charts(workspace, time.Now())
}

// idle reports how long nobody has asked; 0 while somebody listens.
func (m *model) idle() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners > 0 {
		return 0
	}
	return time.Since(m.used)
}

func (m *model) listen(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners += n
	m.used = time.Now()
}

// models are those that are open.
type models struct {
	mu   sync.Mutex
	open map[modelKey]*model
}

type modelKey struct{ caller, workspace string }

const (
	// maxModels bounds how many workspaces are followed at once, maxPerCaller how many of them for one caller.
	maxModels, maxPerCaller = 64, 8
	// idleAfter is how long a workspace is followed that nobody asks for.
	idleAfter = 5 * time.Minute
)

// get returns the model of a key, which begin begins. It drops those that nobody has asked for lately, and makes room by the one
// of the caller that has been idle for longest.
func (s *models) get(key modelKey, begin func() *model) (*model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[modelKey]*model{}
	}
	if m := s.open[key]; m != nil {
		return m, nil
	}
	own := 0
	var longest modelKey
	var most time.Duration
	for k, m := range s.open {
		idle := m.idle()
		if idle > idleAfter {
			m.stop()
			delete(s.open, k)
			continue
		}
		if k.caller == key.caller {
			if own++; idle > most {
				longest, most = k, idle
			}
		}
	}
	if own >= maxPerCaller || len(s.open) >= maxModels {
		if most == 0 {
			return nil, errTooMany
		}
		s.open[longest].stop()
		delete(s.open, longest)
	}
	m := begin()
	s.open[key] = m
	time.AfterFunc(idleAfter, func() { s.expire(key, m) })
	return m, nil
}

// expire drops a model that nobody has asked for lately, or looks again later.
func (s *models) expire(key modelKey, m *model) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key] != m {
		return
	}
	if left := idleAfter - m.idle(); left > 0 {
		time.AfterFunc(left, func() { s.expire(key, m) })
		return
	}
	m.stop()
	delete(s.open, key)
}

// drop drops a model that has nothing to show, so that the next to ask begins anew.
func (s *models) drop(key modelKey, m *model) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[key] == m {
		m.stop()
		delete(s.open, key)
	}
}
