package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/offline/simulation"
)

// Bars and their cells.
const (
	barWidth      = 20
	cellAllocated = "█"
	cellReserved  = "▒"
	cellFree      = "·"
	cellOver      = "!"
)

// Top prints how full each cluster is, in the order given, and what each waiting workload waits for.
func Top(w io.Writer, top *simulation.Top, now time.Time) {
	names := map[string]bool{}
	for i := range top.Clusters {
		names[top.Clusters[i].Workspace] = true
	}
	for i := range top.Queue {
		names[top.Queue[i].Workspace] = true
	}
	for i := range top.Headroom {
		names[top.Headroom[i].Workspace] = true
	}
	for _, workspace := range slices.Sorted(maps.Keys(names)) {
		if len(names) > 1 {
			fmt.Fprintf(w, "workspace %s\n\n", top.Paths.Of(workspace))
		}
		loads(w, top, workspace)
		queue(w, top, workspace, now)
		headroom(w, top, workspace)
	}
	if len(top.Clusters) > 0 {
		fmt.Fprintf(w, "%s allocated   %s reserved   %s free   %s overcommitted\n", cellAllocated, cellReserved, cellFree, text.FgRed.Sprint(cellOver))
	}
	suspended(w, top.Suspended, top.Paths)
	s := top.Summary
	fmt.Fprintf(w, "%d clusters, %d overcommitted; %d workloads wait\n", s.Clusters, s.Overcommitted, s.Waiting)
}

// loads prints a row for each resource of each cluster: cpu, memory, and others that the cluster has or that are reserved.
func loads(w io.Writer, top *simulation.Top, workspace string) {
	t := NewTable(w)
	t.AppendHeader(table.Row{"CLUSTER", "READY", "RESOURCE", "ALLOCATABLE", "ALLOCATED", "RESERVED", "FREE", "LARGEST-NODE", "USE"})
	for i := range top.Clusters {
		c := &top.Clusters[i]
		if c.Workspace != workspace {
			continue
		}
		name, ready := c.Name, c.Ready
		switch { // like kubectl get nodes
		case c.Draining:
			ready += ",Draining"
		case c.SchedulingDisabled:
			ready += ",SchedulingDisabled"
		}
		for _, resource := range resourcesOf(c) {
			largest := "-"
			if c.LargestFree != nil {
				largest = amount(resource, c.LargestFree[resource])
			}
			t.AppendRow(table.Row{
				name, ready, resource, amount(resource, c.Allocatable[resource]), amount(resource, c.Allocated[resource]),
				amount(resource, c.Reserved[resource]), amount(resource, c.Free[resource]), largest, use(c, resource),
			})
			name, ready = "", ""
		}
	}
	render(w, t)
}

// headroom prints whether placements survive the losses that they ask to survive.
func headroom(w io.Writer, top *simulation.Top, workspace string) {
	t := NewTable(w)
	t.AppendHeader(table.Row{"PLACEMENT", "SURVIVES", "WHAT A LOSS WOULD DO"})
	for i := range top.Headroom {
		if h := &top.Headroom[i]; h.Workspace == workspace {
			survives := map[bool]string{true: "yes", false: "no"}[h.Survives]
			t.AppendRow(table.Row{h.Namespace + "/" + h.Placement, survives, h.Message})
		}
	}
	render(w, t)
}

func resourcesOf(c *simulation.ClusterLoad) []string {
	resources := []string{capacity.CPU, capacity.Memory}
	for _, name := range slices.Sorted(maps.Keys(c.Free)) {
		if !slices.Contains(resources, name) && max(c.Allocatable[name], c.Allocated[name], c.Reserved[name]) > 0 {
			resources = append(resources, name)
		}
	}
	return resources
}

