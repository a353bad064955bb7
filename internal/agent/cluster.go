package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// A cluster is reported as unreachable when it has not answered for an interval, within these bounds.
const (
	minGrace = 5 * time.Second
	maxGrace = 30 * time.Second
)

// errNotRead is why there is no report yet.
var errNotRead = errors.New("nodes and pods have not been read yet")

// cluster follows the nodes and pods of the physical cluster. Client-go's reflectors list and watch, as in an informer,
// but write into usage alone, so that nothing is kept twice.
type cluster struct {
	client      corev1client.CoreV1Interface
	clock       clock.Clock
	tolerations []corev1.Toleration
	// grace is how long the cluster may fail to answer before it is reported as unreachable.
	grace time.Duration
	// changed receives an element when anything has changed.
	changed chan struct{}

	mu          sync.Mutex
	usage       *usage
	nodes, pods *source
	uid         types.UID
	answered    time.Time
	probeErr    error
}

// source is the state of one list and watch.
type source struct {
	name   string
	synced bool
	// err is the latest error; since is when the source stopped answering or, before it has synced, when it was started.
	err   error
	since time.Time
}

func newCluster(config *rest.Config, interval time.Duration, tolerations []corev1.Toleration, clock clock.Clock) (*cluster, error) {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.UserAgent = userAgent
	client, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return newClusterFor(client, interval, tolerations, clock), nil
}

func newClusterFor(client corev1client.CoreV1Interface, interval time.Duration, tolerations []corev1.Toleration, clock clock.Clock) *cluster {
	now := clock.Now()
	return &cluster{
		client: client, clock: clock, tolerations: tolerations, grace: min(max(interval, minGrace), maxGrace), changed: make(chan struct{}, 1),
		usage: newUsage(), nodes: &source{name: "nodes", since: now}, pods: &source{name: "pods", since: now},
	}
}

// run follows the cluster until ctx ends.
func (c *cluster) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	nodes, pods := c.client.Nodes(), c.client.Pods(metav1.NamespaceAll)
	running.Go(func() { c.probeForever(ctx) })
	running.Go(func() {
		c.reflect(ctx, &corev1.Node{}, c.nodeStore(), &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				list, err := nodes.List(ctx, o)
				return list, c.recordAnswer(c.nodes, err)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				w, err := nodes.Watch(ctx, o)
				return w, c.recordAnswer(c.nodes, err)
			},
		})
	})
	running.Go(func() {
		// Pods that have ended request nothing, so the server need not send them.
		const running = "status.phase!=Succeeded,status.phase!=Failed"
		c.reflect(ctx, &corev1.Pod{}, c.podStore(), &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = running
				list, err := pods.List(ctx, o)
				return list, c.recordAnswer(c.pods, err)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = running
				w, err := pods.Watch(ctx, o)
				return w, c.recordAnswer(c.pods, err)
			},
		})
	})
}

func (c *cluster) reflect(ctx context.Context, expected any, into *store, from *cache.ListWatch) {
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(from, c.client), expected, into, cache.ReflectorOptions{
		Name:    into.source.name,
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: maxRetry},
	}).RunWithContext(ctx)
}

// recordAnswer records whether a list or watch was answered, and returns its error.
func (c *cluster) recordAnswer(s *source, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && s.err == nil && s.synced {
		s.since = c.clock.Now()
	}
	s.err = err
	return err
}

// probeForever keeps asking the cluster for its UID, since an open watch does not show that the server is gone.
func (c *cluster) probeForever(ctx context.Context) {
	every := c.grace / 3
	for {
		pause := every
		if !c.probe(ctx, every) {
			pause = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-c.clock.After(pause):
		}
	}
}

// probe asks for the UID once and reports whether the cluster has answered.
func (c *cluster) probe(ctx context.Context, timeout time.Duration) bool {
	probing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	namespace, err := c.client.Namespaces().Get(probing, metav1.NamespaceSystem, metav1.GetOptions{})
	if ctx.Err() != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	problemBefore, uidBefore := c.problem(now), c.uid
	if c.probeErr = err; err != nil {
		klog.FromContext(ctx).V(2).Info("The physical cluster does not answer", "err", err)
	} else {
		c.uid, c.answered = namespace.UID, now
	}
	if uidBefore != c.uid || problemBefore != c.problem(now) || problemBefore != "" {
		c.signal()
	}
	return err == nil
}

