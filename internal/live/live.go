// Package live reads workspaces of a kcp server, once or as they change, with the rights of the caller. It never writes.
package live

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/kcp-dev/logicalcluster/v3"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Reader reads a workspace, and those that it shares clusters with.
type Reader struct {
	// Config of a client for the workspace, and its Path.
	Config *rest.Config
	Path   string
	// Kinds are the workload kinds, and Resources those of them to read.
	Kinds     *workload.Table
	Resources []schema.GroupVersionResource
	// Companions includes objects that accompany workloads when these are delivered. Works includes agents' reports.
	Companions, Works bool
	// Teams includes the workspaces that the workspace grants clusters to.
	Teams bool
}

// Reading is what was read.
type Reading struct {
	Workspaces []*manifest.Workspace
	// About is the workspace that was asked for, if others are read only for its sake; empty if all are to be shown.
	About logicalcluster.Name
	// Wrong are errors in objects; these objects are left out.
	Wrong []*manifest.Error
	// Notes describe what could not be read, and is left out.
	Notes []string
}

// Read reads the workspace. If it fails, the reading has the notes up to there.
func (r *Reader) Read(ctx context.Context) (*Reading, error) {
	return r.read(ctx, &direct{r.Config})
}

func (r *Reader) read(ctx context.Context, from lister) (*Reading, error) {
	of := &reading{Reader: r, from: from, answer: &Reading{}, read: map[logicalcluster.Name]bool{}}
	own, err := of.workspace(ctx, r.Path)
	if err != nil {
		return of.answer, err
	}
	of.answer.About = own.Name
	if err := of.sharing(ctx, own); err != nil {
		return of.answer, err
	}
	of.answer.Workspaces, of.answer.Wrong = manifest.Reader{Kinds: r.Kinds}.FromObjects(of.all...)
	for _, w := range of.answer.Workspaces {
		w.LeaveOutRefused()
	}
	return of.answer, nil
}

// lister lists the objects of a resource in a workspace.
type lister interface {
	list(ctx context.Context, path string, resource schema.GroupVersionResource, selector string) ([]*unstructured.Unstructured, error)
}

// direct asks the server each time.
type direct struct{ config *rest.Config }

func (d *direct) list(ctx context.Context, path string, resource schema.GroupVersionResource, selector string) (objects []*unstructured.Unstructured, err error) {
	client, err := clientAt(d.config, path)
	if err != nil {
		return nil, err
	}
	pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return client.Resource(resource).List(ctx, options)
	})
	err = pages.EachListItem(ctx, metav1.ListOptions{LabelSelector: selector}, func(o runtime.Object) error {
		if u, ok := o.(*unstructured.Unstructured); ok {
			objects = append(objects, u)
		}
		return nil
	})
	return objects, err
}

// clientAt returns a client for a workspace.
func clientAt(config *rest.Config, path string) (dynamic.Interface, error) {
	at, err := At(config, path)
	if err != nil {
		return nil, err
	}
	return dynamic.NewForConfig(at)
}

// At returns the configuration of a client for a workspace of the same server.
func At(config *rest.Config, path string) (*rest.Config, error) {
	host, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", config.Host, err)
	}
	before, _, _ := strings.Cut(host.Path, "/clusters/")
	host.Path = strings.TrimSuffix(before, "/") + "/clusters/" + path
	config = rest.CopyConfig(config)
	config.Host = host.String()
	return config, nil
}

// reading reads workspaces of one server.
type reading struct {
	*Reader
	from   lister
	answer *Reading
	all    []manifest.Live
	// read are the workspaces in all.
	read map[logicalcluster.Name]bool
}

func (r *reading) note(format string, args ...any) {
	r.answer.Notes = append(r.answer.Notes, fmt.Sprintf(format, args...))
}

// add adds what is read of a workspace, unless that has been read before.
func (r *reading) add(path string, objects []*unstructured.Unstructured) manifest.Live {
	live := manifest.Live{Name: logicalcluster.Name(path), Objects: objects}
	for _, o := range objects {
		if from := logicalcluster.From(o); from != "" {
			live.Name = from
			break
		}
	}
	if path != live.Name.String() || path == "root" { // otherwise it is the logical cluster
		live.Path = path
	}
	if !r.read[live.Name] {
		r.read[live.Name] = true
		r.all = append(r.all, live)
	}
	return live
}

