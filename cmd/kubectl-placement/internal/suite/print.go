package suite

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/kcp-placement/placement/offline/report"
)

// Print writes the tests that fail, with verbose all of them, and a line with the summary.
func (r *Report) Print(w io.Writer, verbose bool) {
	for i := range r.Rego {
		r.Rego[i].print(w, verbose)
	}
	for i := range r.Scenarios {
		r.Scenarios[i].print(w, verbose)
	}
	if r.Coverage != nil {
		r.Coverage.print(w)
	}
	s := r.Summary
	fmt.Fprintf(w, "%s %d passed, %d failed, %d skipped", mark(s.Failed == 0), s.Passed, s.Failed, s.Skipped)
	if s.Updated > 0 {
		fmt.Fprintf(w, ", %d updated", s.Updated)
	}
	fmt.Fprintf(w, " in %d ms: %d Rego tests, %d scenarios\n", s.ElapsedMs, len(r.Rego), len(r.Scenarios))
}

func (t *ScenarioTest) print(w io.Writer, verbose bool) {
	switch {
	case t.Updated:
		fmt.Fprintf(w, "UPDATED %s: %s\n", t.File, t.Title)
	case t.Passed() && verbose:
		fmt.Fprintf(w, "%s %s: %s (%d ms)\n", mark(true), t.File, t.Title, t.Ms)
	}
	if t.Passed() {
		return
	}
	fmt.Fprintln(w, mark(false), strings.TrimSuffix(t.File+": "+t.Title, ": "))
	if t.Error != "" {
		fmt.Fprintln(w, indent(t.Error))
	}
	for i, f := range t.Failures {
		if f.Step != "" && (i == 0 || t.Failures[i-1].Step != f.Step) {
			fmt.Fprintf(w, "  %s\n", f.Step)
		}
		fmt.Fprintf(w, "  %s\n    expected  %s\n    actual    %s\n", strings.TrimPrefix(f.Workload+": "+f.What, ": "), f.Expected, f.Actual)
		if len(f.Log) > 0 {
			fmt.Fprintf(w, "\n    since the step before:\n    %s\n\n", strings.Join(f.Log, "\n    "))
		}
		last := i+1 == len(t.Failures) || t.Failures[i+1].Workload != f.Workload
		if last && f.Decision != nil && f.Decision.Explained != nil {
			fmt.Fprintln(w)
			report.Explanation(indenter{w}, f.Decision.Explained, report.View{})
			fmt.Fprintln(w)
		}
	}
}

func (t *RegoTest) print(w io.Writer, verbose bool) {
	if t.Passed() && !verbose {
		return
	}
	fmt.Fprintf(w, "%s %s: %s.%s", mark(t.Passed()), t.Location, t.Package, t.Name)
	if t.Outcome == "skip" {
		fmt.Fprint(w, " (skipped)")
	}
	fmt.Fprintf(w, " (%d ms)\n", t.Ms)
	details := []string{t.Message, t.Output}
	if verbose {
		details = append(details, t.trace)
	}
	for _, detail := range details {
		if detail = strings.TrimRight(detail, "\n"); detail != "" {
			fmt.Fprintln(w, indent(detail))
		}
	}
}

func (c *Coverage) print(w io.Writer) {
	for _, f := range c.Files {
		fmt.Fprintf(w, "%5.1f%%  %s", f.Percent, f.File)
		if len(f.NotCovered) > 0 {
			fmt.Fprintf(w, "  not reached: %s", strings.Join(f.NotCovered, ", "))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%5.1f%%  of all lines of Rego\n", c.Percent)
}

// mark is PASS or FAIL, in colour on a terminal.
func mark(passed bool) string {
	if passed {
		return text.FgGreen.Sprint("PASS")
	}
	return text.FgRed.Sprint("FAIL")
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ")
}

// indenter indents what is written, line by line.
type indenter struct{ io.Writer }

func (i indenter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if strings.TrimSpace(line) != "" {
			line = "    " + line
		}
		if _, err := io.WriteString(i.Writer, line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
