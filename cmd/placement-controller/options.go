package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/metrics"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/internal/program"
)

// options are the flags.
type options struct {
	kubeconfig, context string
	endpointSlice       string
	kinds               []string
	kindsFile           string
	qps                 float32
	cacheTTL            time.Duration
	cacheBytes          resource.QuantityValue
	policyTimeout       time.Duration
	batchSize           int
	batchTimeout        time.Duration
	concurrent          int
	pace                controller.Pace
	watchCheck          time.Duration
	deliver             bool
	suspend             bool
	bindAddress         string
	leaderElect         bool
	leaseNamespace      string
	leaseName           string
	logs                *logsapi.LoggingConfiguration
}

func newOptions() *options {
	return &options{
		endpointSlice:  "tmc.kcp.io",
		kinds:          slices.Clone(workload.DefaultResources),
		qps:            100,
		cacheTTL:       engine.DefaultCacheTTL,
		cacheBytes:     resource.QuantityValue{Quantity: *resource.NewQuantity(engine.DefaultCacheBytes, resource.BinarySI)},
		policyTimeout:  policy.DefaultTimeout,
		batchSize:      controller.DefaultBatchSize,
		batchTimeout:   controller.DefaultBatchTimeout,
		concurrent:     controller.DefaultMaxConcurrentDecisions,
		pace:           controller.DefaultPace(),
		watchCheck:     time.Minute,
		bindAddress:    "127.0.0.1:8080",
		leaseNamespace: "default",
		leaseName:      "placement-controller",
		logs:           logs.NewOptions(),
	}
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "Path of a kubeconfig that points at the workspace with the APIExport. $KUBECONFIG or the in-cluster configuration if empty.")
	flags.StringVar(&o.context, "context", o.context, "Context of the kubeconfig to use. The current one if empty.")
	flags.StringVar(&o.endpointSlice, "api-export-endpoint-slice", o.endpointSlice, "Name of the APIExportEndpointSlice to follow.")
	flags.StringSliceVar(&o.kinds, "workload-kinds", o.kinds, "Kinds of workload to place, as resource.version.group, of those that kubectl placement kinds lists. Each must have a permission claim in the APIExport.")
	flags.StringVar(&o.kindsFile, "kinds-file", o.kindsFile, "File with more kinds of workload, in the form in which kubectl placement kinds -o yaml shows them.")
	flags.Float32Var(&o.qps, "kube-api-qps", o.qps, "Requests a second to the API server, in bursts of twice as many.")
	flags.DurationVar(&o.cacheTTL, "decision-cache-ttl", o.cacheTTL, "How long an unused ranking of clusters is kept.")
	flags.Var(&o.cacheBytes, "decision-cache-bytes", "How much memory rankings of clusters, and what they rest on, may take in each workspace, for example 64Mi.")
	flags.DurationVar(&o.policyTimeout, "policy-timeout", o.policyTimeout, "How long one evaluation of a workspace's Rego may take by the clock. Its cost is bounded by a budget.")
	flags.IntVar(&o.batchSize, "batch-size", o.batchSize, "How many decisions of a workspace are made at most before they are published. The rest follows at once, after other workspaces that wait have had their turn.")
	flags.DurationVar(&o.batchTimeout, "batch-timeout", o.batchTimeout, "How long decisions of a workspace are made at most before they are published, even if they are fewer than --batch-size.")
	flags.IntVar(&o.concurrent, "max-concurrent-decisions", o.concurrent, "How many workspaces are decided on and published at once at most. Workspaces take turns.")
	o.pace.AddFlags(flags)
	flags.DurationVar(&o.watchCheck, "watch-check-interval", o.watchCheck, "How often each watch is compared with a list of metadata, and reopened if it does not deliver what the list shows. 0 is never.")
	flags.BoolVar(&o.deliver, "deliver", o.deliver, "Bring workloads, with the ConfigMaps, Secrets and other objects that go with them, to clusters whose agents deliver. The APIExport must have the permission claims of crds/delivery/permissionclaims.yaml.")
	flags.BoolVar(&o.suspend, "suspend", o.suspend, "Decide nothing in any workspace, and say what would be decided: nothing is placed, moved or withdrawn. What is decided is still delivered, and workloads that are deleted free what they hold.")
	flags.StringVar(&o.bindAddress, "metrics-bind-address", o.bindAddress, "Address to serve /metrics, /healthz and /readyz on. Empty turns it off.")
	flags.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "Let one of several controllers work, by a Lease in the workspace with the APIExport.")
	flags.StringVar(&o.leaseNamespace, "leader-elect-namespace", o.leaseNamespace, "Namespace of the Lease.")
	flags.StringVar(&o.leaseName, "leader-elect-name", o.leaseName, "Name of the Lease.")
	logsapi.AddFlags(o.logs, flags)
}

