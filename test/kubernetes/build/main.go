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
	programs, err := kubernetes.Binaries(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	kubectl, err := kubernetes.Kubectl(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	fmt.Println(programs.Etcd)
	fmt.Println(programs.APIServer)
	fmt.Println(kubectl)
}
