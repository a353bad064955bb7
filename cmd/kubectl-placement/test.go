package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/scenario"
)

// testOptions are the flags of test.
type testOptions struct {
	verbose, coverage, update bool
	threshold                 float64
	run                       string
	timeout                   time.Duration
	parallel                  int
}

func testCommand() *cobra.Command {
	o := testOptions{timeout: 5 * time.Second, parallel: runtime.GOMAXPROCS(0)}
	c := &cobra.Command{
		Use:   "test [PATH...]",
		Short: "Run Rego tests and placement scenarios",
		Long: `test runs what it finds in files and folders, the working folder if none are named:

Rego suites (*_test.rego), as opa test does: rules whose names begin with test_, with the built-in policies loaded beside
them. Suites may call whatever OPA has that does not reach outside, policies what they may call in force.

Placement scenarios (*.txtar): a fleet, policies and workloads in one file, and expect.yaml, which says of each workload
the clusters that are chosen, their scores, and what rejects others. --update writes what the engine decides into it.`,
		Example: `  kubectl placement test my-policies
  kubectl placement test my-policies -v --run residency
  kubectl placement test my-policies --coverage --threshold 95
  kubectl placement test my-policies --update      # then read what has changed`,
	}
	paths, out := newPaths(c), newOutput(c, "junit")
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "Show tests that pass, too, and traces of those that fail.")
	c.Flags().BoolVar(&o.coverage, "coverage", false, "Show which lines of Rego the suites do not reach.")
	c.Flags().Float64Var(&o.threshold, "threshold", 0, "Fail if the suites reach fewer lines of Rego than this, in percent. Implies --coverage.")
	c.Flags().StringVarP(&o.run, "run", "r", "", "Run only tests, and scenarios by the names of their files, that match this regular expression.")
	c.Flags().BoolVar(&o.update, "update", false, "Rewrite the expectations of scenarios that fail.")
	c.Flags().DurationVar(&o.timeout, "timeout", o.timeout, "How long one Rego test may take.")
	c.Flags().IntVarP(&o.parallel, "parallel", "p", o.parallel, "How many tests run at once.")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := first(out.validate, o.validate); err != nil {
			return err
		}
		_, done := newProgress(c.ErrOrStderr(), "testing")
		defer done()
		start := time.Now()
		tests, err := o.runAll(c, paths.of(args))
		if err != nil {
			return err
		}
		done()
		tests.Summary.ElapsedMs = time.Since(start).Milliseconds()
		if out.format == "junit" {
			err = writeJUnit(c.OutOrStdout(), tests.results())
		} else {
			err = out.print(c.OutOrStdout(), tests, func() { tests.print(c.OutOrStdout(), &o) })
		}
		switch {
		case err != nil:
			return err
		case tests.Summary.Failed > 0:
			return failed{}
		case tests.Coverage != nil && tests.Coverage.Percent < o.threshold:
			return failed{fmt.Errorf("the suites reach %.1f%% of the lines, fewer than %.1f%%", tests.Coverage.Percent, o.threshold)}
		case tests.Summary.Passed+tests.Summary.Skipped == 0:
			return failed{errors.New("there is no test: suites are files *_test.rego, scenarios *.txtar")}
		}
		return nil
	}
	return c
}

func (o *testOptions) validate() error {
	if _, err := regexp.Compile(o.run); err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	if o.threshold < 0 || o.threshold > 100 {
		return fmt.Errorf("--threshold %v: must be from 0 to 100", o.threshold)
	}
	if o.parallel < 1 {
		return fmt.Errorf("--parallel %d: must be at least 1", o.parallel)
	}
	o.coverage = o.coverage || o.threshold > 0
	return nil
}

// tests are all that was run.
type tests struct {
	Rego      []regoTest     `json:"rego"`
	Scenarios []scenarioTest `json:"scenarios"`
	Coverage  *coverage      `json:"coverage,omitempty"`
	Summary   struct {
		Passed    int   `json:"passed"`
		Failed    int   `json:"failed"`
		Skipped   int   `json:"skipped"`
		Updated   int   `json:"updated"`
		ElapsedMs int64 `json:"elapsedMs"`
	} `json:"summary"`
}

// scenarioTest is a scenario that was run.
type scenarioTest struct {
	File     string             `json:"file"`
	Title    string             `json:"title"`
	Failures []scenario.Failure `json:"failures"`
	// Error is what is wrong with the scenario itself.
	Error string `json:"error"`
	// Updated tells that the expectations were rewritten.
	Updated bool  `json:"updated"`
	Ms      int64 `json:"ms"`
}

func (t *scenarioTest) passed() bool { return t.Error == "" && len(t.Failures) == 0 }

