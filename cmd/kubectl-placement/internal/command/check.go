package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/regal"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/report"
)

func checkCommand() *cobra.Command {
	var strict, verbose, lint bool
	c := &cobra.Command{
		Use:   "check [PATH...]",
		Short: "Find errors in placements and policies",
		Long: `check reads files and folders, by default the working folder, and reports every error at its position:

  objects      unknown fields, types, values and rules, in the words of the API server
  constraints  CEL: syntax, types, and the cost of an expression against its limit
  policies     Rego: syntax, types, functions that policies may not call, size limits, conflicts between modules, and errors
               when the policies are evaluated for the given workloads, and for made-up ones of every kind
  in vain      names that nothing in the given fleet has, selectors and constraints that are the same for all, or that none of the
               clusters and workloads meets, numbers in the wrong unit, annotations that nothing reads, placements and workloads
               without each other, workloads without requests, what of a pod placing does not look at
  sharing      ClusterSets and ClusterSetBindings: workspaces, sets and resources that there are not, selectors that select nothing,
               quotas and guarantees that come to more than the clusters have; placements of a team with the clusters it sees
  warnings     OPA's strict mode, and with --regal the rules of Regal

What passes comes into force when it is applied. What constraints and policies can say: kubectl placement reference.`,
		Example: `  kubectl placement check my-policies
  kubectl placement check -f placements.yaml -f policies/ --verbose    # what each constraint may cost
  kubectl placement check . -o sarif > findings.sarif`,
	}
	paths, out := input.NewPaths(c), output.NewFlag(c, &findings{})
	c.Flags().BoolVar(&strict, "strict", false, "Fail on warnings, too.")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show what each constraint may cost.")
	c.Flags().BoolVar(&lint, "regal", false, "Add the findings of the linter Regal, which must be on the path, as warnings.")
	c.PreRunE = validate(out)
	c.RunE = func(c *cobra.Command, args []string) error {
		_, done := terminal.Progress(c.ErrOrStderr(), "checking")
		defer done()
		files, err := input.Files(c.Context(), paths.Of(args), c.InOrStdin(), input.ManifestEndings...)
		if err != nil {
			return err
		}
		kinds, err := input.Kinds(c)
		if err != nil {
			return err
		}
		r, err := check.Run(c.Context(), kinds, files)
		if err != nil {
			return err
		}
		if lint {
			if err := regal.Check(c.Context(), files, r); err != nil {
				return err
			}
		}
		done()
		if err := out.Write(c.OutOrStdout(), newFindings(r, files, verbose)); err != nil {
			return err
		}
		if r.Count(check.Error) > 0 || strict && len(r.Findings) > 0 {
			return exit.Failure{}
		}
		return nil
	}
	return c
}

// findings is the answer of check.
type findings struct {
	Findings    []finding        `json:"findings"`
	Constraints []constraintCost `json:"constraints"`
	Summary     struct {
		Errors     int `json:"errors"`
		Warnings   int `json:"warnings"`
		Placements int `json:"placements"`
		Modules    int `json:"modules"`
	} `json:"summary"`

	report  *check.Report
	files   []*manifest.File
	verbose bool
}

type finding struct {
	Severity string `json:"severity"`
	Code     string `json:"code"`
	File     string `json:"file"`
	// Line and Column count from 1; 0 where the position is not known.
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
	// Cost is the most that one evaluation may cost, Limit the highest cost allowed, in CEL's cost units.
	Cost  uint64 `json:"cost"`
	Limit uint64 `json:"limit"`
}

func newFindings(r *check.Report, files []*manifest.File, verbose bool) *findings {
	all := &findings{Findings: []finding{}, Constraints: []constraintCost{}, report: r, files: files, verbose: verbose}
	for _, f := range r.Findings {
		all.Findings = append(all.Findings, finding{
			string(f.Severity), f.Code, fileName(f.Position), f.Line, f.Column, f.Object, f.Field, f.Message,
		})
	}
	for _, c := range r.Costs {
		all.Constraints = append(all.Constraints, constraintCost{c.Placement, c.Constraint, fileName(c.Position), c.Line, c.Cost, c.Limit})
	}
	all.Summary.Errors, all.Summary.Warnings = r.Count(check.Error), r.Count(check.Warning)
	all.Summary.Placements, all.Summary.Modules = r.Placements, r.Modules
	return all
}

func fileName(p manifest.Position) string {
	if p.File == nil {
		return ""
	}
	return p.File.Name
}

// Table implements output.Tabular.
func (f *findings) Table(w io.Writer) { report.Check(w, f.report, len(f.files), f.verbose) }

// Report implements output.Checked.
func (f *findings) Report() *check.Report { return f.report }

// Tests implements output.Tested: every file is a test, which fails on errors.
func (f *findings) Tests() (tests []output.Test) {
	failures := map[string]string{}
	for _, found := range f.report.Findings {
		if found.Severity == check.Error {
			failures[fileName(found.Position)] += fmt.Sprintf("%s: %s [%s]\n", found.Position, found.Description(), found.Code)
		}
	}
	for _, file := range f.files {
		tests = append(tests, output.Test{Suite: "check", Name: file.Name, Failure: failures[file.Name]})
	}
	if elsewhere := failures[""]; elsewhere != "" {
		tests = append(tests, output.Test{Suite: "check", Name: "policies", Failure: elsewhere})
	}
	return tests
}
