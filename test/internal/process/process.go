// Package process builds the servers of the tests from pinned Go modules, and runs them and other programs as processes
// that end with the one that started them.
package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Process is a running program.
type Process struct {
	// LogPath is the file with what the program prints.
	LogPath string

	name    string
	command *exec.Cmd
	exited  chan struct{} // closed once exit is set
	exit    error
}

// Start starts a program in a folder, which is also where its log goes, as NAME.log. The caller stops it.
func Start(name, dir, binary string, args ...string) (*Process, error) {
	p := &Process{LogPath: filepath.Join(dir, name+".log"), name: name, exited: make(chan struct{})}
	log, err := os.Create(p.LogPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.command = exec.Command(binary, args...)
	p.command.Dir = dir
	p.command.Stdout, p.command.Stderr = log, log
	// In its own process group it does not receive the terminal's Ctrl-C: Stop ends it in order.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(p.command.SysProcAttr)
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.exit = p.command.Wait()
		close(p.exited)
	}()
	return p, nil
}

// WaitReady waits until the condition is met. It fails at once when the program exits, and says how its log ends.
func (p *Process) WaitReady(ctx context.Context, timeout time.Duration, condition wait.ConditionWithContextFunc) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.exited:
			cancel(fmt.Errorf("it has ended: %s", p.command.ProcessState))
		case <-ctx.Done():
		}
	}()
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, timeout, true, condition)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return fmt.Errorf("%s is not ready: %w\nthe end of its log, %s:\n%s", p.name, err, p.LogPath, p.Tail(20))
	}
	return nil
}

// Stop ends the program gracefully, then forcibly, and returns how it ended. It may be called again.
func (p *Process) Stop() error {
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT) // a paused program would not notice
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
	return p.exit
}

// Kill ends the program at once, with SIGKILL. It may be called again.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// Pause suspends the program until Resume.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume continues the program after Pause.
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

// signal signals the program's process group, unless the program has ended: its ID may have been reused by then.
func (p *Process) signal(signal syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.command.Process.Pid, signal)
	}
}

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Tail returns the last lines of what the program has printed.
func (p *Process) Tail(lines int) string {
	text, err := os.ReadFile(p.LogPath)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// FreePorts finds free ports of the loopback address.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
