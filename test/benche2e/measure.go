package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// settle is how long writes are looked for after a restart. It is longer than the controller waits before it lists what its
// informers do not show.
const settle = 10 * time.Second

// bare measures writes without an engine: one small object for each decision.
func (b *bench) bare(ctx context.Context) error {
	for _, atOnce := range []int{1, writers} {
		b.seen.reset()
		start := time.Now()
		err := b.each(ctx, fmt.Sprintf("bare writes, %d at once", atOnce), atOnce, b.writes, func(ctx context.Context, i int) error {
			return b.teams[i%len(b.teams)].create(ctx, decisions, decision(fmt.Sprintf("bare-%d-%05d", atOnce, i)))
		})
		if err != nil {
			return err
		}
		if rate := float64(b.writes) / time.Since(start).Seconds(); rate > b.result.Bare.PerSecond {
			b.result.Bare = bareResult{Writers: atOnce, Objects: b.writes, PerSecond: rate}
		}
		if err := b.deleteAll(ctx, decisions); err != nil {
			return err
		}
	}
	var err error
	b.say("bare writes, %g a second", b.rate)
	b.result.BareWrite, err = b.stream(ctx, min(b.duration, 10*time.Second), func(ctx context.Context, t *team, name string, _ int) error {
		return t.create(ctx, decisions, decision(name))
	})
	if err != nil {
		return err
	}
	if err := b.deleteAll(ctx, decisions); err != nil {
		return err
	}
	b.seen.reset()
	return nil
}

