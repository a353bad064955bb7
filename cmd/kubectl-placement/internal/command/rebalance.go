package command

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/rebalance"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

// defaultEven is the percentage of --even alone.
const defaultEven = 10

func rebalanceCommand() *cobra.Command {
	var aim aimFlags
	var apply applyFlags
	var exitCode bool
	var options rebalance.Options
	c := &cobra.Command{
		Use:   "rebalance [FILES] (--even[=PERCENT] | --free=CLUSTER | --make-room=WORKLOAD)",
		Short: "Compute the least moves that even out, free a cluster, or make room",
		Long: `rebalance computes the least moves of placed workloads that reach an aim, and shows them in waves: the moves of one do not
depend on each other, and there is room for their old places and the new ones together. Every move is one that the engine
admits at its turn, by constraints, policies, spread, affinity and room. A workload with the annotation
tmc.kcp.io/pinned: "true" does not move, nor one that is suspended or has ended. A workspace is rebalanced by itself: what others have on
the clusters that it shares with them stays, counts as in use, and is named where it is in the way.

The use of a cluster is that of its dominant resource: the most, over its resources, of (allocated + reserved) / allocatable.
  --even=10           the use of all clusters that are ready, not cordoned, and without taints NoSchedule and NoExecute, is within 10
                      points; --cluster names others
  --free=CLUSTER      nothing is left on the cluster
  --make-room=WORKLOAD  the workload, which waits, finds clusters; a file with a workload says what is yet to come

Where the search for fewer moves ends at its bound (--work), the answer says so, and how many it takes at least. Where the
aim cannot be reached, it says which workloads are in the way, why, and what would help.

With --apply the moves become a RebalancePlan in the live workspace, which the controller carries out wave by wave, within
its disruption budget: kubectl get rebalanceplans shows how far it is, kubectl delete stops it. --wait follows it to its end.

The exit code is 1 if the aim is not reached, or an object or a policy is wrong, and with --wait if the plan halts or skips
moves.`,
		Example: `  kubectl placement rebalance --even                         # live: use within 10 points
  kubectl placement rebalance --free frankfurt --apply --wait
  kubectl placement rebalance --make-room deployment/training
  kubectl placement rebalance all/ --even=5 -o json | jq '.moves'`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, rebalanced{})
	aim.add(c)
	apply.add(c)
	c.Flags().BoolVar(&exitCode, "exit-code", false, "Exit with 1 if there is anything to move.")
	c.Flags().IntVar(&options.Work, "work", rebalance.DefaultWork, "How many decisions the search for fewer moves may ask the engine for.")
	now := addNow(c)
	c.Args = from.Arguments
	c.PreRunE = validate(out, from, &aim, &apply)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if apply.apply && !from.Live() {
			return errors.New("--apply leaves a plan in a live workspace, and files are read: leave out the files")
		}
		s, err := open(c, from, "placing workloads", simulation.Options{Now: *now})
		if err != nil {
			return err
		}
		defer s.done()
		name, err := s.RebalancedWorkspace()
		if err != nil {
			return err
		}
		wanted, err := aim.in(c, s)
		if err != nil {
			return err
		}
		s.Pace(disruption.Default)
		if _, err := s.Run(c.Context()); err != nil {
			return err
		}
		s.done()
		plan, err := s.Rebalance(c.Context(), name, wanted, options)
		if err != nil {
			return err
		}
		if err := out.Write(c.OutOrStdout(), rebalanced{plan}); err != nil {
			return err
		}
		switch {
		case s.invalid != nil:
			return exit.Failure{Cause: s.invalid}
		case !plan.Reached && !apply.partial:
			return exit.Failure{}
		case apply.apply && len(plan.Moves) > 0:
			return apply.run(c, from, plan)
		case exitCode && len(plan.Moves) > 0:
			return exit.Failure{}
		}
		return nil
	}
	return c
}

// rebalanced is the answer of rebalance.
type rebalanced struct{ *rebalance.Plan }

// Table implements output.Tabular.
func (r rebalanced) Table(w io.Writer) { report.Rebalance(w, r.Plan) }

