// Package controller connects the engine to kcp: it reads workspaces from watches and publishes decisions to them.
package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	apisv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha1"
	kcpclient "github.com/kcp-dev/kcp/sdk/client/clientset/versioned"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/panics"
)

// Defaults of Config. With batches of 100 or more, a burst goes out in 10 to 12 writes per thousand decisions. Larger batches
// save passes, each of which goes over all workloads of the workspace.
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
	// Kinds are the workload kinds to place. Each is in Table, which is workload.Kinds() if nil.
	Kinds []schema.GroupVersionResource
	Table *workload.Table
	// MaxConcurrentDecisions is how many workspaces decide and publish at once; DefaultMaxConcurrentDecisions if 0.
	MaxConcurrentDecisions int
	// BatchSize is how many decisions a pass over a workspace makes before it publishes them, BatchTimeout how long it may
	// spend on that; the defaults if 0.
	BatchSize    int
	BatchTimeout time.Duration
	// Engine decides, using the policies that Policies compiles.
	Engine   *engine.Engine
	Policies *policy.Compiler
	Pace
	// Deliver makes the controller bring workloads to clusters whose agents deliver.
	Deliver bool
	// Suspend suspends decisions in all workspaces.
	Suspend bool
	// WatchCheckInterval is how often each watch is compared with a list, to find those that are open but deaf; 0 is never.
	WatchCheckInterval time.Duration
	// Fence, unless nil, is called before each write. An error means that another controller may lead by now, and the write
	// is not made. A write that the fence admits ends within WriteWithin.
	Fence func() error
	// Registry is where the metrics are registered.
	Registry prometheus.Registerer
}

// Controller places the workloads of all workspaces that are bound to the APIExport.
//
// Invariant: the state of a workspace is touched only by the worker that holds its queue key. So a workspace is forgotten, or
// followed through another endpoint, only between two passes over it and never during one.
type Controller struct {
	config  Config
	kcp     kcpclient.Interface
	metrics *metrics
	queue   workqueue.TypedRateLimitingInterface[logicalcluster.Name]
	// deliveries holds workspaces that may need deliveries, finalizers and statuses those whose workloads may need finalizers or statuses
	// written.
	deliveries, finalizers, statuses workqueue.TypedRateLimitingInterface[logicalcluster.Name]
	// publishing is how many workspaces are writing decisions.
	publishing atomic.Int64
	// paths resolves the paths by which workspaces that share clusters name each other.
	paths  *paths
	fleets *fleets

	mu         sync.Mutex
	endpoints  map[string]*endpoint
	workspaces map[logicalcluster.Name]*followed
	// read is set once the endpoint slice has been read.
	read bool
}

// followed is a workspace with the endpoint through which it is read and written.
type followed struct {
	endpoint *endpoint
	// boundBy is the name of its APIBinding.
	boundBy string
	*workspace
	// deliverer is nil where nothing is delivered.
	deliverer *deliverer
}

// WriteWithin bounds each write, so that none is still in flight when the next leader begins.
const WriteWithin = 10 * time.Second

// finishWithin is how long writes in flight may take after the controller is asked to stop.
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
	c := &Controller{
		config:  config,
		kcp:     client,
		metrics: m,
		queue:   newQueue("workspaces"), deliveries: newQueue("deliveries"), finalizers: newQueue("finalizers"), statuses: newQueue("statuses"),
		endpoints:  map[string]*endpoint{},
		workspaces: map[logicalcluster.Name]*followed{},
	}
	c.fleets = newFleets()
	if c.paths, err = newPaths(config.Provider, c.fleets.moved); err != nil {
		return nil, err
	}
	c.fleets.wake, c.fleets.gone, c.fleets.at = c.queue.Add, c.gone, c.paths.of
	return c, nil
}

func newQueue(name string) workqueue.TypedRateLimitingInterface[logicalcluster.Name] {
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[logicalcluster.Name](20*time.Millisecond, 30*time.Second),
		workqueue.TypedRateLimitingQueueConfig[logicalcluster.Name]{Name: name})
}

// Run places workloads until ctx ends, and then finishes writes in flight. It fails at once if the APIExportEndpointSlice
// cannot be read.
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

	// Writes in flight are finished after ctx has ended.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var workers sync.WaitGroup
	defer func() {
		for _, queue := range []workqueue.TypedRateLimitingInterface[logicalcluster.Name]{c.queue, c.deliveries, c.finalizers, c.statuses} {
			queue.ShutDown()
		}
		defer time.AfterFunc(finishWithin, stop).Stop()
		workers.Wait()
		for _, e := range c.currentEndpoints() {
			c.drop(e)
		}
		for name, f := range c.workspaces { // no worker touches it any more
			c.forget(name, f)
		}
		logger.V(2).Info("Stopped")
	}()
	work := func(queue workqueue.TypedRateLimitingInterface[logicalcluster.Name], concurrent int, pass func(context.Context, logicalcluster.Name) result) {
		for range concurrent {
			workers.Go(func() {
				for next(working, queue, pass) {
				}
			})
		}
	}
	workers.Go(func() { c.paths.run(ctx) })
	work(c.queue, c.config.MaxConcurrentDecisions, c.reconcile)
	if c.config.Deliver {
		work(c.deliveries, c.config.MaxConcurrentDecisions, c.deliver)
		work(c.finalizers, concurrentFinalizers, c.writeFinalizers)
		work(c.statuses, concurrentStatuses, c.writeStatuses)
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
			AddFunc:    func(object any) { c.follow(ctx, object.(*apisv1alpha1.APIExportEndpointSlice)) },
			UpdateFunc: func(_, object any) { c.follow(ctx, object.(*apisv1alpha1.APIExportEndpointSlice)) },
			DeleteFunc: func(any) { c.follow(ctx, &apisv1alpha1.APIExportEndpointSlice{}) },
		},
	})
	informer.RunWithContext(ctx)
	return nil
}

