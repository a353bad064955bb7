package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

func explainCommand() *cobra.Command {
	var view report.View
	c := &cobra.Command{
		Use:   "explain [KIND] [NAMESPACE/]NAME [FILES]",
		Short: "Show every cluster's verdict on a workload",
		Long: `explain shows why a workload runs where it does, or why it runs nowhere: for each feasible cluster the factors of its
score, each score times weight, and the formula or the terms behind them; for each rejected cluster the stage or the
constraint that rejects it, what was observed, and the smallest change that would admit it.

Of many clusters it shows the best, and groups the rejected ones by reason; --all gives each a row.

Workloads that are placed before this one hold their reservations, as in simulate.

The words of constraints and policies are in ` + "`kubectl placement reference`" + `.`,
		Example: `  kubectl placement explain web all/
  kubectl placement explain deployment shop/web all/ --cluster paris
  kubectl placement explain web all/ --top 5 --only feasible
  kubectl placement explain web all/ --only paris,dublin
  kubectl placement explain Job/train -o json --workspace root:team-ml`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, explained{})
	named := newNamedWorkload(c, from)
	c.Flags().StringSliceVar(&view.Details, "cluster", nil, "Also show how the score of this cluster is made up. Repeatable.")
	c.Flags().StringSliceVar(&view.Only, "only", nil, "Show only clusters with a verdict, chosen, feasible or rejected, or of a name. Repeatable.")
	c.Flags().IntVar(&view.Top, "top", 0, "Show only so many feasible clusters, the best. Default: 20 in a table.")
	c.Flags().BoolVar(&view.All, "all", false, "Show every cluster in a row of its own, however many there are.")
	now := addNow(c)
	c.PreRunE = validate(out, from, explainFlags{&view})
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, _, d, err := named.decide(c, *now)
		if err != nil {
			return err
		}
		answer := explained{simulation.Explain(d), view}
		if err := answer.limit(); err != nil {
			return fmt.Errorf("%w of workspace %s", err, d.Workspace)
		}
		if err := out.Write(c.OutOrStdout(), answer); err != nil {
			return err
		}
		if s.invalid != nil || d.Failed() {
			return exit.Failure{Cause: s.invalid}
		}
		return nil
	}
	return c
}

// explainFlags are the flags of explain that can contradict each other.
type explainFlags struct{ *report.View }

// Validate implements validated.
func (f explainFlags) Validate() error {
	switch {
	case f.Top < 0:
		return fmt.Errorf("--top %d: it must be at least 1", f.Top)
	case f.Top > 0 && f.All:
		return errors.New("--top shows some clusters, --all every one: give one of them")
	}
	return nil
}

// limit leaves in the verdicts only those that the view shows. It fails where the view names a cluster that there is not.
func (e explained) limit() error {
	if e.Explained == nil {
		return nil
	}
	there := map[string]bool{}
	for _, v := range e.Verdicts {
		there[v.Cluster] = true
	}
	verdicts := []string{report.Chosen, report.Feasible, report.Rejected}
	for _, name := range e.view.Only {
		if !there[name] && !slices.Contains(verdicts, name) {
			return fmt.Errorf("--only %s: it is neither %s nor a cluster", name, strings.Join(verdicts, ", "))
		}
	}
	for _, name := range e.view.Details {
		if !there[name] {
			return fmt.Errorf("--cluster %s: there is no such cluster", name)
		}
	}
	feasible := 0
	e.Verdicts = slices.DeleteFunc(e.Verdicts, func(v simulation.Verdict) bool {
		if !e.view.Shows(v.Cluster, v.Feasible, v.Chosen) {
			return true
		}
		if v.Feasible {
			feasible++
		}
		return v.Feasible && !v.Chosen && e.view.Top > 0 && feasible > e.view.Top
	})
	return nil
}

// explained is the answer of explain.
type explained struct {
	*simulation.Explanation
	view report.View
}

// Table implements output.Tabular.
func (e explained) Table(w io.Writer) {
	if e.Kept {
		fmt.Fprintf(w, "%s stays where it is, as PlacementDecisions say.\n", e.Workload)
	}
	for _, victim := range e.Preempts {
		fmt.Fprintf(w, "%s (priority %d) takes the place of %s.\n", e.Workload, e.Priority, victim)
	}
	for _, by := range e.PreemptedBy {
		fmt.Fprintf(w, "%s (priority %d) makes room for %s.\n", e.Workload, e.Priority, by)
	}
	for _, to := range e.GivesBack {
		fmt.Fprintf(w, "%s makes room for %s: what this workspace has borrowed is guaranteed there.\n", e.Workload, to)
	}
	for _, by := range e.Reclaims {
		fmt.Fprintf(w, "%s is given room by %s: its workspace is guaranteed what is borrowed there.\n", e.Workload, by)
	}
	if e.NoBetterPlace != "" {
		fmt.Fprintf(w, "%s: %s\n", e.Workload, e.NoBetterPlace)
	}
	if g := e.Gain; g != nil {
		fmt.Fprintln(w, g.Sentence(e.Workload))
	}
	if e.Explained == nil {
		fmt.Fprintf(w, "%s: %s\n", e.Workload, e.Error)
		return
	}
	report.Explanation(w, e.Explained, e.view)
}
