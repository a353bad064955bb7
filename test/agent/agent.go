// Package agent runs placement agents beside the clusters of the tests, as they are deployed: with the rights that docs/deploy gives
// them on either side, and no more.
package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/kcp-placement/placement/test/internal/access"
	"github.com/kcp-placement/placement/test/internal/objects"
	"github.com/kcp-placement/placement/test/internal/process"
)

// Options of an agent.
type Options struct {
	// Binary is the path of the program.
	Binary string
	// Dir is where its kubeconfigs and its log go.
	Dir string
	// Registration is the name by which the cluster registers.
	Registration string
	// Workspace is where. This and Cluster, the physical cluster, are the configurations of administrators, who give the agent its rights.
	Workspace, Cluster *rest.Config
	// Args are more flags.
	Args []string
}

// Start gives an agent its rights and starts it. The caller stops it.
func Start(ctx context.Context, o Options) (*process.Process, error) {
	binary, err := filepath.Abs(o.Binary) // it runs in Dir
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	inKCP, inCluster := filepath.Join(dir, "agent-kcp.kubeconfig"), filepath.Join(dir, "agent-cluster.kubeconfig")
	workspace, err := Rights(ctx, o.Workspace, o.Registration)
	if err != nil {
		return nil, err
	}
	if err := access.WriteKubeconfig(workspace, inKCP); err != nil {
		return nil, err
	}
	cluster, err := ClusterRights(ctx, o.Cluster, slices.Contains(o.Args, "--deliver"))
	if err != nil {
		return nil, err
	}
	if err := access.WriteKubeconfig(cluster, inCluster); err != nil {
		return nil, err
	}
	return process.Start("placement-agent", dir, binary, append([]string{
		"--registration-name", o.Registration, "--kcp-kubeconfig", inKCP, "--kubeconfig", inCluster,
	}, o.Args...)...)
}

// Rights gives the agent of a registration its rights in a workspace, and returns its configuration.
func Rights(ctx context.Context, workspace *rest.Config, registration string) (*rest.Config, error) {
	if err := applyRights(ctx, workspace, "agent-rbac.yaml", "frankfurt", registration); err != nil {
		return nil, err
	}
	return access.ServiceAccount(ctx, workspace, "default", "placement-agent-"+registration)
}

// ClusterRights gives an agent its rights in a physical cluster, with those to deliver or without, and returns its configuration.
func ClusterRights(ctx context.Context, cluster *rest.Config, deliver bool) (*rest.Config, error) {
	if err := applyRights(ctx, cluster, "agent.yaml"); err != nil {
		return nil, err
	}
	if deliver {
		if err := applyRights(ctx, cluster, "agent-deliver-rbac.yaml"); err != nil {
			return nil, err
		}
	}
	return access.ServiceAccount(ctx, cluster, "placement-system", "placement-agent")
}

// applyRights applies a file of docs/deploy, with what is replaced, but for the Deployment of the agent, which runs as a process here.
func applyRights(ctx context.Context, config *rest.Config, file string, replace ...string) error {
	manifest, err := os.ReadFile(filepath.Join(process.Root(), "docs", "deploy", file))
	if err != nil {
		return err
	}
	documents := slices.DeleteFunc(bytes.Split(manifest, []byte("\n---\n")), func(document []byte) bool {
		return bytes.Contains(document, []byte("\nkind: Deployment\n"))
	})
	text := strings.NewReplacer(replace...).Replace(string(bytes.Join(documents, []byte("\n---\n"))))
	return objects.ApplyAll(ctx, config, strings.NewReader(text))
}
