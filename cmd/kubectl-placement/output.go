package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

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
