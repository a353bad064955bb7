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

// patience is how long nothing new may be seen before waiting is given up.
const patience = 2 * time.Minute

// sightings are when the published decision on each workload was first seen by a watch.
type sightings struct {
	mu    sync.Mutex
	first map[sighted]time.Time
}

type sighted struct{ workspace, workload string }

func newSightings() *sightings { return &sightings{first: map[sighted]time.Time{}} }

// note takes up what a PlacementDecision publishes.
func (s *sightings) note(workspace string, object *v1alpha1.PlacementDecision) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range object.Decisions {
		key := sighted{workspace, object.Decisions[i].Workload.Name}
		if _, found := s.first[key]; !found {
			s.first[key] = now
		}
	}
}

// of tells when a workload was first seen.
func (s *sightings) of(key sighted) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.first[key]
	return at, found
}

func (s *sightings) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.first)
}

// forget starts anew.
func (s *sightings) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.first)
}

// last is when the last of all was seen.
func (s *sightings) last() (last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.first {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// await waits until n workloads have been seen, as long as more and more are, and tells how many there are.
func (s *sightings) await(ctx context.Context, n int, tell func(seen int)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	before, since, told := -1, time.Now(), time.Now()
	for {
		seen := s.count()
		if seen >= n {
			return nil
		}
		if seen != before {
			before, since = seen, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("%d of %d decisions were published, and none in the last %s", seen, n, patience)
		}
		if time.Since(told) >= 2*time.Second {
			told = time.Now()
			tell(seen)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// watch notes the decisions of all workspaces, each seen by a watch of its own, until ctx ends.
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
		note := func(object any) {
			if d, ok := object.(*v1alpha1.PlacementDecision); ok {
				b.seen.note(t.name, d)
			}
		}
		_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: cache.NewListWatchFromClient(client, decisions.Resource, "", fields.Everything()),
			ObjectType:    &v1alpha1.PlacementDecision{},
			Handler: cache.ResourceEventHandlerFuncs{
				AddFunc:    note,
				UpdateFunc: func(_, object any) { note(object) },
			},
		})
		go informer.RunWithContext(ctx)
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return ctx.Err()
		}
	}
	return nil
}
