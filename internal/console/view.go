package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// view is what is shown of workspaces as they were at one time. It is immutable.
type view struct {
	version    string
	at         time.Time
	workspaces []*manifest.Workspace
	// about is the only one of them to show; all where it is empty.
	about     logicalcluster.Name
	simulated bool
	problems  []string
	top       *simulation.Top
	statuses  []simulation.WorkloadStatus
	// rows list the workloads of each workspace that is shown. They are made when they are first asked for: each key of a search asks.
	rows map[*manifest.Workspace]func() []row
	// table is where policies are tried.
	table *table
}

// newView works out what is shown.
func newView(ctx context.Context, version string, r Reading, simulate bool) (*view, error) {
	s, err := simulation.New(simulation.Options{Queue: true, Headroom: true, Now: r.At, About: r.About})
	if err != nil {
		return nil, err
	}
	v := &view{version: version, at: r.At, workspaces: r.Workspaces, about: r.About, problems: r.Problems, table: newTable(r.Workspaces, r.About, r.At)}
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
	if v.statuses, err = s.WorkloadStatuses(ctx); err != nil {
		return nil, err
	}
	v.rows = map[*manifest.Workspace]func() []row{}
	for _, w := range v.shownWorkspaces() {
		v.rows[w] = sync.OnceValue(func() []row { return v.list(w) })
	}
	return v, nil
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

// workspace returns one by name or path; the only one where the name is empty.
func (v *view) workspace(name string) (*manifest.Workspace, error) {
	all := v.shownWorkspaces()
	if name == "" && len(all) == 1 {
		return all[0], nil
	}
	for _, w := range all {
		if w.Name.String() == name || w.Path == name && name != "" {
			return w, nil
		}
	}
	return nil, &failure{http.StatusNotFound, fmt.Sprintf("there is no workspace %q here: GET /api/v1/workspaces lists those that there are", name)}
}

func (v *view) shownWorkspaces() []*manifest.Workspace {
	if v.about == "" {
		return v.workspaces
	}
	return slices.DeleteFunc(slices.Clone(v.workspaces), func(w *manifest.Workspace) bool { return w.Name != v.about })
}

func (v *view) shown(w *manifest.Workspace) Shown {
	return Shown{Workspace: w.Name.String(), At: v.at, Version: v.version, Simulated: v.simulated, Problems: v.problems}
}
