package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/delivery"
)

// deliverer delivers in one workspace, alongside its placing passes: they determine where workloads belong and do not wait for delivery.
// Rounds of one workspace do not overlap.
type deliverer struct {
	delivery.Deliverer
	name     logicalcluster.Name
	endpoint *endpoint
	fence    func() error
	works    *workspaceWorks
	// round is the latest hand-over of a placing pass, result the outcome of the last round.
	round  atomic.Pointer[delivery.Round]
	result atomic.Pointer[delivery.Result]

	rendering *rendering
	claims    boundClaims
	hidden    map[schema.GroupResource]*hidden
	finalizers
	reporter *delivery.Reporter
	event    func(about runtime.Object, kind, reason, message string)
}

// clustersAtOnce is how many clusters of a workspace Works are written for at once.
const clustersAtOnce = 8

// keptWorks are the Works for the clusters of a workspace.
type keptWorks struct {
	endpoint *endpoint
	in       logicalcluster.Name
	fence    func() error
}

// workspaceWorks are the kept Works of one workspace.
type workspaceWorks struct {
	*keptWorks
	of logicalcluster.Name

	mu sync.Mutex
	// translated holds the Works of a guest as the guest names them, keyed by the watched object, so that an unchanged object translates to
	// the same pointer.
	translated map[*v1alpha1.Work]*v1alpha1.Work
}

// keptWorks returns the Works that are kept in a workspace and shown by the endpoint.
func (e *endpoint) keptWorks(in logicalcluster.Name, fence func() error) *keptWorks {
	return &keptWorks{endpoint: e, in: in, fence: fence}
}

// workspace returns the kept Works of one workspace.
func (k *keptWorks) workspace(of logicalcluster.Name) *workspaceWorks {
	return &workspaceWorks{keptWorks: k, of: of}
}

// actions returns the actions that write the Works of a workspace.
func (k *keptWorks) actions(of logicalcluster.Name) delivery.Actions {
	return k.endpoint.workActions(k.in, of, k.fence)
}

