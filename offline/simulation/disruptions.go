package simulation

import (
	"fmt"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/disruption"
)

// Held is where a workload will go that the brake holds for now.
type Held struct {
	// To are the clusters that it would have now; empty if it is withdrawn.
	To []engine.Choice `json:"to"`
	// Because is why it leaves clusters.
	Because string `json:"because"`
}

// Pace makes the next Run show what the controller does at once, in the first interval of a budget: workloads that have to wait their turn
// are held. Without it, everything that is to move does.
func (s *Simulation) Pace(budget disruption.Budget) {
	s.budget = budget
}

// pacer is the brake of a workspace in one Run, which is one moment in time.
type pacer struct {
	disruption.Brake
	placed int
}

func (s *Simulation) newPacers() map[logicalcluster.Name]*pacer {
	pacers := map[logicalcluster.Name]*pacer{}
	for _, w := range s.workspaces {
		pacers[w.Name] = &pacer{Brake: disruption.Brake{Budget: s.budget}}
	}
	for k := range s.assignments {
		if p := pacers[k.workspace]; p != nil {
			p.placed++
		}
	}
	return pacers
}

// disrupt reports whether a workload of a placement may lose a cluster now, and counts it if so.
func (s *Simulation) disrupt(w *workspace, owner *placementState) bool {
	if p := s.pacers[w.Name]; !owner.unlimited {
		if !p.Allows(time.Time{}, p.placed) {
			return false
		}
		p.Disrupted(time.Time{})
	}
	return true
}

// heldUnowned returns the assignment of a workload that no placement selects any more, and that has to wait its turn.
func (s *Simulation) heldUnowned(i item) (a assignment, held bool) {
	a, found := s.assignments[keyOf(i.workspace.Name, i.Reference)]
	if !found || i.End().RequestsNothing() || i.UID != "" && a.uid != "" && a.uid != i.UID {
		return a, false
	}
	for _, p := range i.workspace.placements {
		if p.name == a.placement.Name && i.Namespace == a.placement.Namespace {
			return a, !s.disrupt(i.workspace, p)
		}
	}
	return a, false
}

func becauseOf(left []engine.Verdict) (because string) {
	for i, v := range left {
		if i > 0 {
			because += "; "
		}
		because += fmt.Sprintf("%s: %s", v.Cluster, v.Rejection)
	}
	return because
}
