package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/live"
)

// Tokens are the users of a server, each with a token of their own. Whatever is read of the server is read with that: the console
// itself has no rights there.
type Tokens struct {
	// Server has the address and the CA of the server; credentials in it are not used.
	Server *rest.Config
	// Kinds of workload, and the resources of those to read.
	Kinds     *workload.Table
	Resources []schema.GroupVersionResource
}

// Open implements Callers.
func (t *Tokens) Open(token, workspace string) (caller, of string, from Source, err error) {
	if token == "" {
		return "", "", nil, ErrUnauthenticated
	}
	// Invariant: one request reads one workspace, with one token.
	if path := logicalcluster.NewPath(workspace); workspace == "" || !path.IsValid() || path == logicalcluster.Wildcard {
		return "", "", nil, &failure{http.StatusBadRequest, fmt.Sprintf("workspace=%s: name a workspace by its path, for example root:team-shop", workspace)}
	}
	config, err := live.At(t.as(token), workspace)
	if err != nil {
		return "", "", nil, err
	}
	digest := sha256.Sum256([]byte(token))
	r := &live.Reader{Config: config, Path: workspace, Kinds: t.Kinds, Resources: t.Resources, Works: true}
	return hex.EncodeToString(digest[:]), workspace, Live(r), nil
}

// as is the configuration of a client with a user's token and nothing else.
func (t *Tokens) as(token string) *rest.Config {
	config := rest.AnonymousClientConfig(t.Server)
	config.BearerToken = token
	config.QPS, config.Burst = 50, 100
	return config
}

// Describe implements Callers.
func (t *Tokens) Describe() (source, from string) { return SourceServer, t.Server.Host }

var workspacesResource = schema.GroupVersionResource{Group: "tenancy.kcp.io", Version: "v1alpha1", Resource: "workspaces"}

const (
	// maxListed bounds how many workspaces are told, maxParents in how many it is looked for them.
	maxListed, maxParents = 500, 50
	listTimeout           = 15 * time.Second
)

// List implements Lister: the workspaces below root that the user may list.
func (t *Tokens) List(ctx context.Context, token string) ([]Workspace, error) {
	if token == "" {
		return nil, ErrUnauthenticated
	}
	ctx, done := context.WithTimeout(ctx, listTimeout)
	defer done()
	found := []Workspace{}
	parents := []string{"root"}
	for i := 0; i < len(parents) && i < maxParents && len(found) < maxListed; i++ {
		config, err := live.At(t.as(token), parents[i])
		if err != nil {
			return nil, err
		}
		client, err := dynamic.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		list, err := client.Resource(workspacesResource).List(ctx, metav1.ListOptions{Limit: maxListed})
		switch {
		case apierrors.IsUnauthorized(err):
			return nil, ErrUnauthenticated
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err): // the user may know the path of a workspace all the same
			continue
		case err != nil:
			return nil, err
		}
		for j := range list.Items {
			phase, _, _ := unstructured.NestedString(list.Items[j].Object, "status", "phase")
			if name := list.Items[j].GetName(); phase == "Ready" && !strings.Contains(name, ":") {
				path := parents[i] + ":" + name
				found, parents = append(found, Workspace{Name: path, Path: path}), append(parents, path)
			}
		}
	}
	return found[:min(maxListed, len(found))], nil
}
