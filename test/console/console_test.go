// Package console_test shows the console to a real browser, and does there what a person does.
package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is kubectl-placement, built from this source.
var program string

var ends []func()

// atExit has something done once all tests are over.
func atExit(f func()) { ends = append(ends, f) }

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "console")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(folder, "kubectl-placement")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", program, "../../cmd/kubectl-placement").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s", out)
		os.Exit(1)
	}
	code := m.Run()
	for _, end := range ends {
		end()
	}
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// console is kubectl placement console, as a person starts it.
type console struct {
	url, token string
	process    *os.Process
}

// start starts a console on files.
func start(t testing.TB, files ...string) *console {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, program, append([]string{"console", "--no-browser"}, files...)...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) }
	c.WaitDelay = 10 * time.Second
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the console prints no link: %v", err)
	}
	url, token, found := strings.Cut(strings.TrimSpace(line), "/#token=")
	if !found {
		t.Fatalf("the console prints %q in place of its link", line)
	}
	return &console{url: url, token: token, process: c.Process}
}

// read waits until the console has read its files, however long that takes.
func (c *console) read(t testing.TB) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/api/v1/workspaces", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
}

// run returns what a command of kubectl placement prints as JSON.
func run[T any](t testing.TB, args ...string) (answer T) {
	t.Helper()
	c := exec.Command(program, append(args, "-o", "json")...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}
