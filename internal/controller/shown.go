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
	// changed are the workloads that have appeared, changed or disappeared since they were last taken; nil while no pass takes them.
	changed map[workloadKey]bool
}

func newShownWorkloads() *shownWorkloads {
	return &shownWorkloads{in: map[logicalcluster.Name]*shownIn{}}
}

// of returns the workloads of a workspace.
func (s *shownWorkloads) of(workspace logicalcluster.Name) *shownIn {
	in := s.in[workspace]
	if in == nil {
		in = &shownIn{all: map[workloadKey]*workloadObject{}}
		s.in[workspace] = in
	}
	return in
}

// drop forgets a workspace without shown workloads, unless passes take its changes.
func (s *shownWorkloads) drop(workspace logicalcluster.Name) {
	if in := s.in[workspace]; in != nil && len(in.all) == 0 && in.changed == nil {
		delete(s.in, workspace)
	}
}

// set records a workload as it is shown now; nil means that it is no longer shown.
func (s *shownWorkloads) set(workspace logicalcluster.Name, key workloadKey, object *workloadObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.of(workspace)
	if object != nil {
		in.all[key] = object
	} else {
		delete(in.all, key)
	}
	if in.changed != nil {
		in.changed[key] = true
	}
	s.drop(workspace)
}

// count returns how many workloads of a workspace are shown.
func (s *shownWorkloads) count(workspace logicalcluster.Name) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in := s.in[workspace]; in != nil {
		return len(in.all)
	}
	return 0
}

// forget has nobody take the workloads of a workspace any more.
func (s *shownWorkloads) forget(workspace logicalcluster.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in := s.in[workspace]; in != nil {
		in.changed = nil
		s.drop(workspace)
	}
}

// take yields the workloads of a workspace that have changed since they were last taken, or all, each as it is shown now, nil if it is
// not shown. The first call takes all; changes are recorded from then on until the workspace is forgotten.
func (s *shownWorkloads) take(workspace logicalcluster.Name, all bool, yield func(workloadKey, *workloadObject)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.of(workspace)
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
