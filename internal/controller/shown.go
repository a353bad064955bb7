package controller

import (
	"sync"

	"k8s.io/client-go/tools/cache"

	"github.com/kcp-dev/logicalcluster/v3"
)

// shownWorkloads are the workloads that an endpoint shows. A pass takes those that have changed since it last did, so that it costs
// what has changed. It is safe for concurrent use.
type shownWorkloads struct {
	mu sync.Mutex
	in map[logicalcluster.Name]*shownIn
}

// shownIn are the workloads of one workspace.
type shownIn struct {
	all map[workloadKey]*workloadObject
	// changed are those that have come, changed or gone since they were last taken.
	changed map[workloadKey]bool
}

func newShownWorkloads() *shownWorkloads {
	return &shownWorkloads{in: map[logicalcluster.Name]*shownIn{}}
}

// set takes up a workload as it is shown now; nil is one that is not shown any more.
func (s *shownWorkloads) set(workspace logicalcluster.Name, key workloadKey, object *workloadObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.in[workspace]
	if in == nil {
		in = &shownIn{all: map[workloadKey]*workloadObject{}, changed: map[workloadKey]bool{}}
		s.in[workspace] = in
	}
	if in.changed[key] = true; object != nil {
		in.all[key] = object
	} else {
		delete(in.all, key)
	}
}

// count is how many are shown of a workspace. What has been taken of one without any is forgotten.
func (s *shownWorkloads) count(workspace logicalcluster.Name) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.in[workspace]
	if in == nil {
		return 0
	}
	if len(in.all)+len(in.changed) == 0 {
		delete(s.in, workspace)
	}
	return len(in.all)
}

// take yields the workloads of a workspace that have changed since they were last taken, or all, each as it is shown now, nil if it is
// not.
func (s *shownWorkloads) take(workspace logicalcluster.Name, all bool, yield func(workloadKey, *workloadObject)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.in[workspace]
	if in == nil {
		return
	}
	if all {
		for key, object := range in.all {
			yield(key, object)
		}
	} else {
		for key := range in.changed {
			yield(key, in.all[key])
		}
	}
	in.changed = map[workloadKey]bool{}
}

// follow takes up workloads, and then reports their workspaces.
func (s *shownWorkloads) follow(changed func(logicalcluster.Name)) cache.ResourceEventHandlerFuncs {
	set := func(object any, there bool) {
		o, ok := latestState(object).(*workloadObject)
		if !ok {
			return
		}
		workspace, key := logicalcluster.From(o), keyOf(o.workload.Reference)
		if !there {
			o = nil
		}
		s.set(workspace, key, o)
		changed(workspace)
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { set(object, true) },
		UpdateFunc: func(_, object any) { set(object, true) },
		DeleteFunc: func(object any) { set(object, false) },
	}
}

// liveWorkloads are those of one workspace.
type liveWorkloads struct {
	*shownWorkloads
	workspace logicalcluster.Name
}
