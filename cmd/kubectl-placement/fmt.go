package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/offline/manifest"
)

func fmtCommand() *cobra.Command {
	var check, diff bool
	c := &cobra.Command{
		Use:   "fmt [PATH...]",
		Short: "Format Rego as opa fmt does, in files and in ConfigMaps",
		Long: `fmt rewrites files of Rego, and the Rego in ConfigMaps with policies, in OPA's format. It reads files and folders, the
working folder if none are named. In a ConfigMap only modules that are written as blocks (a.rego: |) are formatted; all
else in the file stays as it is.`,
		Example: `  kubectl placement fmt my-policies
  kubectl placement fmt --check --diff my-policies    # in CI: change nothing, fail if anything would change`,
	}
	paths, out := newPaths(c), newOutput(c)
	c.Flags().BoolVar(&check, "check", false, "Change nothing, and fail if a file is not formatted.")
	c.Flags().BoolVar(&diff, "diff", false, "Show what changes.")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := out.validate(); err != nil {
			return err
		}
		files, err := readFiles(c.Context(), paths.of(args), c.InOrStdin(), manifestEndings...)
		if err != nil {
			return err
		}
		changed := []string{}
		var wrong []error
		for _, f := range files {
			text, err := manifest.Rewrite(f, formatted)
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			if f.Name == "-" && !check {
				// Changed or not, and as it is: whoever pipes it wants it back.
				if _, err := io.WriteString(raw(c.OutOrStdout()), text); err != nil {
					return err
				}
			}
			if text == f.Text {
				continue
			}
			changed = append(changed, f.Name)
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
			if err := out.print(c.OutOrStdout(), map[string]any{"changed": changed}, func() {
				for _, name := range changed {
					fmt.Fprintln(c.OutOrStdout(), name)
				}
			}); err != nil {
				return err
			}
		}
		if err := errors.Join(wrong...); err != nil || check && len(changed) > 0 {
			return failed{err}
		}
		return nil
	}
	return c
}

// formatted is a module in OPA's format.
func formatted(name, module string) (string, error) {
	text, err := format.SourceWithOpts(name, []byte(module), format.Opts{RegoVersion: ast.RegoV1})
	return string(text), err
}
