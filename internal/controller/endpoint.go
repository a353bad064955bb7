package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
	"k8s.io/klog/v2"

	kcpcache "github.com/kcp-dev/apimachinery/v2/pkg/cache"
	kcpdynamic "github.com/kcp-dev/client-go/dynamic"
	kcpmetadata "github.com/kcp-dev/client-go/metadata"
	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// endpoint is one virtual workspace of the APIExport: it shows all consumers on one shard.
type endpoint struct {
	url      string
	client   kcpdynamic.ClusterInterface
	metadata kcpmetadata.ClusterInterface
	recorder *recorder
	// watches begin with the one of APIBindings.
	watches []*resourceWatch
	kinds   []watchedKind
	table   *workload.Table
	// deliver is set where workloads are delivered.
	deliver bool
	// leases, limitRanges and companions are watched separately: a workspace that shows none is placed all the same.
	leases, limitRanges *resourceWatch
	companions          []*resourceWatch
	// delivering is the client that writes Works. Its requests do not hold up those of placing.
	delivering kcpdynamic.ClusterInterface
	// reporting is the client that writes the statuses and finalizers of workloads. Its requests hold up neither.
	reporting kcpdynamic.ClusterInterface
	// statuses counts the statuses of workloads that are being written.
	statuses  atomic.Int64
	checker   *watchChecker
	metrics   *metrics
	beats     heartbeats
	workloads *shownWorkloads
	// changed is called with the workspace of every object that changes, and with all workspaces once everything is listed.
	changed func(logicalcluster.Name)
	// hasGuest reports whether a workspace uses the clusters of another one.
	hasGuest func(host, guest logicalcluster.Name) bool
	// deliverable is called with the workspace of every object whose change affects what is delivered.
	deliverable func(logicalcluster.Name)
	// synced is closed once everything is listed.
	synced chan struct{}
	// close stops what start has started, and returns when it has ended.
	close func()
}

// newEndpoint prepares an endpoint; run runs it.
func newEndpoint(config Config, url string, metrics *metrics, changed, deliverable func(logicalcluster.Name)) (*endpoint, error) {
	at := rest.CopyConfig(config.Provider)
	at.Host = url
	client, err := kcpdynamic.NewForConfig(at)
	if err != nil {
		return nil, err
	}
	delivering, err := kcpdynamic.NewForConfig(at)
	if err != nil {
		return nil, err
	}
	reporting, err := kcpdynamic.NewForConfig(at)
	if err != nil {
		return nil, err
	}
	metadata, err := kcpmetadata.NewForConfig(at)
	if err != nil {
		return nil, err
	}
	table := cmp.Or(config.Table, workload.Kinds())
	e := &endpoint{
		url: url, client: client, delivering: delivering, reporting: reporting, metadata: metadata, metrics: metrics, changed: changed, deliverable: deliverable,
		table: table, kinds: watchedKinds(table, config.Kinds), deliver: config.Deliver,
		hasGuest:  func(_, _ logicalcluster.Name) bool { return false },
		workloads: newShownWorkloads(), beats: heartbeats{heard: map[clusterKey]heartbeat{}}, synced: make(chan struct{}),
	}
	if e.recorder, err = newRecorder(at, config.Fence, metrics); err != nil {
		return nil, err
	}
	if e.checker, err = newWatchChecker(at, config.WatchCheckInterval, metrics); err != nil {
		return nil, err
	}
	resources := append([]schema.GroupVersionResource{bindingResource, clusterResource, usageResource, scoreResource, configResource, placementResource, decisionResource, planResource, setResource, setBindingResource, configMapResource}, config.Kinds...)
	if e.deliver {
		resources = append(resources, workResource)
	}
	for _, resource := range resources {
		e.watches = append(e.watches, newResourceWatch(e, resource))
	}
	e.leases, e.limitRanges = newResourceWatch(e, leaseResource), newResourceWatch(e, limitRangeResource)
	if e.deliver {
		for _, c := range companionKinds {
			e.companions = append(e.companions, newCompanionWatch(e, c))
		}
	}
	return e, nil
}

