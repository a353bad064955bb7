// Package controller wires the engine to kcp: informers in, decisions out.
package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	apisv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha1"
	kcpclient "github.com/kcp-dev/kcp/sdk/client/clientset/versioned"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
)

// Defaults of Config.
const (
	DefaultMaxConcurrentDecisions = 16
	DefaultBatchSize              = 1000
	DefaultBatchTimeout           = 100 * time.Millisecond
)

// Config of a Controller.
type Config struct {
	// Provider reaches the workspace that holds the APIExport and its APIExportEndpointSlice.
	Provider *rest.Config
	// EndpointSlice is the name of the APIExportEndpointSlice.
	EndpointSlice string
	// Kinds are the workload kinds to place; each has a pod template at spec.template.
	Kinds []schema.GroupVersionResource
	// MaxConcurrentDecisions is how many workspaces are decided on and published at once; DefaultMaxConcurrentDecisions if 0.
	MaxConcurrentDecisions int
	// BatchSize is how many decisions a pass over a workspace makes before it publishes them, BatchTimeout how long it may
	// take for that; the defaults if 0.
	BatchSize    int
	BatchTimeout time.Duration
	// Engine and Policies decide; the engine uses these policies.
	Engine   *engine.Engine
	Policies *policy.Compiler
	// HeartbeatGracePeriod is how long a cluster that reports may be silent before its Ready condition becomes Unknown; 0
	// is for ever.
	HeartbeatGracePeriod time.Duration
	// FailoverAfter is how long it may be silent before it is taken for lost: its Ready condition becomes False, and its
	// workloads are placed anew; 0 is for ever. It is no less than HeartbeatGracePeriod.
	FailoverAfter time.Duration
	// ReservationTimeout is how long a cluster that says which workloads it counts has to count one that was placed there,
	// before what is reserved for it is given up; 0 is for ever.
	ReservationTimeout time.Duration
	// Fence, where it is not nil, is asked before decisions are written: an error says that another may lead by now, and
	// they are not. What it lets pass is done within WriteWithin.
	Fence func() error
	// Registry takes the metrics.
	Registry prometheus.Registerer
}

// Controller places the workloads of all workspaces that are bound to the APIExport.
type Controller struct {
	config  Config
	kcp     kcpclient.Interface
	metrics *metrics
	queue   workqueue.TypedRateLimitingInterface[logicalcluster.Name]

	mu         sync.Mutex
	endpoints  map[string]*endpoint
	workspaces map[logicalcluster.Name]*seen
	// followed is set once the endpoint slice has been read.
	followed bool
}

// seen is a workspace with the endpoint that shows it.
type seen struct {
	endpoint *endpoint
	*workspace
	// replaces is the workspace as another endpoint has shown it, until the next pass: one over it may be under way.
	replaces *seen
}

// WriteWithin bounds the writing of decisions, so that none is under way any more when the next leader begins.
const WriteWithin = 10 * time.Second

// finishWithin is how long writes under way may take when the controller is asked to stop.
const finishWithin = 10 * time.Second

// New makes a controller; Run runs it.
func New(config Config) (*Controller, error) {
	client, err := kcpclient.NewForConfig(config.Provider)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(config.Registry)
	if err != nil {
		return nil, err
	}
	config.MaxConcurrentDecisions = cmp.Or(config.MaxConcurrentDecisions, DefaultMaxConcurrentDecisions)
	config.BatchSize = cmp.Or(config.BatchSize, DefaultBatchSize)
	config.BatchTimeout = cmp.Or(config.BatchTimeout, DefaultBatchTimeout)
	return &Controller{
		config:  config,
		kcp:     client,
		metrics: m,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[logicalcluster.Name](20*time.Millisecond, 30*time.Second),
			workqueue.TypedRateLimitingQueueConfig[logicalcluster.Name]{Name: "workspaces"}),
		endpoints:  map[string]*endpoint{},
		workspaces: map[logicalcluster.Name]*seen{},
	}, nil
}

// Run places workloads until ctx ends, and then finishes what it is writing. It fails at once where the
// APIExportEndpointSlice cannot be read.
func (c *Controller) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	api := c.kcp.ApisV1alpha1().APIExportEndpointSlices()
	if _, err := api.Get(ctx, c.config.EndpointSlice, metav1.GetOptions{}); err != nil && ctx.Err() == nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("there is no APIExportEndpointSlice %q in the workspace that the kubeconfig points at, %s: is the APIExport installed there?", c.config.EndpointSlice, c.config.Provider.Host)
		}
		return fmt.Errorf("reading APIExportEndpointSlice %q at %s: %w", c.config.EndpointSlice, c.config.Provider.Host, err)
	}
	logger.V(2).Info("Starting", "endpointSlice", c.config.EndpointSlice, "maxConcurrentDecisions", c.config.MaxConcurrentDecisions, "kinds", c.config.Kinds)

	// Writes that are under way are finished after ctx has ended.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var workers sync.WaitGroup
	defer func() {
		c.queue.ShutDown()
		defer time.AfterFunc(finishWithin, stop).Stop()
		workers.Wait()
		c.follow(working, nil)
		logger.V(2).Info("Stopped")
	}()
	for range c.config.MaxConcurrentDecisions {
		workers.Go(func() {
			for c.next(working) {
			}
		})
	}

	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, c.config.EndpointSlice).String()
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = selector
				return api.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = selector
				return api.Watch(ctx, o)
			},
		},
		ObjectType: &apisv1alpha1.APIExportEndpointSlice{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { c.follow(ctx, object) },
			UpdateFunc: func(_, object any) { c.follow(ctx, object) },
			DeleteFunc: func(any) { c.follow(ctx, &apisv1alpha1.APIExportEndpointSlice{}) },
		},
	})
	informer.RunWithContext(ctx)
	return nil
}

