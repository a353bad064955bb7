package command

import (
	"fmt"
	"io"
	"runtime"

	opa "github.com/open-policy-agent/opa/v1/version"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/internal/build"
)

func versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of the program, its API and its policy languages",
		Args:  cobra.NoArgs,
	}
	out := output.NewFlag(c, versions{})
	c.PreRunE = validate(out)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return out.Write(c.OutOrStdout(), versions{build.Version(), v1alpha1.SchemeGroupVersion.String(), opa.Version, constraint.Version, runtime.Version()})
	}
	return c
}

// versions is the answer of version.
type versions struct {
	Version        string `json:"version"`
	API            string `json:"api"`
	OPA            string `json:"opa"`
	CELEnvironment int    `json:"celEnvironment"`
	Go             string `json:"go"`
}

// Table implements output.Tabular.
func (v versions) Table(w io.Writer) {
	fmt.Fprintf(w, "kubectl-placement %s\nAPI %s\nOPA %s\nCEL environment %d\n%s\n", v.Version, v.API, v.OPA, v.CELEnvironment, v.Go)
}
