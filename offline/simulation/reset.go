package simulation

import (
	"maps"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/disruption"
)

// Assignments is where workloads are at a point in time.
type Assignments struct{ of map[key]assignment }

// Assignments returns where workloads are now.
func (s *Simulation) Assignments() Assignments { return Assignments{maps.Clone(s.assignments)} }

// Reset puts workloads back to where they were, so that something else can be tried by Load and Run, reusing what is compiled and ranked.
// Nothing tried in between leaves a trace.
func (s *Simulation) Reset(to Assignments) {
	for k := range s.assignments {
		if _, stays := to.of[k]; !stays {
			s.engine.Release(k.workspace, k.Reference)
		}
	}
	for k, a := range to.of {
		r := engine.Reservation{Workload: k.Reference, Placement: a.placement}
		r.Workload.UID = a.uid
		for _, c := range a.clusters {
			r.Shares = append(r.Shares, capacity.Share{Cluster: c.Name, Amount: c.Reserved, Expired: c.Expired})
		}
		_ = s.engine.Restore(k.workspace, r) // what was granted is valid
	}
	s.assignments = maps.Clone(to.of)
	s.budget = disruption.Budget{}
	clear(s.rejected)
}
