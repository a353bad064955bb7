package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

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
		Long: `explain shows why a workload runs where it does, or why it runs nowhere: for every feasible cluster its factors, score
times weight, with the formula or the terms behind them; for every rejected one the stage or the constraint that failed,
what was observed, and the smallest change that would admit it.

The workloads that are placed before this one have their reservations, as in simulate.`,
		Example: `  kubectl placement explain web -f all/
  kubectl placement explain deployment shop/web -f all/ --cluster paris
  kubectl placement explain Job/train -o json --workspace root:team-ml`,
		Args: cobra.RangeArgs(1, 2),
	}
	from, out := newSource(c), newOutput(c)
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "Namespace of the workload. Any if empty.")
	c.Flags().StringSliceVar(&clusters, "cluster", nil, "Show how the score of this cluster came about, too.")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := first(out.validate, from.validate); err != nil {
			return err
		}
		names, err := parseName(args, namespace)
		if err != nil {
			return err
		}
		tell, done := newProgress(c.ErrOrStderr(), "placing workloads")
		defer done()
		workspaces, err := from.load(c)
		if err != nil {
			return err
		}
		wanted, err := findWorkload(workspaces, names, strings.Join(args, " "))
		if err != nil {
			return err
		}
		s, err := simulation.New(simulation.Options{Rejected: true, Progress: tell})
		if err != nil {
			return err
		}
		wrong := s.Load(workspaces)
		result, err := s.RunUntil(c.Context(), wanted)
		done()
		if err != nil {
			return err
		}
		d := &result.Decisions[len(result.Decisions)-1]
		explanation := simulation.Explain(d)
		for _, cluster := range clusters {
			if !slices.ContainsFunc(explanation.Verdicts, func(v simulation.Verdict) bool { return v.Cluster == cluster }) {
				return fmt.Errorf("--cluster %s: there is no such cluster in workspace %s", cluster, d.Workspace)
			}
		}
		if err := out.print(c.OutOrStdout(), explanation, func() { printExplanation(c, d, clusters) }); err != nil {
			return err
		}
		if wrong != nil || d.Failed() {
			return failed{wrong}
		}
		return nil
	}
	return c
}

func printExplanation(c *cobra.Command, d *simulation.Decision, clusters []string) {
	w := c.OutOrStdout()
	if d.Kept {
		var names []string
		for _, at := range d.Clusters {
			names = append(names, at.Name)
		}
		fmt.Fprintf(w, "%s stays on %s, where its PlacementDecision puts it.\n", d.Workload, strings.Join(names, ", "))
		if d.Explained != nil {
			fmt.Fprint(w, "Decided anew it would be:\n\n")
		}
	}
	if d.Explained == nil {
		fmt.Fprintf(w, "%s: %s\n", d.Workload, d.Error)
		return
	}
	report.Explanation(w, d.Explained, clusters...)
}

// findWorkload finds the one workload that is named, and returns what tells its decision from others.
func findWorkload(workspaces []*manifest.Workspace, names []named, text string) (func(*simulation.Decision) bool, error) {
	for _, name := range names {
		var found []string
		var wanted func(*simulation.Decision) bool
		for _, w := range workspaces {
			for _, o := range w.Workloads {
				if !name.matches(o) {
					continue
				}
				found = append(found, fmt.Sprintf("%s (%s) of workspace %s", o, o.GetAPIVersion(), w.Name))
				workload := simulation.Workload{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
				workspace := w.Name.String()
				wanted = func(d *simulation.Decision) bool { return d.Workspace == workspace && d.Workload == workload }
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return wanted, nil
		default:
			slices.Sort(found)
			return nil, fmt.Errorf("%s is not one workload but %d: %s: give kind, namespace, -n or --workspace, too", text, len(found), strings.Join(found, ", "))
		}
	}
	return nil, fmt.Errorf("there is no workload %s", text)
}
