// Package command holds the commands of kubectl placement, a file for each.
package command

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
	"github.com/kcp-placement/placement/internal/build"
)

// Run runs the program and returns its exit code.
func Run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	if !terminal.Interactive(out) {
		text.DisableColors()
	}
	cleanOut, cleanErr := terminal.NewWriter(out), terminal.NewWriter(errOut)
	c := root()
	c.SetArgs(args)
	c.SetIn(in)
	c.SetOut(cleanOut)
	c.SetErr(cleanErr)
	err := c.ExecuteContext(ctx)
	code, message := exit.Code(ctx, cmp.Or(err, cleanOut.Err()))
	if message != "" {
		fmt.Fprintln(cleanErr, message)
	}
	return code
}

func init() { cobra.EnableCommandSorting = false }

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "kubectl-placement",
		Short: "Write, check, test, simulate and explain placement policies, and show the fleet's capacity",
		Long: `kubectl placement helps authors of placement policies, which are CEL constraints in WorkloadPlacements and Rego that
weighs and prefers clusters, and operators of a fleet.

Every command works on files and folders, without a server. Without files, simulate, explain, describe, history, diff, top,
console, render and rebalance read a live workspace; only rebalance --apply writes to it. What constraints and policies can say is in ` + "`kubectl placement reference`" + `.

Exit codes: 0 if all is fine, 1 if a check failed, 2 if the call was wrong or could not be carried out, 130 if it was
interrupted.`,
		Example: `  kubectl placement init my-policies            # create a policy suite that passes
  kubectl placement check my-policies           # find errors, each with its position
  kubectl placement test my-policies            # run Rego tests and placement scenarios
  kubectl placement simulate fleet/             # show where everything would run
  kubectl placement explain web fleet/          # show why
  kubectl placement describe web --workspace root:team    # show its way to its clusters, and what is wrong
  kubectl placement history web --workspace root:team     # show how it came to run where it does
  kubectl placement diff fleet/ -c my-policies/policies   # show what new policies would move
  kubectl placement top fleet/                  # show how full the fleet is, and what waits for what
  kubectl placement console fleet/              # show all that in a browser, and try policies there
  kubectl placement rebalance fleet/ --even     # compute the least moves that even it out
  kubectl placement render web fleet/           # print what its clusters get
  kubectl placement bundle my-policies/policies # write a ConfigMap with the policies, to be applied
  kubectl placement reference cel               # show what a constraint can say`,
		Version:       build.Version(),
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl placement"},
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	input.AddKindsFile(c)
	// In the order in which one meets them, see init.
	groups := []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Write policies:", []*cobra.Command{initCommand(), referenceCommand(), kindsCommand(), checkCommand(), testCommand(), fmtCommand(), bundleCommand()}},
		{"See what they do:", []*cobra.Command{simulateCommand(), explainCommand(), describeCommand(), historyCommand(), diffCommand(), topCommand(), consoleCommand(), renderCommand(), rebalanceCommand()}},
		{"Take clusters out of use:", []*cobra.Command{cordonCommand(), uncordonCommand(), drainCommand()}},
		{"The program:", []*cobra.Command{versionCommand()}},
	}
	for _, g := range groups {
		c.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, command := range g.commands {
			command.GroupID = g.title
			c.AddCommand(command)
		}
	}
	c.SetHelpCommandGroupID("The program:")
	c.SetCompletionCommandGroupID("The program:")
	c.SetVersionTemplate("kubectl-placement {{.Version}}\n")
	return c
}

// validated is a group of flags.
type validated interface{ Validate() error }

// validate returns a check of groups of flags, to run before the command.
func validate(flags ...validated) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		for _, f := range flags {
			if err := f.Validate(); err != nil {
				return err
			}
		}
		return nil
	}
}
