package output_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
)

// data is an answer that is nothing but data.
type data struct {
	Name  string `json:"name"`
	Empty []int  `json:"empty"`
}

// tabular is an answer that has a table, too.
type tabular struct{ data }

func (t tabular) Table(w io.Writer) { fmt.Fprintf(w, "NAME\n%s\n", t.Name) }

// checked and tested are answers of check and test.
type checked struct {
	tabular
	findings []check.Finding
}

func (c checked) Report() *check.Report { return &check.Report{Findings: c.findings} }

type tested struct {
	tabular
	tests []output.Test
}

func (t tested) Tests() []output.Test { return t.tests }

// write runs a command that gives an answer, with the flags.
func write(t *testing.T, answer any, flags ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := &cobra.Command{Use: "answer", SilenceUsage: true, SilenceErrors: true}
	flag := output.NewFlag(c, answer)
	c.PreRunE = func(*cobra.Command, []string) error { return flag.Validate() }
	c.RunE = func(*cobra.Command, []string) error { return flag.Write(&out, answer) }
	c.SetArgs(append([]string{}, flags...))
	c.SetOut(&out)
	err := c.Execute()
	return out.String(), err
}

// TestFormats: what each format makes of an answer.
func TestFormats(t *testing.T) {
	file := &manifest.File{Name: "a b.yaml"}
	at := manifest.Position{File: file, Line: 3, Column: 5}
	for _, test := range []struct {
		name   string
		answer any
		format string
		want   []string
	}{
		{"the table is the default", tabular{data{Name: "a<b"}}, "", []string{"NAME\na<b\n"}},
		{"names are not escaped in JSON", tabular{data{Name: "a<b", Empty: []int{}}}, "json", []string{"{\n  \"name\": \"a<b\",\n  \"empty\": []\n}\n"}},
		{"YAML has the names of the JSON", tabular{data{Name: "a"}}, "yaml", []string{"empty: null\nname: a\n"}},
		{"a finding of a file has its region", checked{findings: []check.Finding{{Severity: check.Error, Code: "cel", Position: at, Object: "Job a", Field: "spec", Message: "wrong"}}}, "sarif",
			[]string{`"ruleId": "cel"`, `"level": "error"`, `"text": "Job a: spec: wrong"`, `"uri": "a%20b.yaml"`, `"startLine": 3`, `"startColumn": 5`}},
		{"a finding of no file has no location", checked{findings: []check.Finding{{Severity: check.Warning, Code: "x", Message: "wrong"}}}, "sarif",
			[]string{`"level": "warning"`, `"text": "wrong"`}},
		{"tests come by suite", tested{tests: []output.Test{
			{Suite: "a", Name: "passes", Duration: 1500 * time.Millisecond}, {Suite: "b", Name: "skips", Skipped: true}, {Suite: "a", Name: "fails", Failure: "1 < 2"},
		}}, "junit", []string{
			`<testsuites tests="3" failures="1" skipped="1">`, `<testsuite name="a" tests="2" failures="1"`, `<testcase name="passes" classname="a" time="1.500">`,
			`<failure message="failed"><![CDATA[1 < 2]]></failure>`, `<testsuite name="b" tests="1" failures="0" errors="0" id="0" skipped="1"`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var flags []string
			if test.format != "" {
				flags = []string{"-o", test.format}
			}
			got, err := write(t, test.answer, flags...)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("got\n%s\nwithout\n%s", got, want)
				}
			}
		})
	}
}

// TestFlag: a command has the formats that can express its answer, and no other.
func TestFlag(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer any
		want   string
	}{
		{"data", data{}, "json, yaml"},
		{"a table", tabular{}, "table, json, yaml"},
		{"a check", checked{}, "table, json, yaml, sarif"},
		{"tests", tested{}, "table, json, yaml, junit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := write(t, test.answer, "-o", "xml")
			if want := "-o xml: the formats are " + test.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			help, err := write(t, test.answer, "--help")
			if want := "Output format: " + test.want + "."; err != nil || !strings.Contains(help, want) {
				t.Errorf("%v, help without %q:\n%s", err, want, help)
			}
		})
	}
}
