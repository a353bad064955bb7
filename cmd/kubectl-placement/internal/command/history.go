package command

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/description"
	"github.com/kcp-placement/placement/offline/report"
)

func historyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "history [KIND] [NAMESPACE/]NAME [FILES]",
		Short: "Show how a workload came to run where it does",
		Long: fmt.Sprintf(`history shows the last %d changes of a workload's clusters, the latest first: when each was decided, which clusters were left
and which were got, and why. The controller keeps them in the PlacementDecision, and writes them with the decision itself.

Reasons are Placed, ClustersAdded, Scaled, Rescheduled (it should not stay any more, and there was a better place), Evicted (it might
not stay any more), Failover (the cluster is lost or gone), Returned (to a better fallback group), Gain (a better score), Rebalanced,
Drained and Preempted.`, v1alpha1.MaxChanges),
		Example: `  kubectl placement history web --workspace root:team-shop
  kubectl placement history deployment shop/web all/
  kubectl placement history web all/ -o yaml`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, history{})
	named := newNamedWorkload(c, from)
	c.PreRunE = validate(out, from)
	c.RunE = func(c *cobra.Command, _ []string) error {
		_, w, d, err := named.decide(c, time.Now())
		if err != nil {
			return err
		}
		return out.Write(c.OutOrStdout(), history{description.HistoryOf(w, d)})
	}
	return c
}

// history is the answer of the command of that name.
type history struct{ description.History }

// Table implements output.Tabular.
func (h history) Table(w io.Writer) {
	switch {
	case len(h.Clusters) == 0:
		fmt.Fprintf(w, "%s has no decision\n", h.Workload)
		return
	case len(h.Changes) == 0:
		fmt.Fprintf(w, "%s runs on %s, by a decision that has no history\n", h.Workload, strings.Join(h.Clusters, ", "))
		return
	}
	t := report.NewTable(w)
	t.AppendHeader(table.Row{"DECIDED", "REASON", "FROM", "TO", "MESSAGE"})
	for i := range h.Changes {
		c := &h.Changes[i]
		t.AppendRow(table.Row{c.At.UTC().Format(time.RFC3339), c.Reason, clustersOr(c.From), clustersOr(c.To), c.Message})
	}
	t.Render()
}

func clustersOr(clusters []string) string {
	text := strings.Join(clusters, ", ")
	if len(clusters) == v1alpha1.MaxChangedClusters {
		text += ", ..."
	}
	return cmp.Or(text, "-")
}