func queue(w io.Writer, top *simulation.Top, workspace string, now time.Time) {
	t := NewTable(w)
	estimates := slices.ContainsFunc(top.Queue, func(q simulation.Waiting) bool { return q.Workspace == workspace && q.Estimate != nil })
	header := table.Row{"NEXT", "PRIORITY", "WORKLOAD", "PLACEMENT", "AGE"}
	if estimates {
		header = append(header, "ROOM IN ABOUT")
	}
	t.AppendHeader(append(header, "WAITS FOR"))
	var suggested []string
	wouldFit := map[string][]string{}
	for i := range top.Queue {
		q := &top.Queue[i]
		if q.Workspace != workspace {
			continue
		}
		age := "-"
		if since := cmp.Or(q.Since, q.CreationTimestamp); since != nil {
			age = duration.HumanDuration(now.Sub(since.Time))
		}
		row := table.Row{q.Position, q.Priority, q.Workload.String(), q.Placement, age}
		if estimates {
			in := "-"
			if q.Estimate != nil {
				in = duration.HumanDuration(max(0, q.Estimate.At.Sub(now)))
			}
			row = append(row, in)
		}
		waitsFor := q.WaitsFor
		if len(q.NominatedClusters) > 0 {
			waitsFor = "others to make room on " + strings.Join(q.NominatedClusters, ", ")
		}
		t.AppendRow(append(row, waitsFor))
		if q.WouldFit != nil {
			text := suggestion(q.WouldFit)
			if len(wouldFit[text]) == 0 {
				suggested = append(suggested, text)
			}
			wouldFit[text] = append(wouldFit[text], q.Workload.String())
		}
	}
	render(w, t)
	for _, text := range suggested {
		fmt.Fprintf(w, "a new cluster would have a place for %s: %s\n", andMore(wouldFit[text]), text)
	}
	if len(suggested) > 0 {
		fmt.Fprintln(w)
	}
}

// suggestion returns for example "location eu, label tier=gold, capability gpu, cpu 8, memory 4Gi".
func suggestion(s *v1alpha1.SuggestedRegistration) string {
	var parts []string
	if s.Name != "" {
		parts = append(parts, "name "+s.Name)
	}
	if s.Location != "" {
		parts = append(parts, "location "+s.Location)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		parts = append(parts, fmt.Sprintf("label %s=%s", key, s.Labels[key]))
	}
	for _, c := range s.Capabilities {
		parts = append(parts, "capability "+c.Type)
	}
	for _, taint := range s.Taints {
		parts = append(parts, "taint "+taint.ToString())
	}
	for _, name := range slices.Sorted(maps.Keys(s.Allocatable)) {
		amount := s.Allocatable[name]
		parts = append(parts, fmt.Sprintf("%s %s", name, &amount))
	}
	return strings.Join(parts, ", ")
}

// use returns a bar, and the share in use in percent.
func use(c *simulation.ClusterLoad, resource string) string {
	allocatable, allocated, reserved := c.Allocatable[resource], c.Allocated[resource], c.Reserved[resource]
	percent := fmt.Sprintf("%d%%", c.Utilization[resource])
	switch {
	case allocatable <= 0 && allocated <= 0 && reserved <= 0:
		return "-"
	case allocatable <= 0 || c.Utilization[resource] > 999:
		percent = ">999%"
	}
	line := bar(allocatable, allocated, reserved)
	if at := strings.Index(line, cellOver); at >= 0 {
		line = line[:at] + text.FgRed.Sprint(line[at:])
	}
	return line + " " + percent
}

// bar shows the shares of what is allocatable; if more is in use, the shares of what is in use, with the excess. Every
// part above 0 has at least one cell. Negative amounts count as 0.
func bar(allocatable, allocated, reserved int64) string {
	whole, inUse := uint64(max(0, allocatable)), uint64(max(0, allocated))
	both := inUse + uint64(max(0, reserved)) // at most 2^64 - 2
	if max(whole, both) == 0 {
		return strings.Repeat(" ", barWidth)
	}
	fits := min(inUse, whole)
	parts := []struct {
		cell   string
		amount uint64
	}{
		{cellAllocated, fits}, {cellReserved, min(both, whole) - fits}, {cellOver, both - min(both, whole)}, {cellFree, whole - min(both, whole)},
	}
	cells, rest, largest := make([]int, len(parts)), barWidth, 0
	for i, part := range parts {
		if part.amount > 0 {
			cells[i] = max(1, int(math.Round(float64(part.amount)/float64(max(whole, both))*barWidth)))
			rest -= cells[i]
		}
		if cells[i] > cells[largest] {
			largest = i
		}
	}
	cells[largest] += rest // correct rounding
	var b strings.Builder
	for i, part := range parts {
		b.WriteString(strings.Repeat(part.cell, cells[i]))
	}
	return b.String()
}

// amount formats an amount of a resource.
func amount(resource string, of int64) string { return capacity.Format(resource, of, false) }
