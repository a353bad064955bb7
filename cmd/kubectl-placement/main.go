// Command kubectl-placement writes, checks, tests, simulates and explains placement policies, without a cluster or
// against a live workspace. As a plugin it is `kubectl placement`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitFailed      = 1 // a check failed
	exitWrongCall   = 2 // the call was wrong, or could not be carried out
	exitInterrupted = 130
)

// failed is an error of what was looked at, and not of the call. Without a cause all has been told already.
type failed struct{ cause error }

func (f failed) Error() string {
	if f.cause == nil {
		return ""
	}
	return f.cause.Error()
}

func (f failed) Unwrap() error { return f.cause }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	if !colourful(out) {
		text.DisableColors()
	}
	c := command()
	c.SetArgs(args)
	c.SetIn(in)
	c.SetOut(out)
	c.SetErr(errOut)
	err := c.ExecuteContext(ctx)
	var f failed
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(errOut, "interrupted")
		return exitInterrupted
	case errors.As(err, &f):
		if f.cause != nil {
			fmt.Fprintln(errOut, f.cause)
		}
		return exitFailed
	default:
		fmt.Fprintf(errOut, "kubectl placement: %v\n", err)
		return exitWrongCall
	}
}

// colourful tells whether to write in colours: to a terminal, unless $NO_COLOR is set.
func colourful(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
}

func command() *cobra.Command {
	c := &cobra.Command{
		Use:   "kubectl-placement",
		Short: "Write, check, test, simulate and explain placement policies",
		Long: `kubectl placement is for those who write placement policies: CEL constraints in WorkloadPlacements, and Rego that
weighs and prefers clusters.

All commands work on files and folders, without a server. simulate, explain and diff read a live workspace where no
files are given; they never write to it.

Exit codes: 0 if all is fine, 1 if a check failed, 2 if the call was wrong.`,
		Example: `  kubectl placement init my-policies            # a suite that passes
  kubectl placement check my-policies           # what is wrong, and where
  kubectl placement test my-policies            # Rego tests and placement scenarios
  kubectl placement simulate -f fleet/          # where everything would run
  kubectl placement explain web -f fleet/       # why there
  kubectl placement diff -f fleet/ -c my-policies/policies   # what the policies would change`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl placement"},
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		checkCommand(), testCommand(), simulateCommand(), explainCommand(), diffCommand(), fmtCommand(), initCommand(), versionCommand(),
	)
	return c
}
