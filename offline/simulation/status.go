package simulation

import (
	"context"
	"time"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/offline/manifest"
)

// WorkloadStatus is where one workload is placed at present.
type WorkloadStatus struct {
	manifest.Workload

	Workspace string
	// Placement that it belongs to; empty if none. Asked is how many clusters that asks for.
	Placement string
	Priority  int32
	Asked     int
	// Clusters that it is assigned to, best first, its fallback Group, and when that was decided.
	Clusters []engine.Choice
	Group    string
	Since    time.Time
	// WaitingReplicas have no cluster, if the replicas are divided.
	WaitingReplicas int64
	// Err is why it cannot be decided.
	Err error
}

// Name of the workload.
func (s *WorkloadStatus) Name() Workload { return nameOf(s.Reference) }

// WorkloadStatuses returns where all workloads are, in the order in which they are placed. It places nothing. It fails only if ctx ends.
func (s *Simulation) WorkloadStatuses(ctx context.Context) ([]WorkloadStatus, error) {
	items := s.items()
	all := make([]WorkloadStatus, len(items))
	for i, item := range items {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		at := &all[i]
		*at = WorkloadStatus{Workload: item.Workload, Workspace: item.workspace.Name.String()}
		if item.placement == nil {
			continue
		}
		current, _ := s.current(item)
		at.Placement, at.Priority, at.Clusters, at.Group, at.Since = item.placement.name, item.placement.priority, current.clusters, current.group, current.since
		at.WaitingReplicas = item.waitingReplicas(current)
		if at.Err = item.err(); at.Err != nil {
			at.Err = inFiles(item.workspace.Workspace, at.Err)
			continue
		}
		scheduled, err := s.engine.Scheduled(ctx, s.request(item, current))
		if err != nil {
			at.Err = inFiles(item.workspace.Workspace, err)
			continue
		}
		at.Asked = scheduled.NumberOfClusters
	}
	return all, nil
}
