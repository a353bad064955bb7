// Command kubectl-placement writes, checks, tests, simulates and explains placement policies, offline or against a live
// workspace. Installed on the path it is the kubectl plugin `kubectl placement`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(command.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
