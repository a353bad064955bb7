package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kcp-placement/placement/test/kcp"
)

const (
	// readyWithin is how long the controller may take until it is ready.
	readyWithin = 2 * time.Minute
	// quiet is how long the controller makes no pass once it is idle; longer than it gathers counts.
	quiet = 6 * time.Second
)

// program is the controller as its own process, with the kubeconfig of an administrator and the default flags.
type program struct {
	command *exec.Cmd
	address string
	log     string
	started time.Time
	exited  chan struct{} // closed once exit is set
	exit    error
}

func (b *bench) startProgram(ctx context.Context, more ...string) (*program, error) {
	kubeconfig := filepath.Join(b.dir, "controller.kubeconfig")
	if err := b.server.WriteKubeconfig(kcp.Provider, kubeconfig); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(b.dir, "controller.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &program{address: address, log: log.Name(), exited: make(chan struct{})}
	p.command = exec.CommandContext(ctx, b.controller, slices.Concat([]string{"--kubeconfig", kubeconfig, "--metrics-bind-address", address}, more, b.arguments)...)
	p.command.Cancel = func() error { return p.command.Process.Signal(syscall.SIGTERM) }
	p.command.WaitDelay = 15 * time.Second
	p.command.Stdout, p.command.Stderr = log, log
	p.started = time.Now()
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting the controller: %w", err)
	}
	go func() {
		p.exit = p.command.Wait()
		close(p.exited)
	}()
	return p, nil
}

// kill ends the controller as a crash would.
func (p *program) kill() {
	_ = p.command.Process.Kill()
	<-p.exited
}

// stop asks the controller to end, and kills it if it does not.
func (p *program) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(15 * time.Second):
		p.kill()
	}
}

// ready waits for /readyz and returns the time since the start of the process.
func (p *program) ready(ctx context.Context) (time.Duration, error) {
	last := "no answer"
	err := p.poll(ctx, readyWithin, func() bool {
		response, err := http.Get("http://" + p.address + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		last, _ = bufio.NewReader(response.Body).ReadString('\n')
		return response.StatusCode == http.StatusOK
	})
	if err != nil {
		return 0, fmt.Errorf("waiting for /readyz, which says %q: %w", strings.TrimSpace(last), err)
	}
	return time.Since(p.started), nil
}

// loaded waits until the first pass over so many workspaces has been made, and returns the time since the start of the
// process.
func (p *program) loaded(ctx context.Context, workspaces int) (time.Duration, error) {
	last := 0.0
	err := p.poll(ctx, readyWithin, func() bool {
		if m, err := p.metrics(); err == nil {
			last = m.sum("placement_workspaces_loaded")
		}
		return int(last) == workspaces
	})
	if err != nil {
		return 0, fmt.Errorf("%g of %d workspaces are loaded: %w", last, workspaces, err)
	}
	return time.Since(p.started), nil
}

// settled waits until the controller is ready and idle.
func (p *program) settled(ctx context.Context) error {
	if _, err := p.ready(ctx); err != nil {
		return err
	}
	passes, last := -1.0, time.Now()
	err := p.poll(ctx, readyWithin, func() bool {
		m, err := p.metrics()
		if err != nil {
			return false
		}
		if now := m.sum("placement_reconcile_duration_seconds_count"); now != passes {
			passes, last = now, time.Now()
		}
		return time.Since(last) >= quiet
	})
	if err != nil {
		return fmt.Errorf("waiting for the controller to rest: %w", err)
	}
	return nil
}

func (p *program) poll(ctx context.Context, within time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-p.exited:
			return fmt.Errorf("the controller has exited: %w\n%s", p.exit, p.tail())
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (p *program) tail() string {
	text, _ := os.ReadFile(p.log)
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

// metrics are the lines of the text format by name and labels.
type metrics map[string]float64

func (p *program) metrics() (metrics, error) {
	response, err := http.Get("http://" + p.address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return readMetrics(response.Body)
}

func readMetrics(text io.Reader) (metrics, error) {
	m := metrics{}
	scanner := bufio.NewScanner(text)
	for scanner.Scan() {
		line := scanner.Text()
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if value, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
				m[line[:i]] = value
			}
		}
	}
	return m, scanner.Err()
}

// sum adds up the series of a metric that have the given labels, each as name="value".
func (m metrics) sum(name string, labels ...string) (sum float64) {
	for line, value := range m {
		if line != name && !strings.HasPrefix(line, name+"{") {
			continue
		}
		all := true
		for _, label := range labels {
			all = all && strings.Contains(line, label)
		}
		if all {
			sum += value
		}
	}
	return sum
}

// since is how much each metric has grown.
func (m metrics) since(before metrics) metrics {
	grown := make(metrics, len(m))
	for line, value := range m {
		grown[line] = value - before[line]
	}
	return grown
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