func (o *options) validate() error {
	var errs []error
	if o.endpointSlice == "" {
		errs = append(errs, errors.New("--api-export-endpoint-slice must not be empty"))
	}
	if o.qps <= 0 {
		errs = append(errs, fmt.Errorf("--kube-api-qps must be more than 0, is %v", o.qps))
	}
	if o.cacheTTL <= 0 {
		errs = append(errs, fmt.Errorf("--decision-cache-ttl must be more than 0, is %s", o.cacheTTL))
	}
	if o.policyTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--policy-timeout must be more than 0, is %s", o.policyTimeout))
	}
	if o.cacheBytes.Value() < 1 {
		errs = append(errs, fmt.Errorf("--decision-cache-bytes must be at least 1, is %s", o.cacheBytes.String()))
	}
	if o.batchSize < 1 {
		errs = append(errs, fmt.Errorf("--batch-size must be at least 1, is %d", o.batchSize))
	}
	if o.batchTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--batch-timeout must be more than 0, is %s", o.batchTimeout))
	}
	if o.concurrent < 1 {
		errs = append(errs, fmt.Errorf("--max-concurrent-decisions must be at least 1, is %d", o.concurrent))
	}
	errs = append(errs, o.pace.Validate())
	if o.watchCheck < 0 {
		errs = append(errs, fmt.Errorf("--watch-check-interval must not be negative, is %s", o.watchCheck))
	}
	if table, err := program.Kinds(o.kindsFile); err != nil {
		errs = append(errs, err)
	} else if _, err := table.Resources(o.kinds); err != nil {
		errs = append(errs, fmt.Errorf("--workload-kinds: %w", err))
	}
	return errors.Join(errs...)
}

// completed is the program that the flags describe.
type completed struct {
	*options
	config     *rest.Config
	registry   *prometheus.Registry
	controller *controller.Controller
	// standby is set while another controller leads.
	standby atomic.Bool
	// elector knows whether this one leads; nil without leader election.
	elector *leaderelection.LeaderElector
}

// A leader that has not renewed its lease for renewWithin starts no more writes, and those under way end before the lease does.
const (
	renewWithin   = 15 * time.Second
	leaseDuration = renewWithin + controller.WriteWithin
)

// fence returns an error once another controller may lead.
func (c *completed) fence() error {
	switch {
	case !c.leaderElect:
		return nil
	case !c.elector.IsLeader() || c.elector.Check(renewWithin-leaseDuration) != nil:
		return errors.New("the lease has not been renewed in time: another controller may lead by now")
	default:
		return nil
	}
}

func (o *options) complete() (*completed, error) {
	config, err := program.Kubeconfig(o.kubeconfig, o.context)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	config.QPS, config.Burst = o.qps, int(2*o.qps)
	config.UserAgent = "placement-controller"

	policies, err := policy.NewCompiler(policy.Options{Timeout: o.policyTimeout})
	if err != nil {
		return nil, err
	}
	collector := metrics.New()
	e, err := engine.New(engine.Options{
		CacheTTL: o.cacheTTL, CacheBytes: int(o.cacheBytes.Value()), NotReadyDelay: o.pace.NotReadyDelay, Policies: policies, Metrics: collector,
	})
	if err != nil {
		return nil, err
	}
	c := &completed{options: o, config: config, registry: prometheus.NewRegistry()}
	c.registry.MustRegister(collector, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	table, err := program.Kinds(o.kindsFile)
	if err != nil {
		return nil, err
	}
	resources, err := table.Resources(o.kinds)
	if err != nil {
		return nil, err
	}
	c.controller, err = controller.New(controller.Config{
		Provider: config, EndpointSlice: o.endpointSlice, Kinds: resources, Table: table,
		Engine: e, Policies: policies, Registry: c.registry, Fence: c.fence,
		BatchSize: o.batchSize, BatchTimeout: o.batchTimeout, MaxConcurrentDecisions: o.concurrent,
		Pace: o.pace, WatchCheckInterval: o.watchCheck, Deliver: o.deliver, Suspend: o.suspend,
	})
	return c, err
}

func (c *completed) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, err := program.Serve(c.bindAddress, c.registry, c.ready, cancel)
	if err != nil {
		return err
	}
	defer stop()
	if !c.leaderElect {
		return errors.Join(c.controller.Run(ctx), program.Failure(ctx))
	}
	return errors.Join(c.lead(ctx, cancel), program.Failure(ctx))
}

// lead runs the controller while it holds the lease. A leader that loses the lease stops; the next one decides anew what it has
// not written.
func (c *completed) lead(ctx context.Context, cancel context.CancelCauseFunc) error {
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, c.leaseNamespace, c.leaseName, client.CoreV1(), client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: fmt.Sprintf("%s-%d", host, os.Getpid())})
	if err != nil {
		return err
	}
	return c.whileLeading(ctx, cancel, lock, c.controller.Run)
}

// whileLeading calls run while the lock is held, and releases the lock only after run has returned.
func (c *completed) whileLeading(ctx context.Context, cancel context.CancelCauseFunc, lock resourcelock.Interface, run func(context.Context) error) error {
	electing, release := context.WithCancel(context.WithoutCancel(ctx))
	elected := make(chan struct{})
	c.standby.Store(true)
	var err error
	c.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewWithin,
		RetryPeriod:     2 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { close(elected) },
			OnStoppedLeading: func() {
				if electing.Err() == nil {
					cancel(errors.New("the lease was lost"))
				}
			},
			OnNewLeader: func(identity string) { klog.FromContext(ctx).V(2).Info("Leader", "identity", identity) },
		},
	})
	if err != nil {
		release()
		return err
	}
	var election sync.WaitGroup
	election.Go(func() { c.elector.Run(electing) })
	defer election.Wait()
	defer release()
	select {
	case <-ctx.Done():
		return nil
	case <-elected:
		c.standby.Store(false)
		return run(ctx)
	}
}

// ready returns what the controller still waits for. A standby is always ready.
func (c *completed) ready() error {
	if c.standby.Load() {
		return nil
	}
	return c.controller.Ready()
}
