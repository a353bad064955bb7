package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

func simulateCommand() *cobra.Command {
	var noRejected, fresh bool
	c := &cobra.Command{
		Use:   "simulate [FILES]",
		Short: "Place all workloads and show where they would run",
		Long: `simulate places all workloads with the engine itself, in order of priority, creation time and name, and reserves what
each one takes. It shows every decision, how full the fleet is at the end, and why a workload runs nowhere.

Files are Kubernetes YAML: ClusterRegistrations, ClusterUsages, ClusterScores, a PlacementConfig, WorkloadPlacements, ConfigMaps with policies,
PlacementDecisions, workloads of any kind with a pod template, and LimitRanges, whose default requests count. Rego files are policies of
every workspace. The annotation kcp.io/path or kcp.io/cluster names the workspace of an object. Workspaces that share clusters, by
ClusterSets and ClusterSetBindings, are placed together, each within its quota.

A workload with a PlacementDecision stays where it is unless the controller would move it, too, and lets it go
at once: the others are held by the brake. Nothing is decided by policies that do not compile or fail for one of the
workloads, unless the status of their ConfigMap says that they are in force. The exit code is 0 if a workload finds no
cluster, and 1 if an object or a policy is wrong.`,
		Example: `  kubectl placement simulate fleet.yaml placements.yaml workloads.yaml policies/
  kubectl placement simulate all/ -o json --no-rejected
  kubectl placement simulate --workspace root:team-shop      # live, read only`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, simulated{})
	c.Flags().BoolVar(&noRejected, "no-rejected", false, "Leave out rejected clusters. Default: only where there are more than a million pairs of a workload and a cluster.")
	c.Flags().BoolVar(&fresh, "fresh", false, "Ignore PlacementDecisions, as if nothing had been placed yet.")
	budget, now := addBudget(c), addNow(c)
	c.Args = from.Arguments
	c.PreRunE = validate(out, from, budget)
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := open(c, from, "placing workloads", simulation.Options{Fresh: fresh, Now: *now})
		if err != nil {
			return err
		}
		defer s.done()
		switch pairs := s.Pairs(); {
		case c.Flags().Changed("no-rejected") || pairs <= maxRejected:
			s.ListRejected(!noRejected)
		default:
			fmt.Fprintf(c.ErrOrStderr(), "Rejected clusters are left out: there are %d pairs of a workload and a cluster. --no-rejected=false lists them.\n", pairs)
		}
		s.Pace(budget.Budget)
		result, err := s.Run(c.Context())
		if err != nil {
			return err
		}
		s.done()
		if err := out.Write(c.OutOrStdout(), simulated{result}); err != nil {
			return err
		}
		return s.verdict(result)
	}
	return c
}

// maxRejected is for how many pairs of a workload and a cluster rejected clusters are listed without being asked for.
const maxRejected = 1_000_000

// simulated is the answer of simulate.
type simulated struct{ *simulation.Result }

// Table implements output.Tabular.
func (s simulated) Table(w io.Writer) { report.Simulation(w, s.Result) }
