package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/scenario"
)

// ScenarioTest is the result of one scenario.
type ScenarioTest struct {
	File     string             `json:"file"`
	Title    string             `json:"title"`
	Failures []scenario.Failure `json:"failures"`
	// Error is set where the scenario itself is wrong.
	Error string `json:"error"`
	// Updated reports that the expectations were rewritten.
	Updated bool  `json:"updated"`
	Ms      int64 `json:"ms"`
}

// Passed reports whether every expectation is met.
func (t *ScenarioTest) Passed() bool { return t.Error == "" && len(t.Failures) == 0 }

func (r *Report) runScenarios(ctx context.Context, files []*manifest.File, o Options) error {
	selected := regexp.MustCompile(o.Run)
	var run []*manifest.File
	for _, f := range files {
		if strings.HasSuffix(f.Name, scenario.Ending) && selected.MatchString(f.Name) {
			run = append(run, f)
		}
	}
	r.Scenarios = make([]ScenarioTest, len(run))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Parallel)
	for i, f := range run {
		group.Go(func() error {
			start := time.Now()
			test := ScenarioTest{File: f.Name, Failures: []scenario.Failure{}}
			if err := test.run(ctx, f, o.Update); err != nil {
				test.Error = err.Error()
			}
			test.Ms = time.Since(start).Milliseconds()
			r.Scenarios[i] = test
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range r.Scenarios {
		if r.Scenarios[i].Updated {
			r.Summary.Updated++
		}
		if r.Scenarios[i].Passed() {
			r.Summary.Passed++
		} else {
			r.Summary.Failed++
		}
	}
	return nil
}

// run runs one scenario, and with update rewrites expectations that are not met. The error is of the scenario itself.
func (t *ScenarioTest) run(ctx context.Context, f *manifest.File, update bool) error {
	read := func(path string) ([]*manifest.File, error) {
		return input.Files(ctx, []string{path}, nil, input.ManifestEndings...)
	}
	if f.Err != nil {
		return f.Err
	}
	s, err := scenario.Parse(f, read)
	if err != nil {
		return err
	}
	t.Title = s.Title
	failures, err := s.Run(ctx)
	if err != nil {
		return err
	}
	t.Failures = append(t.Failures, failures...)
	switch {
	case !update && !s.Expects():
		return errors.New("nothing is expected yet: --update writes the decisions")
	case !update || s.Expects() && len(failures) == 0:
		return nil
	}
	text, err := s.Update(ctx)
	if err != nil {
		return err
	}
	// Run what was written: an alias or a misspelt name still fails, which only its author can resolve.
	if s, err = scenario.Parse(&manifest.File{Name: f.Name, Text: text}, read); err == nil {
		failures, err = s.Run(ctx)
	}
	if err == nil {
		err = os.WriteFile(f.Name, []byte(text), 0o644)
	}
	if err != nil {
		return fmt.Errorf("the expectations cannot be updated: %w", err)
	}
	t.Updated, t.Failures = true, append([]scenario.Failure{}, failures...)
	return nil
}