// problem returns why the state of the cluster is unknown; empty if it is known. The caller holds the lock.
func (c *cluster) problem(now time.Time) string {
	// An old answer and no failed one since mean that the agent itself was suspended.
	if c.probeErr != nil && now.Sub(c.answered) > c.grace {
		return fmt.Sprintf("the API server of the cluster has not answered since %s: %v", c.answered.UTC().Format(time.RFC3339), c.probeErr)
	}
	for _, s := range []*source{c.nodes, c.pods} {
		switch {
		case now.Sub(s.since) <= c.grace:
		case !s.synced && s.err == nil:
			return fmt.Sprintf("%s have not been listed yet", s.name)
		case !s.synced || s.err != nil:
			return fmt.Sprintf("%s cannot be listed and watched since %s: %v", s.name, s.since.UTC().Format(time.RFC3339), s.err)
		}
	}
	return ""
}

// report reads the cluster. It fails while there is nothing to report yet, not even that the cluster is unreachable.
func (c *cluster) report() (*report, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uid == "" {
		if c.probeErr != nil {
			return nil, fmt.Errorf("the physical cluster cannot be identified by the UID of its namespace %s: %w", metav1.NamespaceSystem, c.probeErr)
		}
		return nil, errNotRead
	}
	if why := c.problem(c.clock.Now()); why != "" {
		return unreachable(c.uid, why), nil
	}
	if !c.nodes.synced || !c.pods.synced {
		return nil, errNotRead
	}
	return newReport(c.uid, c.usage.figures()), nil
}

func (c *cluster) signal() {
	select {
	case c.changed <- struct{}{}:
	default: // a signal is pending already
	}
}

// store is what a reflector writes to. It keeps only the parts of an object that the figures need.
type store struct {
	cluster   *cluster
	source    *source
	transform cache.TransformFunc
	// put, remove and keys access usage.
	put    func(any) bool
	remove func(key string) bool
	keys   func() iter.Seq[string]
}

var _ cache.TransformingStore = &store{}

func (c *cluster) podStore() *store {
	return &store{
		cluster: c, source: c.pods,
		transform: func(object any) (any, error) {
			if p, ok := object.(*corev1.Pod); ok {
				return podOf(p), nil
			}
			return object, nil
		},
		put:    func(object any) bool { return c.usage.setPod(object.(*pod)) },
		remove: c.usage.deletePod,
		keys:   func() iter.Seq[string] { return maps.Keys(c.usage.pods) },
	}
}

func (c *cluster) nodeStore() *store {
	return &store{
		cluster: c, source: c.nodes,
		transform: func(object any) (any, error) {
			if n, ok := object.(*corev1.Node); ok {
				return nodeOf(n, c.tolerations), nil
			}
			return object, nil
		},
		put:    func(object any) bool { return c.usage.setNode(object.(*node)) },
		remove: c.usage.deleteNode,
		keys: func() iter.Seq[string] {
			return func(yield func(string) bool) {
				for name, b := range c.usage.nodes {
					if b.node != nil && !yield(name.Value()) {
						return
					}
				}
			}
		},
	}
}

// Transformer implements cache.TransformingStore, so that the reflector shrinks objects as they arrive.
func (s *store) Transformer() cache.TransformFunc { return s.transform }

// Add implements cache.Store.
func (s *store) Add(object any) error { return s.Update(object) }

// Update implements cache.Store.
func (s *store) Update(object any) error {
	object, err := s.transform(object)
	if err != nil {
		return err
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if s.put(object) {
		s.cluster.signal()
	}
	return nil
}

// Delete implements cache.Store.
func (s *store) Delete(object any) error {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		return err
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if s.remove(key) {
		s.cluster.signal()
	}
	return nil
}

// Replace implements cache.Store: it stores these objects and removes all others.
func (s *store) Replace(objects []any, _ string) error {
	listed := make(map[string]bool, len(objects))
	for i := range objects {
		var err error
		if objects[i], err = s.transform(objects[i]); err != nil {
			return err
		}
		key, err := cache.MetaNamespaceKeyFunc(objects[i])
		if err != nil {
			return err
		}
		listed[key] = true
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for _, object := range objects {
		s.put(object)
	}
	for key := range s.keys() {
		if !listed[key] {
			s.remove(key)
		}
	}
	s.source.synced = true
	s.cluster.signal()
	return nil
}

// Resync implements cache.Store. There is nothing to do.
func (s *store) Resync() error { return nil }
