// Package rebalance computes the fewest moves of placed workloads that reach a stated aim: even use, a free cluster, or room for a
// workload. It makes the moves in the engine itself, so that the engine admits each move in its turn, and then reverts everything.
//
// It first finds some moves that reach the aim in a straightforward way, and then searches for fewer: best first, by a lower bound of the
// moves still needed from a state. It is exact up to a bound on its work, and the plan states whether that was reached.
package rebalance

import (
	"context"
	"fmt"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/workload"
)

// World is a workspace in an engine, with what is placed there.
type World struct {
	// Engine is modified while the plan is computed, and restored afterwards.
	Engine    *engine.Engine
	Workspace logicalcluster.Name
	Workloads []Workload
}

// Workload is a workload that is placed, or waits.
type Workload struct {
	// Request has where it runs as Current, with what is reserved there.
	engine.Request
	// Fixed is why it may not be moved; empty if it may.
	Fixed string
	// Idle workloads no longer run anything: they do not keep a cluster from being free.
	Idle bool
}

// Options of a computation. The zero value is ready to use.
type Options struct {
	// Work bounds how often the engine is asked in the search for fewer moves; DefaultWork if 0.
	Work int
	// MaxMoves bounds the moves of a plan; the maximum of a RebalancePlan if 0.
	MaxMoves int
}

// DefaultWork takes a second or two.
const DefaultWork = 30_000

// Plan is what moves, or why the aim cannot be reached. Its JSON is a contract: fields may be added, none changes its meaning.
type Plan struct {
	Aim string `json:"aim"`
	// Reached reports whether the moves reach the aim. Otherwise they get as close as was found, and Stuck names what is in the way.
	Reached bool `json:"reached"`
	// Moves in order. Moves of the same wave do not depend on each other.
	Moves []Move `json:"moves"`
	Waves int    `json:"waves"`
	// AtLeast is a lower bound of the moves of any plan that reaches the aim, as far as it was searched.
	AtLeast int `json:"atLeast"`
	// Exhausted reports that the search ended at its bound on work: there may be a plan with fewer moves or, if the aim is not
	// reached, a plan at all.
	Exhausted bool    `json:"exhausted"`
	Stuck     []Stuck `json:"stuck"`
	// Clusters is the use of the clusters before and after, by name.
	Clusters []ClusterUse `json:"clusters"`
}

// Reference identifies a workload.
type Reference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// String returns for example "Deployment default/web".
func (r Reference) String() string { return workload.Reference(r).String() }

func referenceOf(w *item) Reference { return Reference(w.Request.Workload.Reference) }

// Move takes a workload's share on one cluster to another.
type Move struct {
	Workload Reference `json:"workload"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	// Replicas that move.
	Replicas int64 `json:"replicas"`
	// Wave of the move, from 1.
	Wave int `json:"wave"`
}

// Stuck is a workload that is in the way and cannot leave, or that finds no place.
type Stuck struct {
	// Workload is empty if a cluster is in the way.
	Workload Reference `json:"workload"`
	// Cluster that it is on; empty if it waits.
	Cluster string `json:"cluster"`
	Why     string `json:"why"`
	// Help is what would help, in words; empty if nothing is known.
	Help string `json:"help"`
}

// ClusterUse is the use of a cluster before and after the moves, for its dominant resource, the one with the highest use.
type ClusterUse struct {
	Name   string `json:"name"`
	Before Use    `json:"before"`
	After  Use    `json:"after"`
	// NotCounted: the aim does not cover the cluster, since it is not ready, cordoned, tainted or not among the requested ones.
	NotCounted bool `json:"notCounted,omitempty"`
}

// Use of a cluster is the maximum, over its resources, of (allocated + reserved) / allocatable, in hundredths of a percent, truncated.
type Use struct {
	Resource   string `json:"resource"`
	Hundredths int64  `json:"hundredths"`
}

// String returns for example "62.50% cpu".
func (u Use) String() string {
	if u.Resource == "" {
		return "-"
	}
	return fmt.Sprintf("%d.%02d%% %s", u.Hundredths/100, u.Hundredths%100, u.Resource)
}

// Compute computes the fewest moves that reach an aim. It fails if the aim names something that does not exist, or ctx ends.
func Compute(ctx context.Context, world World, aim Aim, options Options) (*Plan, error) {
	if options.Work == 0 {
		options.Work = DefaultWork
	}
	if options.MaxMoves == 0 {
		options.MaxMoves = v1alpha1.MaxRebalanceMoves
	}
	s, err := newState(ctx, world, options)
	if err != nil {
		return nil, err
	}
	defer s.rewind(0)
	goal, err := aim.of(s)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Aim: aim.String(), Moves: []Move{}, Stuck: []Stuck{}}
	plan.Clusters = s.uses()

	found := s.search(goal)
	if s.err != nil {
		return nil, s.err
	}
	plan.AtLeast, plan.Exhausted = found.atLeast, found.exhausted
	plan.Moves, plan.Waves = s.inWaves(found.moves)
	if s.err != nil {
		return nil, s.err
	}
	// The state is now the one after the moves.
	if plan.Reached = goal.left() == 0; !plan.Reached {
		plan.Stuck = goal.stuck()
	}
	for i, after := range s.uses() {
		plan.Clusters[i].After = after.Before
		if g, evens := goal.(*even); evens {
			plan.Clusters[i].NotCounted = !g.selected[after.Name]
		}
	}
	return plan, s.err
}

// Exact reports that no plan with fewer moves reaches the aim.
func (p *Plan) Exact() bool { return p.Reached && p.AtLeast == len(p.Moves) }
