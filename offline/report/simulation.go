package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/offline/simulation"
)

// Simulation prints where workloads run, how full the fleet is, and why workloads are not placed.
func Simulation(w io.Writer, r *simulation.Result) {
	workspaces := workspacesOf(r)
	for _, workspace := range workspaces {
		if len(workspaces) > 1 {
			fmt.Fprintf(w, "workspace %s\n\n", r.Paths.Of(workspace))
		}
		decisions(w, r, workspace)
		fleet(w, r, workspace)
		unplaced(w, r, workspace)
	}
	short := ""
	if r.Summary.Fewer > 0 {
		short = fmt.Sprintf(" (%d on fewer clusters than asked for)", r.Summary.Fewer)
	}
	fmt.Fprintf(w, "%d workloads: %d placed%s, %d unplaced, in %d ms\n",
		r.Summary.Workloads, r.Summary.Placed, short, r.Summary.Unplaced, r.Summary.ElapsedMs)
	suspended(w, r.Suspended, r.Paths)
	if r.Summary.Held > 0 {
		fmt.Fprintf(w, "%d are held by the brake until it is their turn to leave: see docs/disruption.md\n", r.Summary.Held)
	}
}

// suspended prints where the controller makes no decisions at present.
func suspended(w io.Writer, all []simulation.Suspended, paths simulation.Paths) {
	for _, s := range all {
		what := "workspace " + paths.Of(s.Workspace) + " is"
		if len(s.Placements) == 1 {
			what = "placement " + s.Placements[0] + " is"
		} else if len(s.Placements) > 1 {
			what = "placements " + andMore(s.Placements) + " are"
		}
		fmt.Fprintf(w, "%s suspended by %s: the controller decides nothing there until that ends\n", what, s.By)
	}
}

