package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	kcpcache "github.com/kcp-dev/apimachinery/v2/pkg/cache"
	kcpreflector "github.com/kcp-dev/apimachinery/v2/third_party/reflector"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/panics"
)

// resourceWatch follows one resource in all workspaces of an endpoint, as an informer does.
//
// It is built from kcp's reflector and client-go's queue and store instead of kcp's shared informer, because the latter (v2.32.3)
// cannot delete from its store what a relist shows to be gone: its store has no key for a cache.DeletedFinalStateUnknown. An
// object that is deleted while a watch is down would stay forever.
type resourceWatch struct {
	resource schema.GroupVersionResource
	// selector limits it to objects with these labels, fields to objects with these fields.
	selector, fields string
	objects          cache.Indexer
	// reflector lists and watches.
	reflector cache.Controller
	// deaf is set while the store lacks objects that a list shows.
	deaf atomic.Bool

	// bound receives an element when a binding changes: a resource that was not served may be served now.
	bound chan struct{}
	// wanted counts the calls of relist; seen is the number of calls that the latest list followed.
	wanted, seen atomic.Int64
	// end ends the watch, whether open or still being opened.
	end atomic.Pointer[context.CancelFunc]
}

// listThenWatch keeps the reflector from using WatchList, client-go's default, in which the first objects come through
// the watch as well, so that a resource whose watch is deaf is never listed. A separate list shows the objects even then.
type listThenWatch struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported implements the interface that reflectors look for.
func (listThenWatch) IsWatchListSemanticsUnSupported() bool { return true }

// newResourceWatch watches a resource that placing reads.
func newResourceWatch(e *endpoint, resource schema.GroupVersionResource) *resourceWatch {
	w, handler := &resourceWatch{resource: resource}, e.enqueue(e.changed)
	switch resource {
	case bindingResource:
		handler = enqueueOf(func(name logicalcluster.Name) { e.rebound(); e.changed(name) }, func(o metav1.Object) logicalcluster.Name { return logicalcluster.From(o) })
	case configMapResource:
		// Otherwise every kube-root-ca.crt would be included.
		w.selector = labels.Set{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}.String()
	case leaseResource:
		w.selector = labels.Set{v1alpha1.LabelHeartbeat: "true"}.String()
		handler = e.hear()
	case workResource:
		handler = enqueueOf(func(name logicalcluster.Name) { e.changed(name); e.deliverable(name) }, e.concerned)
	case decisionResource:
		handler = enqueueOf(e.changed, e.concerned)
	default:
		if e.table.Resource(resource) != nil {
			handler = e.workloads.follow(e.changed)
		}
	}
	return w.over(e, handler, transform(resource, e.table, e.deliver))
}

// sourceIndex indexes what a workspace keeps for another one.
const sourceIndex = "source"

func sourceKey(in, of logicalcluster.Name) string { return in.String() + "|" + of.String() }

func indexSource(object any) ([]string, error) {
	if o, ok := unwrap(object).(metav1.Object); ok {
		if of := sourceOf(o); of != "" {
			return []string{sourceKey(logicalcluster.From(o), of)}, nil
		}
	}
	return nil, nil
}

// sourceOf returns the workspace that an object is kept for, empty if it is its own workspace's.
func sourceOf(object metav1.Object) logicalcluster.Name {
	switch o := object.(type) {
	case *v1alpha1.PlacementDecision:
		if o.Source != nil {
			return logicalcluster.Name(o.Source.Workspace)
		}
	case *v1alpha1.Work:
		return logicalcluster.Name(o.Spec.Workspace)
	}
	return ""
}

// concerned returns the workspace that a change concerns: the one that an object is kept for, if that is a guest of the workspace that keeps
// it. Nobody can wake another workspace by naming it.
func (e *endpoint) concerned(object metav1.Object) logicalcluster.Name {
	in := logicalcluster.From(object)
	if o, ok := unwrap(object).(metav1.Object); ok {
		if of := sourceOf(o); of != "" && e.hasGuest(in, of) {
			return of
		}
	}
	return in
}

// over makes the watch of an endpoint.
func (w *resourceWatch) over(e *endpoint, handler cache.ResourceEventHandler, transform cache.TransformFunc) *resourceWatch {
	resource := w.resource
	w.bound = make(chan struct{}, 1)
	w.objects = cache.NewIndexer(kcpcache.DeletionHandlingMetaClusterNamespaceKeyFunc, cache.Indexers{kcpcache.ClusterIndexName: kcpcache.ClusterIndexFunc, sourceIndex: indexSource})
	client := e.client.Resource(resource)
	noop := context.CancelFunc(func() {})
	w.end.Store(&noop)
	w.reflector = kcpreflector.New(&kcpreflector.Config{
		ListerWatcher: listThenWatch{&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.LabelSelector, o.FieldSelector = w.selector, w.fields
				return onceServed(ctx, w.bound, func(ctx context.Context) (runtime.Object, error) {
					wanted := w.wanted.Load()
					if wanted > w.seen.Load() {
						o.ResourceVersion = "" // not from a cache, which may be as deaf as the watch
					}
					list, err := client.List(ctx, o)
					if err == nil {
						w.seen.Store(wanted)
					}
					return list, err
				})
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.LabelSelector, o.FieldSelector = w.selector, w.fields
				ctx, end := context.WithCancel(ctx)
				(*w.end.Swap(&end))()
				if w.wanted.Load() > w.seen.Load() {
					return nil, apierrors.NewResourceExpired("a new list is wanted")
				}
				return client.Watch(ctx, o)
			},
		}},
		ObjectType: &unstructured.Unstructured{},
		Queue: cache.NewRealFIFOWithOptions(cache.RealFIFOOptions{
			KeyFunction: kcpcache.MetaClusterNamespaceKeyFunc, KnownObjects: w.objects, Transformer: transform,
		}),
		KeyFunction: kcpcache.DeletionHandlingMetaClusterNamespaceKeyFunc,
		Process: func(deltas any, isInInitialList bool) error {
			for _, d := range deltas.(cache.Deltas) {
				if err := w.apply(d, handler, isInInitialList); err != nil {
					panics.Log(klog.Background(), err, "An object is not taken up", "endpoint", e.url, "resource", resource)
				}
			}
			return nil
		},
		WatchErrorHandlerWithContext: func(ctx context.Context, _ *cache.Reflector, err error) {
			logger := klog.FromContext(ctx).WithValues("endpoint", e.url, "resource", resource)
			switch {
			case errors.Is(err, context.Canceled) || apierrors.IsResourceExpired(err):
			case apierrors.IsNotFound(err):
				logger.V(2).Info("Not served any more")
			default:
				logger.Error(err, "A watch failed and is retried")
			}
		},
	})
	return w
}

