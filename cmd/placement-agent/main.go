// Command placement-agent reports one physical cluster's capacity and health to its ClusterRegistration in kcp.
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
		fmt.Fprintln(os.Stderr, "placement-agent:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := newOptions()
	c := &cobra.Command{
		Use:   "placement-agent",
		Short: "Report one physical cluster to its ClusterRegistration in kcp",
		Long: `placement-agent reports one physical cluster to its ClusterRegistration in a kcp workspace: what its nodes have, what
its pods request, and whether it can take more.

It runs in the cluster, or points at it by --kubeconfig. The credentials for kcp are others: --kcp-kubeconfig must point
at the workspace with the registration.`,
		Example: `  # in a pod of the cluster
  placement-agent --registration-name=frankfurt --location=eu-central --kcp-kubeconfig=/etc/kcp/kubeconfig

  # from elsewhere; nodes that are tainted for GPU workloads count as well
  placement-agent --registration-name=paris --kubeconfig=paris.kubeconfig --kcp-kubeconfig=kcp.kubeconfig \
    --tolerate=nvidia.com/gpu --capability=gpu:model=a100`,
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
