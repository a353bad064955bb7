package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// Preemption is the other workload if one takes the place of another: the victim, or the one it makes room for.
type Preemption struct {
	Workload  Workload `json:"workload"`
	Placement string   `json:"placement"`
	// Priority of the placement.
	Priority int32 `json:"priority"`
	// Clusters that change hands, by name.
	Clusters []string `json:"clusters"`
}

func (p Preemption) String() string {
	return fmt.Sprintf("%s (priority %d) on %s", p.Workload, p.Priority, strings.Join(p.Clusters, ", "))
}

// preempt makes others give up room for a workload that no cluster is feasible for, if its placement asks for that, and decides again.
// If no victims would help, it returns the decision as it was.
func (s *Simulation) preempt(ctx context.Context, item item, request engine.Request, d *Decision, before *engine.Decision) (*engine.Decision, error) {
	if !item.placement.preempts {
		return before, nil
	}
	pacer := s.pacers[item.workspace.Name]
	found, err := s.engine.Preempt(ctx, request, s.candidates(item), pacer.Most(pacer.placed))
	if err != nil || found == nil {
		return before, err
	}
	if len(found.Victims) > pacer.Left(time.Time{}, pacer.placed) {
		d.waitsFor = append(d.waitsFor, fmt.Sprintf("it takes the place of %d others once the disruption budget lets them go", len(found.Victims)))
		return before, nil
	}
	for _, v := range found.Victims {
		k := keyOf(item.workspace.Name, v.Workload)
		victim := s.assignments[k].placement
		d.Preempts = append(d.Preempts, Preemption{Workload: nameOf(v.Workload), Placement: victim.Name, Priority: v.Priority, Clusters: v.Clusters})
		if owner := item.workspace.placementNamed(victim); owner != nil {
			s.disrupt(item.workspace, owner)
		}
		s.preempted[k] = append(s.preempted[k], Preemption{Workload: item.name(), Placement: item.placement.name, Priority: item.placement.priority, Clusters: v.Clusters})
		s.takeOff(k, v)
	}
	return s.engine.Decide(ctx, request)
}

// candidates returns the placed workloads of lower priority in the workspace that may lose clusters.
func (s *Simulation) candidates(of item) (all []engine.Candidate) {
	for _, i := range of.workspace.items() {
		current, assigned := s.current(i)
		if !assigned || i.placement.priority >= of.placement.priority || i.End() != "" || i.placement.err != nil || v1alpha1.IsPinned(i.GetAnnotations()) {
			continue
		}
		all = append(all, engine.Candidate{Workload: i.Reference, Priority: i.placement.priority, Since: current.since})
	}
	return all
}

// takeOff removes a victim from the clusters that it loses.
func (s *Simulation) takeOff(k key, v engine.Victim) {
	a := s.assignments[k]
	a.clusters = slices.DeleteFunc(slices.Clone(a.clusters), func(c engine.Choice) bool { return slices.Contains(v.Clusters, c.Name) })
	if len(a.clusters) == 0 {
		s.engine.Release(k.workspace, k.Reference)
		delete(s.assignments, k)
		return
	}
	rest := engine.Reservation{Workload: v.Workload, Placement: a.placement}
	rest.Workload.UID = a.uid
	for _, c := range a.clusters {
		rest.Shares = append(rest.Shares, capacity.Share{Cluster: c.Name, Amount: c.Reserved, Expired: c.Expired})
	}
	_ = s.engine.Restore(k.workspace, rest) // a part of what was granted
	s.assignments[k] = a
}
