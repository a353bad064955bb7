package kcp

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds"
	"github.com/kcp-placement/placement/test/internal/objects"
)

// Provider is the workspace that exports the placement API and the workload kinds.
const Provider = "root:placement"

// Export is the name of the placement API's export, and of its APIExportEndpointSlice.
const Export = "tmc.kcp.io"

// workloadExports serve the workload kinds, and what is delivered with workloads, group by group.
var workloadExports = []string{"apps", "batch", "core", "autoscaling", "policy"}

//go:embed workloads/kcp/*.yaml
var workloads embed.FS

var (
	workspaces = schema.GroupVersionResource{Group: "tenancy.kcp.io", Version: "v1alpha1", Resource: "workspaces"}
	exports    = schema.GroupVersionResource{Group: "apis.kcp.io", Version: "v1alpha2", Resource: "apiexports"}
	bindings   = schema.GroupVersionResource{Group: "apis.kcp.io", Version: "v1alpha2", Resource: "apibindings"}
	slices     = schema.GroupVersionResource{Group: "apis.kcp.io", Version: "v1alpha1", Resource: "apiexportendpointslices"}
)

// Install creates the workspace Provider with its exports. It may be called again.
func (s *Server) Install(ctx context.Context) error {
	if err := s.CreateWorkspace(ctx, "root", "placement"); err != nil {
		return err
	}
	if err := s.applyFiles(ctx, workloads); err != nil {
		return fmt.Errorf("installing the workload kinds: %w", err)
	}
	client, err := s.dynamic(Provider)
	if err != nil {
		return err
	}
	identities := map[string]string{}
	for _, name := range workloadExports {
		err := objects.Poll(ctx, "the identity of export "+name, func(ctx context.Context) (bool, error) {
			export, err := client.Resource(exports).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			identities[name], _, err = unstructured.NestedString(export.Object, "status", "identityHash")
			return identities[name] != "", err
		})
		if err != nil {
			return err
		}
	}
	if err := s.applyFiles(ctx, crds.KCP, withIdentities(identities)); err != nil {
		return fmt.Errorf("installing the placement API: %w", err)
	}
	return objects.Poll(ctx, "the APIExportEndpointSlice "+Export, func(ctx context.Context) (bool, error) {
		_, err := client.Resource(slices).Get(ctx, Export, metav1.GetOptions{})
		return err == nil, ignoreNotFound(err)
	})
}

// withIdentities has the export claim all that delivery needs, with the identity hashes of the exports that serve it.
func withIdentities(identities map[string]string) func(*unstructured.Unstructured) error {
	return func(object *unstructured.Unstructured) error {
		if object.GetKind() != "APIExport" {
			return nil
		}
		claims := string(crds.DeliveryClaims)
		for export, identity := range identities {
			claims = strings.ReplaceAll(claims, "IDENTITY_OF_"+strings.ToUpper(export), identity)
		}
		patch := map[string]any{}
		if err := yaml.Unmarshal([]byte(claims), &patch); err != nil {
			return err
		}
		object.Object["spec"].(map[string]any)["permissionClaims"] = patch["spec"].(map[string]any)["permissionClaims"]
		return nil
	}
}

// CreateTeam creates the workspace root:NAME and binds the exports there with all claims accepted. It may be called again.
func (s *Server) CreateTeam(ctx context.Context, name string) error {
	if err := s.CreateWorkspace(ctx, "root", name); err != nil {
		return err
	}
	provider, err := s.dynamic(Provider)
	if err != nil {
		return err
	}
	team, err := s.dynamic("root:" + name)
	if err != nil {
		return err
	}
	for _, export := range append([]string{Export}, workloadExports...) {
		exported, err := provider.Resource(exports).Get(ctx, export, metav1.GetOptions{})
		if err != nil {
			return err
		}
		claims, _, err := unstructured.NestedSlice(exported.Object, "spec", "permissionClaims")
		if err != nil {
			return err
		}
		for _, claim := range claims {
			c := claim.(map[string]any)
			c["state"] = "Accepted"
			c["selector"] = map[string]any{"matchAll": true}
		}
		binding := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apis.kcp.io/v1alpha2", "kind": "APIBinding",
			"metadata": map[string]any{"name": export},
			"spec": map[string]any{
				"reference":        map[string]any{"export": map[string]any{"path": Provider, "name": export}},
				"permissionClaims": claims,
			},
		}}
		if err := objects.Apply(ctx, team.Resource(bindings), binding); err != nil {
			return fmt.Errorf("binding %s in root:%s: %w", export, name, err)
		}
	}
	for _, export := range append([]string{Export}, workloadExports...) {
		err := objects.Poll(ctx, fmt.Sprintf("root:%s to be bound to %s", name, export), func(ctx context.Context) (bool, error) {
			binding, err := team.Resource(bindings).Get(ctx, export, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			phase, _, err := unstructured.NestedString(binding.Object, "status", "phase")
			return phase == "Bound", err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CreateWorkspace creates a workspace and waits until it is ready. It may be called again.
func (s *Server) CreateWorkspace(ctx context.Context, parent, name string) error {
	client, err := s.dynamic(parent)
	if err != nil {
		return err
	}
	workspace := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"type": map[string]any{"name": "universal", "path": "root"}},
	}}
	return objects.Poll(ctx, "workspace "+parent+":"+name, func(ctx context.Context) (bool, error) {
		_, err := client.Resource(workspaces).Create(ctx, workspace, metav1.CreateOptions{})
		switch {
		case apierrors.IsForbidden(err) || apierrors.IsNotFound(err):
			return false, nil // the server has only just started
		case err != nil && !apierrors.IsAlreadyExists(err):
			return false, err
		}
		made, err := client.Resource(workspaces).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		phase, _, err := unstructured.NestedString(made.Object, "status", "phase")
		return phase == "Ready", err
	})
}

// Apply applies a stream of YAML documents to a workspace, including the status where it is a subresource.
func (s *Server) Apply(ctx context.Context, workspace string, documents []byte) error {
	return objects.ApplyAll(ctx, s.Config(workspace), bytes.NewReader(documents))
}

func (s *Server) applyFiles(ctx context.Context, files fs.FS, change ...func(*unstructured.Unstructured) error) error {
	return fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := files.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		return objects.ApplyAll(ctx, s.Config(Provider), file, change...)
	})
}

func (s *Server) dynamic(workspace string) (dynamic.Interface, error) {
	return dynamic.NewForConfig(s.Config(workspace))
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
