package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

func diffCommand() *cobra.Command {
	var candidates []string
	var prune, exitCode, fresh, shadow bool
	c := &cobra.Command{
		Use:   "diff [FILES] -c CANDIDATES|--shadow",
		Short: "Show which workloads candidates would move",
		Long: `diff previews a rollout: it replaces what is in force with candidates, and shows which workloads would move, which means
that they lose clusters, which would only gain clusters, how scores would change, and how full the fleet would be.

Candidates are files and folders like those of -f. An object replaces the one of its kind and name, and a ConfigMap replaces
all policies of the ConfigMap of its name. A Rego file replaces the policy of its file name in any ConfigMap, or is added.
A ClusterSet with other quotas shows who would get a place, and who would wait: what runs stays.

First the workloads are placed under what is in force, unless PlacementDecisions say where they are. Then each one is
evaluated again under the candidates, in the same order, as the controller would, while the others hold their
reservations. What runs stays where it may stay, so new weights and terms move nothing by themselves. --fresh places
all workloads anew under both, which shows where new ones would go.

Of the moves it shows those that the controller would make at once, and the others as held by the brake, with the clusters
that they have to wait for. --disruption-percent=100 shows all as moves.

--shadow compares with the shadow policies, those of ConfigMaps with the label tmc.kcp.io/policy-set: shadow, in place of candidates:
all of them together replace all policies in force.

Where policies or placements that are in force now are wrong as they are written, PlacementDecisions say what is in force;
without any there is nothing to compare with.`,
		Example: `  kubectl placement diff all/ -c new-weights.rego
  kubectl placement diff -c policies/ --workspace root:team-shop     # a live workspace, read only
  kubectl placement diff --shadow --fresh --workspace root:team-shop # where the shadow policies would place all workloads
  kubectl placement diff all/ -c new-weights.rego --fresh         # as if nothing had been placed yet
  kubectl placement diff -c quotas.yaml --with-teams --workspace root:platform  # a quota that is not live yet
  kubectl placement diff all/ -c policies/ --prune --exit-code    # in CI: 1 if any workload would lose or gain clusters`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, compared{})
	c.Flags().StringArrayVarP(&candidates, "candidate", "c", nil, "File or folder of candidates with everything below it; - is standard input. Repeatable.")
	c.Flags().BoolVar(&prune, "prune", false, "Remove policies that are not among the candidates.")
	c.Flags().BoolVar(&shadow, "shadow", false, "Compare with the shadow policies of the workspace.")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "Exit with 1 if a workload would lose or gain clusters.")
	c.Flags().BoolVar(&fresh, "fresh", false, "Place all workloads anew, under what is in force and under the candidates.")
	budget, now := addBudget(c), addNow(c)
	c.Args = from.Arguments
	c.PreRunE = validate(out, from, budget)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if len(candidates) == 0 && !shadow {
			return errors.New("there is nothing to compare with: give candidates by -c, or --shadow")
		}
		if len(candidates) > 0 && shadow {
			return errors.New("--shadow compares with the shadow policies, which are given already: leave out -c")
		}
		if slices.Contains(candidates, "-") && from.ReadsStdin() {
			return errors.New("-f - and -c - cannot both be standard input")
		}
		s, err := open(c, from, "placing workloads", simulation.Options{Fresh: fresh, Now: *now})
		if err != nil {
			return err
		}
		defer s.done()
		overlaid, err := overlay(c, s, candidates, prune, shadow)
		if err != nil {
			return err
		}
		printSharing(c.ErrOrStderr(), overlaid, s.about, s.printed)
		if s.invalid != nil {
			if fresh || !s.hasDecisions() {
				return exit.Failure{Cause: fmt.Errorf("there is nothing to compare with: what is given as in force would not come into force, and no PlacementDecision says where workloads run:\n%w", s.invalid)}
			}
			fmt.Fprintf(c.ErrOrStderr(), "What is given as in force would not come into force, so its decisions are compared as they are published:\n%v\n", s.invalid)
		}
		before, err := s.Run(c.Context())
		if err != nil {
			return err
		}
		s.Pace(budget.Budget)
		if fresh {
			s.Clear()
		}
		if s.invalid = s.Load(c.Context(), overlaid); s.invalid != nil {
			return exit.Failure{Cause: fmt.Errorf("the candidates would not come into force:\n%w", s.invalid)}
		}
		after, err := s.Run(c.Context())
		if err != nil {
			return err
		}
		s.done()
		diff := simulation.Compare(before, after)
		if err := out.Write(c.OutOrStdout(), compared{diff, shadow}); err != nil {
			return err
		}
		if exitCode && diff.Summary.Moved+diff.Summary.Gained > 0 {
			return exit.Failure{}
		}
		return undecided(after)
	}
	return c
}

// undecided returns a failed check that names the workloads that could not be decided, which a difference need not show.
func undecided(result *simulation.Result) error {
	const most = 10
	var errs []error
	n := 0
	for i := range result.Decisions {
		if d := &result.Decisions[i]; d.Failed() {
			if n++; n <= most {
				errs = append(errs, fmt.Errorf("%s: %s", d.Workload, d.Error))
			}
		}
	}
	if n > most {
		errs = append(errs, fmt.Errorf("%d more workloads cannot be decided: kubectl placement simulate names all", n-most))
	}
	if n == 0 {
		return nil
	}
	return exit.Failure{Cause: errors.Join(errs...)}
}

// overlay returns workspaces with candidates in the place of what they replace.
func overlay(c *cobra.Command, s *session, candidates []string, prune, shadow bool) ([]*manifest.Workspace, error) {
	if shadow {
		return shadowed(s.workspaces, s.about)
	}
	replacing, err := input.Workspaces(c, candidates)
	if err != nil {
		return nil, err
	}
	if len(replacing) == 1 && replacing[0].Empty() && !prune {
		return nil, fmt.Errorf("there is no candidate in %s", strings.Join(candidates, ", "))
	}
	return manifest.Overlay(s.workspaces, replacing, prune)
}

// shadowed returns workspaces with their shadow policies in force, where they have any.
func shadowed(workspaces []*manifest.Workspace, about logicalcluster.Name) ([]*manifest.Workspace, error) {
	result, found := slices.Clone(workspaces), false
	for i, w := range workspaces {
		if with := w.Shadowed(); with != nil && (about == "" || about == w.Name) {
			result[i], found = with, true
		}
	}
	if !found {
		return nil, fmt.Errorf("there are no shadow policies: they are those of ConfigMaps with the label %s: %s beside %s: %s",
			v1alpha1.LabelPolicySet, v1alpha1.PolicySetShadow, v1alpha1.LabelPolicy, v1alpha1.PolicyRego)
	}
	return result, nil
}

// compared is the answer of diff.
type compared struct {
	*simulation.Diff
	// shadow: with the shadow policies.
	shadow bool
}

// Table implements output.Tabular.
func (d compared) Table(w io.Writer) {
	report.Diff(w, d.Diff)
	if d.shadow {
		fmt.Fprintf(w, "by the policies in force %d run and %d wait, by the shadow policies %d and %d\n",
			d.Summary.Before, d.Summary.Workloads-d.Summary.Before, d.Summary.After, d.Summary.Workloads-d.Summary.After)
	}
}
