package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Program is a server of the tests that is built from pinned Go modules.
type Program struct {
	// Name of the program, which is built into bin/NAME.
	Name string
	// Variable is the environment variable with the path of a program to use instead of building one.
	Variable string
	// Module is the folder, from the project's, with the go.mod that pins the program and all it is built from.
	Module string
	// Package is the program's import path.
	Package string
	// Takes is how long it takes to build, for the message.
	Takes string
}

// Root is the folder of the project, as it was when this was compiled.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Binary returns the program's path: the value of the variable, or bin/NAME, which is built first if it does not exist. That
// takes minutes, so progress is written to the writer.
func (p Program) Binary(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv(p.Variable); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("%s: %w", p.Variable, err)
		}
		return filepath.Abs(path)
	}
	path, err := filepath.Abs(filepath.Join(Root(), "bin", p.Name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, p.build(ctx, path, progress)
}

// Source returns the folder of the Go module, which is downloaded first if need be, that has the program's source.
func (p Program) Source(ctx context.Context) (string, error) {
	command := p.command(ctx, "list", "-find", "-f", "{{.Module.Dir}}", p.Package)
	out, err := command.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("finding the source of %s: %w", p.Name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// command is one of Go's commands on the module that pins the program.
func (p Program) command(ctx context.Context, verb string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", append([]string{verb, "-mod=readonly"}, args...)...)
	command.Dir = filepath.Join(Root(), filepath.FromSlash(p.Module))
	command.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
	return command
}

func (p Program) build(ctx context.Context, path string, progress io.Writer) error {
	start := time.Now()
	fmt.Fprintf(progress, "building %s from its Go modules into %s, once; %s\n", p.Name, path, p.Takes)
	// Renamed once it is complete, so that another process never finds a part of it.
	unfinished := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer os.RemoveAll(unfinished)
	command := p.command(ctx, "build", "-trimpath", "-v", "-o", unfinished, p.Package)
	output := &lastLine{}
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		return fmt.Errorf("building %s: %w", p.Name, err)
	}
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("building %s: %w\n%s", p.Name, err, output.tail())
			}
			if err := os.Rename(unfinished, path); err != nil {
				return err
			}
			fmt.Fprintf(progress, "built %s in %s\n", p.Name, time.Since(start).Round(time.Second))
			return nil
		case <-tick.C:
			fmt.Fprintf(progress, "  %s  %d steps, now %s\n", time.Since(start).Round(time.Second), output.lines(), output.last())
		}
	}
}
