// Package report prints decisions, explanations and findings as text and tables for a terminal.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/scoring"
)

// Placed is a workload with its clusters.
type Placed struct {
	// Workload as "Kind namespace/name".
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
		for i, c := range p.Clusters {
			name, placement := p.Workload, p.Placement
			if i > 0 {
				name, placement = "", ""
			}
			t.AppendRow(table.Row{name, placement, c.Name, c.Replicas, c.Score, c.Reason})
		}
	}
	return t
}

// Explanation prints a decision with a verdict on every cluster, and how the scores of the chosen clusters, and of the
// clusters named, are made up.
func Explanation(w io.Writer, d *engine.Decision, clusters ...string) {
	chosen := "nowhere"
	if len(d.Clusters) > 0 {
		names := make([]string, len(d.Clusters))
		for i, c := range d.Clusters {
			names[i] = c.Name
		}
		chosen = strings.Join(names, ", ")
	}
	fmt.Fprintf(w, "%s -> %s\n%s\n", d.Workload, chosen, d.Summary())

	var rejected []engine.Verdict
	t := NewTable(w)
	header := table.Row{"CLUSTER", "VERDICT", "TOTAL"}
	for f, name := range scoring.FactorNames() {
		header = append(header, fmt.Sprintf("%s x%d", strings.ToUpper(name), d.Weights[f]))
	}
	t.AppendHeader(header)
	for _, v := range d.Ranked() {
		if v.Rejection != nil {
			rejected = append(rejected, v)
			continue
		}
		verdict := "feasible"
		if v.Chosen {
			verdict = "chosen"
		}
		row := table.Row{v.Cluster, verdict, fmt.Sprintf("%d %s", v.Score.Total, scoring.Reason(v.Score.Total))}
		for _, factor := range v.Score.Factors {
			row = append(row, factor)
		}
		t.AppendRow(row)
	}
	if t.Length() > 0 {
		t.Render()
	}
	if len(rejected) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"CLUSTER", "REJECTED BY", "BECAUSE", "NEEDS"})
		for _, v := range rejected {
			needs := filter.Remedies(d.Obstacles(v.Cluster))
			t.AppendRow(table.Row{v.Cluster, stage(string(v.Rejection.Stage), v.Rejection.Constraint), v.Rejection.Message, strings.Join(needs, "; ")})
		}
		t.Render()
	}
	for _, v := range d.Ranked() {
		if v.Rejection != nil || !v.Chosen && !slices.Contains(clusters, v.Cluster) {
			continue
		}
		fmt.Fprintf(w, "%s: %d %s\n", v.Cluster, v.Score.Total, scoring.Reason(v.Score.Total))
		for _, f := range d.Factors(v.Cluster) {
			fmt.Fprintf(w, "  %-11s %3d x%-3d %s\n", f.Factor, f.Score, f.Weight, f.Because)
		}
	}
	for _, term := range d.Terms {
		required := ""
		if term.Required {
			required = ", required"
		}
		because := ""
		if term.Reason != "" {
			because = ": " + term.Reason
		}
		fmt.Fprintf(w, "term: %s %+d on match, %+d otherwise%s%s\n", term.Factor, term.OnMatch, term.Otherwise, required, because)
	}
}

// NewTable returns a table in kubectl's layout.
func NewTable(w io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(trimmer{w})
	style := table.StyleDefault
	style.Name = "kubectl"
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "   "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	return t
}

// trimmer removes the padding after the last column.
type trimmer struct{ io.Writer }

func (t trimmer) Write(p []byte) (int, error) {
	lines := strings.Split(string(p), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	if _, err := io.WriteString(t.Writer, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// stage is the name of a stage, with the constraint if there is one.
func stage(name, constraint string) string { return strings.TrimSpace(name + " " + constraint) }
