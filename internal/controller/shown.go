package controller

import (
	"sync"

	"k8s.io/client-go/tools/cache"

	"github.com/kcp-dev/logicalcluster/v3"
)

// shownWorkloads holds the workloads that an endpoint shows. A pass takes those that have changed since the last one did, so its cost is
// proportional to the changes. It is safe for concurrent use.
type shownWorkloads struct {
	mu sync.Mutex
	in map[logicalcluster.Name]*shownIn
}

// shownIn holds the workloads of one workspace.
type shownIn struct {
	all map[workloadKey]*workloadObject
	// changed are the workloads that have appeared, changed or disappeared since they were last taken.
	changed map[workloadKey]bool
}

func newShownWorkloads() *shownWorkloads {
	return &shownWorkloads{in: map[logicalcluster.Name]*shownIn{}}
}

// set records a workload as it is shown now; nil means that it is no longer shown.
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

// count returns how many workloads of a workspace are shown. If there are none, what has been taken of it is forgotten.
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
// not shown.
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

// follow records workloads, and then reports their workspaces.
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

// liveWorkloads are the workloads of one workspace.
type liveWorkloads struct {
	*shownWorkloads
	workspace logicalcluster.Name
}