func workspacesOf(r *simulation.Result) []string {
	names := map[string]bool{}
	for _, d := range r.Decisions {
		names[d.Workspace] = true
	}
	for _, c := range r.Clusters {
		names[c.Workspace] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func decisions(w io.Writer, r *simulation.Result, workspace string) {
	var workloads []Placed
	for _, d := range r.Decisions {
		if d.Workspace != workspace {
			continue
		}
		p := Placed{Workload: d.Workload.String(), Placement: d.Placement}
		for i, c := range d.Clusters {
			if d.Kept {
				c.Reason = strings.TrimPrefix(c.Reason+", stays", ", ")
			}
			if d.Held != nil {
				c.Reason += " until it is its turn to leave"
			}
			if d.Gain != nil && d.Gain.From == c.Name {
				c.Reason += ", would leave for a gain"
			}
			if i == 0 && len(d.Clusters) < d.Asked {
				c.Reason += fmt.Sprintf(", %d of %d clusters", len(d.Clusters), d.Asked)
			}
			p.Clusters = append(p.Clusters, c)
		}
		workloads = append(workloads, p)
	}
	render(w, decisionTable(w, workloads))
	notes(w, r, workspace)
	preempted(w, r, workspace)
	givenBack(w, r, workspace)
}

// notes prints how clusters were chosen together, for the first few workloads of each placement.
func notes(w io.Writer, r *simulation.Result, workspace string) {
	printed, left := map[string]int{}, 0
	for _, d := range r.Decisions {
		if d.Workspace != workspace || len(d.Notes) == 0 || len(d.Clusters) == 0 {
			continue
		}
		placement := d.Workload.Namespace + "/" + d.Placement
		if printed[placement]++; printed[placement] > fewNotes {
			left++
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", d.Workload, strings.Join(d.Notes, "; "))
	}
	if left > 0 {
		fmt.Fprintf(w, "and %d more workloads of these placements: explain says how each was chosen\n", left)
	}
	if len(printed) > 0 {
		fmt.Fprintln(w)
	}
}

// preempted prints which workloads take the place of which others.
func preempted(w io.Writer, r *simulation.Result, workspace string) {
	t := NewTable(w)
	t.AppendHeader(table.Row{"TAKES THE PLACE", "PRIORITY", "OF", "PRIORITY", "ON"})
	for _, d := range r.Decisions {
		for _, victim := range d.Preempts {
			if d.Workspace == workspace {
				t.AppendRow(table.Row{d.Workload.String(), d.Priority, victim.Workload.String(), victim.Priority, strings.Join(victim.Clusters, ", ")})
			}
		}
	}
	render(w, t)
}

// givenBack prints what workspaces give back to others that are guaranteed it.
func givenBack(w io.Writer, r *simulation.Result, workspace string) {
	t := NewTable(w)
	t.AppendHeader(table.Row{"GUARANTEED", "MAKES ROOM FOR", "IS GIVEN ROOM BY"})
	for _, d := range r.Decisions {
		if d.Workspace != workspace {
			continue
		}
		for _, to := range d.GivesBack {
			t.AppendRow(table.Row{d.Workload.String(), to.String(), ""})
		}
		for _, by := range d.Reclaims {
			t.AppendRow(table.Row{d.Workload.String(), "", by.String()})
		}
	}
	render(w, t)
}

// fewNotes is for how many workloads of a placement notes are printed.
const fewNotes = 3

// fleet prints how much of each resource of each cluster is in use.
func fleet(w io.Writer, r *simulation.Result, workspace string) {
	var resources []string
	for _, c := range r.Clusters {
		for name := range c.Allocatable {
			always := name == capacity.CPU || name == capacity.Memory
			if c.Workspace == workspace && (always || c.Allocatable[name] > 0) && !slices.Contains(resources, name) {
				resources = append(resources, name)
			}
		}
	}
	slices.Sort(resources)
	t := NewTable(w)
	header := table.Row{"CLUSTER"}
	for _, name := range resources {
		header = append(header, strings.ToUpper(name), "RESERVED", "IN USE")
	}
	t.AppendHeader(header)
	clusters := slices.DeleteFunc(slices.Clone(r.Clusters), func(c simulation.Cluster) bool { return c.Workspace != workspace })
	fullest := func(c simulation.Cluster) (most int64) {
		for _, name := range resources {
			most = max(most, c.Utilization[name])
		}
		return most
	}
	var left []simulation.Cluster
	if len(clusters) > manyClusters {
		slices.SortStableFunc(clusters, func(a, b simulation.Cluster) int { return cmp.Compare(fullest(b), fullest(a)) })
		clusters, left = clusters[:fewRows], clusters[fewRows:]
	}
	for _, c := range clusters {
		row := table.Row{c.Name}
		for _, name := range resources {
			row = append(row, capacity.Format(name, c.Allocatable[name], false), capacity.Format(name, c.Reserved[name], false), fmt.Sprintf("%d%%", c.Utilization[name]))
		}
		t.AppendRow(row)
	}
	if len(left) > 0 {
		t.AppendRow(table.Row{fmt.Sprintf("and %d more, up to %d%% in use", len(left), fullest(left[0]))})
	}
	render(w, t)
}

// manyClusters is the number of clusters from which on only the fullest get a row.
const manyClusters = 50

// unplaced prints why workloads are not placed, or stay where they should not, once for those that wait for the same.
func unplaced(w io.Writer, r *simulation.Result, workspace string) {
	type same struct {
		reason   string
		rejected *simulation.Rejection // the first element, which identifies the list
	}
	var order []same
	workloads := map[same][]string{}
	rejected := map[same][]simulation.Rejection{}
	for _, d := range r.Decisions {
		of := same{reason: cmp.Or(d.Error, d.NoBetterPlace)}
		if d.Workspace != workspace || of.reason == "" {
			continue
		}
		if len(d.Clusters) == 0 && len(d.Rejected) > 0 {
			of.rejected = &d.Rejected[0]
		}
		if len(workloads[of]) == 0 {
			order = append(order, of)
			if of.rejected != nil {
				rejected[of] = d.Rejected
			}
		}
		workloads[of] = append(workloads[of], d.Workload.String())
	}
	for _, of := range order {
		fmt.Fprintf(w, "%s: %s\n", andMore(workloads[of]), of.reason)
		if of.rejected == nil {
			continue
		}
		t := NewTable(w)
		t.AppendHeader(table.Row{"  CLUSTER", "REJECTED BY", "BECAUSE"})
		for _, rejection := range rejected[of] {
			t.AppendRow(table.Row{"  " + rejection.Cluster, stage(rejection.Stage, rejection.Constraint), rejection.Message})
		}
		render(w, t)
	}
}

// andMore joins the first few names, and says how many more there are.
func andMore(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// Diff prints which decisions would move, how scores would change, and how full the fleet would be.
func Diff(w io.Writer, d *simulation.Diff) {
	workspaces := map[string]bool{}
	for _, c := range slices.Concat(d.Moves, d.Gains, d.Redivided, d.Rescored, d.Standing, d.Held) {
		workspaces[c.Workspace] = true
	}
	for _, c := range d.Clusters {
		workspaces[c.Workspace] = true
	}
	in := func(workspace, name string) string {
		if len(workspaces) == 1 {
			return name
		}
		return d.Paths.Of(workspace) + " " + name
	}
	if len(d.Moves) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"MOVES", "PLACEMENT", "FROM", "TO"})
		for _, c := range d.Moves {
			to := scored(c.After, c.Divided)
			if len(c.After) == 0 {
				to = "nowhere: " + c.Error
			}
			for _, by := range c.PreemptedBy {
				to += fmt.Sprintf("; %s (priority %d) takes its place on %s", by.Workload, by.Priority, strings.Join(by.Clusters, ", "))
			}
			for _, by := range c.GivesBack {
				to += fmt.Sprintf("; makes room for %s, to whom it is guaranteed", by)
			}
			t.AppendRow(table.Row{in(c.Workspace, c.Workload.String()), c.Placement, scored(c.Before, c.Divided), to})
		}
		render(w, t)
	}
	if len(d.Gains) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"GAINS CLUSTERS", "PLACEMENT", "BEFORE", "AFTER"})
		for _, c := range d.Gains {
			t.AppendRow(table.Row{in(c.Workspace, c.Workload.String()), c.Placement, scored(c.Before, c.Divided), scored(c.After, c.Divided)})
		}
		render(w, t)
	}
	if len(d.Redivided) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"DIVIDES ANEW", "PLACEMENT", "BEFORE", "AFTER", "REPLICAS MOVED"})
		for _, c := range d.Redivided {
			t.AppendRow(table.Row{in(c.Workspace, c.Workload.String()), c.Placement, scored(c.Before, true), scored(c.After, true), c.MovedReplicas})
		}
		render(w, t)
	}
	if len(d.Rescored) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"STAYS", "PLACEMENT", "SCORES BEFORE", "SCORES AFTER"})
		for _, c := range d.Rescored {
			t.AppendRow(table.Row{in(c.Workspace, c.Workload.String()), c.Placement, scored(c.Before, c.Divided), scored(c.After, c.Divided)})
		}
		render(w, t)
	}
	if len(d.Standing) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"STANDS", "PLACEMENT", "ON", "BECAUSE"})
		for _, c := range d.Standing {
			t.AppendRow(table.Row{in(c.Workspace, c.Workload.String()), c.Placement, scored(c.After, c.Divided), c.NoBetterPlace})
		}
		render(w, t)
	}
	if len(d.Held) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"HELD BY THE BRAKE", "PLACEMENT", "ON", "LATER", "BECAUSE"})
		for _, c := range d.Held {
			t.AppendRow(table.Row{in(c.Workspace, c.Workload.String()), c.Placement, scored(c.Before, c.Divided), scored(c.After, c.Divided), c.Error})
		}
		render(w, t)
	}
	if len(d.Clusters) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"CLUSTER", "RESOURCE", "IN USE BEFORE", "IN USE AFTER", "CHANGE"})
		for _, c := range d.Clusters {
			name := in(c.Workspace, c.Name)
			for _, resource := range slices.Sorted(maps.Keys(c.After)) {
				before, after := c.Before[resource], c.After[resource]
				if before == after {
					continue
				}
				t.AppendRow(table.Row{name, resource, fmt.Sprintf("%d%%", before), fmt.Sprintf("%d%%", after), fmt.Sprintf("%+d", after-before)})
				name = ""
			}
		}
		render(w, t)
	}
	s := d.Summary
	suspended(w, d.Suspended, d.Paths)
	fmt.Fprintf(w, "%d workloads: %d would move", s.Workloads, s.Moved)
	if s.Unplaced > 0 {
		fmt.Fprintf(w, " (%d to nowhere)", s.Unplaced)
	}
	if s.Gained > 0 {
		fmt.Fprintf(w, ", %d would gain clusters", s.Gained)
	}
	if s.Placed > 0 {
		fmt.Fprintf(w, " (%d from nowhere)", s.Placed)
	}
	if s.Redivided > 0 {
		fmt.Fprintf(w, ", %d would be divided anew", s.Redivided)
	}
	fmt.Fprintf(w, ", %d would stay with other scores, %d would not change\n", s.Rescored, s.Workloads-s.Moved-s.Gained-s.Redivided-s.Rescored)
	if s.MovedReplicas > 0 {
		fmt.Fprintf(w, "%d replicas of divided workloads would move\n", s.MovedReplicas)
	}
	if s.Held > 0 {
		fmt.Fprintf(w, "%d of these would follow, at the pace of the brake: see docs/disruption.md\n", s.Held)
	}
}

func scored(clusters []engine.Choice, divided bool) string {
	if len(clusters) == 0 {
		return "nowhere"
	}
	parts := make([]string, len(clusters))
	for i, c := range clusters {
		parts[i] = fmt.Sprintf("%s%s (%d)", c.Name, times(c.Replicas, divided), c.Score)
	}
	return strings.Join(parts, ", ")
}

// render prints a table and a blank line, unless the table is empty.
func render(w io.Writer, t table.Writer) {
	if t.Length() == 0 {
		return
	}
	t.Render()
	fmt.Fprintln(w)
}
