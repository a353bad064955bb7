// Package kcp runs a real kcp server on this machine and prepares it for placing: `make run` and the end-to-end
// tests use the same setup.
package kcp

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kcp-placement/placement/test/internal/process"
)

// BinaryVariable is the environment variable with the path of a kcp to use instead of building one.
const BinaryVariable = "KCP_BIN"

// Binary returns the path of a kcp server: KCP_BIN, or bin/kcp, which is built first from the Go modules pinned in
// test/kcp/server if it does not exist. That takes minutes, so progress is written to the writer.
func Binary(ctx context.Context, progress io.Writer) (string, error) {
	return process.Program{
		Name: "kcp", Variable: BinaryVariable, Module: "test/kcp/server", Package: "github.com/kcp-dev/kcp/cmd/kcp",
		Takes: "five to fifteen minutes on two cores",
	}.Binary(ctx, progress)
}

// Options of a Server.
type Options struct {
	// Binary of kcp.
	Binary string
	// Dir is where the server keeps its data. A server that is started again on the same folder finds it.
	Dir string
	// Users by their bearer tokens. They have no rights but those that a workspace grants them.
	Users map[string]string
}

// Server is a running kcp.
type Server struct {
	// AdminKubeconfig is the path of the administrator's kubeconfig.
	AdminKubeconfig string

	admin   *rest.Config
	process *process.Process
	port    int
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
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	tokens, text := filepath.Join(dir, "tokens.csv"), ""
	for token, user := range options.Users {
		text += fmt.Sprintf("%s,%s,%s\n", token, user, user)
	}
	if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &Server{AdminKubeconfig: filepath.Join(dir, "admin.kubeconfig"), port: ports[0]}
	s.process, err = process.Start("kcp", dir, options.Binary, "start", "--root-directory", dir, "--bind-address", "127.0.0.1",
		"--secure-port", strconv.Itoa(ports[0]), "--token-auth-file", tokens,
		"--embedded-etcd-client-port", strconv.Itoa(ports[1]), "--embedded-etcd-peer-port", strconv.Itoa(ports[2]))
	if err != nil {
		return nil, err
	}
	if err := s.process.WaitReady(ctx, 3*time.Minute, s.ready); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) ready(ctx context.Context) (bool, error) {
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
}

// Stop shuts the server down gracefully, then forcibly. It may be called again.
func (s *Server) Stop() { _ = s.process.Stop() }

// Config returns an administrator's configuration for a workspace, for example "root:team".
func (s *Server) Config(workspace string) *rest.Config {
	config := rest.CopyConfig(s.admin)
	host, _, _ := strings.Cut(config.Host, "/clusters/")
	config.Host = host + "/clusters/" + workspace
	// A test needs no client-side rate limit.
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
