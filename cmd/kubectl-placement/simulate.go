package main

import (
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

func simulateCommand() *cobra.Command {
	var noRejected, fresh bool
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Place all workloads and show where they would run",
		Long: `simulate places all workloads with the real engine, reservations included, by priority, creation time, then name: each
decision, how full the fleet is at the end, and what runs nowhere and why.

Files are ordinary Kubernetes YAML: ClusterRegistrations, WorkloadPlacements, ConfigMaps with policies, PlacementDecisions,
and workloads of any kind with a pod template; files of Rego are policies of every workspace. Objects of several
workspaces are told apart by their annotation kcp.io/cluster.

A workload that a PlacementDecision has placed stays where it is unless it would move in truth, too. The exit code is 0
where a workload runs nowhere for lack of a cluster, and 1 where an object or a policy is wrong.`,
		Example: `  kubectl placement simulate -f fleet.yaml -f placements.yaml -f workloads.yaml -f policies/
  kubectl placement simulate -f all/ -o json --no-rejected
  kubectl placement simulate --workspace root:team-shop      # live, read only`,
		Args: cobra.NoArgs,
	}
	from, out := newSource(c), newOutput(c)
	c.Flags().BoolVar(&noRejected, "no-rejected", false, "Leave out the clusters that were rejected.")
	c.Flags().BoolVar(&fresh, "fresh", false, "Leave PlacementDecisions out of account, as if nothing had been placed yet.")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := first(out.validate, from.validate); err != nil {
			return err
		}
		tell, done := newProgress(c.ErrOrStderr(), "placing workloads")
		defer done()
		workspaces, err := from.load(c)
		if err != nil {
			return err
		}
		s, err := simulation.New(simulation.Options{Fresh: fresh, Rejected: !noRejected, Progress: tell})
		if err != nil {
			return err
		}
		wrong := s.Load(workspaces)
		result, err := s.Run(c.Context())
		done()
		if err != nil {
			return err
		}
		if err := out.print(c.OutOrStdout(), result, func() { report.Simulation(c.OutOrStdout(), result) }); err != nil {
			return err
		}
		return verdict(result, wrong)
	}
	return c
}

// verdict is a failed check where something is wrong with placements and policies, or with a workload.
func verdict(result *simulation.Result, wrong error) error {
	if wrong != nil {
		return failed{wrong}
	}
	for i := range result.Decisions {
		if result.Decisions[i].Failed() {
			return failed{} // told in the decision
		}
	}
	return nil
}
