package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

// byName is the order of top that is no resource.
const byName = "name"

func topCommand() *cobra.Command {
	var sortBy string
	var noQueue bool
	c := &cobra.Command{
		Use:   "top",
		Short: "Show how full the fleet is, and what waits for what",
		Long: `top shows for every cluster and resource what is allocatable, what the cluster itself reports as allocated, what is
reserved, and what is free: in all, and on the node where most is. Reserved is what decisions promise and the cluster does
not count yet. Where more is in use than there is, free is negative, and the bar ends in exclamation marks.

Below stands the queue: the workloads that belong to a placement and have no decision, in the order in which they are
placed, by priority, creation time, then name. Each says what it waits for: what the cluster lacks that comes nearest, or
nothing but its turn, where a cluster is feasible.

Nothing is placed: the fleet is shown as PlacementDecisions leave it. The exit code is 1 where an object or a policy is
wrong.`,
		Example: `  kubectl placement top --workspace root:team-shop      # live, read only
  kubectl placement top -f all/ --sort-by memory        # the fullest first
  kubectl placement top -o json | jq '.queue[] | select(.priority > 0) | .waitsFor'
  watch kubectl placement top --no-queue`,
		Args: cobra.NoArgs,
	}
	from, out := newSource(c), newOutput(c)
	c.Flags().StringVar(&sortBy, "sort-by", byName, "Order of the clusters of a workspace: name, or a resource, such as cpu or memory, for the fullest first.")
	c.Flags().BoolVar(&noQueue, "no-queue", false, "Leave out the workloads that wait.")
	_ = c.RegisterFlagCompletionFunc("sort-by", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{byName, capacity.CPU, capacity.Memory}, cobra.ShellCompDirectiveNoFileComp
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := first(out.validate, from.validate); err != nil {
			return err
		}
		tell, done := newProgress(c.ErrOrStderr(), "looking at the queue")
		defer done()
		workspaces, err := from.load(c)
		if err != nil {
			return err
		}
		s, err := simulation.New(simulation.Options{Queue: !noQueue, Progress: tell})
		if err != nil {
			return err
		}
		wrong := s.Load(workspaces)
		top, err := s.Top(c.Context())
		done()
		if err != nil {
			return err
		}
		if err := sortClusters(top, sortBy); err != nil {
			return err
		}
		if err := out.print(c.OutOrStdout(), top, func() { report.Top(c.OutOrStdout(), top, time.Now()) }); err != nil {
			return err
		}
		switch {
		case wrong != nil:
			return failed{wrong}
		case slices.ContainsFunc(top.Queue, func(w simulation.Waiting) bool { return w.Error != "" }):
			return failed{} // told in the queue
		}
		return nil
	}
	return c
}

// sortClusters orders the clusters of each workspace by the share of a resource that is in use, fullest first, then by
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
