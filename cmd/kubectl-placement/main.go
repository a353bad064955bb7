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
	"regexp"
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
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	if !colourful(out) {
		text.DisableColors()
	}
	told, toldErr := &printable{w: out}, &printable{w: errOut}
	c := command()
	c.SetArgs(args)
	c.SetIn(in)
	c.SetOut(told)
	c.SetErr(toldErr)
	err := c.ExecuteContext(ctx)
	errOut = toldErr
	var f failed
	switch {
	case err == nil && told.err != nil:
		fmt.Fprintf(errOut, "kubectl placement: %v\n", told.err)
		return exitWrongCall
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

// raw is what a printable writes to.
func raw(w io.Writer) io.Writer {
	if p, ok := w.(*printable); ok {
		return p.w
	}
	return w
}

// colourful tells whether to write in colours: to a terminal, unless $NO_COLOR is set.
func colourful(out io.Writer) bool {
	file, ok := raw(out).(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
}

// printable writes text without what would control a terminal: names, messages and lines of files are written by
// tenants. Colours stay. It keeps the first error, which printing tables passes over.
type printable struct {
	w   io.Writer
	err error
}

var unprintable = regexp.MustCompile(`\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}\x{2028}\x{2029}\x{202a}-\x{202e}\x{2066}-\x{2069}]`)

// Write implements io.Writer.
func (p *printable) Write(text []byte) (int, error) {
	clean := unprintable.ReplaceAllFunc(text, func(match []byte) []byte {
		if len(match) > 3 && match[0] == 0x1b {
			return match
		}
		return []byte("?")
	})
	if _, err := p.w.Write(clean); err != nil {
		if p.err == nil {
			p.err = err
		}
		return 0, err
	}
	return len(text), nil
}

func command() *cobra.Command {
	c := &cobra.Command{
		Use:   "kubectl-placement",
		Short: "Write, check, test, simulate and explain placement policies, and look at the fleet",
		Long: `kubectl placement is for those who write placement policies: CEL constraints in WorkloadPlacements, and Rego that
weighs and prefers clusters; and for those who look after the fleet.

All commands work on files and folders, without a server. simulate, explain, diff and top read a live workspace where no
files are given; they never write to it.

Exit codes: 0 if all is fine, 1 if a check failed, 2 if the call was wrong or could not be carried out, 130 if it was
interrupted.`,
		Example: `  kubectl placement init my-policies            # a suite that passes
  kubectl placement check my-policies           # what is wrong, and where
  kubectl placement test my-policies            # Rego tests and placement scenarios
  kubectl placement simulate -f fleet/          # where everything would run
  kubectl placement explain web -f fleet/       # why there
  kubectl placement diff -f fleet/ -c my-policies/policies   # what the policies would change
  kubectl placement top -f fleet/               # how full it is, and what waits for what`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl placement"},
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		checkCommand(), testCommand(), simulateCommand(), explainCommand(), diffCommand(), topCommand(), fmtCommand(), initCommand(), versionCommand(),
	)
	return c
}
