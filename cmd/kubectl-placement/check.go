package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/report"
)

func checkCommand() *cobra.Command {
	var strict, verbose, regal bool
	c := &cobra.Command{
		Use:   "check [PATH...]",
		Short: "Find what is wrong with placements and policies",
		Long: `check reads files and folders, the working folder if none are named, and shows what is wrong in its place:

  objects      fields that the API does not know, types, values and rules, as the API server would say it
  constraints  CEL: syntax, types, and what an expression may cost against the limit
  policies     Rego: syntax, types, functions that policies may not call, limits, conflicts between modules, and what
               policies say of the workloads that are given
  warnings     OPA's strict mode, clusters that are named and not in the fleet, and with --regal the rules of Regal

What passes here comes into force when it is applied.`,
		Example: `  kubectl placement check my-policies
  kubectl placement check -f placements.yaml -f policies/ --verbose    # what each constraint may cost
  kubectl placement check . -o sarif > findings.sarif`,
	}
	paths, out := newPaths(c), newOutput(c, "sarif", "junit")
	c.Flags().BoolVar(&strict, "strict", false, "Fail on warnings, too.")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show what each constraint may cost.")
	c.Flags().BoolVar(&regal, "regal", false, "Add the findings of the linter Regal, which must be on the path, as warnings.")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := out.validate(); err != nil {
			return err
		}
		_, done := newProgress(c.ErrOrStderr(), "checking")
		defer done()
		files, err := readFiles(c.Context(), paths.of(args), c.InOrStdin(), manifestEndings...)
		if err != nil {
			return err
		}
		r, err := check.Run(c.Context(), files)
		if err != nil {
			return err
		}
		if regal {
			if err := regalCheck(c.Context(), files, r); err != nil {
				return err
			}
		}
		done()
		w := c.OutOrStdout()
		switch out.format {
		case "sarif":
			err = sarifReport(w, r)
		case "junit":
			err = writeJUnit(w, findingsAsTests(r, files))
		default:
			err = out.print(w, newFindings(r), func() { printFindings(w, r, len(files), verbose) })
		}
		if err != nil {
			return err
		}
		if r.Count(check.Error) > 0 || strict && len(r.Findings) > 0 {
			return failed{}
		}
		return nil
	}
	return c
}

// findings is the JSON of check.
type findings struct {
	Findings    []finding        `json:"findings"`
	Constraints []constraintCost `json:"constraints"`
	Summary     struct {
		Errors     int `json:"errors"`
		Warnings   int `json:"warnings"`
		Placements int `json:"placements"`
		Modules    int `json:"modules"`
	} `json:"summary"`
}

type finding struct {
	Severity string `json:"severity"`
	Code     string `json:"code"`
	File     string `json:"file"`
	// Line and Column are counted from 1; 0 where no place can be named.
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Object  string `json:"object"`
	Field   string `json:"field"`
	Message string `json:"message"`
}

type constraintCost struct {
	Placement  string `json:"placement"`
	Constraint string `json:"constraint"`
	File       string `json:"file"`
	Line       int    `json:"line"`
	// Cost is the most that one evaluation may cost, Limit what it may not exceed, in CEL's own units.
	Cost  uint64 `json:"cost"`
	Limit uint64 `json:"limit"`
}

func newFindings(r *check.Report) *findings {
	all := &findings{Findings: []finding{}, Constraints: []constraintCost{}}
	for _, f := range r.Findings {
		all.Findings = append(all.Findings, finding{
			string(f.Severity), f.Code, fileOf(f), f.Line, f.Column, f.Object, f.Field, f.Message,
		})
	}
	for _, c := range r.Costs {
		file := ""
		if c.File != nil {
			file = c.File.Name
		}
		all.Constraints = append(all.Constraints, constraintCost{c.Placement, c.Constraint, file, c.Line, c.Cost, c.Limit})
	}
	all.Summary.Errors, all.Summary.Warnings = r.Count(check.Error), r.Count(check.Warning)
	all.Summary.Placements, all.Summary.Modules = r.Placements, r.Modules
	return all
}

func fileOf(f check.Finding) string {
	if f.File == nil {
		return ""
	}
	return f.File.Name
}

func printFindings(w io.Writer, r *check.Report, files int, verbose bool) {
	for _, f := range r.Findings {
		printFinding(w, f)
	}
	if verbose && len(r.Costs) > 0 {
		t := report.NewTable(w)
		t.AppendHeader(table.Row{"CONSTRAINT", "PLACEMENT", "MAY COST", "LIMIT", "AT"})
		for _, c := range r.Costs {
			t.AppendRow(table.Row{c.Constraint, c.Placement, c.Cost, c.Limit, c.Position})
		}
		t.Render()
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d files, %d placements, %d modules of Rego: %d errors, %d warnings\n",
		files, r.Placements, r.Modules, r.Count(check.Error), r.Count(check.Warning))
}

// printFinding writes a finding, and under it the line that it is about with the place underlined.
func printFinding(w io.Writer, f check.Finding) {
	severity := text.FgRed.Sprint(string(f.Severity))
	if f.Severity == check.Warning {
		severity = text.FgYellow.Sprint(string(f.Severity))
	}
	if place := f.String(); place != "" {
		severity = place + ": " + severity
	}
	fmt.Fprintf(w, "%s: %s [%s]\n", severity, described(f), f.Code)
	if f.File == nil || f.Line == 0 {
		return
	}
	line, margin := f.File.Line(f.Line), fmt.Sprintf("%5d | ", f.Line)
	runes := []rune(line)
	if len(runes) > 200 || f.Column < 1 || f.Column > len(runes)+1 {
		return
	}
	// Tabs stay tabs, so that what is underlined stands above its line.
	var before strings.Builder
	for _, r := range runes[:f.Column-1] {
		if r == '\t' {
			before.WriteRune('\t')
		} else {
			before.WriteRune(' ')
		}
	}
	fmt.Fprintf(w, "%s%s\n%s%s%s\n", margin, line, strings.Repeat(" ", len(margin)-2)+"| ", before.String(),
		text.FgRed.Sprint(strings.Repeat("^", length(runes[f.Column-1:]))))
}

// described is what was found, of which field of which object.
func described(f check.Finding) string {
	return strings.Join(slices.DeleteFunc([]string{f.Object, f.Field, f.Message}, func(part string) bool { return part == "" }), ": ")
}

// length of the word that a text begins with; at least 1.
func length(rest []rune) int {
	n := 0
	for n < len(rest) && (rest[n] == '_' || rest[n] >= '0' && rest[n] <= '9' || rest[n] >= 'A' && rest[n] <= 'Z' || rest[n] >= 'a' && rest[n] <= 'z') {
		n++
	}
	return max(1, n)
}
