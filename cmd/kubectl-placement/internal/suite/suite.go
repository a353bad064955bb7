// Package suite runs the tests of policies: Rego suites and placement scenarios.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/offline/scenario"
)

// Options of a run.
type Options struct {
	// Run selects Rego tests by name, and scenarios by file name, with a regular expression.
	Run string
	// Coverage asks for the lines of Rego that the suites reach.
	Coverage bool
	// Update rewrites the expectations of scenarios that fail.
	Update bool
	// Timeout of one Rego test.
	Timeout time.Duration
	// Parallel is how many tests run at once.
	Parallel int
}

// Validate fails where an option is out of range.
func (o *Options) Validate() error {
	if _, err := regexp.Compile(o.Run); err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	if o.Parallel < 1 {
		return fmt.Errorf("--parallel %d: must be at least 1", o.Parallel)
	}
	return nil
}

// Report is the result of a run. Its JSON is a contract: fields may be added, none changes its meaning.
type Report struct {
	Rego      []RegoTest     `json:"rego"`
	Scenarios []ScenarioTest `json:"scenarios"`
	Coverage  *Coverage      `json:"coverage,omitempty"`
	Summary   Summary        `json:"summary"`
}

// Summary counts the tests.
type Summary struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	// Updated scenarios, whether they pass now or not.
	Updated   int   `json:"updated"`
	ElapsedMs int64 `json:"elapsedMs"`
}

// Run runs the suites and the scenarios of files and folders. Policies that do not compile are an exit.Failure.
func Run(ctx context.Context, paths []string, stdin io.Reader, o Options) (*Report, error) {
	start := time.Now()
	r := &Report{Rego: []RegoTest{}, Scenarios: []ScenarioTest{}}
	for _, path := range paths {
		if path == "-" {
			return nil, errors.New("-f -: test reads no standard input, since suites are found by the names of files")
		}
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	if err := r.runRego(ctx, paths, o); err != nil {
		return nil, err
	}
	files, err := input.Files(ctx, paths, stdin, scenario.Ending)
	if err != nil {
		return nil, err
	}
	if err := r.runScenarios(ctx, files, o); err != nil {
		return nil, err
	}
	r.Summary.ElapsedMs = time.Since(start).Milliseconds()
	return r, nil
}
