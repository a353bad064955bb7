package main

import (
	"fmt"
	"runtime"

	opa "github.com/open-policy-agent/opa/v1/version"
	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/internal/build"
)

func versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of the program and of what policies are written in",
		Args:  cobra.NoArgs,
	}
	out := newOutput(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := out.validate(); err != nil {
			return err
		}
		v := struct {
			Version        string `json:"version"`
			API            string `json:"api"`
			OPA            string `json:"opa"`
			CELEnvironment int    `json:"celEnvironment"`
			Go             string `json:"go"`
		}{build.Version(), v1alpha1.SchemeGroupVersion.String(), opa.Version, constraint.Version, runtime.Version()}
		return out.print(c.OutOrStdout(), v, func() {
			fmt.Fprintf(c.OutOrStdout(), "kubectl-placement %s\nAPI %s\nOPA %s\nCEL environment %d\n%s\n", v.Version, v.API, v.OPA, v.CELEnvironment, v.Go)
		})
	}
	return c
}
