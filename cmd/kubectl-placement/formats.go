package main

import (
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"
	sarifreport "github.com/owenrumney/go-sarif/v3/pkg/report"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
)

// sarifReport writes findings as SARIF 2.1.0, the format that code hosts show in changes.
func sarifReport(w io.Writer, r *check.Report) error {
	run := sarif.NewRunWithInformationURI("kubectl-placement", "https://github.com/kcp-placement/placement")
	for _, f := range r.Findings {
		run.AddRule(f.Code)
		result := run.CreateResultForRule(f.Code).WithLevel(string(f.Severity)).WithMessage(sarif.NewTextMessage(described(f)))
		if f.File == nil {
			continue
		}
		place := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation((&url.URL{Path: filepath.ToSlash(f.File.Name)}).EscapedPath()))
		if f.Line > 0 {
			place.WithRegion(sarif.NewRegion().WithStartLine(f.Line).WithStartColumn(f.Column))
		}
		result.AddLocation(sarif.NewLocationWithPhysicalLocation(place))
	}
	document := sarifreport.NewV210Report()
	document.AddRun(run)
	return document.PrettyWrite(w)
}

// result is one test in JUnit's terms.
type result struct {
	suite, name string
	took        time.Duration
	skipped     bool
	// failure is empty where the test has passed.
	failure string
}

// writeJUnit writes results in JUnit's format, in suites of their own.
func writeJUnit(w io.Writer, results []result) error {
	var suites junit.Testsuites
	var order []string
	bySuite := map[string]*junit.Testsuite{}
	for _, r := range results {
		suite := bySuite[r.suite]
		if suite == nil {
			suite = &junit.Testsuite{Name: r.suite, Time: "0.000"}
			bySuite[r.suite] = suite
			order = append(order, r.suite)
		}
		test := junit.Testcase{Name: r.name, Classname: r.suite, Time: fmt.Sprintf("%.3f", r.took.Seconds())}
		switch {
		case r.skipped:
			test.Skipped = &junit.Result{}
		case r.failure != "":
			test.Failure = &junit.Result{Message: "failed", Data: r.failure}
		}
		suite.AddTestcase(test)
	}
	for _, name := range order {
		suites.AddSuite(*bySuite[name])
	}
	return suites.WriteXML(w)
}

// findingsAsTests makes a test of every file: it fails where an error was found.
func findingsAsTests(r *check.Report, files []*manifest.File) []result {
	failures := map[string]string{}
	for _, f := range r.Findings {
		if f.Severity == check.Error {
			failures[fileOf(f)] += fmt.Sprintf("%s: %s [%s]\n", f.Position, described(f), f.Code)
		}
	}
	var results []result
	for _, f := range files {
		results = append(results, result{suite: "check", name: f.Name, failure: failures[f.Name]})
	}
	if elsewhere := failures[""]; elsewhere != "" {
		results = append(results, result{suite: "check", name: "policies", failure: elsewhere})
	}
	return results
}

// results are the tests in JUnit's terms.
func (t *tests) results() (results []result) {
	for _, r := range t.Rego {
		one := result{suite: r.Package, name: r.Name, took: time.Duration(r.Ms) * time.Millisecond, skipped: r.Outcome == "skip"}
		if !r.passed() {
			one.failure = r.Location + ": " + r.Outcome + "\n" + r.Message + r.Output
		}
		results = append(results, one)
	}
	for i := range t.Scenarios {
		s := &t.Scenarios[i]
		one := result{suite: "scenarios", name: s.File, took: time.Duration(s.Ms) * time.Millisecond}
		if !s.passed() {
			one.failure = s.Error
			for _, f := range s.Failures {
				one.failure += fmt.Sprintf("%s: %s: expected %s, actual %s\n", f.Workload, f.What, f.Expected, f.Actual)
			}
		}
		results = append(results, one)
	}
	return results
}
