package input

import (
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/program"
)

const kindsFile = "kinds-file"

// AddKindsFile adds the flag that Kinds reads to the commands below c.
func AddKindsFile(c *cobra.Command) {
	c.PersistentFlags().String(kindsFile, "", "File with more kinds of workload, as kubectl placement kinds -o yaml shows them.")
}

// Kinds returns the kinds of workload: those that are known, and those of --kinds-file.
func Kinds(c *cobra.Command) (*workload.Table, error) {
	return program.Kinds(c.Flag(kindsFile).Value.String())
}
