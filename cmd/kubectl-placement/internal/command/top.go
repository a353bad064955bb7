package command

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

// byName is the order of top that is not a resource.
const byName = "name"

// What top shows a row of.
const (
	byCluster   = "cluster"
	byWorkspace = "workspace"
)

func topCommand() *cobra.Command {
	var sortBy, by string
	var noQueue, noHeadroom bool
	c := &cobra.Command{
		Use:   "top [FILES]",
		Short: "Show how full the fleet is, and what waits for what",
		Long: `top shows for each cluster and resource what is allocatable, what the cluster reports as allocated, what is reserved, and
what is free in total and on the node with the most of it. Reserved is what decisions promise and the cluster does not
report yet. If more is in use than there is, free is negative and the bar ends in exclamation marks. A cluster that is
cordoned shows SchedulingDisabled, one that is drained Draining.

Below that is the queue: the workloads that belong to a placement and have no decision, or wait for room for some of their
replicas, in the order in which they are placed: by priority, creation time and name. Each one shows what it waits for: what
the nearest cluster lacks, or its turn if a cluster is feasible; and when there is room, where the controller has an estimate.
Below the queue are clusters that would have a place for what waits. With -o json, blockedBy has the objects in the way and
wouldFit the cluster that is suggested.

For placements with spec.headroom, top says whether their workloads survive the loss of any one domain, which loss would have
most of them wait, and what would help, as their condition HeadroomAvailable does.

--by workspace shows accounts in place of clusters: what each workspace has of each ClusterSet (used), what clusters do not
report of it yet (reserved), the most that it may have, by its quota or by what it is guaranteed and may borrow (quota), what
is left of that, what it is guaranteed, its dominant share, which is the largest over all resources of what the clusters of the
set have, and how many of its workloads wait. In a workspace with a ClusterSetBinding it is that workspace's account alone.

top places nothing: it shows the fleet as PlacementDecisions leave it. The exit code is 1 if an object or a policy is
wrong.`,
		Example: `  kubectl placement top --workspace root:team-shop      # live, read only
  kubectl placement top all/ --sort-by memory        # the fullest first
  kubectl placement top --by workspace --workspace root:platform
  kubectl placement top -o json | jq '.queue[] | select(.priority > 0) | .waitsFor'
  watch kubectl placement top --no-queue --no-headroom`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, fleetLoad{})
	c.Flags().StringVar(&sortBy, "sort-by", byName, "Order of the clusters of a workspace: name, or a resource such as cpu or memory, fullest first.")
	c.Flags().StringVar(&by, "by", byCluster, "What to show: how full each cluster is, or what each workspace has of clusters that are shared: cluster or workspace.")
	c.Flags().BoolVar(&noQueue, "no-queue", false, "Leave out waiting workloads.")
	c.Flags().BoolVar(&noHeadroom, "no-headroom", false, "Leave out whether placements with spec.headroom survive a loss; of many clusters that takes a while.")
	_ = c.RegisterFlagCompletionFunc("by", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{byCluster, byWorkspace}, cobra.ShellCompDirectiveNoFileComp
	})
	_ = c.RegisterFlagCompletionFunc("sort-by", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{byName, capacity.CPU, capacity.Memory}, cobra.ShellCompDirectiveNoFileComp
	})
	c.Args = from.Arguments
	c.PreRunE = validate(out, from)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if by != byCluster && by != byWorkspace {
			return fmt.Errorf("--by %s: give %s or %s", by, byCluster, byWorkspace)
		}
		s, err := open(c, from, "evaluating the fleet", simulation.Options{Queue: !noQueue && by == byCluster, Headroom: !noHeadroom && by == byCluster})
		if err != nil {
			return err
		}
		defer s.done()
		top, err := s.Top(c.Context())
		if err != nil {
			return err
		}
		s.done()
		if err := sortClusters(top, sortBy); err != nil {
			return err
		}
		if err := out.Write(c.OutOrStdout(), fleetLoad{top, by}); err != nil {
			return err
		}
		if s.invalid != nil || slices.ContainsFunc(top.Queue, func(w simulation.Waiting) bool { return w.Error != "" }) {
			return exit.Failure{Cause: s.invalid}
		}
		return nil
	}
	return c
}

// fleetLoad is the answer of top.
type fleetLoad struct {
	*simulation.Top
	by string
}

// Table implements output.Tabular.
func (l fleetLoad) Table(w io.Writer) {
	if l.by == byWorkspace {
		report.Accounts(w, l.Accounts)
		return
	}
	report.Top(w, l.Top, time.Now())
}

// sortClusters sorts the clusters of each workspace by the share of a resource that is in use, fullest first, then by
// name.
func sortClusters(top *simulation.Top, by string) error {
	has := func(c simulation.ClusterLoad) bool { _, found := c.Free[by]; return found }
	switch {
	case by == byName:
		return nil
	case by != capacity.CPU && by != capacity.Memory && !slices.ContainsFunc(top.Clusters, has):
		return fmt.Errorf("--sort-by %s: no cluster has it: give name, cpu, memory or another resource", by)
	}
	share := func(c *simulation.ClusterLoad) float64 {
		inUse := float64(c.Allocated[by]) + float64(c.Reserved[by])
		switch {
		case inUse <= 0:
			return 0
		case c.Allocatable[by] <= 0:
			return math.Inf(1)
		}
		return inUse / float64(c.Allocatable[by])
	}
	slices.SortStableFunc(top.Clusters, func(a, b simulation.ClusterLoad) int {
		return cmp.Or(cmp.Compare(a.Workspace, b.Workspace), cmp.Compare(share(&b), share(&a)))
	})
	return nil
}