// start runs the endpoint until it is closed.
func (e *endpoint) start(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	e.close = func() {
		stop()
		<-done
	}
	go func() {
		defer close(done)
		e.run(ctx)
	}()
}

func (e *endpoint) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { e.recorder.run(ctx) })
	running.Go(func() { e.waitForSync(ctx) })
	for _, watch := range e.all() {
		running.Go(func() { watch.reflector.RunWithContext(ctx) })
		running.Go(func() { e.checker.run(ctx, watch) })
	}
	running.Wait()
}

// all returns the watches.
func (e *endpoint) all() []*resourceWatch {
	return append(append(slices.Clone(e.watches), e.leases, e.limitRanges), e.companions...)
}

// waitForSync waits until all resources are listed, and then enqueues every workspace: earlier changes were not acted on.
func (e *endpoint) waitForSync(ctx context.Context) {
	for _, watch := range e.watches {
		select {
		case <-watch.listed():
		case <-ctx.Done():
			return
		}
	}
	close(e.synced)
	for _, watch := range e.watches {
		for _, name := range watch.objects.ListIndexFuncValues(kcpcache.ClusterIndexName) {
			e.changed(logicalcluster.Name(name))
		}
	}
}

func (e *endpoint) hasSynced() bool {
	return isDone(e.synced)
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ready returns an error that names a resource that is not listed yet, or whose watch is deaf.
func (e *endpoint) ready() error {
	for _, watch := range e.watches {
		select {
		case <-watch.listed():
		default:
			return fmt.Errorf("%s have not been listed yet at %s: are they bound and their permission claims accepted?", watch.resource.GroupResource(), e.url)
		}
	}
	for _, watch := range e.all() {
		if watch.deaf.Load() {
			return fmt.Errorf("the watch for %s at %s is open and does not deliver what a list shows; it has been reopened", watch.resource.GroupResource(), e.url)
		}
	}
	return nil
}

// view reads a workspace from what is watched.
func (e *endpoint) view(name logicalcluster.Name) cacheView {
	view := cacheView{unreadable: map[types.UID]decode.Problems{}, live: &liveWorkloads{e.workloads, name}}
	view.visibility = e.visibility(as[*apisv1alpha2.APIBinding](e.watch(bindingResource).of(name), view.unreadable))
	for _, watch := range e.watches {
		if watch.resource != bindingResource && e.table.Resource(watch.resource) == nil && view.hides(watch.resource) == nil {
			view.show(watch.resource, watch.of(name))
		}
	}
	if view.hides(leaseResource) == nil {
		view.heard = e.beats.of(name, view.clusters)
	}
	if view.limitRangesRead = view.binding != nil && len(hiddenBy(view.binding, []schema.GroupVersionResource{limitRangeResource})) == 0 && isDone(e.limitRanges.listed()); view.limitRangesRead {
		view.show(limitRangeResource, e.limitRanges.of(name))
	}
	return view
}

// kept returns the objects of a resource that one workspace keeps for another.
func (e *endpoint) kept(resource schema.GroupVersionResource, in, of logicalcluster.Name) []any {
	objects, err := e.watch(resource).objects.ByIndex(sourceIndex, sourceKey(in, of))
	if err != nil {
		panic(err) // no such index, but newResourceWatch makes it
	}
	return objects
}

// show adds the objects of a resource, as converted by transform.
func (v *cacheView) show(resource schema.GroupVersionResource, objects []any) {
	switch resource {
	case clusterResource:
		v.clusters = as[*v1alpha1.ClusterRegistration](objects, v.unreadable)
	case usageResource:
		v.usages = map[string]*v1alpha1.ClusterUsage{}
		for _, u := range as[*v1alpha1.ClusterUsage](objects, v.unreadable) {
			v.usages[u.Name] = u
		}
	case scoreResource:
		v.scores = as[*v1alpha1.ClusterScore](objects, v.unreadable)
	case configResource:
		for _, c := range as[*v1alpha1.PlacementConfig](objects, v.unreadable) {
			v.config = c
		}
	case placementResource:
		v.placements = as[*v1alpha1.WorkloadPlacement](objects, v.unreadable)
	case planResource:
		v.plans = as[*v1alpha1.RebalancePlan](objects, v.unreadable)
	case setResource:
		v.sets = as[*v1alpha1.ClusterSet](objects, v.unreadable)
	case setBindingResource:
		v.setBindings = as[*v1alpha1.ClusterSetBinding](objects, v.unreadable)
	case decisionResource:
		v.decisions, v.kept = splitKept(as[*v1alpha1.PlacementDecision](objects, v.unreadable))
	case workResource:
		all := as[*v1alpha1.Work](objects, v.unreadable)
		v.works, v.keptWorks = worksOf("", all), slices.DeleteFunc(all, func(w *v1alpha1.Work) bool { return w.Spec.Workspace == "" })
	case configMapResource:
		v.configMaps = as[*corev1.ConfigMap](objects, v.unreadable)
	case limitRangeResource:
		v.limitRanges = as[*corev1.LimitRange](objects, v.unreadable)
	default:
		v.workloads = append(v.workloads, as[*workloadObject](objects, v.unreadable)...)
	}
}

// visibility reads the binding of a workspace to the export. Only one binding can be bound, since two would bind the same resources.
func (e *endpoint) visibility(bindings []*apisv1alpha2.APIBinding) visibility {
	v := visibility{kinds: e.kinds}
	for _, b := range bindings {
		if v.binding == nil || b.Status.Phase == apisv1alpha2.APIBindingPhaseBound {
			v.binding = b
		}
	}
	if v.binding != nil {
		claimed := []schema.GroupVersionResource{configMapResource, leaseResource}
		for _, kind := range e.kinds {
			claimed = append(claimed, kind.GroupVersionResource)
		}
		v.hidden = hiddenBy(v.binding, claimed)
	}
	return v
}

// empty reports whether a workspace contains nothing to place and nothing to place workloads by.
func (v cacheView) empty() bool {
	return len(v.clusters)+len(v.sets)+len(v.setBindings)+len(v.placements)+len(v.decisions)+len(v.configMaps)+len(v.workloads) == 0 && (v.live == nil || v.live.count(v.live.workspace) == 0)
}

// liveUIDs returns the UIDs of the named objects in a workspace that exist on the server, or of all objects if names is nil. It gets
// each, or lists all if that takes fewer requests.
func (e *endpoint) liveUIDs(ctx context.Context, workspace logicalcluster.Name, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
	watch := e.limitRanges
	if i := slices.IndexFunc(e.watches, func(w *resourceWatch) bool { return w.resource == resource }); i >= 0 {
		watch = e.watches[i]
	}
	shown, err := watch.objects.IndexKeys(kcpcache.ClusterIndexName, kcpcache.ClusterIndexKey(workspace))
	if err != nil {
		return nil, err
	}
	in, there := e.metadata.Resource(resource).Cluster(workspace.Path()), map[types.NamespacedName]types.UID{}
	selector, err := labels.Parse(watch.selector)
	if err != nil {
		return nil, err
	}
	if names == nil || len(names) > 1+len(shown)/livePageSize {
		pages := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return in.List(ctx, o) })
		pages.PageSize = livePageSize
		asked := sets.New(names...)
		err := pages.EachListItem(ctx, metav1.ListOptions{LabelSelector: watch.selector}, func(object runtime.Object) error {
			o := object.(*metav1.PartialObjectMetadata)
			if name := (types.NamespacedName{Namespace: o.Namespace, Name: o.Name}); names == nil || asked.Has(name) {
				there[name] = o.UID
			}
			return nil
		})
		return there, err
	}
	for _, name := range names {
		o, err := e.read(ctx, workspace, resource, name)
		if err != nil {
			return nil, err
		}
		if o != nil && selector.Matches(labels.Set(o.Labels)) {
			there[name] = o.UID
		}
	}
	return there, nil
}

