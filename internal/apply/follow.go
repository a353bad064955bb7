package apply

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/outcome"
)

// Retries of what cannot be listed or is not served.
const (
	maxRetry  = 30 * time.Second
	retryKind = 15 * time.Second
)

// kind is a kind of object that may be applied.
type kind struct {
	schema.GroupVersionKind
	resource schema.GroupVersionResource
	// known is set once the cluster has answered whether it serves the kind; problem is why objects of it cannot be applied.
	known   bool
	problem string
	// synced is set once its objects are listed; err is why they cannot be.
	synced bool
	err    error
}

// followKind determines how the cluster serves a kind, and follows its objects, until ctx ends.
func (a *Applier) followKind(ctx context.Context, k *kind) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		resource, problem, err := a.discover(k.GroupVersionKind)
		if err != nil {
			klog.FromContext(ctx).Error(err, "The cluster does not say whether it knows a kind", "kind", k.GroupVersionKind)
			return
		}
		a.update(func(s *state) bool {
			s.changed = s.changed || !k.known || k.problem != problem
			k.known, k.problem, k.resource = true, problem, resource
			return s.changed
		})
		if problem != "" {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		a.follow(ctx, a.cluster.Resource(resource), a.ownLabels().String(), func(err error) {
			a.update(func(*state) bool { k.err = err; return err != nil })
			if apierrors.IsNotFound(err) {
				cancel() // the resource is no longer served
			}
		}, &store[*live]{
			applier: a, read: liveOf,
			put: func(l *live) bool { return a.state.observe(l) },
			all: func(yield func(*live) bool) {
				for key, l := range a.state.live {
					if key.GroupKind == k.GroupKind() && !yield(l) {
						return
					}
				}
			},
			remove:  func(l *live) bool { return a.state.forget(l) },
			key:     func(l *live) string { return l.namespace + "/" + l.name },
			version: func(l *live) string { return l.resourceVersion },
			synced:  func() { k.synced = true },
		})
		a.update(func(*state) bool { k.synced = false; return true })
	}, retryKind)
}

// discover asks the cluster through which resource it serves a kind. The problem is worded for the owners of objects.
func (a *Applier) discover(gvk schema.GroupVersionKind) (resource schema.GroupVersionResource, problem string, err error) {
	list, err := a.discovery.ServerResourcesForGroupVersion(gvk.GroupVersion().String())
	if err != nil && !apierrors.IsNotFound(err) {
		return resource, "", err
	}
	if err == nil {
		for _, r := range list.APIResources {
			if r.Kind == gvk.Kind && r.Namespaced == (gvk.GroupKind() != namespaceKind) && !strings.Contains(r.Name, "/") {
				return gvk.GroupVersion().WithResource(r.Name), "", nil
			}
		}
	}
	return resource, fmt.Sprintf("the cluster does not know %s of %s", gvk.Kind, gvk.GroupVersion()), nil
}

// observe records an object of the cluster, unless a later version is known, and reports whether anything has changed.
func (s *state) observe(l *live) bool {
	if before := s.live[l.id]; before != nil && outcome.Newer(before.resourceVersion, l.resourceVersion) {
		return false
	}
	s.live[l.id] = l
	return true
}

// forget removes an object that the cluster no longer has, unless another has taken its name meanwhile.
func (s *state) forget(l *live) bool {
	before := s.live[l.id]
	if before == nil || before.uid != l.uid {
		return false
	}
	delete(s.live, l.id)
	return true
}

// followWorks follows the Works until ctx ends.
func (a *Applier) followWorks(ctx context.Context) {
	a.follow(ctx, a.works, "", func(err error) { a.update(func(*state) bool { a.worksErr = err; return false }) }, &store[*work]{
		applier: a, read: workOf,
		put: func(w *work) bool {
			if before := a.state.works[w.name]; before != nil && outcome.Newer(before.resourceVersion, w.resourceVersion) {
				return false
			}
			a.state.putWork(w)
			return true
		},
		all: func(yield func(*work) bool) {
			for _, w := range a.state.works {
				if !yield(w) {
					return
				}
			}
		},
		remove:  func(w *work) bool { delete(a.state.works, w.name); a.state.changed = true; return true },
		key:     func(w *work) string { return w.name },
		version: func(w *work) string { return w.resourceVersion },
		synced:  func() { a.state.listed = true },
	})
}

