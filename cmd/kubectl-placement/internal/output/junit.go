package output

import (
	"fmt"
	"io"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"
)

// Tested is an answer that consists of tests.
type Tested interface {
	Tests() []Test
}

// Test is the result of one test.
type Test struct {
	Suite, Name string
	Duration    time.Duration
	Skipped     bool
	// Failure is empty where the test passed.
	Failure string
}

// writeJUnit writes tests by their suites, in order of first appearance, as JUnit's XML.
func writeJUnit(w io.Writer, answer Tested) error {
	var names []string
	suites := map[string]*junit.Testsuite{}
	for _, t := range answer.Tests() {
		suite := suites[t.Suite]
		if suite == nil {
			suite = &junit.Testsuite{Name: t.Suite, Time: "0.000"}
			suites[t.Suite] = suite
			names = append(names, t.Suite)
		}
		one := junit.Testcase{Name: t.Name, Classname: t.Suite, Time: fmt.Sprintf("%.3f", t.Duration.Seconds())}
		switch {
		case t.Skipped:
			one.Skipped = &junit.Result{}
		case t.Failure != "":
			one.Failure = &junit.Result{Message: "failed", Data: t.Failure}
		}
		suite.AddTestcase(one)
	}
	var all junit.Testsuites
	for _, name := range names {
		all.AddSuite(*suites[name])
	}
	return all.WriteXML(w)
}
