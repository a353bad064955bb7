package simulation

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/rebalance"
)

// Rebalance computes the fewest moves that reach an aim in a workspace, from where its workloads are now: see Run. It fails if the
// aim names something that does not exist, or ctx ends. It does not move anything.
func (s *Simulation) Rebalance(ctx context.Context, workspace logicalcluster.Name, aim rebalance.Aim, options rebalance.Options) (*rebalance.Plan, error) {
	world := rebalance.World{Engine: s.engine, Workspace: workspace}
	given := map[key]bool{}
	for _, item := range s.items() {
		if item.workspace.Name != workspace {
			continue
		}
		given[keyOf(workspace, item.Reference)] = true
		if w, counts := s.rebalanced(item); counts {
			world.Workloads = append(world.Workloads, w)
		}
	}
	// What other workspaces have on the clusters of this one stays, and counts as in use.
	others := slices.DeleteFunc(slices.Collect(maps.Keys(s.assignments)), func(k key) bool {
		return k.workspace != workspace && s.fleets[k.workspace] != workspace || given[k]
	})
	slices.SortFunc(others, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.workspace, b.workspace), strings.Compare(a.String(), b.String()))
	})
	for _, k := range others {
		fixed := "a decision places it, and it is not among what is read"
		if k.workspace != workspace {
			fixed = fmt.Sprintf("it is of workspace %s: a workspace is rebalanced by itself", k.workspace)
		}
		world.Workloads = append(world.Workloads, rebalance.Workload{
			Request: engine.Request{Workspace: workspace, Workload: &workload.Workload{Reference: k.Reference}, Current: s.assignments[k].clusters}, Fixed: fixed,
		})
	}
	return rebalance.Compute(ctx, world, aim, options)
}

// rebalanced returns a workload as plans see it. It does not count if it is not placed and is not to be placed.
func (s *Simulation) rebalanced(i item) (w rebalance.Workload, counts bool) {
	current, assigned := s.current(i)
	if i.placement == nil {
		current, assigned = s.assignments[keyOf(i.workspace.Name, i.Reference)]
		w.Request = engine.Request{Workspace: i.workspace.Name, Workload: i.Workload.Workload, Current: current.clusters}
		w.Fixed = "no WorkloadPlacement selects it any more"
		return w, assigned
	}
	w.Request = s.request(i, current)
	switch end, err := i.End(), i.err(); {
	case end == workload.HasFinished:
		w.Fixed, w.Idle = string(end), true
	case end != "":
		w.Fixed = string(end)
	case err != nil:
		w.Fixed = inFiles(i.workspace.Workspace, err).Error()
	case assigned && i.Annotations[v1alpha1.AnnotationPinned] == "true":
		w.Fixed = "it has the annotation " + v1alpha1.AnnotationPinned
	case assigned && i.placement.suspended:
		w.Fixed = fmt.Sprintf("WorkloadPlacement %s is suspended", i.placement.name)
	}
	return w, assigned || w.Fixed == ""
}

// RebalancedWorkspace returns the only workspace to rebalance. It fails if there are several.
func (s *Simulation) RebalancedWorkspace() (logicalcluster.Name, error) {
	if s.options.About != "" {
		return s.options.About, nil
	}
	if len(s.workspaces) != 1 {
		names := make([]string, len(s.workspaces))
		for i, w := range s.workspaces {
			names[i] = w.Name.String()
		}
		return "", fmt.Errorf("a workspace is rebalanced by itself, and these are %d (%s): name one by --workspace", len(names), strings.Join(names, ", "))
	}
	return s.workspaces[0].Name, nil
}
