// Package kcp runs a real kcp server on this machine and prepares it for placing: `make run` and the end-to-end
// tests stand on the same ground.
package kcp

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// BinaryVariable names the environment variable with the path of a kcp to use instead of building one.
const BinaryVariable = "KCP_BIN"

// root is the project's folder: the tests and `make run` both start below it.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Binary returns the path of a kcp server: what KCP_BIN says, or bin/kcp, which is built from the Go modules pinned
// in test/kcp/server where it is not there yet. That takes minutes, so progress is told how it goes.
func Binary(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("%s: %w", BinaryVariable, err)
		}
		return filepath.Abs(path)
	}
	path, err := filepath.Abs(filepath.Join(root(), "bin", "kcp"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, build(ctx, path, progress)
}

func build(ctx context.Context, path string, progress io.Writer) error {
	start := time.Now()
	fmt.Fprintf(progress, "building kcp from its Go modules into %s, once; five to fifteen minutes on two cores\n", path)
	command := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-v", "-o", path, "github.com/kcp-dev/kcp/cmd/kcp")
	command.Dir = filepath.Join(root(), "test", "kcp", "server")
	command.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
	output := &lastLine{}
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		return fmt.Errorf("building kcp: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("building kcp: %w\n%s", err, output.tail())
			}
			fmt.Fprintf(progress, "built kcp in %s\n", time.Since(start).Round(time.Second))
			return nil
		case <-tick.C:
			fmt.Fprintf(progress, "  %s  %d steps, now %s\n", time.Since(start).Round(time.Second), output.lines(), output.last())
		}
	}
}

// Options of a Server.
type Options struct {
	// Binary of kcp.
	Binary string
	// Dir keeps the server's data; a server started again on the same folder finds it.
	Dir string
}

// Server is a running kcp.
type Server struct {
	// AdminKubeconfig is the path of the administrator's kubeconfig.
	AdminKubeconfig string

	admin   *rest.Config
	command *exec.Cmd
	port    int
	exited  chan struct{} // closed once exit is set
	exit    error
	logPath string
}

// Start starts a server on free ports of the loopback address and waits until it answers. The caller stops it.
func Start(ctx context.Context, options Options) (*Server, error) {
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s := &Server{
		AdminKubeconfig: filepath.Join(dir, "admin.kubeconfig"),
		port:            ports[0],
		exited:          make(chan struct{}),
		logPath:         filepath.Join(dir, "kcp.log"),
	}
	log, err := os.Create(s.logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.command = exec.Command(options.Binary, "start", "--root-directory", dir, "--bind-address", "127.0.0.1",
		"--secure-port", strconv.Itoa(ports[0]),
		"--embedded-etcd-client-port", strconv.Itoa(ports[1]), "--embedded-etcd-peer-port", strconv.Itoa(ports[2]))
	s.command.Dir = dir
	s.command.Stdout, s.command.Stderr = log, log
	// A group of its own keeps the terminal's Ctrl-C from it: it is stopped in order, by Stop.
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(s.command.SysProcAttr)
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("starting kcp: %w", err)
	}
	go func() {
		s.exit = s.command.Wait()
		close(s.exited)
	}()
	if err := s.ready(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("kcp is not ready: %w\nthe end of its log, %s:\n%s", err, s.logPath, tailOf(s.logPath))
	}
	return s, nil
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.exited:
			cancel(fmt.Errorf("it has exited: %w", s.exit))
		case <-ctx.Done():
		}
	}()
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		var err error
		s.admin, err = clientcmd.BuildConfigFromFlags("", s.AdminKubeconfig)
		if err != nil || !strings.Contains(s.admin.Host, fmt.Sprintf("127.0.0.1:%d/", s.port)) {
			return false, nil // not written yet, or by an earlier run
		}
		client, err := discovery.NewDiscoveryClientForConfig(s.Config("root"))
		if err != nil {
			return false, err
		}
		if _, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
			return false, nil
		}
		_, err = client.ServerResourcesForGroupVersion("tenancy.kcp.io/v1alpha1")
		return err == nil, nil
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// Stop ends the server, gently first. It may be called again.
func (s *Server) Stop() {
	_ = syscall.Kill(-s.command.Process.Pid, syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL)
		<-s.exited
	}
}

// Config returns an administrator's configuration for a workspace, for example "root:team".
func (s *Server) Config(workspace string) *rest.Config {
	config := rest.CopyConfig(s.admin)
	host, _, _ := strings.Cut(config.Host, "/clusters/")
	config.Host = host + "/clusters/" + workspace
	// A test is one of few users: it need not hold itself back.
	config.QPS, config.Burst = 200, 400
	return config
}

// WriteKubeconfig writes an administrator's kubeconfig for a workspace.
func (s *Server) WriteKubeconfig(workspace, path string) error {
	config, err := clientcmd.LoadFromFile(s.AdminKubeconfig)
	if err != nil {
		return err
	}
	current := config.Contexts[config.CurrentContext]
	cluster := config.Clusters[current.Cluster].DeepCopy()
	cluster.Server = s.Config(workspace).Host
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{workspace: cluster},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": config.AuthInfos[current.AuthInfo]},
		Contexts:       map[string]*clientcmdapi.Context{workspace: {Cluster: workspace, AuthInfo: "admin"}},
		CurrentContext: workspace,
	}, path)
}

func freePorts(n int) ([]int, error) {
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

func tailOf(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
