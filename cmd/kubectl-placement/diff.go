package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

func diffCommand() *cobra.Command {
	var candidates []string
	var prune, exitCode bool
	c := &cobra.Command{
		Use:   "diff -c CANDIDATES",
		Short: "Show which decisions new policies would move",
		Long: `diff puts candidates in the place of what is in force, and shows which decisions would move, from where to where, how
scores would change, and how full the fleet would be: the preview before a rollout.

Candidates are files and folders like those of -f. An object takes the place of the one of its kind and name, a ConfigMap
all its policies; a file of Rego takes the place of the policy of its file name, in whichever ConfigMap that is, and is
new where there is none.

The workloads are first placed under what is in force, unless PlacementDecisions say where they are. Then each is looked
at again under the candidates, in the same order, as the controller would: it keeps the others' reservations.`,
		Example: `  kubectl placement diff -f all/ -c new-weights.rego
  kubectl placement diff -c policies/ --workspace root:team-shop     # a live workspace, read only
  kubectl placement diff -f all/ -c policies/ --prune --exit-code    # in CI: 1 if anything would move`,
		Args: cobra.NoArgs,
	}
	from, out := newSource(c), newOutput(c)
	c.Flags().StringArrayVarP(&candidates, "candidate", "c", nil, "File or folder with candidates, all below it included; - for standard input. Repeatable.")
	c.Flags().BoolVar(&prune, "prune", false, "Remove the policies in force that the candidates do not have.")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "Exit with 1 if a decision would move.")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := first(out.validate, from.validate); err != nil {
			return err
		}
		if len(candidates) == 0 {
			return errors.New("there is nothing to compare with: give candidates by -c")
		}
		if slices.Contains(candidates, "-") && slices.Contains(from.files, "-") {
			return errors.New("-f - and -c - cannot both be standard input")
		}
		tell, done := newProgress(c.ErrOrStderr(), "placing workloads")
		defer done()
		workspaces, err := from.load(c)
		if err != nil {
			return err
		}
		wanted, err := readWorkspaces(c, candidates)
		if err != nil {
			return err
		}
		if len(wanted) == 1 && wanted[0].Empty() && !prune {
			return fmt.Errorf("there is no candidate in %s", strings.Join(candidates, ", "))
		}
		overlaid, err := manifest.Overlay(workspaces, wanted, prune)
		if err != nil {
			return err
		}
		s, err := simulation.New(simulation.Options{Progress: tell})
		if err != nil {
			return err
		}
		if err := s.Load(workspaces); err != nil {
			return failed{fmt.Errorf("what is in force is wrong:\n%w", err)}
		}
		before, err := s.Run(c.Context())
		if err != nil {
			return err
		}
		if err := s.Load(overlaid); err != nil {
			return failed{fmt.Errorf("the candidates would not come into force:\n%w", err)}
		}
		after, err := s.Run(c.Context())
		done()
		if err != nil {
			return err
		}
		d := simulation.Compare(before, after)
		if err := out.print(c.OutOrStdout(), d, func() { report.Diff(c.OutOrStdout(), d) }); err != nil {
			return err
		}
		if exitCode && d.Summary.Moved > 0 {
			return failed{}
		}
		return verdict(after, nil)
	}
	return c
}