// follow starts the endpoints that are new in a slice and drops those that it no longer has.
func (c *Controller) follow(ctx context.Context, slice *apisv1alpha1.APIExportEndpointSlice) {
	logger := klog.FromContext(ctx)
	var urls []string
	for _, e := range slice.Status.APIExportEndpoints {
		urls = append(urls, e.URL)
	}
	for _, e := range c.currentEndpoints() {
		if !slices.Contains(urls, e.url) {
			logger.V(2).Info("An endpoint is gone", "url", e.url)
			c.drop(e)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = true
	for _, url := range urls {
		if c.endpoints[url] != nil {
			continue
		}
		logger.V(2).Info("Following an endpoint", "url", url)
		e, err := newEndpoint(c.config, url, c.metrics, c.queue.Add, c.deliveries.Add)
		if err != nil {
			logger.Error(err, "An endpoint cannot be followed", "url", url)
			continue
		}
		e.hasGuest = c.fleets.hasGuest
		c.endpoints[url] = e
		e.start(context.WithoutCancel(ctx))
	}
}

// drop closes an endpoint and enqueues its workspaces, to be followed through another or forgotten.
func (c *Controller) drop(e *endpoint) {
	c.mu.Lock()
	delete(c.endpoints, e.url)
	c.mu.Unlock()
	e.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, f := range c.workspaces {
		if f.endpoint == e {
			c.queue.Add(name)
		}
	}
}

// currentEndpoints returns the endpoints that are open, in a fixed order.
func (c *Controller) currentEndpoints() []*endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.endpoints), func(a, b *endpoint) int { return strings.Compare(a.url, b.url) })
}

// next makes one pass over the next workspace of a queue; it returns false once the queue is shut down.
func next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[logicalcluster.Name], pass func(context.Context, logicalcluster.Name) result) bool {
	name, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(name)
	logger := klog.FromContext(ctx).WithValues("workspace", name)
	ctx = klog.NewContext(ctx, logger)
	r := pass(ctx, name)
	r.report(ctx)
	if len(r.errs) > 0 {
		queue.AddRateLimited(name)
	} else {
		queue.Forget(name)
	}
	switch {
	case r.again:
		queue.Add(name)
	case r.after > 0:
		queue.AddAfter(name, r.after)
	}
	return true
}

// concurrentFinalizers is the number of workspaces in which finalizers are written at once.
const concurrentFinalizers = 2

// deliver makes one round of deliveries in a workspace.
func (c *Controller) deliver(ctx context.Context, name logicalcluster.Name) (r result) {
	if d := c.delivererOf(name); d != nil {
		r.do(func() { r = d.deliver(ctx) })
		c.finalizers.Add(name)
		c.statuses.Add(name)
	}
	return r
}

func (c *Controller) writeStatuses(ctx context.Context, name logicalcluster.Name) (r result) {
	if d := c.delivererOf(name); d != nil {
		r.do(func() { r = d.writeStatuses(ctx) })
	}
	return r
}

func (c *Controller) writeFinalizers(ctx context.Context, name logicalcluster.Name) (r result) {
	if d := c.delivererOf(name); d != nil {
		r.do(func() { r = d.writeFinalizers(ctx) })
	}
	return r
}

// delivererOf returns the deliverer of a workspace, nil if nothing is delivered there.
func (c *Controller) delivererOf(name logicalcluster.Name) *deliverer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.workspaces[name]; f != nil {
		return f.deliverer
	}
	return nil
}