func (o *testOptions) runAll(c *cobra.Command, paths []string) (*tests, error) {
	t := &tests{Rego: []regoTest{}, Scenarios: []scenarioTest{}}
	for _, path := range paths {
		if path == "-" {
			return nil, errors.New("-f -: test reads no standard input, since suites are found by the names of files")
		}
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	if err := o.runRego(c.Context(), paths, t); err != nil {
		return nil, err
	}
	files, err := readFiles(c.Context(), paths, c.InOrStdin(), scenario.Ending)
	if err != nil {
		return nil, err
	}
	if err := o.runScenarios(c.Context(), files, t); err != nil {
		return nil, err
	}
	for i := range t.Scenarios {
		if t.Scenarios[i].Updated {
			t.Summary.Updated++
		}
		if t.Scenarios[i].passed() {
			t.Summary.Passed++
		} else {
			t.Summary.Failed++
		}
	}
	return t, nil
}

func (o *testOptions) runScenarios(ctx context.Context, files []*manifest.File, t *tests) error {
	wanted := regexp.MustCompile(o.run)
	var chosen []*manifest.File
	for _, f := range files {
		if strings.HasSuffix(f.Name, scenario.Ending) && wanted.MatchString(f.Name) {
			chosen = append(chosen, f)
		}
	}
	t.Scenarios = make([]scenarioTest, len(chosen))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.parallel)
	for i, f := range chosen {
		group.Go(func() error {
			start := time.Now()
			t.Scenarios[i] = o.runScenario(ctx, f)
			t.Scenarios[i].Ms = time.Since(start).Milliseconds()
			return context.Cause(ctx)
		})
	}
	return group.Wait()
}

func (o *testOptions) runScenario(ctx context.Context, f *manifest.File) scenarioTest {
	test := scenarioTest{File: f.Name, Failures: []scenario.Failure{}}
	read := func(path string) ([]*manifest.File, error) {
		return readFiles(ctx, []string{path}, nil, manifestEndings...)
	}
	s, err := scenario.Parse(f, read)
	if err != nil {
		test.Error = err.Error()
		return test
	}
	test.Title = s.Title
	failures, err := s.Run(ctx)
	if err != nil {
		test.Error = err.Error()
		return test
	}
	test.Failures = append(test.Failures, failures...)
	switch {
	case !o.update && !s.Expects():
		test.Error = "nothing is expected yet: --update writes what is decided"
		return test
	case !o.update || len(failures) == 0 && s.Expects():
		return test
	}
	text, err := s.Update(ctx)
	if err != nil {
		test.Error = err.Error()
		return test
	}
	// What was written is held to what it says: aliases and misspelt names are for people to mend.
	if s, err = scenario.Parse(&manifest.File{Name: f.Name, Text: text}, read); err == nil {
		failures, err = s.Run(ctx)
	}
	if err == nil {
		err = os.WriteFile(f.Name, []byte(text), 0o644)
	}
	if err != nil {
		test.Error = "the expectations cannot be updated: " + err.Error()
		return test
	}
	test.Updated, test.Failures = true, append([]scenario.Failure{}, failures...)
	return test
}

// print writes what failed, or with -v all, and a line that sums it up.
func (t *tests) print(w io.Writer, o *testOptions) {
	for i := range t.Rego {
		t.Rego[i].print(w, o.verbose)
	}
	for i := range t.Scenarios {
		t.Scenarios[i].print(w, o.verbose)
	}
	if t.Coverage != nil {
		t.Coverage.print(w)
	}
	s := t.Summary
	fmt.Fprintf(w, "%s %d passed, %d failed, %d skipped", mark(s.Failed == 0), s.Passed, s.Failed, s.Skipped)
	if s.Updated > 0 {
		fmt.Fprintf(w, ", %d updated", s.Updated)
	}
	fmt.Fprintf(w, " in %d ms: %d Rego tests, %d scenarios\n", s.ElapsedMs, len(t.Rego), len(t.Scenarios))
}

func (t *scenarioTest) print(w io.Writer, verbose bool) {
	switch {
	case t.Updated:
		fmt.Fprintf(w, "UPDATED %s: %s\n", t.File, t.Title)
	case t.passed() && verbose:
		fmt.Fprintf(w, "%s %s: %s (%d ms)\n", mark(true), t.File, t.Title, t.Ms)
	}
	if t.passed() {
		return
	}
	fmt.Fprintln(w, mark(false), strings.TrimSuffix(t.File+": "+t.Title, ": "))
	if t.Error != "" {
		fmt.Fprintln(w, indent(t.Error))
	}
	for i, f := range t.Failures {
		fmt.Fprintf(w, "  %s: %s\n    expected  %s\n    actual    %s\n", f.Workload, f.What, f.Expected, f.Actual)
		last := i+1 == len(t.Failures) || t.Failures[i+1].Workload != f.Workload
		if last && f.Decision != nil && f.Decision.Explained != nil {
			fmt.Fprintln(w)
			report.Explanation(indenter{w}, f.Decision.Explained)
			fmt.Fprintln(w)
		}
	}
}
