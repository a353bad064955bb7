package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

func explainCommand() *cobra.Command {
	var namespace string
	var clusters []string
	c := &cobra.Command{
		Use:   "explain [KIND] [NAMESPACE/]NAME",
		Short: "Show every cluster's verdict on a workload",
		Long: `explain shows why a workload runs where it does, or why it runs nowhere: for each feasible cluster the factors of its
score, each score times weight, and the formula or the terms behind them; for each rejected cluster the stage or the
constraint that rejects it, what was observed, and the smallest change that would admit it.

Workloads that are placed before this one hold their reservations, as in simulate.`,
		Example: `  kubectl placement explain web -f all/
  kubectl placement explain deployment shop/web -f all/ --cluster paris
  kubectl placement explain Job/train -o json --workspace root:team-ml`,
		Args: cobra.RangeArgs(1, 2),
	}
	from, out := input.NewSource(c), output.NewFlag(c, explained{})
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "Namespace of the workload. Default: any.")
	c.Flags().StringSliceVar(&clusters, "cluster", nil, "Also show how the score of this cluster is made up. Repeatable.")
	c.PreRunE = validate(out, from)
	c.RunE = func(c *cobra.Command, args []string) error {
		names, err := input.ParseWorkloadName(args, namespace)
		if err != nil {
			return err
		}
		s, err := open(c, from, "placing workloads", simulation.Options{Rejected: true})
		if err != nil {
			return err
		}
		defer s.done()
		isWanted, err := findWorkload(s.workspaces, names, strings.Join(args, " "))
		if err != nil {
			return err
		}
		result, err := s.RunUntil(c.Context(), isWanted)
		if err != nil {
			return err
		}
		s.done()
		d := &result.Decisions[len(result.Decisions)-1]
		answer := explained{simulation.Explain(d), clusters}
		for _, cluster := range clusters {
			if !slices.ContainsFunc(answer.Verdicts, func(v simulation.Verdict) bool { return v.Cluster == cluster }) {
				return fmt.Errorf("--cluster %s: there is no such cluster in workspace %s", cluster, d.Workspace)
			}
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

// explained is the answer of explain.
type explained struct {
	*simulation.Explanation
	clusters []string
}

// Table implements output.Tabular.
func (e explained) Table(w io.Writer) {
	if e.Kept {
		var names []string
		for _, c := range e.Clusters {
			names = append(names, c.Name)
		}
		fmt.Fprintf(w, "%s stays on %s, where its PlacementDecision puts it.\n", e.Workload, strings.Join(names, ", "))
		if e.Explained != nil {
			fmt.Fprint(w, "A new decision would be:\n\n")
		}
	}
	if e.Explained == nil {
		fmt.Fprintf(w, "%s: %s\n", e.Workload, e.Error)
		return
	}
	report.Explanation(w, e.Explained, e.clusters...)
}

// findWorkload finds the one workload that a name selects, and returns a predicate for its decision.
func findWorkload(workspaces []*manifest.Workspace, names []input.WorkloadName, text string) (func(*simulation.Decision) bool, error) {
	for _, name := range names {
		var found []string
		var isWanted func(*simulation.Decision) bool
		for _, w := range workspaces {
			for _, o := range w.Workloads {
				if !name.Matches(o) {
					continue
				}
				found = append(found, fmt.Sprintf("%s (%s) of workspace %s", o, o.GetAPIVersion(), w.Name))
				workload := simulation.Workload{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
				workspace := w.Name.String()
				isWanted = func(d *simulation.Decision) bool { return d.Workspace == workspace && d.Workload == workload }
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return isWanted, nil
		default:
			slices.Sort(found)
			return nil, fmt.Errorf("%s is not one workload but %d: %s: give kind, namespace, -n or --workspace, too", text, len(found), strings.Join(found, ", "))
		}
	}
	return nil, fmt.Errorf("there is no workload %s", text)
}
