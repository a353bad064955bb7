package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// view is what is shown of workspaces as they were at one time. It is immutable.
type view struct {
	version    string
	at         time.Time
	workspaces []*manifest.Workspace
	simulated  bool
	problems   []string
	top        *simulation.Top
	standings  []simulation.Standing
}

// newView works out what is shown.
func newView(ctx context.Context, version string, r Reading, simulate bool) (*view, error) {
	s, err := simulation.New(simulation.Options{Queue: true, Headroom: true, Now: r.At})
	if err != nil {
		return nil, err
	}
	v := &view{version: version, at: r.At, workspaces: r.Workspaces, problems: r.Problems}
	if err := s.Load(ctx, r.Workspaces); err != nil {
		v.problems = append(v.problems, strings.Split(err.Error(), "\n")...)
	}
	if v.simulated = simulate && !decided(r.Workspaces); v.simulated {
		if _, err := s.Run(ctx); err != nil {
			return nil, err
		}
	}
	if v.top, err = s.Top(ctx); err != nil {
		return nil, err
	}
	v.standings, err = s.Standings(ctx)
	return v, err
}

// decided reports whether PlacementDecisions say where workloads run.
func decided(workspaces []*manifest.Workspace) bool {
	for _, w := range workspaces {
		if len(w.Decisions) > 0 {
			return true
		}
	}
	return false
}

// workspace returns one by name; the only one where the name is empty.
func (v *view) workspace(name string) (*manifest.Workspace, error) {
	if name == "" && len(v.workspaces) == 1 {
		return v.workspaces[0], nil
	}
	for _, w := range v.workspaces {
		if w.Name.String() == name {
			return w, nil
		}
	}
	return nil, fmt.Errorf("there is no workspace %q here: GET /api/v1/workspaces lists those that there are", name)
}

// model follows a source, as long as somebody asks.
type model struct {
	stop context.CancelFunc

	mu     sync.Mutex
	latest *view
	behind *Behind
	err    error
	// changed is closed, and replaced, when any of these change.
	changed chan struct{}
	used    time.Time
}

var errNotYet = errors.New("the workspace is being read: ask again")

// follow begins to follow a source.
func follow(source Source, simulate bool, boot string) *model {
	ctx, stop := context.WithCancel(context.Background())
	m := &model{stop: stop, changed: make(chan struct{})}
	go func() {
		n := 0
		source.Follow(ctx, func(r Reading) {
			n++
			m.take(ctx, fmt.Sprintf("%s-%d", boot, n), r, simulate)
		})
	}()
	return m
}

func (m *model) take(ctx context.Context, version string, r Reading, simulate bool) {
	var v *view
	if r.Workspaces != nil {
		var err error
		if v, err = newView(ctx, version, r, simulate); err != nil {
			r.Err = err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v != nil {
		m.latest = v
	}
	m.err, m.behind = r.Err, nil
	if r.Err != nil {
		m.behind = &Behind{Since: r.At, Message: r.Err.Error()}
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// view returns the latest view, waiting for the first.
func (m *model) view(ctx context.Context) (*view, *Behind, error) {
	for {
		m.mu.Lock()
		v, behind, err, changed := m.latest, m.behind, m.err, m.changed
		m.used = time.Now()
		m.mu.Unlock()
		switch {
		case v != nil:
			return v, behind, nil
		case err != nil:
			return nil, nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, errNotYet
		}
	}
}
