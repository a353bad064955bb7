// Package report prints decisions, explanations and findings as text and tables for a terminal.
package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/kcp-placement/placement/engine"
)

// Placed is a workload with its clusters.
type Placed struct {
	// Workload is "Kind namespace/name".
	Workload  string
	Placement string
	Clusters  []engine.Choice
}

// Decisions prints a row for each cluster of each workload.
func Decisions(w io.Writer, workloads []Placed) { decisionTable(w, workloads).Render() }

func decisionTable(w io.Writer, workloads []Placed) table.Writer {
	t := NewTable(w)
	t.AppendHeader(table.Row{"WORKLOAD", "PLACEMENT", "CLUSTER", "REPLICAS", "SCORE", "REASON"})
	for _, p := range workloads {
		if len(p.Clusters) == 0 {
			t.AppendRow(table.Row{p.Workload, p.Placement, "-"})
		}
		shown := p.Clusters
		if len(shown) > fewRows {
			shown = shown[:fewRows/2]
		}
		for i, c := range shown {
			name, placement := p.Workload, p.Placement
			if i > 0 {
				name, placement = "", ""
			}
			t.AppendRow(table.Row{name, placement, c.Name, c.Replicas, c.Score, c.Reason})
		}
		if left := p.Clusters[len(shown):]; len(left) > 0 {
			replicas := int64(0)
			for _, c := range left {
				replicas += c.Replicas
			}
			t.AppendRow(table.Row{"", "", fmt.Sprintf("and %d more", len(left)), replicas})
		}
	}
	return t
}

// stage returns the name of a stage, followed by the constraint if there is one.
func stage(name, constraint string) string { return strings.TrimSpace(name + " " + constraint) }

// times returns for example " x4" for divided replicas.
func times(replicas int64, divided bool) string {
	if !divided {
		return ""
	}
	return fmt.Sprintf(" x%d", replicas)
}
