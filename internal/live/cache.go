package live

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// probeEvery is how often permission to read a resource is checked: an open watch outlives the rights of its user.
const probeEvery = 30 * time.Second

// follower is a lister that caches what it has listed, and watches it.
type follower struct {
	ctx    context.Context
	config *rest.Config
	// changed has a value once anything has changed since it was last read.
	changed chan struct{}

	mu      sync.Mutex
	entries map[entryKey]*entry
	asked   map[entryKey]bool
}

type entryKey struct {
	path, selector string
	resource       schema.GroupVersionResource
}

func newCache(ctx context.Context, config *rest.Config) *follower {
	quiet := logr.Discard() // errors are reported to the reader
	return &follower{ctx: klog.NewContext(ctx, quiet), config: config, changed: make(chan struct{}, 1), entries: map[entryKey]*entry{}}
}

// begin marks the start of a reading.
func (f *follower) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = map[entryKey]bool{}
}

// sweep stops watching what has not been asked for since begin.
func (f *follower) sweep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, e := range f.entries {
		if !f.asked[key] {
			e.stop()
			delete(f.entries, key)
		}
	}
}

// list implements lister.
func (f *follower) list(ctx context.Context, path string, resource schema.GroupVersionResource, selector string) ([]*unstructured.Unstructured, error) {
	e, err := f.entry(entryKey{path, selector, resource})
	if err != nil {
		return nil, err
	}
	select {
	case <-e.listed:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return e.all()
}

func (f *follower) entry(key entryKey) (*entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[key] = true
	if e := f.entries[key]; e != nil {
		return e, nil
	}
	client, err := clientAt(f.config, key.path)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(f.ctx)
	e := &entry{client: client.Resource(key.resource), selector: key.selector, stop: stop, changed: f.changed, listed: make(chan struct{})}
	f.entries[key] = e
	go e.follow(ctx)
	go e.probe(ctx)
	return e, nil
}

// entry holds the objects of one resource in a workspace. It is the store of a Reflector.
type entry struct {
	client   dynamic.ResourceInterface
	selector string
	stop     func()
	changed  chan<- struct{}
	// listed is closed once there are objects or an error.
	listed chan struct{}

	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured
	// err is why the objects may be out of date, denied why they may not be read.
	err, denied error
}

// all returns the objects. They are shared, except those of our API, in which the reader sets defaults.
func (e *entry) all() ([]*unstructured.Unstructured, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.denied != nil {
		return nil, e.denied
	}
	if e.err != nil {
		return nil, e.err
	}
	all := make([]*unstructured.Unstructured, 0, len(e.objects))
	for _, key := range slices.Sorted(maps.Keys(e.objects)) {
		o := e.objects[key]
		if o.GroupVersionKind().Group == v1alpha1.SchemeGroupVersion.Group {
			o = o.DeepCopy()
		}
		all = append(all, o)
	}
	return all, nil
}

// follow lists and watches until ctx ends.
func (e *entry) follow(ctx context.Context) {
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = e.selector
			list, err := e.client.List(ctx, options)
			e.setErr(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = e.selector
			w, err := e.client.Watch(ctx, options)
			if !apierrors.IsForbidden(err) && !apierrors.IsMethodNotSupported(err) { // otherwise it is listed again and again
				e.setErr(err)
			}
			return w, err
		},
	}, withoutWatchList{})
	cache.NewReflectorWithOptions(source, &unstructured.Unstructured{}, e, cache.ReflectorOptions{}).RunWithContext(ctx)
}

// withoutWatchList makes the reflector use plain lists, so that their errors are seen.
type withoutWatchList struct{}

// IsWatchListSemanticsUnSupported implements the interface that client-go looks for.
func (withoutWatchList) IsWatchListSemanticsUnSupported() bool { return true }

// probe checks at intervals whether the resource may still be read.
func (e *entry) probe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(probeEvery):
		}
		_, err := e.client.List(ctx, metav1.ListOptions{LabelSelector: e.selector, Limit: 1, ResourceVersion: "0"})
		if ctx.Err() != nil || err != nil && !apierrors.IsUnauthorized(err) && !apierrors.IsForbidden(err) {
			continue // the watch will notice
		}
		e.mu.Lock()
		changed := (e.denied == nil) != (err == nil)
		e.denied = err
		e.mu.Unlock()
		if changed {
			e.signal()
		}
	}
}

// setErr records the outcome of a request to the server.
func (e *entry) setErr(err error) {
	e.mu.Lock()
	changed := fmt.Sprint(e.err) != fmt.Sprint(err)
	e.err = err
	if err != nil {
		e.ready()
	}
	e.mu.Unlock()
	if changed {
		e.signal()
	}
}

// ready must be called with the lock held.
func (e *entry) ready() {
	select {
	case <-e.listed:
	default:
		close(e.listed)
	}
}

func (e *entry) signal() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func keyOf(o any) (string, *unstructured.Unstructured, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return "", nil, fmt.Errorf("a %T is no object", o)
	}
	return u.GetNamespace() + "/" + u.GetName(), u, nil
}

// Add implements cache.ReflectorStore.
func (e *entry) Add(o any) error {
	key, u, err := keyOf(o)
	if err != nil {
		return err
	}
	u.SetManagedFields(nil)
	e.mu.Lock()
	e.objects[key] = u
	e.mu.Unlock()
	e.signal()
	return nil
}

// Update implements cache.ReflectorStore.
func (e *entry) Update(o any) error { return e.Add(o) }

// Delete implements cache.ReflectorStore.
func (e *entry) Delete(o any) error {
	key, _, err := keyOf(o)
	if err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.objects, key)
	e.mu.Unlock()
	e.signal()
	return nil
}

// Replace implements cache.ReflectorStore.
func (e *entry) Replace(all []any, _ string) error {
	objects := make(map[string]*unstructured.Unstructured, len(all))
	for _, o := range all {
		key, u, err := keyOf(o)
		if err != nil {
			return err
		}
		u.SetManagedFields(nil)
		objects[key] = u
	}
	e.mu.Lock()
	same := e.objects != nil && maps.EqualFunc(e.objects, objects, func(a, b *unstructured.Unstructured) bool {
		return a.GetUID() == b.GetUID() && a.GetResourceVersion() == b.GetResourceVersion()
	})
	e.objects = objects
	e.ready()
	e.mu.Unlock()
	if !same {
		e.signal()
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (e *entry) Resync() error { return nil }
