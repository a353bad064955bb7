package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// patience is how long await goes on while no new decision is seen.
const patience = 2 * time.Minute

// firstSeen is when a watch first delivered the published decision on each workload.
type firstSeen struct {
	mu sync.Mutex
	at map[seenKey]time.Time
}

type seenKey struct{ workspace, workload string }

func newFirstSeen() *firstSeen { return &firstSeen{at: map[seenKey]time.Time{}} }

// record takes the decisions of a PlacementDecision that a watch has delivered.
func (s *firstSeen) record(workspace string, object *v1alpha1.PlacementDecision) {
	for i := range object.Decisions {
		s.mark(seenKey{workspace, object.Decisions[i].Workload.Name})
	}
}

// mark records that a workload is seen, if it is for the first time.
func (s *firstSeen) mark(key seenKey) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.at[key]; !found {
		s.at[key] = now
	}
}

// of returns when a workload was first seen, the zero time if it was not.
func (s *firstSeen) of(key seenKey) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[key]
}

func (s *firstSeen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

func (s *firstSeen) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.at)
}

// latest returns when the last of all workloads was first seen.
func (s *firstSeen) latest() (latest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.at {
		if at.After(latest) {
			latest = at
		}
	}
	return latest
}

// await waits until n workloads have been seen and reports progress. It fails once no new one is seen for patience.
func (s *firstSeen) await(ctx context.Context, n int, progress func(seen int)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last, since, reported := -1, time.Now(), time.Now()
	for {
		seen := s.count()
		if seen >= n {
			return nil
		}
		if seen != last {
			last, since = seen, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("%d of %d decisions were published, and none in the last %s", seen, n, patience)
		}
		if time.Since(reported) >= 2*time.Second {
			reported = time.Now()
			progress(seen)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// watch records the decisions of all workspaces, by one watch each, until ctx ends.
func (b *bench) watch(ctx context.Context) error {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	for _, t := range b.teams {
		config := b.server.Config("root:" + t.name)
		config.QPS = -1
		config.APIPath, config.GroupVersion = "/apis", &v1alpha1.SchemeGroupVersion
		config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		client, err := rest.RESTClientFor(config)
		if err != nil {
			return err
		}
		record := func(object any) {
			if d, ok := object.(*v1alpha1.PlacementDecision); ok {
				b.seen.record(t.name, d)
			}
		}
		_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: cache.NewListWatchFromClient(client, decisions.Resource, "", fields.Everything()),
			ObjectType:    &v1alpha1.PlacementDecision{},
			Handler: cache.ResourceEventHandlerFuncs{
				AddFunc:    record,
				UpdateFunc: func(_, object any) { record(object) },
			},
		})
		go informer.RunWithContext(ctx)
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return ctx.Err()
		}
	}
	return nil
}
