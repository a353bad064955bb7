package input

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/live"
	"github.com/kcp-placement/placement/internal/program"
	"github.com/kcp-placement/placement/offline/manifest"
)

// live reads a workspace from a server, with those that it shares clusters with, and never writes to it.
func (s *Source) live(ctx context.Context, kinds *workload.Table, errOut io.Writer) ([]*manifest.Workspace, error) {
	r, err := s.reader(kinds)
	if err != nil {
		return nil, err
	}
	reading, err := r.Read(ctx)
	for _, note := range reading.Notes {
		fmt.Fprintln(errOut, note)
	}
	if err != nil {
		return nil, err
	}
	s.about = reading.About
	if len(reading.Wrong) > 0 {
		return reading.Workspaces, exit.Failure{Cause: manifest.Join(reading.Wrong)}
	}
	return reading.Workspaces, nil
}

// reader reads the live workspace.
func (s *Source) reader(kinds *workload.Table) (*live.Reader, error) {
	resources, err := kinds.Resources(s.kinds)
	if err != nil {
		return nil, fmt.Errorf("--workload-kinds: %w", err)
	}
	config, path, err := s.Config()
	if err != nil {
		return nil, err
	}
	return &live.Reader{Config: config, Path: path, Kinds: kinds, Resources: resources, Companions: s.companions, Works: s.works, Teams: s.teams}, nil
}

// Config returns the configuration of a client for the workspace, and the workspace's path.
func (s *Source) Config() (*rest.Config, string, error) {
	config, err := program.Kubeconfig(s.kubeconfig, s.context)
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, "", fmt.Errorf("there is no kubeconfig to read a live workspace with: give files or folders, or --kubeconfig")
		}
		return nil, "", err
	}
	config.QPS, config.Burst = 50, 100
	host, err := url.Parse(config.Host)
	if err != nil {
		return nil, "", fmt.Errorf("server %s: %w", config.Host, err)
	}
	before, path, found := strings.Cut(host.Path, "/clusters/")
	if s.workspace != "" {
		path = s.workspace
		host.Path = strings.TrimSuffix(before, "/") + "/clusters/" + path
		config.Host = host.String()
	} else if !found {
		return nil, "", fmt.Errorf("server %s is not a kcp workspace: name one by --workspace", config.Host)
	}
	return config, strings.Trim(path, "/"), nil
}