// read gets an object from the server, nil if the server says that it does not exist.
func (e *endpoint) read(ctx context.Context, workspace logicalcluster.Name, resource schema.GroupVersionResource, name types.NamespacedName) (*metav1.PartialObjectMetadata, error) {
	o, err := e.metadata.Resource(resource).Cluster(workspace.Path()).Namespace(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return nil, nil // a resource that is not served is answered with a page that is not found
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// livePageSize is how many objects are listed at once, as metadata.
const livePageSize = 500

// actions returns the actions on one workspace through the endpoint.
func (e *endpoint) actions(name logicalcluster.Name) actions {
	in := e.client.Cluster(name.Path())
	counted := e.metrics.wrote
	list := func(ctx context.Context, in dynamic.ResourceInterface, o metav1.ListOptions) ([]*v1alpha1.PlacementDecision, error) {
		list, err := in.List(ctx, o)
		if err != nil {
			return nil, err
		}
		decisions := make([]*v1alpha1.PlacementDecision, len(list.Items))
		for i := range list.Items {
			decisions[i] = storedDecisions(ctx, &list.Items[i])
		}
		return decisions, nil
	}
	return actions{
		listDecisions: func(ctx context.Context) ([]*v1alpha1.PlacementDecision, error) {
			return list(ctx, in.Resource(decisionResource), metav1.ListOptions{})
		},
		listKept: func(ctx context.Context, of logicalcluster.Name) ([]*v1alpha1.PlacementDecision, error) {
			return list(ctx, in.Resource(decisionResource).Namespace(v1alpha1.DecisionNamespace), metav1.ListOptions{
				LabelSelector: labels.Set{v1alpha1.LabelWorkspace: of.String()}.String(),
			})
		},
		writeDecision: func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
			u, err := toUnstructured(d, "PlacementDecision")
			if err != nil {
				return nil, err
			}
			resource := in.Resource(decisionResource).Namespace(d.Namespace)
			if d.ResourceVersion == "" {
				u, err = resource.Create(ctx, u, metav1.CreateOptions{})
			} else {
				u, err = resource.Update(ctx, u, metav1.UpdateOptions{})
			}
			if counted("PlacementDecision", err) != nil {
				return nil, err
			}
			return written[v1alpha1.PlacementDecision](u), nil
		},
		deleteDecision: func(ctx context.Context, d *v1alpha1.PlacementDecision) error {
			err := in.Resource(decisionResource).Namespace(d.Namespace).Delete(ctx, d.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &d.UID, ResourceVersion: &d.ResourceVersion},
			})
			if apierrors.IsNotFound(err) {
				err = nil
			}
			return counted("PlacementDecision", err)
		},
		makeNamespace: func(ctx context.Context, name string) error {
			namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
			_, err := in.Resource(namespaceResource).Create(ctx, namespace, metav1.CreateOptions{})
			return counted("Namespace", err)
		},
		writeStatus: func(ctx context.Context, p *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
			u, err := toUnstructured(p, "WorkloadPlacement")
			if err != nil {
				return nil, err
			}
			u, err = in.Resource(placementResource).Namespace(p.Namespace).UpdateStatus(ctx, u, metav1.UpdateOptions{})
			if counted("WorkloadPlacement", err) != nil {
				return nil, err
			}
			return written[v1alpha1.WorkloadPlacement](u), nil
		},
		writePlan: func(ctx context.Context, p *v1alpha1.RebalancePlan) (*v1alpha1.RebalancePlan, error) {
			// Only the status: the moves can take a megabyte.
			status, err := replacement(&p.Status)
			if err != nil {
				return nil, err
			}
			patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": p.ResourceVersion}, "status": status})
			if err != nil {
				return nil, err
			}
			u, err := in.Resource(planResource).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
			if counted("RebalancePlan", err) != nil {
				return nil, err
			}
			return written[v1alpha1.RebalancePlan](u), nil
		},
		writeSet: func(ctx context.Context, s *v1alpha1.ClusterSet) (*v1alpha1.ClusterSet, error) {
			u, err := toUnstructured(s, "ClusterSet")
			if err != nil {
				return nil, err
			}
			u, err = in.Resource(setResource).UpdateStatus(ctx, u, metav1.UpdateOptions{})
			if counted("ClusterSet", err) != nil {
				return nil, err
			}
			return written[v1alpha1.ClusterSet](u), nil
		},
		writeSetBinding: func(ctx context.Context, b *v1alpha1.ClusterSetBinding) (*v1alpha1.ClusterSetBinding, error) {
			u, err := toUnstructured(b, "ClusterSetBinding")
			if err != nil {
				return nil, err
			}
			u, err = in.Resource(setBindingResource).UpdateStatus(ctx, u, metav1.UpdateOptions{})
			if counted("ClusterSetBinding", err) != nil {
				return nil, err
			}
			return written[v1alpha1.ClusterSetBinding](u), nil
		},
		writeConfig: func(ctx context.Context, c *v1alpha1.PlacementConfig) (*v1alpha1.PlacementConfig, error) {
			u, err := toUnstructured(c, "PlacementConfig")
			if err != nil {
				return nil, err
			}
			u, err = in.Resource(configResource).UpdateStatus(ctx, u, metav1.UpdateOptions{})
			if counted("PlacementConfig", err) != nil {
				return nil, err
			}
			return written[v1alpha1.PlacementConfig](u), nil
		},
		writeConditions: func(ctx context.Context, r *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
			// Only the controller's own part: the rest of the status can take a megabyte.
			drain, err := replacement(r.Status.Drain)
			if err != nil {
				return nil, err
			}
			patch, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"resourceVersion": r.ResourceVersion}, "status": map[string]any{"conditions": r.Status.Conditions, "drain": drain},
			})
			if err != nil {
				return nil, err
			}
			u, err := in.Resource(clusterResource).Patch(ctx, r.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
			if counted("ClusterRegistration", err) != nil {
				return nil, err
			}
			return written[v1alpha1.ClusterRegistration](u), nil
		},
		liveUIDs: func(ctx context.Context, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
			return e.liveUIDs(ctx, name, resource, names)
		},
		stillBound: func(ctx context.Context, binding *apisv1alpha2.APIBinding) (bool, error) {
			now, err := in.Resource(bindingResource).Get(ctx, binding.Name, metav1.GetOptions{})
			return err == nil && now.GetResourceVersion() == binding.ResourceVersion, err
		},
		readHeartbeat: func(ctx context.Context, cluster string) (heartbeat, bool, error) {
			key := clusterKey{name, cluster}
			u, err := in.Resource(leaseResource).Namespace(v1alpha1.AgentNamespace).Get(ctx, cluster, metav1.GetOptions{})
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
				e.beats.forget(key)
				return heartbeat{}, false, nil
			}
			if err != nil {
				return heartbeat{}, false, err
			}
			e.beats.hear(written[coordinationv1.Lease](u), time.Now())
			beat, found := e.beats.get(key)
			return beat, found, nil
		},
		annotate: func(ctx context.Context, configMap *corev1.ConfigMap, key, value string) error {
			patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
			if err != nil {
				return err
			}
			_, err = in.Resource(configMapResource).Namespace(configMap.Namespace).
				Patch(ctx, configMap.Name, types.MergePatchType, patch, metav1.PatchOptions{})
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
				// Gone, or not ours to write: the conditions of the placements report the outcome as well.
				klog.FromContext(ctx).V(2).Info("The outcome is not written to the ConfigMap", "configMap", klog.KObj(configMap), "reason", err.Error())
				err = nil
			}
			return counted("ConfigMap", err)
		},
		event: e.recorder.in(name),
	}
}
