// Command placement-controller places the workloads of every kcp workspace that is bound to the placement API.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/kcp-placement/placement/internal/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "placement-controller:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := newOptions()
	c := &cobra.Command{
		Use:   "placement-controller",
		Short: "Place the workloads of kcp workspaces on physical clusters",
		Long: `placement-controller places the workloads of every kcp workspace that is bound to the placement API.

It follows the virtual workspaces of the APIExport through its APIExportEndpointSlice, decides for each workload that
a WorkloadPlacement selects, reserves what it promises, and publishes the decisions as PlacementDecisions.

The kubeconfig must point at the workspace that holds the APIExport.`,
		Example: `  # on a kcp where root:placement holds the APIExport
  placement-controller --kubeconfig placement.kubeconfig --leader-elect`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       build.Version(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := logsapi.ValidateAndApply(o.logs, nil); err != nil {
				return err
			}
			if err := o.validate(); err != nil {
				return err
			}
			completed, err := o.complete()
			if err != nil {
				return err
			}
			return completed.run(cmd.Context())
		},
	}
	logs.InitLogs()
	o.addFlags(c.Flags())
	c.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
	return c
}