// follow starts what is new among the endpoints and stops what is gone. Without a slice it stops all.
func (c *Controller) follow(ctx context.Context, object any) {
	logger := klog.FromContext(ctx)
	urls := map[string]bool{}
	if slice, ok := object.(*apisv1alpha1.APIExportEndpointSlice); ok {
		for _, e := range slice.Status.APIExportEndpoints {
			urls[e.URL] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followed = true
	for url, e := range c.endpoints {
		if !urls[url] {
			logger.V(2).Info("An endpoint is gone", "url", url)
			delete(c.endpoints, url)
			c.mu.Unlock()
			e.close()
			c.mu.Lock()
		}
	}
	for url := range urls {
		if c.endpoints[url] != nil {
			continue
		}
		logger.V(2).Info("Following an endpoint", "url", url)
		e, err := startEndpoint(context.WithoutCancel(ctx), c.config.Provider, url, c.config.Kinds, c.metrics, c.changed)
		if err != nil {
			logger.Error(err, "An endpoint cannot be followed", "url", url)
			continue
		}
		c.endpoints[url] = e
	}
}

// changed notes that something in a workspace has changed.
func (c *Controller) changed(e *endpoint, name logicalcluster.Name) {
	c.mu.Lock()
	if s := c.workspaces[name]; s == nil || s.endpoint != e {
		w := newWorkspace(name, c.config.Engine, c.config.Policies, c.metrics,
			limits{batchSize: c.config.BatchSize, batchTimeout: c.config.BatchTimeout, grace: c.config.HeartbeatGracePeriod, failoverAfter: c.config.FailoverAfter, reservationTimeout: c.config.ReservationTimeout},
			e.actions(name).fenced(c.config.Fence))
		c.workspaces[name] = &seen{endpoint: e, workspace: w, replaces: s}
		c.metrics.workspaces.Inc()
	}
	c.mu.Unlock()
	c.queue.Add(name)
}

// next makes one pass over one workspace; it is false when the queue has been shut down.
func (c *Controller) next(ctx context.Context) bool {
	name, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(name)
	logger := klog.FromContext(ctx).WithValues("workspace", name)
	start := time.Now()
	ctx = klog.NewContext(ctx, logger)
	r := c.reconcile(ctx, name)
	c.metrics.passes.Observe(time.Since(start).Seconds())
	r.report(ctx)
	if len(r.errs) > 0 {
		c.queue.AddRateLimited(name)
	} else {
		c.queue.Forget(name)
	}
	switch {
	case r.again:
		c.queue.Add(name)
	case r.after > 0:
		c.queue.AddAfter(name, r.after)
	}
	return true
}

func (c *Controller) reconcile(ctx context.Context, name logicalcluster.Name) (r result) {
	var panicked error
	defer func() { r.fail(panicked) }()
	defer recoverTo(&panicked)
	c.mu.Lock()
	s := c.workspaces[name]
	c.mu.Unlock()
	if s == nil {
		return r
	}
	for ; s.replaces != nil; s.replaces = s.replaces.replaces {
		s.replaces.retire()
	}
	if _, ok := s.endpoint.synced(); !ok {
		// A pass over half a workspace would take back what it does not see.
		return result{after: 100 * time.Millisecond}
	}
	o, err := s.endpoint.observe(name, c.config.Kinds)
	if err != nil {
		r.fail(err)
		return r
	}
	if len(o.clusters)+len(o.placements)+len(o.decisions)+len(o.configMaps)+len(o.workloads) == 0 {
		c.forget(name, s)
		return r
	}
	return s.reconcile(ctx, o)
}

// forget drops a workspace of which nothing is left.
func (c *Controller) forget(name logicalcluster.Name, s *seen) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workspaces[name] == s {
		delete(c.workspaces, name)
		s.retire()
		c.config.Engine.Forget(name)
	}
}

// Ready tells, as an error, what the controller still waits for. No endpoint at all is ready: before the first
// workspace binds there is none.
func (c *Controller) Ready() error {
	c.mu.Lock()
	endpoints := slices.Collect(maps.Values(c.endpoints))
	followed := c.followed
	c.mu.Unlock()
	if !followed {
		return fmt.Errorf("APIExportEndpointSlice %s has not been read yet", c.config.EndpointSlice)
	}
	for _, e := range endpoints {
		if resource, ok := e.synced(); !ok {
			return fmt.Errorf("%s have not been listed yet at %s: are they bound and their permission claims accepted?", resource.GroupResource(), e.url)
		}
	}
	return nil
}
