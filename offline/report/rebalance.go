package report

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/rebalance"
)

// Rebalance prints a plan: what moves in which wave, the use of the clusters before and after, and what is in the way.
func Rebalance(w io.Writer, p *rebalance.Plan) {
	if len(p.Moves) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"WAVE", "MOVES", "FROM", "TO"})
		for _, m := range p.Moves {
			t.AppendRow(table.Row{m.Wave, m.Workload, m.From, m.To})
		}
		render(w, t)
	}
	if len(p.Clusters) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"CLUSTER", "USE BEFORE", "USE AFTER"})
		for _, c := range p.Clusters {
			name := c.Name
			if c.NotCounted {
				name += " (not counted)"
			}
			t.AppendRow(table.Row{name, c.Before, c.After})
		}
		render(w, t)
	}
	if len(p.Stuck) > 0 {
		t := NewTable(w)
		t.AppendHeader(table.Row{"IN THE WAY", "ON", "BECAUSE", "WHAT WOULD HELP"})
		for _, s := range p.Stuck {
			who := s.Workload.String()
			if s.Workload == (rebalance.Reference{}) {
				who = "-"
			}
			t.AppendRow(table.Row{who, orNone(s.Cluster), s.Why, orNone(s.Help)})
		}
		render(w, t)
	}
	fmt.Fprintln(w, Outcome(p))
}

func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// Outcome summarizes a plan in one line.
func Outcome(p *rebalance.Plan) string {
	moves := fmt.Sprintf("%s in %s", count(len(p.Moves), "move"), count(p.Waves, "wave"))
	switch {
	case p.Reached && len(p.Moves) == 0:
		return fmt.Sprintf("%s: reached as it is", p.Aim)
	case p.Reached && p.Exact():
		return fmt.Sprintf("%s: reached by %s, and by no fewer moves", p.Aim, moves)
	case p.Reached:
		return fmt.Sprintf("%s: reached by %s. It takes at least %d: the search for fewer has ended at its bound, see --work", p.Aim, moves, p.AtLeast)
	case p.AtLeast > v1alpha1.MaxRebalanceMoves:
		return fmt.Sprintf("%s: takes at least %d moves, and a plan has at most %d", p.Aim, p.AtLeast, v1alpha1.MaxRebalanceMoves)
	case p.Exhausted:
		return fmt.Sprintf("%s: not reached by what was found, %s. The search has ended at its bound, see --work", p.Aim, moves)
	case len(p.Moves) > 0:
		return fmt.Sprintf("%s: cannot be reached; %s would come near", p.Aim, moves)
	default:
		return fmt.Sprintf("%s: cannot be reached", p.Aim)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
