package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// output is the flag -o.
type output struct {
	format  string
	formats []string
}

// newOutput adds -o to a command; table, json and yaml are always among the formats.
func newOutput(c *cobra.Command, more ...string) *output {
	o := &output{format: "table", formats: append([]string{"table", "json", "yaml"}, more...)}
	c.Flags().StringVarP(&o.format, "output", "o", o.format, "Format of the output: "+strings.Join(o.formats, ", ")+".")
	_ = c.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return o.formats, cobra.ShellCompDirectiveNoFileComp
	})
	return o
}

func (o *output) validate() error {
	if !slices.Contains(o.formats, o.format) {
		return fmt.Errorf("-o %s: the formats are %s", o.format, strings.Join(o.formats, ", "))
	}
	return nil
}

// print writes a value as JSON or YAML, or calls table.
func (o *output) print(w io.Writer, value any, table func()) error {
	switch o.format {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	case "yaml":
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	default:
		table()
		return nil
	}
}

// first returns the first error of several checks.
func first(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
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
