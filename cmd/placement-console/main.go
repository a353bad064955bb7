// Command placement-console serves the console to the users of a kcp, each with the rights of a token of their own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/internal/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "placement-console:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := newOptions()
	c := &cobra.Command{
		Use:   "placement-console",
		Short: "Serve the console to the users of a kcp",
		Long: `placement-console serves pages that show the fleet, the workloads and the queue of a workspace, why a workload runs where it
does, and what other policies would move.

Each user signs in with a token of the kcp. All that a user sees is read with that token, so that everybody sees what they may
see; the console has no credentials, no rights and no data of its own, and it writes nothing. A user who needs no console in
a cluster runs kubectl placement console.`,
		Example:      `  placement-console --server https://kcp.example.com:6443 --server-ca-file ca.crt --tls-cert-file tls.crt --tls-private-key-file tls.key`,
		Args:         cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		Version: build.Version(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return o.run(c.Context(), c.ErrOrStderr())
		},
	}
	o.addFlags(c.Flags())
	return c
}
