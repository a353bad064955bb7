package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/offline/simulation"
)

const (
	// maxEvents is how many changes are remembered of a source, maxPoints how many points of each workspace. When there are more
	// points, every second one goes, so that they reach further back.
	maxEvents, maxPoints = 200, 720
	// pointEvery is the least time between two points at first.
	pointEvery = 5 * time.Second
)

// record is what has been seen to change, bounded.
type record struct {
	events map[string][]Event
	points map[string][]point
	every  time.Duration
	// totals since the console watches, by workspace.
	totals map[string]*totals
}

type totals struct{ placed, moved float64 }

// point is how a workspace was at one time.
type point struct {
	at                              time.Time
	running, waiting, placed, moves float64
	// use is in percent of what is allocatable in all clusters, by resource.
	use map[string]float64
}

// add compares a view with the one before, which is nil at first.
func (r *record) add(before, after *view) {
	if r.events == nil {
		r.events, r.points, r.totals, r.every = map[string][]Event{}, map[string][]point{}, map[string]*totals{}, pointEvery
	}
	for _, w := range after.shownWorkspaces() {
		name := w.Name.String()
		if r.totals[name] == nil {
			r.totals[name] = &totals{}
		}
		if before != nil {
			found := append(clusterEvents(before, after, name), r.workloadEvents(before, after, name)...)
			r.events[name] = append(found, r.events[name]...)
			r.events[name] = r.events[name][:min(maxEvents, len(r.events[name]))]
		}
		r.point(after, name)
	}
}

