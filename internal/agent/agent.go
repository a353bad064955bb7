// Package agent reports one physical cluster to its ClusterRegistration in a kcp workspace: what its nodes have, what its
// pods request, and whether it can take more.
package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// DefaultInterval is how often an agent reports when nothing changes.
const DefaultInterval = 30 * time.Second

// Config is what an agent needs.
type Config struct {
	// Cluster is the physical cluster, KCP the workspace with the registration.
	Cluster, KCP *rest.Config
	// Registration is what the agent reports to. If it does not exist, it is created with these labels and this spec; an
	// existing one keeps its own.
	Registration *v1alpha1.ClusterRegistration
	// Register allows the agent to create the registration.
	Register bool
	// TakeOver allows the agent to take the registration over from another cluster's agent, once.
	TakeOver bool
	// Interval is how often the agent reports when nothing changes, DefaultInterval if 0.
	Interval time.Duration
	// MaterialChange is the change of an allocated amount, or of the most that is free on one node, that is reported at once,
	// in percent of the allocatable amount of that resource. With 0 every change is.
	MaterialChange float64
	// Tolerations are for taints that do not make a node unusable.
	Tolerations []corev1.Toleration
	// NodeRules select what is reported of nodes.
	NodeRules NodeRules
	// VolumeCapacity is the total capacity for PersistentVolumes of the cluster, in bytes; it is reported as allocatable storage.
	// 0 if unknown.
	VolumeCapacity int64
	// Delivery is how the agent delivers, as it reports it; nil if it does not.
	Delivery *v1alpha1.AgentDelivery
	// Registry registers the agent's metrics. Optional.
	Registry prometheus.Registerer
	// Clock is the system's if nil.
	Clock clock.Clock
}

// Agent reports one cluster.
type Agent struct {
	cluster      *cluster
	registration *registration
	schedule     schedule
	material     float64
	clock        clock.Clock
	metrics      *metrics
	// last is the latest report that was written.
	last *report

	mu sync.Mutex
	// notReady is why the latest report was not written.
	notReady error
	// holds is set while the registration belongs to this cluster, as far as is known.
	holds bool
}

// New returns an agent, which reports once it is run.
func New(c Config) (*Agent, error) {
	if c.Cluster == nil || c.KCP == nil {
		return nil, errors.New("agent: both a cluster and a kcp workspace are needed")
	}
	if c.Registration == nil || c.Registration.Name == "" {
		return nil, errors.New("agent: the registration needs a name")
	}
	if c.Interval < 0 || c.MaterialChange < 0 || c.VolumeCapacity < 0 {
		return nil, errors.New("agent: neither the interval, nor what is material, nor the capacity of volumes may be negative")
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	cluster, err := newCluster(c.Cluster, c.Interval, c.Tolerations, c.Clock)
	if err != nil {
		return nil, fmt.Errorf("the physical cluster: %w", err)
	}
	cluster.usage.volumes, cluster.usage.rules = c.VolumeCapacity, c.NodeRules
	registration, err := newRegistration(c.KCP, c.Registration, c.Register, c.TakeOver, c.Interval)
	if err != nil {
		return nil, fmt.Errorf("the kcp workspace: %w", err)
	}
	registration.delivery = c.Delivery
	return newAgent(cluster, registration, c.Interval, c.MaterialChange, newMetrics(c.Registry, c.Clock), c.Clock), nil
}

func newAgent(cluster *cluster, registration *registration, interval time.Duration, material float64, metrics *metrics, clock clock.Clock) *Agent {
	return &Agent{
		cluster: cluster, registration: registration, material: material, clock: clock, metrics: metrics,
		schedule: schedule{interval: interval, report: clock.Now().Add(interval)},
		notReady: errNotRead,
	}
}

// Run reports until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { a.cluster.run(ctx) })
	running.Go(func() { a.registration.run(ctx) })
	for {
		timer := a.clock.NewTimer(a.schedule.next().Sub(a.clock.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-a.cluster.changed:
			a.schedule.changed(a.clock.Now())
		case <-a.registration.changed:
			a.schedule.hurry(a.clock.Now())
		case <-timer.C():
		}
		timer.Stop()
		a.step(ctx)
	}
}

// step does what is due: it reads the cluster, writes changes if they are material or the interval has passed, and then
// renews the Lease.
func (a *Agent) step(ctx context.Context) {
	started := a.clock.Now()
	read, due := a.schedule.due(started)
	if !read {
		return
	}
	a.schedule.clearChanges()
	r, err := a.cluster.report()
	if err == nil {
		a.metrics.figures(r.figures)
		if !due && !r.material(a.last, a.material) {
			return
		}
		err = a.write(ctx, r, due, started)
	}
	if ctx.Err() != nil {
		return
	}
	log := klog.FromContext(ctx)
	now := a.clock.Now()
	blocked := &blockedError{}
	switch {
	case err == nil:
		log.V(2).Info("Reported", "ready", r.conditions[0].Status, "material", !due)
		a.schedule.written(now, now.Sub(started))
		a.metrics.result("ok", now)
	case errors.As(err, &blocked):
		log.Error(err, "The report was not written; retrying", "in", a.schedule.interval)
		a.schedule.wait(now)
		a.metrics.result(blocked.result, now)
	case r == nil: // a change follows when the cluster can be read
		if due {
			log.Error(err, "Nothing to report yet")
			a.schedule.skipped(now)
		}
	case apierrors.IsConflict(err):
		a.schedule.retry(now)
		log.V(2).Info("The registration was changed meanwhile; retrying", "err", err)
		a.metrics.result("error", now)
	default:
		a.schedule.retry(now)
		log.Error(err, "The report was not written; retrying", "in", a.schedule.next().Sub(now))
		a.metrics.result("error", now)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notReady = err
	a.holds = err == nil || a.holds && blocked.result != "conflict"
}

// write writes a report to the workspace.
func (a *Agent) write(ctx context.Context, r *report, due bool, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	written, err := a.registration.write(ctx, r, now)
	if err != nil {
		return err
	}
	a.last = r
	return a.registration.renew(ctx, written, r, due, now)
}

// Holds reports whether the registration belongs to this cluster: it did when the latest report was written, and no other
// cluster's agent has taken it over since.
func (a *Agent) Holds() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.holds
}

// Ready returns nil if the latest report was written, otherwise why it was not.
func (a *Agent) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.notReady
}
