package suite

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/policies"
)

// RegoTest is the result of one Rego test.
type RegoTest struct {
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
	// trace of the expressions that failed.
	trace string
}

// Passed reports whether the test did not fail.
func (t *RegoTest) Passed() bool { return t.Outcome == "pass" || t.Outcome == "skip" }

// Coverage is the share of the lines of Rego that the suites reach.
type Coverage struct {
	Percent float64        `json:"percent"`
	Files   []FileCoverage `json:"files"`
}

// FileCoverage is the coverage of one file.
type FileCoverage struct {
	File    string  `json:"file"`
	Percent float64 `json:"percent"`
	// NotCovered are the lines that are not reached, as 4 or 7-9.
	NotCovered []string `json:"notCovered"`
}

// runRego runs Rego suites as opa test does, with the built-in policies loaded.
func (r *Report) runRego(ctx context.Context, paths []string, o Options) error {
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
		return exit.Failure{Cause: err}
	}
	if len(modules) == 0 {
		return nil
	}
	own := maps.Clone(modules)
	if err := addBuiltin(modules, options); err != nil {
		return err
	}
	if err := compilePolicies(policyCompiler.OPA(), modules); err != nil {
		return exit.Failure{Cause: err}
	}
	compiler := policyCompiler.Suites().WithUseTypeCheckAnnotations(true).WithEnablePrintStatements(true)
	runner := tester.NewRunner().SetCompiler(compiler).SetStore(store).CapturePrintOutput(true).EnableTracing(true).
		SetModules(modules).SetTimeout(o.Timeout).Filter(o.Run).SetParallel(o.Parallel)
	var cov *cover.Cover
	if o.Coverage {
		cov = cover.New()
		runner = runner.SetCoverageQueryTracer(cov)
	}
	return storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		results, err := runner.RunTests(ctx, txn)
		if err != nil {
			return exit.Failure{Cause: err}
		}
		for result := range results {
			r.add(result)
		}
		slices.SortFunc(r.Rego, func(a, b RegoTest) int { return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.row, b.row)) })
		if cov != nil {
			r.Coverage = newCoverage(cov.Report(own), own)
		}
		return context.Cause(ctx)
	})
}

// compilePolicies compiles the policies without the suites, which may call more functions.
func compilePolicies(compiler *ast.Compiler, modules map[string]*ast.Module) error {
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

// addBuiltin adds the built-in policies whose packages the modules do not have.
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
		name := "builtin/" + strings.TrimSuffix(file, ".rego") // as no file is named that is given
		module, err := ast.ParseModuleWithOpts(name, string(text), options)
		if err != nil {
			return err
		}
		given := false
		for _, m := range modules {
			given = given || m.Package.Equal(module.Package)
		}
		if !given {
			modules[name] = module
		}
	}
	return nil
}

func (r *Report) add(result *tester.Result) {
	test := RegoTest{
		Package: strings.TrimPrefix(result.Package, "data."), Name: result.Name, Output: string(result.Output), Outcome: "pass",
		Ms: result.Duration.Milliseconds(),
	}
	if at := result.Location; at != nil {
		test.row, test.Location = at.Row, fmt.Sprintf("%s:%d", at.File, at.Row)
	}
	switch {
	case result.Skip:
		test.Outcome = "skip"
		r.Summary.Skipped++
	case result.Error != nil:
		test.Outcome, test.Message = "error", result.Error.Error()
		r.Summary.Failed++
	case result.Fail:
		test.Outcome = "fail"
		test.Message, test.trace = failedAt(result.Trace)
		r.Summary.Failed++
	default:
		r.Summary.Passed++
	}
	r.Rego = append(r.Rego, test)
}

// failedAt returns the last expression of a trace that failed, with the values that it had, and all that did.
func failedAt(events []*topdown.Event) (last, trace string) {
	fails := lineage.Filter(events, func(e *topdown.Event) bool { return e.Op == topdown.NoteOp || e.Op == topdown.FailOp })
	last = "it is undefined: none of its expressions was reached" // unless one is found
	for _, e := range slices.Backward(fails) {
		expr, isExpr := e.Node.(*ast.Expr)
		if e.Op != topdown.FailOp || !isExpr || e.Location == nil || e.Location.File == "" { // else it is the query of the runner
			continue
		}
		if _, isEvery := expr.Terms.(*ast.Every); !isEvery { // what failed is in its body
			last = fmt.Sprintf("%s:%d: %s is not true%s", e.Location.File, e.Location.Row, strings.TrimSpace(string(e.Location.Text)), valuesOf(e, expr))
			break
		}
	}
	var pretty strings.Builder
	topdown.PrettyTraceWithOpts(&pretty, fails, topdown.PrettyTraceOptions{Locations: true, ExprVariables: true})
	return last, pretty.String()
}

// generated matches the names that OPA gives to the values of calls and rules.
var generated = regexp.MustCompile(`__local\d+__: `)

// valuesOf returns the values in an expression that failed, without those in its with.
func valuesOf(e *topdown.Event, expr *ast.Expr) string {
	alone := *e
	alone.Node = expr.NoWith()
	text := func(values bool) string {
		var b strings.Builder
		topdown.PrettyTraceWithOpts(&b, []*topdown.Event{&alone}, topdown.PrettyTraceOptions{ExprVariables: values})
		return strings.TrimRight(b.String(), "\n")
	}
	values := strings.TrimSpace(strings.TrimPrefix(text(true), text(false)))
	values = strings.TrimSuffix(strings.TrimPrefix(values, "{"), "}")
	if values == "" {
		return ""
	}
	return "; " + generated.ReplaceAllString(values, "got: ")
}

// newCoverage reports the coverage of the modules that were given, without the built-in ones and the suites.
func newCoverage(report cover.Report, own map[string]*ast.Module) *Coverage {
	c := &Coverage{Percent: report.Coverage, Files: []FileCoverage{}}
	for file, f := range report.Files {
		if own[file] == nil || policy.IsSuite(file) {
			continue
		}
		lines := FileCoverage{File: file, Percent: f.Coverage, NotCovered: []string{}}
		for _, r := range f.NotCovered {
			if r.Start.Row == r.End.Row {
				lines.NotCovered = append(lines.NotCovered, fmt.Sprint(r.Start.Row))
			} else {
				lines.NotCovered = append(lines.NotCovered, fmt.Sprintf("%d-%d", r.Start.Row, r.End.Row))
			}
		}
		lines.NotCovered = slices.Compact(lines.NotCovered) // a line with two expressions comes twice
		c.Files = append(c.Files, lines)
	}
	slices.SortFunc(c.Files, func(a, b FileCoverage) int { return strings.Compare(a.File, b.File) })
	return c
}