// burst measures how fast all workloads are placed once placements select them.
func (b *bench) burst(ctx context.Context, p *program) error {
	n := b.workspaces * b.deployments
	b.say("burst: %d placements for %d Deployments", b.workspaces, n)
	before, err := p.metrics()
	if err != nil {
		return err
	}
	start := time.Now()
	group, creating := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, t := range b.teams {
		group.Go(func() error { return t.create(creating, placements, placement()) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	created := time.Since(start)
	if err := b.seen.await(ctx, n, func(seen int) { b.say("burst: %d of %d are published", seen, n) }); err != nil {
		return err
	}
	took := b.seen.latest().Sub(start)
	if err := p.settled(ctx); err != nil {
		return err
	}
	after, err := p.metrics()
	if err != nil {
		return err
	}
	grown := after.since(before)
	b.result.Burst = burstResult{
		Decisions:         n,
		PlacementsSeconds: created.Seconds(),
		Seconds:           took.Seconds(),
		PerSecond:         float64(n) / took.Seconds(),
		TimesBare:         float64(n) / took.Seconds() / b.result.Bare.PerSecond,
		writes:            writesOf(grown),
		Passes:            grown.sum("placement_reconcile_duration_seconds_count"),
		ControllerCPU:     grown.sum("process_cpu_seconds_total"),
	}
	b.say("burst: %d decisions in %.2fs", n, took.Seconds())
	return nil
}

// writesOf returns the writes of the controller from its metrics.
func writesOf(m metrics) writes {
	return writes{
		Decisions: m.sum("placement_writes_total", `kind="PlacementDecision"`),
		Statuses:  m.sum("placement_writes_total", `kind="WorkloadPlacement"`),
		Events:    m.sum("placement_writes_total", `kind="Event"`),
		NotOK:     m.sum("placement_writes_total") - m.sum("placement_writes_total", `result="ok"`),
	}
}

// steady measures how long it takes to place single workloads.
func (b *bench) steady(ctx context.Context, p *program) error {
	b.say("steady: %g Deployments a second for %s", b.rate, b.duration)
	before, err := p.metrics()
	if err != nil {
		return err
	}
	b.result.Steady.streamResult, err = b.stream(ctx, b.duration, func(ctx context.Context, t *team, name string, i int) error {
		return t.create(ctx, deployments, deployment(name, i))
	})
	if err != nil {
		return err
	}
	if err = p.settled(ctx); err != nil {
		return err
	}
	after, err := p.metrics()
	if err != nil {
		return err
	}
	b.result.Steady.writes = writesOf(after.since(before))
	return nil
}

// stream creates objects at the rate, in turn in all workspaces, and measures until the decision on each is seen. Each create
// call has its own goroutine, so that a slow one does not delay the next.
func (b *bench) stream(ctx context.Context, duration time.Duration, create func(ctx context.Context, t *team, name string, i int) error) (streamResult, error) {
	n := max(1, int(b.rate*duration.Seconds()))
	type call struct {
		seenKey
		called, returned time.Time
	}
	calls := make([]call, n)
	group, creating := errgroup.WithContext(ctx)
	tick := time.NewTicker(time.Duration(float64(time.Second) / b.rate))
	defer tick.Stop()
	before := b.seen.count()
	for i := range n {
		select {
		case <-creating.Done():
		case <-tick.C:
		}
		group.Go(func() error {
			t := b.teams[i%len(b.teams)]
			c := &calls[i]
			c.seenKey = seenKey{t.name, fmt.Sprintf("stream-%05d", i)}
			c.called = time.Now()
			err := create(creating, t, c.workload, i)
			c.returned = time.Now()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return streamResult{}, err
	}
	if err := b.seen.await(ctx, before+n, func(seen int) { b.say("%d of %d are published", seen-before, n) }); err != nil {
		return streamResult{}, err
	}
	created, fromCall, fromReturn := make([]time.Duration, n), make([]time.Duration, n), make([]time.Duration, n)
	for i, c := range calls {
		at := b.seen.of(c.seenKey)
		created[i], fromCall[i], fromReturn[i] = c.returned.Sub(c.called), at.Sub(c.called), at.Sub(c.returned)
	}
	return streamResult{Objects: n, Created: quantilesOf(created), SeenFromCall: quantilesOf(fromCall), SeenFromReturn: quantilesOf(fromReturn)}, nil
}

// restart measures how long a start takes with everything placed, and what it writes.
func (b *bench) restart(ctx context.Context, p *program) (*program, error) {
	b.say("restart with %d workloads placed", b.seen.count())
	before, err := b.versions(ctx)
	if err != nil {
		return p, err
	}
	p.kill()
	if p, err = b.startProgram(ctx); err != nil {
		return p, err
	}
	r := &b.result.Restart
	ready, err := p.ready(ctx)
	if err != nil {
		return p, err
	}
	loaded, err := p.loaded(ctx, b.workspaces)
	if err != nil {
		return p, err
	}
	b.say("restart: ready after %.2fs; looking for writes for %s", ready.Seconds(), settle)
	select {
	case <-ctx.Done():
		return p, ctx.Err()
	case <-time.After(settle):
	}
	m, err := p.metrics()
	if err != nil {
		return p, err
	}
	after, err := b.versions(ctx)
	if err != nil {
		return p, err
	}
	*r = restartResult{
		Workloads: b.seen.count(), ReadySeconds: ready.Seconds(), LoadedSeconds: loaded.Seconds(),
		Writes: m.sum("placement_writes_total"), Changed: changed(before, after),
	}
	return p, nil
}

// versions are the resource versions of all PlacementDecisions and WorkloadPlacements.
func (b *bench) versions(ctx context.Context) (map[string]string, error) {
	versions := map[string]string{}
	for _, t := range b.teams {
		for _, resource := range []schema.GroupVersionResource{decisions, placements} {
			list, err := t.client.Resource(resource).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			for i := range list.Items {
				versions[key(t, resource, &list.Items[i])] = list.Items[i].GetResourceVersion()
			}
		}
	}
	return versions, nil
}

func key(t *team, resource schema.GroupVersionResource, u *unstructured.Unstructured) string {
	return t.name + "/" + resource.Resource + "/" + u.GetNamespace() + "/" + u.GetName()
}

// changed counts the objects that were changed, created or deleted.
func changed(before, after map[string]string) (n int) {
	all := maps.Clone(before)
	maps.Copy(all, after)
	for name := range all {
		if before[name] != after[name] {
			n++
		}
	}
	return n
}

func (b *bench) deleteAll(ctx context.Context, resource schema.GroupVersionResource) error {
	b.say("deleting them again")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, t := range b.teams {
		group.Go(func() error {
			return t.client.Resource(resource).Namespace(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		})
	}
	return group.Wait()
}
