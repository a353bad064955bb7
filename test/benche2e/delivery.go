package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/test/agent"
	"github.com/kcp-placement/placement/test/internal/process"
	"github.com/kcp-placement/placement/test/kubernetes"
)

var works = v1alpha1.SchemeGroupVersion.WithResource("works")

// deliveryTargets: the time from the decision until the workspace shows a workload as ready, p50, and the writes that are gathered,
// Works with their statuses and decisions, for each workload in a burst.
const (
	readyTarget  = 2 * time.Second
	writesTarget = 0.3
)

// deliveryResult is how workloads come to run.
type deliveryResult struct {
	Clusters int                  `json:"clusters"`
	Burst    deliveryBurstResult  `json:"burst"`
	Steady   deliveryStreamResult `json:"steady"`
}

// deliveryBurstResult is how fast a burst of workloads comes to run, and the writes to kcp for each workload: gathered ones, and those
// of the workload itself, its status and its finalizer.
type deliveryBurstResult struct {
	Workloads int     `json:"workloads"`
	Seconds   float64 `json:"seconds"`
	deliveryWrites
}

// deliveryStreamResult is how long single workloads take from the decision.
type deliveryStreamResult struct {
	Workloads int       `json:"workloads"`
	Written   quantiles `json:"decisionToWork"`
	Applied   quantiles `json:"decisionToApplied"`
	Ready     quantiles `json:"decisionToReadySeen"`
	deliveryWrites
}

// deliveryWrites are writes to kcp for each workload.
type deliveryWrites struct {
	Gathered float64 `json:"gatheredWritesPerWorkload"`
	Own      float64 `json:"ownWritesPerWorkload"`
}

// delivered watches one workspace and the physical cluster.
type delivered struct {
	decided, written, applied, ready *firstSeen

	mu sync.Mutex
	// gathered counts the writes of Works and decisions, own those of Deployments but for creating them.
	gathered, own int
}

func (d *delivered) count(gathered, own int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gathered, d.own = d.gathered+gathered, d.own+own
}

func (d *delivered) counts() (gathered, own int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gathered, d.own
}

// delivery measures how workloads come to run: agents for several clusters share one real API server, for want of memory, each with
// namespaces of its own there.
func (b *bench) delivery(ctx context.Context) error {
	b.say("starting a physical cluster and %d agents", b.deliveryClusters)
	physical, err := b.startPhysical(ctx)
	if err != nil {
		return err
	}
	defer physical.Stop()
	if err := b.server.CreateTeam(ctx, "delivery"); err != nil {
		return err
	}
	config := b.server.Config("root:delivery")
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	t := &team{"delivery", client}
	agents, err := b.startAgents(ctx, t, physical)
	defer func() {
		for _, a := range agents {
			a.Kill()
		}
	}()
	if err != nil {
		return err
	}
	p, err := b.startProgram(ctx, "--deliver")
	if err != nil {
		return err
	}
	defer p.stop()
	if err := b.awaitClusters(ctx, t); err != nil {
		return err
	}
	d := &delivered{decided: newFirstSeen(), written: newFirstSeen(), applied: newFirstSeen(), ready: newFirstSeen()}
	if err := b.watchDelivery(ctx, t, physical, d); err != nil {
		return err
	}
	b.result.Delivery.Clusters = b.deliveryClusters
	if err := b.deliveryBurst(ctx, t, p, d); err != nil {
		return fmt.Errorf("burst: %w", err)
	}
	return b.deliverySteady(ctx, t, p, d)
}

