// Package output writes the answers of commands in the format that --output selects. A format is a function in a file of
// its own and a line of formats.
package output

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// formats in the order in which --help lists them; the first is the default.
var formats = []format{
	newFormat("table", writeTable),
	newFormat("json", writeJSON),
	newFormat("yaml", writeYAML),
	newFormat("sarif", writeSARIF),
	newFormat("junit", writeJUnit),
}

// format writes the answers that it accepts.
type format struct {
	name    string
	accepts func(answer any) bool
	write   func(w io.Writer, answer any) error
}

// newFormat returns a format that accepts every answer of type A: usually an interface with what the format needs.
func newFormat[A any](name string, write func(w io.Writer, answer A) error) format {
	return format{
		name:    name,
		accepts: func(answer any) bool { _, ok := answer.(A); return ok },
		write:   func(w io.Writer, answer any) error { return write(w, answer.(A)) },
	}
}

// Flag is the flag --output of a command.
type Flag struct {
	name    string
	formats []format
}

// NewFlag adds --output to a command, with the formats that accept its answers, of which one is given as an example.
func NewFlag(c *cobra.Command, example any) *Flag {
	f := &Flag{}
	for _, format := range formats {
		if format.accepts(example) {
			f.formats = append(f.formats, format)
		}
	}
	f.name = f.formats[0].name
	if _, ok := example.(Documents); ok {
		f.name = "yaml"
	}
	c.Flags().StringVarP(&f.name, "output", "o", f.name, "Output format: "+strings.Join(f.names(), ", ")+".")
	_ = c.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return f.names(), cobra.ShellCompDirectiveNoFileComp
	})
	return f
}

func (f *Flag) names() []string {
	names := make([]string, len(f.formats))
	for i, format := range f.formats {
		names[i] = format.name
	}
	return names
}

// Validate fails where the flag names a format that the command does not have.
func (f *Flag) Validate() error {
	if !slices.Contains(f.names(), f.name) {
		return fmt.Errorf("-o %s: the formats are %s", f.name, strings.Join(f.names(), ", "))
	}
	return nil
}

// Write writes an answer in the selected format.
func (f *Flag) Write(w io.Writer, answer any) error {
	i := slices.IndexFunc(f.formats, func(format format) bool { return format.name == f.name })
	return f.formats[i].write(w, answer)
}
