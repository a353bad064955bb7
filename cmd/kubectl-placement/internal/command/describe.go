package command

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/offline/description"
	"github.com/kcp-placement/placement/offline/report"
)

func describeCommand() *cobra.Command {
	var fail bool
	c := &cobra.Command{
		Use:   "describe [KIND] [NAMESPACE/]NAME [FILES]",
		Short: "Show a workload's way to its clusters, and the first thing that is wrong",
		Long: `describe shows the chain from a workload to its pods: its placement, the policies, the decision, the Works that the agents
of its clusters apply, the pods there, and the workload's own status. The first thing that is wrong is marked by an
exclamation mark.

It shows what is, not what would be: explain shows why a cluster was chosen, render what a cluster gets.`,
		Example: `  kubectl placement describe web --workspace root:team-shop
  kubectl placement describe deployment shop/web
  kubectl placement describe web all/ -o yaml
  kubectl placement describe web --fail    # exit code 1 where something is wrong`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, described{})
	from.ReadWorks()
	named := newNamedWorkload(c, from)
	c.Flags().BoolVar(&fail, "fail", false, "Exit with code 1 where something is wrong.")
	now := addNow(c)
	c.PreRunE = validate(out, from)
	c.RunE = func(c *cobra.Command, _ []string) error {
		_, w, d, err := named.decide(c, *now)
		if err != nil {
			return err
		}
		answer := described{description.Of(w, d)}
		if err := out.Write(c.OutOrStdout(), answer); err != nil {
			return err
		}
		if fail && answer.Wrong != "" {
			return exit.Failure{}
		}
		return nil
	}
	return c
}

// described is the answer of describe.
type described struct{ description.Description }

// Table implements output.Tabular.
func (d described) Table(w io.Writer) {
	t := report.NewTable(w)
	first := true
	for _, l := range d.Chain {
		mark := " "
		if l.Wrong && first {
			mark, first = "!", false
		}
		t.AppendRow(table.Row{mark + " " + l.Name, l.State})
	}
	t.Render()
	if len(d.Clusters) == 0 {
		return
	}
	fmt.Fprintln(w)
	t = report.NewTable(w)
	t.AppendHeader(table.Row{"CLUSTER", "SCORE", "REPLICAS", "WORK", "APPLIED", "HEALTH", "READY", "MESSAGE"})
	for _, c := range d.Clusters {
		score, ready, applied := fmt.Sprintf("%d %s", c.Score, c.Reason), "", map[bool]string{true: "yes", false: "no"}[c.Applied]
		if c.Leaving {
			score = "leaving"
		}
		if c.Counts != nil {
			ready = fmt.Sprint(c.Counts.Ready)
			if d.Workload.Kind == "Job" {
				ready = fmt.Sprintf("%d succeeded", c.Counts.Succeeded)
			}
		}
		if c.Health == "" {
			applied = ""
		}
		t.AppendRow(table.Row{c.Name, score, c.Replicas, c.Work, applied, c.Health, ready, c.Message})
	}
	t.Render()
}
