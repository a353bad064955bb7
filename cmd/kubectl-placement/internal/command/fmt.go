package command

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/terminal"
	"github.com/kcp-placement/placement/offline/manifest"
)

func fmtCommand() *cobra.Command {
	var check, diff bool
	c := &cobra.Command{
		Use:   "fmt [PATH...]",
		Short: "Format Rego as opa fmt does, in files and in ConfigMaps",
		Long: `fmt formats Rego files, and the Rego in ConfigMaps with policies, as opa fmt does. It reads files and folders, by default
the working folder. In a ConfigMap it formats modules that are written as blocks (a.rego: |), and leaves the rest of the
file as it is.`,
		Example: `  kubectl placement fmt my-policies
  kubectl placement fmt --check --diff my-policies    # in CI: change nothing, fail if anything would change`,
	}
	paths, out := input.NewPaths(c), output.NewFlag(c, changed{})
	c.Flags().BoolVar(&check, "check", false, "Change nothing, and fail if a file is not formatted.")
	c.Flags().BoolVar(&diff, "diff", false, "Show what changes.")
	c.PreRunE = validate(out)
	c.RunE = func(c *cobra.Command, args []string) error {
		files, err := input.Files(c.Context(), paths.Of(args), c.InOrStdin(), input.ManifestEndings...)
		if err != nil {
			return err
		}
		answer := changed{Changed: []string{}}
		var wrong []error
		for _, f := range files {
			text, err := manifest.Rewrite(f, formatted)
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			if f.Name == "-" && !check {
				// Written even if unchanged, and unfiltered, as a filter in a pipe does.
				if _, err := io.WriteString(terminal.Raw(c.OutOrStdout()), text); err != nil {
					return err
				}
			}
			if text == f.Text {
				continue
			}
			answer.Changed = append(answer.Changed, f.Name)
			if diff {
				if err := difflib.WriteUnifiedDiff(c.ErrOrStderr(), difflib.UnifiedDiff{
					A: difflib.SplitLines(f.Text), FromFile: f.Name, B: difflib.SplitLines(text), ToFile: f.Name + " (formatted)", Context: 3,
				}); err != nil {
					return err
				}
			}
			if check || f.Name == "-" {
				continue
			}
			if err := os.WriteFile(f.Name, []byte(text), 0o644); err != nil {
				return err
			}
		}
		if len(files) != 1 || files[0].Name != "-" {
			if err := out.Write(c.OutOrStdout(), answer); err != nil {
				return err
			}
		}
		if err := errors.Join(wrong...); err != nil || check && len(answer.Changed) > 0 {
			return exit.Failure{Cause: err}
		}
		return nil
	}
	return c
}

// changed is the answer of fmt.
type changed struct {
	Changed []string `json:"changed"`
}

// Table implements output.Tabular.
func (c changed) Table(w io.Writer) {
	for _, name := range c.Changed {
		fmt.Fprintln(w, name)
	}
}

// formatted is a module in OPA's format.
func formatted(name, module string) (string, error) {
	text, err := format.SourceWithOpts(name, []byte(module), format.Opts{RegoVersion: ast.RegoV1})
	return string(text), err
}