// startPhysical starts a cluster that has room for all.
func (b *bench) startPhysical(ctx context.Context) (*kubernetes.Server, error) {
	programs, err := kubernetes.ClusterBinaries(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	s, err := kubernetes.Start(ctx, kubernetes.Options{Programs: programs, Dir: filepath.Join(b.dir, "physical"), Pods: true})
	if err != nil {
		return nil, err
	}
	var nodes []*corev1.Node
	for i := range 4 {
		nodes = append(nodes, kubernetes.Node(fmt.Sprintf("node-%d", i), corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4000"), corev1.ResourceMemory: resource.MustParse("16Ti"), corev1.ResourcePods: resource.MustParse("5000"),
		}))
	}
	if err := s.AddNodes(ctx, nodes...); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (b *bench) startAgents(ctx context.Context, t *team, physical *kubernetes.Server) (agents []*process.Process, err error) {
	for i := range b.deliveryClusters {
		name := fmt.Sprintf("cluster-%d", i)
		a, err := agent.Start(ctx, agent.Options{
			Binary: b.agent, Dir: filepath.Join(b.dir, name), Registration: name, Workspace: b.server.Config("root:" + t.name), Cluster: physical.Config(),
			Args: []string{"--deliver", "--location", "eu", "--labels", "tier=gold", "--metrics-bind-address", "", "--namespace-template", fmt.Sprintf("c%d-{workspace}-{namespace}", i)},
		})
		if err != nil {
			return agents, err
		}
		agents = append(agents, a)
	}
	return agents, nil
}

// awaitClusters waits until all clusters are ready and deliver.
func (b *bench) awaitClusters(ctx context.Context, t *team) error {
	ctx, done := context.WithTimeout(ctx, patience)
	defer done()
	for {
		list, err := t.client.Resource(clusters).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			var r v1alpha1.ClusterRegistration
			if runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &r) != nil || !r.Delivers() {
				continue
			}
			for _, c := range r.Status.Conditions {
				if c.Type == v1alpha1.ReadyCondition && c.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready == b.deliveryClusters {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d clusters are ready and deliver", ready, b.deliveryClusters)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// watchDelivery records when workloads are decided, applied and ready, and counts writes, until ctx ends.
func (b *bench) watchDelivery(ctx context.Context, t *team, physical *kubernetes.Server, d *delivered) error {
	inCluster, err := dynamic.NewForConfig(physical.Config())
	if err != nil {
		return err
	}
	for _, w := range []struct {
		client   dynamic.Interface
		resource schema.GroupVersionResource
		observe  func(watch.EventType, *unstructured.Unstructured)
	}{
		{t.client, decisions, func(_ watch.EventType, u *unstructured.Unstructured) {
			d.count(1, 0)
			var slice v1alpha1.PlacementDecision
			if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &slice) == nil {
				d.decided.record(t.name, &slice)
			}
		}},
		{t.client, works, func(_ watch.EventType, u *unstructured.Unstructured) {
			d.count(1, 0)
			manifests, _, _ := unstructured.NestedSlice(u.Object, "spec", "manifests")
			for _, m := range manifests {
				if name, _, _ := unstructured.NestedString(m.(map[string]any), "object", "metadata", "name"); name != "" {
					d.written.mark(seenKey{t.name, name})
				}
			}
		}},
		{t.client, deployments, func(event watch.EventType, u *unstructured.Unstructured) {
			if event == watch.Modified {
				d.count(0, 1)
			}
			var o appsv1.Deployment
			if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &o) == nil && o.Status.ReadyReplicas >= *o.Spec.Replicas && o.Status.ObservedGeneration == o.Generation {
				d.ready.mark(seenKey{t.name, o.Name})
			}
		}},
		{inCluster, deployments, func(_ watch.EventType, u *unstructured.Unstructured) {
			if u.GetLabels()[v1alpha1.LabelWorkspace] != "" {
				d.applied.mark(seenKey{t.name, u.GetName()})
			}
		}},
	} {
		list, err := w.client.Resource(w.resource).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		source := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return w.client.Resource(w.resource).Watch(ctx, o)
		}}
		events, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), source)
		if err != nil {
			return err
		}
		go func() {
			for event := range events.ResultChan() {
				if u, ok := event.Object.(*unstructured.Unstructured); ok {
					w.observe(event.Type, u)
				}
			}
		}()
	}
	return nil
}

// deliveryBurst delivers many workloads that are there already, once a placement selects them.
func (b *bench) deliveryBurst(ctx context.Context, t *team, p *program, d *delivered) error {
	n := b.deliveryWorkloads
	err := b.each(ctx, "Deployments", writers, n, func(ctx context.Context, i int) error {
		return t.create(ctx, deployments, single(fmt.Sprintf("web-%04d", i), i))
	})
	if err != nil {
		return err
	}
	gathered, own := d.counts()
	b.say("delivery: a burst of %d Deployments over %d clusters", n, b.deliveryClusters)
	start := time.Now()
	object := placement()
	object.Spec.Strategy = v1alpha1.Strategy{Type: v1alpha1.StrategyRoundRobin}
	object.Spec.NumberOfClusters = nil
	if err := t.create(ctx, placements, object); err != nil {
		return err
	}
	if err := d.ready.await(ctx, n, func(seen int) { b.say("delivery: %d of %d are ready", seen, n) }); err != nil {
		return err
	}
	took := d.ready.latest().Sub(start)
	if err := p.settled(ctx); err != nil {
		return err
	}
	b.result.Delivery.Burst = deliveryBurstResult{Workloads: n, Seconds: took.Seconds(), deliveryWrites: d.since(gathered, own, n)}
	return nil
}

// single is a Deployment of one pod: the physical cluster shares two cores with kcp, and each pod costs it several writes.
func single(name string, size int) *appsv1.Deployment {
	d := deployment(name, size)
	d.Spec.Replicas = ptr.To[int32](1)
	return d
}

// since is how many writes there were for each of n workloads.
func (d *delivered) since(gathered, own, n int) deliveryWrites {
	nowGathered, nowOwn := d.counts()
	return deliveryWrites{Gathered: float64(nowGathered-gathered) / float64(n), Own: float64(nowOwn-own) / float64(n)}
}

// deliverySteady delivers single workloads in a stream.
func (b *bench) deliverySteady(ctx context.Context, t *team, p *program, d *delivered) error {
	n := max(1, int(b.rate*b.duration.Seconds()))
	b.say("delivery: %g Deployments a second for %s", b.rate, b.duration)
	gathered, own := d.counts()
	before := d.ready.count()
	tick := time.NewTicker(time.Duration(float64(time.Second) / b.rate))
	defer tick.Stop()
	var creating sync.WaitGroup
	errs := make([]error, n)
	name := func(i int) string { return fmt.Sprintf("stream-%05d", i) }
	for i := range n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		creating.Go(func() { errs[i] = t.create(ctx, deployments, single(name(i), i)) })
	}
	creating.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := d.ready.await(ctx, before+n, func(seen int) { b.say("delivery: %d of %d are ready", seen-before, n) }); err != nil {
		return err
	}
	written, applied, ready := make([]time.Duration, n), make([]time.Duration, n), make([]time.Duration, n)
	for i := range n {
		key := seenKey{t.name, name(i)}
		decided := d.decided.of(key)
		written[i], applied[i], ready[i] = d.written.of(key).Sub(decided), d.applied.of(key).Sub(decided), d.ready.of(key).Sub(decided)
	}
	if err := p.settled(ctx); err != nil {
		return err
	}
	b.result.Delivery.Steady = deliveryStreamResult{
		Workloads: n, Written: quantilesOf(written), Applied: quantilesOf(applied), Ready: quantilesOf(ready), deliveryWrites: d.since(gathered, own, n),
	}
	return nil
}
