package engine

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// plan is how the clusters of a decision were chosen together.
type plan struct {
	// division of replicas; nil if each cluster gets all of them.
	division *placement.Division
	replicas int64
	// minimum is how many replicas a cluster gets at least, if they are divided.
	minimum int64
	// trimmed states which clusters keep only a part of their replicas, since they no longer have room for all.
	trimmed []string
	// one is the workload with one replica, if they are divided.
	one *workload.Workload
	// parts is how many clusters have their own part of what the workload has to complete; open is set if some part belongs
	// to no cluster: see settleParts.
	parts  int64
	open   bool
	spread []spreadOver
	// cost of the spread constraints that do not hold, in points of the score.
	cost int64
	// bounded is set if there may be a better choice.
	bounded bool
	// why states why there is no choice, or none with all replicas; empty if there is.
	why string
	// lacks states how much room there is without the clusters that the workload retains.
	lacks string
	// attraction is the effect of affinity to other workloads; nil if there is none.
	attraction *attraction
	// others are the decisions by the other fallback groups, none of which has a place.
	others []*Decision
	// classes that were chosen from, in order; problem is what was asked about their candidates, chosen the answer.
	classes    []*class
	problem    *spread.Problem
	candidates []feasibleCluster
	chosen     []int
	// groups of all clusters.
	groups *groups
	// budget is what the quotas of sets leave beside the clusters that the workload keeps or retains; most is how many other clusters
	// it gets at most because of that.
	budget *budget
	most   int
}

func newPlan(r *Request) *plan {
	p := &plan{division: r.Placement.Divides(r.Workload), replicas: r.Workload.Replicas, most: math.MaxInt}
	if p.division != nil {
		p.one, p.minimum, p.parts = r.Workload.Share(1), min(p.division.Min, p.replicas), r.parts()
	}
	return p
}

// spreadOver is a spread constraint with what it counts in each domain.
type spreadOver struct {
	placement.Spread
	domains []string
	// before is the count of each domain without the clusters that are chosen.
	before []int
	// eligible are the domains that the constraint is about.
	eligible []bool
}

// feasibleCluster is a feasible cluster that the workload does not run on.
type feasibleCluster struct {
	key ranking.Key
	// tier is the index of its class.
	tier int
	// room and free are how many replicas it can take: room as many as the workload may have there, free in all.
	room, free int64
	// value is what choosing it is worth; order is what orders the chosen clusters.
	value, order int64
}

func (c *feasibleCluster) place() place {
	return place{key: c.key, value: c.order, tier: c.tier, room: c.room, free: c.free}
}

// valueOf returns the value that orders the chosen clusters.
func (p *plan) valueOf(c *class, key ranking.Key) int64 {
	return c.Strategy.Value(key) + p.attraction.points(key.Position())*ranking.Point
}

// fewest returns how many clusters a workload has to have at least. One that runs on fewer may go on with as many; if replicas are
// not divided, it retains those that are not replaced.
func (p *plan) fewest(places *places) int {
	least := p.classes[0].Placement.MinClusters
	switch running := len(places.kept) + len(places.doubtful); {
	case running == 0:
		return least
	case p.division == nil:
		return 0
	default:
		return int(min(int64(min(least, running)), p.replicas/p.minimum))
	}
}

// tooFew states why fewer clusters than needed are chosen.
func (p *plan) tooFew(chosen, least, feasible int) string {
	if feasible == 0 {
		return ""
	}
	if feasible < least {
		return fmt.Sprintf("at least %d are asked for", least)
	}
	var keys []string
	for i := range p.spread {
		if p.spread[i].Required {
			keys = append(keys, string(p.spread[i].Key))
		}
	}
	if chosen == 0 && len(keys) > 0 {
		return "none of them keeps the spread over " + strings.Join(keys, " and ")
	}
	if len(keys) > 0 {
		return fmt.Sprintf("at least %d are asked for, and only %d keep the spread over %s", least, chosen, strings.Join(keys, " and "))
	}
	return fmt.Sprintf("at least %d are asked for, and %d can be chosen", least, chosen)
}

// counts returns what a spread constraint counts in each domain after the decision.
func (p *plan) counts(k int) []int {
	counts := slices.Clone(p.spread[k].before)
	for _, i := range p.chosen {
		if domain := p.problem.Domains(i)[k]; domain != spread.None {
			counts[domain]++
		}
	}
	return counts
}

// hasParts reports whether clusters have their own parts of what the workload has to complete.
func (p *plan) hasParts() bool { return p != nil && p.parts > 0 }

// roomOn returns how many replicas a cluster may have, and how many there is room for.
func (p *plan) roomOn(row *snapshot.Row) (room, free int64) {
	if row.LargestFree != nil {
		if _, short := row.LargestFree.Lacking(p.one.Replica()); short {
			return 0, 0
		}
	}
	free = math.MaxInt32
	for name, amount := range p.one.Requests.Each {
		if amount > 0 {
			free = min(free, max(0, row.Free.Get(name))/amount)
		}
	}
	if room = min(free, p.replicas); p.division.Max > 0 {
		room = min(room, p.division.Max)
	}
	return room, free
}

// fitting returns the most of n replicas that fit; 0 if that is less than a cluster's minimum.
func (p *plan) fitting(n int64, fit func(n int64) bool) int64 {
	n = int64(sort.Search(int(n), func(i int) bool { return !fit(int64(i) + 1) }))
	if n < p.minimum {
		return 0
	}
	return n
}

// reserves returns what a workload has reserved on a cluster where it is retained or keeps some or all of its replicas.
func (p *plan) reserves(o *place, c *class) capacity.Resources {
	if p != nil && p.division != nil && 0 < o.choice.Replicas && o.choice.Replicas < o.has {
		return c.Whole.Share(o.choice.Replicas).Requests
	}
	return o.choice.Reserved
}

// least returns what the workload asks for at least on a cluster that is added.
func (p *plan) least(c *ranking.Class, row *snapshot.Row) capacity.Resources {
	if p.division != nil {
		return c.Whole.Share(max(1, p.minimum)).Requests
	}
	return c.On(row).Workload.Requests
}