// reconcile makes one pass over a workspace, or forgets it if no endpoint shows it any more.
func (c *Controller) reconcile(ctx context.Context, name logicalcluster.Name) (r result) {
	var panicked error
	defer func() { r.fail(panicked) }()
	defer panics.RecoverTo(&panicked)
	c.mu.Lock()
	f := c.workspaces[name]
	c.mu.Unlock()
	e, view := c.locate(name, f)
	if f != nil && f.endpoint != e {
		c.forget(name, f)
		f = nil
	}
	if e == nil {
		return r
	}
	switch bound := view.binding; {
	case bound == nil && f == nil:
		return r // its binding is about to be shown
	case bound == nil:
		// Its workloads may still be shown: claimed objects do not vanish with the binding.
		if there, err := f.own.liveUIDs(ctx, bindingResource, []types.NamespacedName{{Name: f.boundBy}}); len(there) == 0 && (err == nil || apierrors.IsForbidden(err)) {
			c.forget(name, f)
		} else {
			r.within(confirmWithin)
		}
		return r
	case bound.DeletionTimestamp != nil:
		return r // kcp deletes all objects of the API in it: nothing is decided or written on what is left
	}
	host, grants := c.fleets.fleetFor(name, &view, f.state())
	if f != nil && f.host != host {
		c.forget(name, f)
		f = nil
		host, grants = c.fleets.fleetFor(name, &view, nil)
	}
	if f == nil {
		f = c.begin(name, e, host)
	}
	if host != nil {
		if view.showHost(host, name, grants); f.deliverer != nil {
			view.works = f.deliverer.works.shown()
		}
	}
	f.boundBy = view.binding.Name
	start := time.Now()
	defer func() { c.metrics.passes.Observe(time.Since(start).Seconds()) }()
	return f.reconcile(ctx, view)
}

// locate finds the endpoint that shows a workspace. During a move between shards two may show it; the current one is kept as
// long as it does. An endpoint that has not synced is left out, because a pass over half a workspace would release what it
// does not see; it enqueues all its workspaces once it has synced.
func (c *Controller) locate(name logicalcluster.Name, f *followed) (*endpoint, cacheView) {
	endpoints := c.currentEndpoints()
	if f != nil {
		if i := slices.Index(endpoints, f.endpoint); i > 0 {
			endpoints[0], endpoints[i] = endpoints[i], endpoints[0]
		}
	}
	for _, e := range endpoints {
		if !e.hasSynced() {
			continue
		}
		if view := e.view(name); !view.empty() {
			return e, view
		}
	}
	return nil, cacheView{}
}

// gone reports whether the server confirms, wherever the workspace may be, that a placement does not exist; with an empty name, that the
// workspace is no longer bound. It fails if that cannot be determined.
func (c *Controller) gone(ctx context.Context, of logicalcluster.Name, placement types.NamespacedName) (bool, error) {
	endpoints := c.currentEndpoints()
	if len(endpoints) == 0 {
		return false, errors.New("no endpoint is followed")
	}
	ctx, done := context.WithTimeout(ctx, readWithin)
	defer done()
	for _, e := range endpoints {
		bindings, err := e.liveUIDs(ctx, of, bindingResource, nil)
		switch {
		case apierrors.IsForbidden(err), err == nil && len(bindings) == 0: // which is also the answer where nothing is bound
			continue
		case err != nil || placement.Name == "":
			return false, err
		}
		if found, err := e.read(ctx, of, placementResource, placement); err != nil || found != nil {
			return false, err
		}
	}
	return true, nil
}

// state returns nil for a workspace that is not followed.
func (f *followed) state() *workspace {
	if f == nil {
		return nil
	}
	return f.workspace
}

// begin follows a workspace through an endpoint. The workspace uses the clusters of host, unless that is nil.
func (c *Controller) begin(name logicalcluster.Name, e *endpoint, host *fleet) *followed {
	f := &followed{endpoint: e, workspace: newWorkspace(name, c.config.Engine, c.config.Policies, c.metrics,
		c.config.limits(), e.actions(name).fenced(c.config.Fence))}
	f.publishing, f.table, f.fleets = &c.publishing, e.table, c.fleets
	f.fleet.kept = func(of logicalcluster.Name) []*v1alpha1.PlacementDecision {
		return keptFor(of, as[*v1alpha1.PlacementDecision](e.kept(decisionResource, name, of), map[types.UID]decode.Problems{}))
	}
	if c.config.Deliver {
		f.fleet.works = e.keptWorks(name, c.config.Fence)
	}
	c.fleets.add(f.fleet)
	if host != nil {
		c.fleets.attach(f.workspace, host)
	}
	if works := f.currentFleet().works; works != nil {
		f.deliverer = newDeliverer(name, e, c.config.Fence, works.workspace(name), f.event)
		f.handOver, f.outcome = f.deliverer.handOver, f.deliverer.result.Load
	}
	c.metrics.workspaces.Inc()
	c.paths.retry()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workspaces[name] = f
	return f
}

// forget drops the state of a workspace.
func (c *Controller) forget(name logicalcluster.Name, f *followed) {
	c.mu.Lock()
	delete(c.workspaces, name)
	c.mu.Unlock()
	f.retire()
	f.endpoint.workloads.forget(name)
	c.fleets.forget(f.workspace)
	c.config.Engine.Forget(name)
}

// Ready returns an error that names what the controller still waits for. Having no endpoint at all is ready: there is none before
// the first workspace binds the export.
func (c *Controller) Ready() error {
	c.mu.Lock()
	read := c.read
	c.mu.Unlock()
	if !read {
		return fmt.Errorf("APIExportEndpointSlice %s has not been read yet", c.config.EndpointSlice)
	}
	for _, e := range c.currentEndpoints() {
		if err := e.ready(); err != nil {
			return err
		}
	}
	return nil
}