func clusterEvents(before, after *view, workspace string) (events []Event) {
	add := func(cluster, format string, args ...any) {
		events = append(events, Event{At: after.at, Kind: "cluster", Text: fmt.Sprintf(format, args...), Cluster: cluster})
	}
	known := map[string]*simulation.ClusterLoad{}
	for i := range before.top.Clusters {
		if c := &before.top.Clusters[i]; c.Workspace == workspace {
			known[c.Name] = c
		}
	}
	for i := range after.top.Clusters {
		c := &after.top.Clusters[i]
		if c.Workspace != workspace {
			continue
		}
		was := known[c.Name]
		delete(known, c.Name)
		switch {
		case was == nil:
			add(c.Name, "Cluster %s is registered", c.Name)
			continue
		case was.Row.Lost() != c.Row.Lost() && c.Row.Lost():
			add(c.Name, "Cluster %s is lost", c.Name)
		case was.Ready != c.Ready:
			add(c.Name, "Cluster %s: Ready is %s, was %s", c.Name, c.Ready, was.Ready)
		}
		switch {
		case c.Draining && !was.Draining:
			add(c.Name, "Cluster %s is being drained", c.Name)
		case c.SchedulingDisabled && !was.SchedulingDisabled:
			add(c.Name, "Cluster %s is cordoned", c.Name)
		case !c.SchedulingDisabled && was.SchedulingDisabled:
			add(c.Name, "Cluster %s takes workloads again", c.Name)
		}
		if c.Overcommitted() && !was.Overcommitted() {
			add(c.Name, "Cluster %s is overcommitted", c.Name)
		}
		if !maps.Equal(c.Allocatable, was.Allocatable) {
			add(c.Name, "Cluster %s has another size", c.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		add(name, "Cluster %s is not registered any more", name)
	}
	return events
}

func (r *record) workloadEvents(before, after *view, workspace string) (events []Event) {
	add := func(of simulation.Workload, kind, format string, args ...any) {
		events = append(events, Event{At: after.at, Kind: kind, Text: of.String() + " " + fmt.Sprintf(format, args...), Workload: &of})
	}
	known := map[simulation.Workload]*simulation.WorkloadStatus{}
	for i := range before.statuses {
		if s := &before.statuses[i]; s.Workspace == workspace {
			known[s.Name()] = s
		}
	}
	for i := range after.statuses {
		s := &after.statuses[i]
		if s.Workspace != workspace {
			continue
		}
		was := known[s.Name()]
		delete(known, s.Name())
		var from []string
		if was != nil {
			from = names(was.Clusters)
		}
		to := names(s.Clusters)
		left := slices.ContainsFunc(from, func(c string) bool { return !slices.Contains(to, c) })
		got := slices.ContainsFunc(to, func(c string) bool { return !slices.Contains(from, c) })
		switch {
		case left && len(to) == 0:
			r.totals[workspace].moved++
			add(s.Name(), "waiting", "has lost %s and waits", strings.Join(from, ", "))
		case left:
			r.totals[workspace].moved++
			add(s.Name(), "moved", "goes from %s to %s", strings.Join(from, ", "), strings.Join(to, ", "))
		case got:
			r.totals[workspace].placed++
			add(s.Name(), "placed", "is placed on %s", strings.Join(to, ", "))
		case was == nil && s.Placement != "":
			add(s.Name(), "waiting", "is new and waits")
		}
	}
	for _, of := range slices.SortedFunc(maps.Keys(known), func(a, b simulation.Workload) int { return strings.Compare(a.String(), b.String()) }) {
		add(of, "removed", "is gone")
	}
	return events
}

func names(clusters []engine.Choice) []string {
	all := make([]string, len(clusters))
	for i, c := range clusters {
		all[i] = c.Name
	}
	slices.Sort(all)
	return all
}

// point adds a point, unless the last one is recent: that is replaced.
func (r *record) point(v *view, workspace string) {
	p := point{at: v.at, placed: r.totals[workspace].placed, moves: r.totals[workspace].moved, use: map[string]float64{}}
	for i := range v.statuses {
		if s := &v.statuses[i]; s.Workspace == workspace && len(s.Clusters) > 0 {
			p.running++
		}
	}
	for i := range v.top.Queue {
		if v.top.Queue[i].Workspace == workspace {
			p.waiting++
		}
	}
	all := map[string]float64{}
	for i := range v.top.Clusters {
		if c := &v.top.Clusters[i]; c.Workspace == workspace {
			for resource, amount := range c.Allocatable {
				all[resource] += float64(amount)
				p.use[resource] += float64(amount) - float64(c.Free[resource])
			}
		}
	}
	for resource, amount := range all {
		if p.use[resource] = 100 * p.use[resource] / amount; amount == 0 {
			delete(p.use, resource)
		}
	}
	points := r.points[workspace]
	if n := len(points); n > 1 && p.at.Sub(points[n-2].at) < r.every {
		points[n-1] = p
		return
	}
	if points = append(points, p); len(points) > maxPoints {
		for i := range points[:(len(points)+1)/2] {
			points[i] = points[2*i]
		}
		points = slices.Clip(points[:(len(points)+1)/2])
		r.every *= 2
	}
	r.points[workspace] = points
}

// charts are what has been watched of a workspace, up to a time.
func (r *record) charts(workspace string, now time.Time) []Series {
	points := slices.Clone(r.points[workspace])
	if len(points) == 0 {
		return []Series{}
	}
	if last := points[len(points)-1]; now.After(last.at) { // nothing has changed since
		last.at = now
		points = append(points, last)
	}
	line := func(chart, name, unit string, of func(p *point) (float64, bool)) Series {
		s := Series{Chart: chart, Name: name, Unit: unit, Points: [][2]float64{}}
		for i := range points {
			if value, known := of(&points[i]); known {
				s.Points = append(s.Points, [2]float64{float64(points[i].at.UnixMilli()) / 1000, value})
			}
		}
		return s
	}
	count := func(of func(p *point) float64) func(p *point) (float64, bool) {
		return func(p *point) (float64, bool) { return of(p), true }
	}
	all := []Series{
		line("Workloads", "placed", "count", count(func(p *point) float64 { return p.running })),
		line("Workloads", "waiting", "count", count(func(p *point) float64 { return p.waiting })),
		line("Decisions since the console watches", "placed", "count", count(func(p *point) float64 { return p.placed })),
		line("Decisions since the console watches", "moved", "count", count(func(p *point) float64 { return p.moves })),
	}
	resources := map[string]bool{}
	for i := range points {
		for resource := range points[i].use {
			resources[resource] = true
		}
	}
	for _, resource := range slices.Sorted(maps.Keys(resources)) {
		all = append(all, line("Use of all clusters", resource, "percent", func(p *point) (float64, bool) { value, known := p.use[resource]; return value, known }))
	}
	return all
}