// aimFlags say what a plan is for.
type aimFlags struct {
	flags          *pflag.FlagSet
	even           int
	clusters       []string
	free, makeRoom string
	namespace      string
}

func (a *aimFlags) add(c *cobra.Command) {
	a.flags = c.Flags()
	a.flags.IntVar(&a.even, "even", defaultEven, "Have the use of the clusters differ by no more than so many points, for example --even=5.")
	a.flags.Lookup("even").NoOptDefVal = fmt.Sprint(defaultEven)
	a.flags.StringSliceVar(&a.clusters, "cluster", nil, "With --even: the clusters that count. Repeatable.")
	a.flags.StringVar(&a.free, "free", "", "Have nothing left on the cluster of this name.")
	a.flags.StringVar(&a.makeRoom, "make-room", "", "Have this workload find clusters, for example deployment/web, or the one in a file.")
	a.flags.StringVarP(&a.namespace, "namespace", "n", "", "With --make-room: namespace of the workload. Default: any.")
	for _, name := range []string{"even", "cluster", "free"} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	c.MarkFlagsOneRequired("even", "free", "make-room")
	c.MarkFlagsMutuallyExclusive("even", "free", "make-room")
}

// Validate implements validated.
func (a *aimFlags) Validate() error {
	switch {
	case a.even < 0 || a.even > 100:
		return fmt.Errorf("--even must be from 0 to 100, is %d", a.even)
	case len(a.clusters) > 0 && !a.flags.Changed("even"):
		return errors.New("--cluster selects the clusters of --even: give that, too")
	case a.flags.Changed("free") && a.free == "":
		return errors.New("--free needs the name of a cluster")
	case a.flags.Changed("make-room") && a.makeRoom == "":
		return errors.New("--make-room needs the name of a workload, or a file with one")
	}
	return nil
}

// in is the aim in what is read. A workload in a file is added to that.
func (a *aimFlags) in(c *cobra.Command, s *session) (rebalance.Aim, error) {
	switch {
	case a.free != "":
		return rebalance.Free{Cluster: a.free}, nil
	case a.makeRoom == "":
		slices.Sort(a.clusters)
		return rebalance.Even{Percent: a.even, Clusters: slices.Compact(a.clusters)}, nil
	}
	if input.IsPath(a.makeRoom) {
		return a.coming(c, s)
	}
	names, err := input.ParseWorkloadName([]string{a.makeRoom}, a.namespace)
	if err != nil {
		return nil, fmt.Errorf("--make-room: %w", err)
	}
	isWanted, err := findWorkload(asked(s.workspaces, s.about), names, a.makeRoom)
	if err != nil {
		return nil, fmt.Errorf("--make-room: %w", err)
	}
	for _, w := range asked(s.workspaces, s.about) {
		for _, o := range w.Workloads {
			name := simulation.Workload{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
			if isWanted(&simulation.Decision{Workspace: w.Name.String(), Workload: name}) {
				return rebalance.MakeRoom{Workload: o.Reference}, nil
			}
		}
	}
	return nil, fmt.Errorf("--make-room: there is no workload %s", a.makeRoom)
}

// coming is room for the workload in a file, which is added to what is read.
func (a *aimFlags) coming(c *cobra.Command, s *session) (rebalance.Aim, error) {
	read, err := input.Workspaces(c, []string{a.makeRoom})
	if err != nil {
		return nil, fmt.Errorf("--make-room: %w", err)
	}
	if len(read) != 1 || len(read[0].Workloads) != 1 {
		return nil, fmt.Errorf("--make-room %s: the file has to have one workload", a.makeRoom)
	}
	coming := read[0].Workloads[0].Reference
	if s.workspaces, err = manifest.Overlay(s.workspaces, read, false); err != nil {
		return nil, fmt.Errorf("--make-room: %w", err)
	}
	s.invalid = errors.Join(s.invalid, s.Load(c.Context(), s.workspaces))
	return rebalance.MakeRoom{Workload: coming}, nil
}
