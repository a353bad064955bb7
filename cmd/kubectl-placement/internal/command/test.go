package command

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/suite"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
)

func testCommand() *cobra.Command {
	o := suite.Options{Timeout: 5 * time.Second, Parallel: runtime.GOMAXPROCS(0)}
	var verbose bool
	var threshold float64
	c := &cobra.Command{
		Use:   "test [PATH...]",
		Short: "Run Rego tests and placement scenarios",
		Long: `test runs what it finds in files and folders, by default the working folder:

Rego suites (*_test.rego), as opa test does: it runs rules whose names begin with test_, with the built-in policies loaded.
Suites may call any OPA function that has no access to the outside; policies may call what they may call in force.

Placement scenarios (*.txtar): a fleet, policies and workloads in one file, and expect.yaml with the clusters that are
expected for each workload, their scores, and what rejects others. With steps.yaml in its place a scenario goes on over
time: objects change, clusters fall silent, the controller restarts, and each step says what is expected by then. The clock
is the scenario's own, so that days take milliseconds. --update writes the decisions of the engine into the file.`,
		Example: `  kubectl placement test my-policies
  kubectl placement test my-policies -v --run residency
  kubectl placement test my-policies --coverage --threshold 95
  kubectl placement test my-policies --update      # then read what has changed`,
	}
	paths, out := input.NewPaths(c), output.NewFlag(c, tested{})
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Also show tests that pass, and traces of tests that fail.")
	c.Flags().BoolVar(&o.Coverage, "coverage", false, "Show the lines of Rego that the suites do not reach.")
	c.Flags().Float64Var(&threshold, "threshold", 0, "Fail if the suites reach less than this percentage of the lines of Rego. Implies --coverage.")
	c.Flags().StringVarP(&o.Run, "run", "r", "", "Run only tests whose name, and scenarios whose file name, matches this regular expression.")
	c.Flags().BoolVar(&o.Update, "update", false, "Rewrite the expectations of scenarios that fail.")
	c.Flags().DurationVar(&o.Timeout, "timeout", o.Timeout, "Time limit of one Rego test.")
	c.Flags().IntVarP(&o.Parallel, "parallel", "p", o.Parallel, "Number of tests to run at once.")
	c.PreRunE = validate(out, &o)
	c.RunE = func(c *cobra.Command, args []string) error {
		if threshold < 0 || threshold > 100 {
			return fmt.Errorf("--threshold %v: must be from 0 to 100", threshold)
		}
		o.Coverage = o.Coverage || threshold > 0
		_, done := terminal.Progress(c.ErrOrStderr(), "testing")
		defer done()
		r, err := suite.Run(c.Context(), paths.Of(args), c.InOrStdin(), o)
		if err != nil {
			return err
		}
		done()
		switch err := out.Write(c.OutOrStdout(), tested{r, verbose}); {
		case err != nil:
			return err
		case r.Summary.Failed > 0:
			return exit.Failure{}
		case r.Coverage != nil && r.Coverage.Percent < threshold:
			return exit.Failure{Cause: fmt.Errorf("the suites reach %.1f%% of the lines, fewer than %.1f%%", r.Coverage.Percent, threshold)}
		case r.Summary.Passed+r.Summary.Skipped == 0:
			return exit.Failure{Cause: errors.New("there is no test: suites are files *_test.rego, scenarios *.txtar")}
		}
		return nil
	}
	return c
}

// tested is the answer of test.
type tested struct {
	*suite.Report
	verbose bool
}

// Table implements output.Tabular.
func (t tested) Table(w io.Writer) { t.Print(w, t.verbose) }

// Tests implements output.Tested.
func (t tested) Tests() (tests []output.Test) {
	for _, r := range t.Rego {
		one := output.Test{Suite: r.Package, Name: r.Name, Duration: time.Duration(r.Ms) * time.Millisecond, Skipped: r.Outcome == "skip"}
		if !r.Passed() {
			one.Failure = r.Location + ": " + r.Outcome + "\n" + r.Message + r.Output
		}
		tests = append(tests, one)
	}
	for i := range t.Scenarios {
		s := &t.Scenarios[i]
		one := output.Test{Suite: "scenarios", Name: s.File, Duration: time.Duration(s.Ms) * time.Millisecond}
		if !s.Passed() {
			one.Failure = s.Error
			for _, f := range s.Failures {
				about := slices.DeleteFunc([]string{f.Step, f.Workload, f.What}, func(s string) bool { return s == "" })
				one.Failure += fmt.Sprintf("%s: expected %s, actual %s\n", strings.Join(about, ": "), f.Expected, f.Actual)
			}
		}
		tests = append(tests, one)
	}
	return tests
}