// workspace reads a workspace.
func (r *reading) workspace(ctx context.Context, path string) (live manifest.Live, err error) {
	var objects []*unstructured.Unstructured
	list := func(resource schema.GroupVersionResource, selector string) error {
		some, err := r.from.list(ctx, path, resource, selector)
		objects = append(objects, some...)
		return err
	}
	for _, resource := range ours("clusterregistrations", "clusterusages", "clusterscores", "workloadplacements", "placementdecisions") {
		if err := list(resource, ""); err != nil {
			if apierrors.IsNotFound(err) {
				return live, fmt.Errorf("workspace %s does not serve %s: bind the APIExport tmc.kcp.io in it", path, resource.GroupResource())
			}
			return live, fmt.Errorf("reading %s of workspace %s: %w", resource.GroupResource(), path, err)
		}
	}
	for _, resource := range ours("placementconfigs", "clustersets", "clustersetbindings") {
		switch err := list(resource, ""); {
		case apierrors.IsNotFound(err): // an older APIExport has none
		case apierrors.IsForbidden(err):
			r.note("%s of workspace %s may not be read: there is taken to be none", resource.GroupResource(), path)
		case err != nil:
			return live, fmt.Errorf("reading %s of workspace %s: %w", resource.GroupResource(), path, err)
		}
	}
	configMaps, selector := corev1.SchemeGroupVersion.WithResource("configmaps"), v1alpha1.LabelPolicy+"="+v1alpha1.PolicyRego
	if r.Companions {
		selector = ""
	}
	if err := list(configMaps, selector); err != nil {
		return live, fmt.Errorf("reading configmaps of workspace %s: %w", path, err)
	}
	if r.Companions {
		for _, resource := range companions {
			switch err := list(resource, ""); {
			case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
				r.note("%s of workspace %s cannot be read, and are left out: %v", resource.GroupResource(), path, err)
			case err != nil:
				return live, fmt.Errorf("reading %s of workspace %s: %w", resource.GroupResource(), path, err)
			}
		}
	}
	if r.Works {
		works := v1alpha1.SchemeGroupVersion.WithResource("works")
		switch err := list(works, ""); {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
			r.note("%s of workspace %s cannot be read, so it is not known what agents say: %v", works.GroupResource(), path, err)
		case err != nil:
			return live, fmt.Errorf("reading %s of workspace %s: %w", works.GroupResource(), path, err)
		}
	}
	limitRanges := corev1.SchemeGroupVersion.WithResource("limitranges")
	switch err := list(limitRanges, ""); {
	case apierrors.IsNotFound(err): // kcp itself does not serve them
	case apierrors.IsForbidden(err):
		r.note("limitranges of workspace %s may not be read: the requests that they add are not counted", path)
	case err != nil:
		return live, fmt.Errorf("reading limitranges of workspace %s: %w", path, err)
	}
	for _, resource := range r.Resources {
		switch err := list(resource, ""); {
		case apierrors.IsNotFound(err):
			r.note("workspace %s does not serve %s: there are none", path, resource.GroupResource())
		case err != nil:
			return live, fmt.Errorf("reading %s of workspace %s: %w", resource.GroupResource(), path, err)
		}
	}
	return r.add(path, objects), nil
}

func ours(names ...string) []schema.GroupVersionResource {
	resources := make([]schema.GroupVersionResource, len(names))
	for i, name := range names {
		resources[i] = v1alpha1.SchemeGroupVersion.WithResource(name)
	}
	return resources
}

// companions are the resources besides ConfigMaps that accompany workloads.
var companions = []schema.GroupVersionResource{
	corev1.SchemeGroupVersion.WithResource("secrets"),
	corev1.SchemeGroupVersion.WithResource("serviceaccounts"),
	corev1.SchemeGroupVersion.WithResource("services"),
	corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"),
	autoscalingv2.SchemeGroupVersion.WithResource("horizontalpodautoscalers"),
	policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"),
}