// shown returns the Works that the watch shows.
func (w *workspaceWorks) shown() []*v1alpha1.Work {
	unreadable := map[types.UID]decode.Problems{}
	if w.of == w.in {
		return worksOf("", as[*v1alpha1.Work](w.endpoint.watch(workResource).of(w.of), unreadable))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var works []*v1alpha1.Work
	now := map[*v1alpha1.Work]*v1alpha1.Work{}
	for _, kept := range as[*v1alpha1.Work](w.endpoint.kept(workResource, w.in, w.of), unreadable) {
		work, known := w.translated[kept], true
		if work == nil {
			work, known = workFromKept(w.of, kept)
		}
		if known {
			now[kept], works = work, append(works, work)
		}
	}
	w.translated = now
	return works
}

// workActions returns the actions that write the Works of one workspace (of) in another (in): its own, or the host of its clusters.
func (e *endpoint) workActions(in, of logicalcluster.Name, fence func() error) delivery.Actions {
	works, namespaces := e.delivering.Cluster(in.Path()).Resource(workResource), e.delivering.Cluster(in.Path()).Resource(namespaceResource)
	own, selector := in == of, "!"+v1alpha1.LabelWorkspace
	keep, name := func(w *v1alpha1.Work) *v1alpha1.Work { return w }, func(name string) string { return name }
	if !own {
		selector = labels.Set{v1alpha1.LabelWorkspace: of.String()}.String()
		keep, name = func(w *v1alpha1.Work) *v1alpha1.Work { return keepWork(of, w) }, func(name string) string { return keptWorkName(of, name) }
	}
	answered := func(u *unstructured.Unstructured) (*v1alpha1.Work, error) {
		work := written[v1alpha1.Work](u)
		if own {
			return work, nil
		}
		if back, ok := workFromKept(of, work); ok {
			return back, nil
		}
		return nil, fmt.Errorf("work %s/%s is not what a controller has written", work.Namespace, work.Name)
	}
	return delivery.Actions{
		ListWorks: func(ctx context.Context) ([]*v1alpha1.Work, error) {
			ctx, done := context.WithTimeout(ctx, readWithin)
			defer done()
			list, err := works.List(ctx, metav1.ListOptions{LabelSelector: selector})
			if err != nil {
				return nil, err
			}
			all := make([]*v1alpha1.Work, len(list.Items))
			for i := range list.Items {
				all[i] = written[v1alpha1.Work](&list.Items[i])
			}
			if own {
				return worksOf("", all), nil
			}
			return worksOf(of, all), nil
		},
		ReadWork: func(ctx context.Context, work types.NamespacedName) (*v1alpha1.Work, error) {
			ctx, done := context.WithTimeout(ctx, readWithin)
			defer done()
			u, err := works.Namespace(work.Namespace).Get(ctx, name(work.Name), metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			return answered(u)
		},
		WriteWork: fenced(fence, func(ctx context.Context, w *v1alpha1.Work) (*v1alpha1.Work, error) {
			u, err := toUnstructured(keep(w), "Work")
			if err != nil {
				return nil, err
			}
			unstructured.RemoveNestedField(u.Object, "status")
			if in := works.Namespace(w.Namespace); w.ResourceVersion == "" {
				u, err = in.Create(ctx, u, metav1.CreateOptions{})
			} else {
				u, err = in.Update(ctx, u, metav1.UpdateOptions{})
			}
			if e.metrics.wrote("Work", err) != nil {
				return nil, err
			}
			for i := range w.Spec.Manifests {
				e.metrics.workBytes.Add(float64(len(w.Spec.Manifests[i].Object.Raw)))
			}
			return answered(u)
		}),
		DeleteWork: func(ctx context.Context, w *v1alpha1.Work) error {
			_, err := fenced(fence, func(ctx context.Context, w *v1alpha1.Work) (any, error) {
				return nil, works.Namespace(w.Namespace).Delete(ctx, name(w.Name), metav1.DeleteOptions{
					Preconditions: &metav1.Preconditions{UID: &w.UID, ResourceVersion: &w.ResourceVersion},
				})
			})(ctx, w)
			return e.metrics.wrote("Work", err)
		},
		MakeNamespace: func(ctx context.Context, name string) error {
			_, err := fenced(fence, func(ctx context.Context, name string) (any, error) {
				namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
				return namespaces.Create(ctx, namespace, metav1.CreateOptions{})
			})(ctx, name)
			return e.metrics.wrote("Namespace", err)
		},
	}
}

// newDeliverer delivers the workloads of a workspace through Works that are kept in the workspace itself or in its host.
func newDeliverer(name logicalcluster.Name, e *endpoint, fence func() error, works *workspaceWorks, event func(about runtime.Object, kind, reason, message string)) *deliverer {
	d := &deliverer{
		name: name, endpoint: e, fence: fence, works: works, rendering: newRendering(e.table), reporter: delivery.NewReporter(time.Now), event: event,
	}
	d.Now, d.AtOnce, d.rendering.hides = time.Now, clustersAtOnce, d.hides
	d.Actions = works.actions(name)
	d.Gone, d.Shown, d.Render = d.gone, d.rendering.shows, d.rendering.render
	d.Superseded = func(round *delivery.Round) bool { return d.round.Load() != round }
	return d
}

// handOver takes over the assignments of a placing pass.
func (d *deliverer) handOver(round delivery.Round) {
	d.round.Store(&round)
	d.endpoint.deliverable(d.name)
}

// deliver makes one round of deliveries.
func (d *deliverer) deliver(ctx context.Context) (r result) {
	round := d.round.Load()
	if round == nil {
		return r
	}
	binding := d.endpoint.binding(d.name)
	if binding == nil || binding.DeletionTimestamp != nil {
		return r // the workspace is about to be forgotten
	}
	start := time.Now()
	defer func() { d.endpoint.metrics.deliveries.Observe(time.Since(start).Seconds()) }()
	d.claims.watch(binding, d.Now())
	d.hidden = hiddenBy(binding, companionResources())
	for _, watch := range d.endpoint.companions {
		d.rendering.show(watch.resource, watch.of(d.name))
	}
	done := d.Deliver(ctx, round, d.works.shown())
	d.rendering.forget()
	d.reportDenied(binding, round, done)
	before := d.result.Swap(done)
	if before == nil || before.Unsure != done.Unsure || done.Vanished ||
		!equality.Semantic.DeepEqual(before.Problems, done.Problems) || !maps.Equal(before.Clusters, done.Clusters) {
		d.endpoint.changed(d.name) // placements and registrations report the outcome
	}
	d.want(done.Finalizers)
	d.report(round, done, &r)
	for _, err := range done.Errors {
		r.fail(err)
	}
	if done.After > 0 {
		r.within(done.After)
	}
	return r
}

// hides returns why objects of a kind cannot be read, nil if they can.
func (d *deliverer) hides(kind schema.GroupKind) *hidden {
	resource, _ := companionResourceOf(kind)
	return d.hidden[resource.GroupResource()]
}

// gone returns which of the objects the server confirms to be gone.
func (d *deliverer) gone(ctx context.Context, objects []v1alpha1.ManifestReference) (map[v1alpha1.ManifestReference]bool, error) {
	if d.claims.unsettled(len(d.round.Load().Assignments), d.Now()) > 0 {
		return nil, errors.New("the APIBinding has changed only just")
	}
	ctx, done := context.WithTimeout(ctx, readWithin)
	defer done()
	gone := map[v1alpha1.ManifestReference]bool{}
	for _, object := range objects {
		resource, found := companionResource(object)
		if !found || d.hidden[resource.GroupResource()] != nil {
			continue
		}
		there, err := d.endpoint.read(ctx, d.name, resource, types.NamespacedName{Namespace: object.Namespace, Name: object.Name})
		if err != nil {
			return nil, err
		}
		gone[object] = there == nil
	}
	now, err := d.endpoint.client.Cluster(d.name.Path()).Resource(bindingResource).Get(ctx, d.claims.seen.Name, metav1.GetOptions{})
	if err == nil && now.GetResourceVersion() != d.claims.seen.ResourceVersion {
		err = errors.New("the APIBinding has changed meanwhile")
	}
	return gone, err
}

func companionResources() []schema.GroupVersionResource {
	resources := make([]schema.GroupVersionResource, len(companionKinds))
	for i, c := range companionKinds {
		resources[i] = c.GroupVersionResource
	}
	return resources
}

// binding returns the binding of a workspace, nil if none is shown.
func (e *endpoint) binding(name logicalcluster.Name) *apisv1alpha2.APIBinding {
	return e.visibility(as[*apisv1alpha2.APIBinding](e.watch(bindingResource).of(name), map[types.UID]decode.Problems{})).binding
}

// watch returns the watch of a resource that placing reads.
func (e *endpoint) watch(resource schema.GroupVersionResource) *resourceWatch {
	return e.watches[slices.IndexFunc(e.watches, func(w *resourceWatch) bool { return w.resource == resource })]
}
