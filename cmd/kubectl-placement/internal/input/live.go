package input

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

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
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/pager"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/program"
	"github.com/kcp-placement/placement/offline/manifest"
)

// live reads a workspace from a server, with those that it shares clusters with, and never writes to it.
func (s *Source) live(ctx context.Context, kinds *workload.Table, errOut io.Writer) ([]*manifest.Workspace, error) {
	resources, err := kinds.Resources(s.kinds)
	if err != nil {
		return nil, fmt.Errorf("--workload-kinds: %w", err)
	}
	config, path, err := s.Config()
	if err != nil {
		return nil, err
	}
	r := &liveReader{source: s, config: config, resources: resources, errOut: errOut, read: map[logicalcluster.Name]bool{}}
	own, err := r.workspace(ctx, path)
	if err != nil {
		return nil, err
	}
	s.about = own.Name
	if err := r.sharing(ctx, own); err != nil {
		return nil, err
	}
	workspaces, errs := manifest.Reader{Kinds: kinds}.FromObjects(r.all...)
	for _, w := range workspaces {
		w.LeaveOutRefused()
	}
	if len(errs) > 0 {
		return workspaces, exit.Failure{Cause: manifest.Join(errs)}
	}
	return workspaces, nil
}

// liveReader reads workspaces of one server.
type liveReader struct {
	source    *Source
	config    *rest.Config
	resources []schema.GroupVersionResource
	errOut    io.Writer
	all       []manifest.Live
	// read are the workspaces in all.
	read map[logicalcluster.Name]bool
}

// list returns the objects of a resource.
func list(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource, selector string) (objects []*unstructured.Unstructured, err error) {
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

// at returns a client for a workspace.
func (r *liveReader) at(path string) (dynamic.Interface, error) {
	host, err := url.Parse(r.config.Host)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", r.config.Host, err)
	}
	before, _, _ := strings.Cut(host.Path, "/clusters/")
	host.Path = strings.TrimSuffix(before, "/") + "/clusters/" + path
	config := rest.CopyConfig(r.config)
	config.Host = host.String()
	return dynamic.NewForConfig(config)
}

// add adds what is read of a workspace. One that has been read is left out.
func (r *liveReader) add(path string, objects []*unstructured.Unstructured) manifest.Live {
	live := manifest.Live{Name: logicalcluster.Name(path), Objects: objects}
	for _, o := range objects {
		if from := logicalcluster.From(o); from != "" {
			live.Name = from
			break
		}
	}
	if path != live.Name.String() || path == "root" { // else it is the logical cluster
		live.Path = path
	}
	if !r.read[live.Name] {
		r.read[live.Name] = true
		r.all = append(r.all, live)
	}
	return live
}

// workspace reads a workspace.
func (r *liveReader) workspace(ctx context.Context, path string) (live manifest.Live, err error) {
	client, err := r.at(path)
	if err != nil {
		return live, err
	}
	var objects []*unstructured.Unstructured
	list := func(resource schema.GroupVersionResource, selector string) error {
		some, err := list(ctx, client, resource, selector)
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
		case apierrors.IsNotFound(err): // an APIExport of before has none
		case apierrors.IsForbidden(err):
			fmt.Fprintf(r.errOut, "%s of workspace %s may not be read: there is taken to be none\n", resource.GroupResource(), path)
		case err != nil:
			return live, fmt.Errorf("reading %s of workspace %s: %w", resource.GroupResource(), path, err)
		}
	}
	configMaps, selector := corev1.SchemeGroupVersion.WithResource("configmaps"), v1alpha1.LabelPolicy+"="+v1alpha1.PolicyRego
	if r.source.companions {
		selector = ""
	}
	if err := list(configMaps, selector); err != nil {
		return live, fmt.Errorf("reading configmaps of workspace %s: %w", path, err)
	}
	if r.source.companions {
		for _, resource := range companions {
			switch err := list(resource, ""); {
			case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
				fmt.Fprintf(r.errOut, "%s of workspace %s cannot be read, and are left out: %v\n", resource.GroupResource(), path, err)
			case err != nil:
				return live, fmt.Errorf("reading %s of workspace %s: %w", resource.GroupResource(), path, err)
			}
		}
	}
	if r.source.works {
		works := v1alpha1.SchemeGroupVersion.WithResource("works")
		switch err := list(works, ""); {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
			fmt.Fprintf(r.errOut, "%s of workspace %s cannot be read, so it is not known what agents say: %v\n", works.GroupResource(), path, err)
		case err != nil:
			return live, fmt.Errorf("reading %s of workspace %s: %w", works.GroupResource(), path, err)
		}
	}
	limitRanges := corev1.SchemeGroupVersion.WithResource("limitranges")
	switch err := list(limitRanges, ""); {
	case apierrors.IsNotFound(err): // kcp itself does not serve them
	case apierrors.IsForbidden(err):
		fmt.Fprintf(r.errOut, "limitranges of workspace %s may not be read: the requests that they add are not counted\n", path)
	case err != nil:
		return live, fmt.Errorf("reading limitranges of workspace %s: %w", path, err)
	}
	for _, resource := range r.resources {
		switch err := list(resource, ""); {
		case apierrors.IsNotFound(err):
			fmt.Fprintf(r.errOut, "workspace %s does not serve %s: there are none\n", path, resource.GroupResource())
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

// companions are what goes with workloads, beside ConfigMaps.
var companions = []schema.GroupVersionResource{
	corev1.SchemeGroupVersion.WithResource("secrets"),
	corev1.SchemeGroupVersion.WithResource("serviceaccounts"),
	corev1.SchemeGroupVersion.WithResource("services"),
	corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"),
	autoscalingv2.SchemeGroupVersion.WithResource("horizontalpodautoscalers"),
	policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"),
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
