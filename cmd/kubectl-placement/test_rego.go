package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"

	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/policies"
)

// regoTest is a Rego test that was run.
type regoTest struct {
	Package string `json:"package"`
	Name    string `json:"name"`
	// Location as file:row.
	Location string `json:"location"`
	// Outcome is pass, fail, error or skip.
	Outcome string `json:"outcome"`
	Message string `json:"message,omitempty"`
	Output  string `json:"output,omitempty"`
	Ms      int64  `json:"ms"`

	row int
	// trace of what failed on the way, for -v.
	trace string
}

func (t *regoTest) passed() bool { return t.Outcome == "pass" || t.Outcome == "skip" }

// coverage is which lines of Rego the suites reach.
type coverage struct {
	// Percent of the lines that are reached.
	Percent float64        `json:"percent"`
	Files   []fileCoverage `json:"files"`
}

type fileCoverage struct {
	File    string  `json:"file"`
	Percent float64 `json:"percent"`
	// NotCovered are the lines that are not reached, as 4 or 7-9.
	NotCovered []string `json:"notCovered"`
}

// runRego runs Rego suites as opa test does, with the built-in policies beside them.
func (o *testOptions) runRego(ctx context.Context, paths []string, t *tests) error {
	policyCompiler, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		return err
	}
	options := policyCompiler.ParserOptions()
	options.ProcessAnnotation = true
	modules, store, err := tester.LoadWithParserOptions(paths, func(path string, info fs.FileInfo, _ int) bool {
		return !info.IsDir() && filepath.Ext(path) != ".rego" || info.IsDir() && len(info.Name()) > 1 && strings.HasPrefix(info.Name(), ".") && info.Name() != ".."
	}, options)
	if err != nil {
		return failed{err}
	}
	if len(modules) == 0 {
		return nil
	}
	own := maps.Clone(modules)
	if err := addBuiltin(modules, options); err != nil {
		return err
	}
	if err := withoutSuites(policyCompiler.OPA(), modules); err != nil {
		return failed{err}
	}
	compiler := policyCompiler.Suites().WithUseTypeCheckAnnotations(true).WithEnablePrintStatements(true)
	runner := tester.NewRunner().SetCompiler(compiler).SetStore(store).CapturePrintOutput(true).EnableTracing(true).
		SetModules(modules).SetTimeout(o.timeout).Filter(o.run).SetParallel(o.parallel)
	var cov *cover.Cover
	if o.coverage {
		cov = cover.New()
		runner = runner.SetCoverageQueryTracer(cov)
	}
	return storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		results, err := runner.RunTests(ctx, txn)
		if err != nil {
			return failed{err}
		}
		for r := range results {
			t.add(r)
		}
		slices.SortFunc(t.Rego, func(a, b regoTest) int { return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.row, b.row)) })
		if cov != nil {
			t.Coverage = newCoverage(cov.Report(own), own)
		}
		return context.Cause(ctx)
	})
}

// withoutSuites compiles the policies alone: they may call less than suites may.
func withoutSuites(compiler *ast.Compiler, modules map[string]*ast.Module) error {
	alone := map[string]*ast.Module{}
	for name, module := range modules {
		if !policy.IsSuite(name) {
			alone[name] = module.Copy()
		}
	}
	if compiler.Compile(alone); compiler.Failed() {
		return compiler.Errors
	}
	return nil
}

// addBuiltin adds the built-in policies, but for those that are among the modules already.
func addBuiltin(modules map[string]*ast.Module, options ast.ParserOptions) error {
	files, err := fs.Glob(policies.Modules, "*.rego")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := fs.ReadFile(policies.Modules, file)
		if err != nil {
			return err
		}
		module, err := ast.ParseModuleWithOpts("builtin/"+file, string(text), options)
		if err != nil {
			return err
		}
		known := false
		for _, m := range modules {
			known = known || m.Package.Equal(module.Package)
		}
		if !known {
			modules["builtin/"+file] = module
		}
	}
	return nil
}

func (t *tests) add(r *tester.Result) {
	test := regoTest{
		Package: strings.TrimPrefix(r.Package, "data."), Name: r.Name, Output: string(r.Output), Outcome: "pass", Ms: r.Duration.Milliseconds(),
	}
	if r.Location != nil {
		test.row = r.Location.Row
		test.Location = fmt.Sprintf("%s:%d", r.Location.File, r.Location.Row)
	}
	switch {
	case r.Skip:
		test.Outcome = "skip"
		t.Summary.Skipped++
	case r.Error != nil:
		test.Outcome, test.Message = "error", r.Error.Error()
		t.Summary.Failed++
	case r.Fail:
		test.Outcome = "fail"
		test.Message, test.trace = failedAt(r.Trace)
		t.Summary.Failed++
	default:
		t.Summary.Passed++
	}
	t.Rego = append(t.Rego, test)
}

// failedAt tells from a trace which expression failed in the end, and what did on the way.
func failedAt(events []*topdown.Event) (last, trace string) {
	fails := lineage.Filter(events, func(e *topdown.Event) bool { return e.Op == topdown.NoteOp || e.Op == topdown.FailOp })
	for _, e := range fails {
		if e.Op == topdown.FailOp && e.Location != nil && e.Location.File != "" { // else it is the query for the test
			last = fmt.Sprintf("%s:%d: %s is not true", e.Location.File, e.Location.Row, strings.TrimSpace(string(e.Location.Text)))
		}
	}
	var pretty strings.Builder
	topdown.PrettyTraceWithLocation(&pretty, fails)
	return last, pretty.String()
}

func (t *regoTest) print(w io.Writer, verbose bool) {
	if t.passed() && !verbose {
		return
	}
	fmt.Fprintf(w, "%s %s: %s.%s", mark(t.passed()), t.Location, t.Package, t.Name)
	if t.Outcome == "skip" {
		fmt.Fprint(w, " (skipped)")
	}
	fmt.Fprintf(w, " (%d ms)\n", t.Ms)
	told := []string{t.Message, t.Output}
	if verbose {
		told = append(told, t.trace)
	}
	for _, told := range told {
		if told = strings.TrimRight(told, "\n"); told != "" {
			fmt.Fprintln(w, indent(told))
		}
	}
}

// newCoverage tells of the modules that were given; the built-in ones beside them are not theirs to cover.
func newCoverage(report cover.Report, own map[string]*ast.Module) *coverage {
	c := &coverage{Percent: report.Coverage, Files: []fileCoverage{}}
	for file, f := range report.Files {
		if own[file] == nil || policy.IsSuite(file) {
			continue
		}
		lines := fileCoverage{File: file, Percent: f.Coverage, NotCovered: []string{}}
		for _, r := range f.NotCovered {
			if r.Start.Row == r.End.Row {
				lines.NotCovered = append(lines.NotCovered, fmt.Sprint(r.Start.Row))
			} else {
				lines.NotCovered = append(lines.NotCovered, fmt.Sprintf("%d-%d", r.Start.Row, r.End.Row))
			}
		}
		lines.NotCovered = slices.Compact(lines.NotCovered) // two expressions of a line are one line
		c.Files = append(c.Files, lines)
	}
	slices.SortFunc(c.Files, func(a, b fileCoverage) int { return strings.Compare(a.File, b.File) })
	return c
}

func (c *coverage) print(w io.Writer) {
	for _, f := range c.Files {
		fmt.Fprintf(w, "%5.1f%%  %s", f.Percent, f.File)
		if len(f.NotCovered) > 0 {
			fmt.Fprintf(w, "  not reached: %s", strings.Join(f.NotCovered, ", "))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%5.1f%%  of all lines of Rego\n", c.Percent)
}
