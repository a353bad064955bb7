// Command benche2e measures the controller as users run it, against a real kcp on the same machine: a burst beside bare
// writes, a steady stream beside bare writes, and a restart with everything placed. It prints one table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/test/kcp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench-e2e:", err)
		os.Exit(2)
	}
	// client-go logs watches that end with the server.
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	if err := run(ctx, o); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "interrupted")
			os.Exit(130)
		}
		fmt.Fprintln(os.Stderr, "bench-e2e:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	workspaces, clusters, deployments int
	writes                            int
	rate                              float64
	duration                          time.Duration
	deliveryClusters                  int
	deliveryWorkloads                 int
	steps                             string
	controller, agent                 string
	arguments                         []string
	output                            string
	keep                              bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench-e2e", flag.ContinueOnError)
	flags.IntVar(&o.workspaces, "workspaces", 20, "workspaces")
	flags.IntVar(&o.clusters, "clusters", 50, "clusters in each workspace")
	flags.IntVar(&o.deployments, "deployments", 250, "Deployments in each workspace that the burst places")
	flags.IntVar(&o.writes, "writes", 1000, "objects that bare writing creates")
	flags.Float64Var(&o.rate, "rate", 20, "Deployments a second in the steady stream")
	flags.DurationVar(&o.duration, "duration", 30*time.Second, "how long the steady stream lasts")
	flags.IntVar(&o.deliveryClusters, "delivery-clusters", 10, "clusters that workloads are delivered to")
	flags.IntVar(&o.deliveryWorkloads, "delivery-workloads", 1000, "Deployments that the burst delivers")
	flags.StringVar(&o.steps, "steps", "all", "all, placing or delivery")
	flags.StringVar(&o.agent, "agent", "bin/placement-agent", "program of the agents")
	flags.StringVar(&o.controller, "controller", "bin/placement-controller", "program of the controller; what follows -- on the command line are its flags")
	flags.StringVar(&o.output, "o", "table", "table or json")
	flags.BoolVar(&o.keep, "keep", false, "keep the folder with the logs and the server's data")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.arguments = flags.Args()
	switch {
	case o.steps != "all" && o.steps != "placing" && o.steps != "delivery":
		return o, fmt.Errorf("-steps %s: they are all, placing or delivery", o.steps)
	case o.deliveryClusters < 1 || o.deliveryWorkloads < 1 || o.workspaces < 1 || o.clusters < 1 || o.deployments < 1 || o.writes < 1 || o.rate <= 0 || o.duration <= 0:
		return o, errors.New("all numbers must be more than 0")
	case o.output != "table" && o.output != "json":
		return o, fmt.Errorf("-o %s: the formats are table and json", o.output)
	}
	return o, nil
}

// bench is one run.
type bench struct {
	options
	dir    string
	start  time.Time
	server *kcp.Server
	teams  []*team
	seen   *firstSeen
	result result
}

// say reports progress on stderr.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(b.start).Seconds(), fmt.Sprintf(format, args...))
}

func run(ctx context.Context, o options) error {
	b := &bench{options: o, start: time.Now(), seen: newFirstSeen()}
	if load := loadAverage(); load > 0.5 {
		b.say("the machine is busy (load %.1f): the results are worse than it can do", load)
	}
	binary, err := kcp.Binary(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if b.controller, err = filepath.Abs(o.controller); err != nil {
		return err
	}
	if b.agent, err = filepath.Abs(o.agent); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "placement-bench-"); err != nil {
		return err
	}
	if o.keep {
		b.say("logs and data are in %s", b.dir)
	} else {
		defer os.RemoveAll(b.dir)
	}
	if o.steps != "delivery" {
		if err := b.on(ctx, binary, "kcp", b.measure); err != nil {
			return err
		}
	}
	if o.steps != "placing" {
		if err := b.on(ctx, binary, "kcp-delivery", b.delivery); err != nil {
			return fmt.Errorf("delivery: %w", err)
		}
	}
	return b.result.print(os.Stdout, o.output)
}

// on measures on a kcp of its own.
func (b *bench) on(ctx context.Context, binary, dir string, measure func(context.Context) error) (err error) {
	b.say("starting kcp, which takes about half a minute")
	if b.server, err = kcp.Start(ctx, kcp.Options{Binary: binary, Dir: filepath.Join(b.dir, dir)}); err != nil {
		return err
	}
	defer b.server.Stop()
	if err := b.server.Install(ctx); err != nil {
		return err
	}
	// Watches end before the server does.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	return measure(ctx)
}

// loadAverage is the load of the last minute; 0 where it is not known.
func loadAverage() (load float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(string(text), &load)
	return load
}

// measure makes all measurements in order.
func (b *bench) measure(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"preparing", b.prepare},
		{"bare writes", b.bare},
		{"placing", b.placing},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// placing measures all that needs the controller.
func (b *bench) placing(ctx context.Context) error {
	p, err := b.startProgram(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if p != nil {
			p.stop()
		}
	}()
	if err := p.settled(ctx); err != nil {
		return err
	}
	if err := b.burst(ctx, p); err != nil {
		return fmt.Errorf("burst: %w", err)
	}
	if err := b.steady(ctx, p); err != nil {
		return fmt.Errorf("steady stream: %w", err)
	}
	p, err = b.restart(ctx, p)
	if err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	return nil
}