// A resource that is not served is requested again after askFirst, then after twice that, up to askLast, starting over each time a
// binding changes.
const (
	askFirst = time.Second
	askLast  = 30 * time.Second
)

// onceServed keeps asking for a resource that is not served until the first consumer has bound and accepted the claim. The reflector alone
// would find out up to a minute later.
func onceServed[T any](ctx context.Context, bound <-chan struct{}, ask func(context.Context) (T, error)) (T, error) {
	for pause := askFirst; ; {
		answer, err := ask(ctx)
		if !apierrors.IsNotFound(err) {
			return answer, err
		}
		asked := time.Now()
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-bound: // kcp serves it a moment later, and many may bind at once
			pause = askFirst
		case <-time.After(pause):
			pause = min(2*pause, askLast)
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(time.Until(asked.Add(askFirst))):
		}
	}
}

// rebound makes all resources that are not served be asked for again.
func (e *endpoint) rebound() {
	for _, w := range e.all() {
		select {
		case w.bound <- struct{}{}:
		default: // one is pending already
		}
	}
}

// relist ends the watch, lists anew and opens another watch.
//
// It does not use the reflector's ForceRelist, which reaches open watches only: a call between a list and its watch is lost, and
// a server that never answers the watch request blocks the reflector forever.
func (w *resourceWatch) relist() {
	w.wanted.Add(1)
	(*w.end.Load())()
}

// apply applies one change to the store and passes it on. A panic costs the object that caused it.
func (w *resourceWatch) apply(d cache.Delta, handler cache.ResourceEventHandler, isInInitialList bool) (err error) {
	defer panics.RecoverTo(&err)
	if d.Type == cache.Deleted {
		if err := w.objects.Delete(d.Object); err != nil {
			return err
		}
		handler.OnDelete(d.Object)
		return nil
	}
	before, found, err := w.objects.Get(d.Object)
	if err != nil {
		return err
	}
	if err := w.objects.Update(d.Object); err != nil {
		return err
	}
	if found {
		handler.OnUpdate(before, d.Object)
	} else {
		handler.OnAdd(d.Object, isInInitialList)
	}
	return nil
}

// of returns the objects of a workspace.
func (w *resourceWatch) of(workspace logicalcluster.Name) []any {
	objects, err := w.objects.ByIndex(kcpcache.ClusterIndexName, kcpcache.ClusterIndexKey(workspace))
	if err != nil {
		panic(err) // no such index, but newResourceWatch makes it
	}
	return objects
}

// listed returns a channel that is closed once the handler has seen all objects of the first list.
func (w *resourceWatch) listed() <-chan struct{} { return w.reflector.HasSyncedChecker().Done() }

// enqueue reports the workspace of each object that changes.
func (e *endpoint) enqueue(changed func(logicalcluster.Name)) cache.ResourceEventHandlerFuncs {
	return enqueueOf(changed, func(o metav1.Object) logicalcluster.Name { return logicalcluster.From(o) })
}

// enqueueOf reports the workspace that each changed object concerns.
func enqueueOf(changed func(logicalcluster.Name), concerns func(metav1.Object) logicalcluster.Name) cache.ResourceEventHandlerFuncs {
	notify := func(object any) {
		if o, ok := latestState(object).(metav1.Object); ok {
			changed(concerns(o))
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    notify,
		UpdateFunc: func(_, object any) { notify(object) },
		DeleteFunc: notify,
	}
}

// hear records the heartbeats of clusters. It enqueues their workspace only if one begins or ends: a thousand clusters must
// not wake it twice a minute each.
func (e *endpoint) hear() cache.ResourceEventHandlerFuncs {
	hear := func(object any) {
		if lease, ok := unwrap(object).(*coordinationv1.Lease); ok && e.beats.hear(lease, time.Now()) {
			e.changed(logicalcluster.From(lease))
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    hear,
		UpdateFunc: func(_, object any) { hear(object) },
		DeleteFunc: func(object any) {
			if lease, ok := unwrap(latestState(object)).(*coordinationv1.Lease); ok {
				e.beats.forget(leaseKey(lease))
				e.changed(logicalcluster.From(lease))
			}
		},
	}
}

// latestState returns the last known state of an object whose deletion the watch may have missed.
func latestState(object any) any {
	if missed, ok := object.(cache.DeletedFinalStateUnknown); ok {
		return missed.Obj
	}
	return object
}
