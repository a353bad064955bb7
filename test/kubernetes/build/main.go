// Command build builds the programs of the tests' physical cluster and kubectl, shows progress, and prints their paths.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/kcp-placement/placement/test/kubernetes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context) error {
	p, err := kubernetes.ClusterBinaries(ctx, os.Stderr)
	if err != nil {
		return err
	}
	kubectl, err := kubernetes.Kubectl(ctx, os.Stderr)
	if err != nil {
		return err
	}
	for _, path := range []string{p.Etcd, p.APIServer, p.ControllerManager, p.Scheduler, p.KWOK, kubectl} {
		fmt.Println(path)
	}
	return nil
}