// putWork records a Work. Its wanted objects are read again only if its spec has changed.
func (s *state) putWork(w *work) {
	before := s.works[w.name]
	if before != nil && before.uid == w.uid && before.generation == w.generation {
		before.status, before.resourceVersion = w.status, w.resourceVersion
		return
	}
	s.works[w.name] = w
	delete(s.vanished, w.name)
	s.changed = true
}

var podResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// followPods follows the pods of workloads until ctx ends, to find out what is wrong with them.
func (a *Applier) followPods(ctx context.Context) {
	a.follow(ctx, a.cluster.Resource(podResource), v1alpha1.LabelWorkloadUID, func(err error) {
		if err != nil {
			klog.FromContext(ctx).V(2).Info("Cannot list pods, to say what is wrong with them", "err", err)
		}
	}, &store[*pod]{
		applier: a, read: podOf,
		put:     func(p *pod) bool { return a.state.pods.observe(p) },
		all:     a.state.pods.each,
		remove:  func(p *pod) bool { return a.state.pods.forget(p) },
		key:     func(p *pod) string { return p.String() },
		version: func(*pod) string { return "" },
		synced:  func() {},
	})
}

// follow lists and watches objects until ctx ends.
func (a *Applier) follow(ctx context.Context, objects dynamic.ResourceInterface, selector string, answered func(error), into cache.ReflectorStore) {
	listed := func(o metav1.ListOptions) metav1.ListOptions {
		o.LabelSelector = selector
		return o
	}
	from := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := objects.List(ctx, listed(o))
			answered(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := objects.Watch(ctx, listed(o))
			answered(err)
			return w, err
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(from, a.cluster), &unstructured.Unstructured{}, into, cache.ReflectorOptions{
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: maxRetry},
	}).RunWithContext(ctx)
}

// store is what a reflector writes to: a part of the state. It keeps only what read returns of each object.
type store[T any] struct {
	applier *Applier
	read    func(*unstructured.Unstructured) T
	// put, remove, all and synced access the state; the first two report whether anything has changed.
	put, remove func(T) bool
	all         iter.Seq[T]
	synced      func()
	// key is namespace/name, version the resource version; empty if objects need none.
	key, version func(T) string
}

var _ cache.TransformingStore = &store[*live]{}

// shrunk is a reduced object, with what reflectors need.
type shrunk[T any] struct {
	metav1.ObjectMeta
	value T
}

// Transformer implements cache.TransformingStore, so that the reflector shrinks objects as they arrive.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		u, ok := object.(*unstructured.Unstructured)
		if !ok {
			return object, nil
		}
		meta := metav1.ObjectMeta{Namespace: u.GetNamespace(), Name: u.GetName(), ResourceVersion: u.GetResourceVersion()}
		return &shrunk[T]{meta, s.read(u)}, nil
	}
}

// shrink reduces an object.
func (s *store[T]) shrink(object any) (*shrunk[T], error) {
	object, err := s.Transformer()(object)
	if err != nil {
		return nil, err
	}
	small, ok := object.(*shrunk[T])
	if !ok {
		return nil, fmt.Errorf("%T is no object", object)
	}
	return small, nil
}

// Add implements cache.ReflectorStore.
func (s *store[T]) Add(object any) error { return s.Update(object) }

// Update implements cache.ReflectorStore.
func (s *store[T]) Update(object any) error {
	small, err := s.shrink(object)
	if err == nil {
		s.applier.update(func(*state) bool { return s.put(small.value) })
	}
	return err
}

// Delete implements cache.ReflectorStore.
func (s *store[T]) Delete(object any) error {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	small, err := s.shrink(object)
	if err == nil {
		s.applier.update(func(*state) bool { return s.remove(small.value) })
	}
	return err
}

// Replace implements cache.ReflectorStore: it stores these objects and removes all others, unless they are newer than the list.
func (s *store[T]) Replace(objects []any, version string) error {
	values, keys := make([]T, 0, len(objects)), make(map[string]bool, len(objects))
	for _, object := range objects {
		small, err := s.shrink(object)
		if err != nil {
			return err
		}
		values = append(values, small.value)
		keys[s.key(small.value)] = true
	}
	s.applier.update(func(*state) bool {
		for _, value := range values {
			s.put(value)
		}
		for value := range s.all {
			if !keys[s.key(value)] && !outcome.Newer(s.version(value), version) {
				s.remove(value)
			}
		}
		s.synced()
		return true
	})
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *store[T]) Resync() error { return nil }
