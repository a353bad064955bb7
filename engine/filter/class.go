package filter

import (
	"math"
	"sync"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Class is everything the chain needs to know of the workloads of one equivalence class, with the stages that read capacity
// in the form in which a ranking evaluates them. It is immutable.
type Class struct {
	Placement *placement.Placement
	// Workload has only the fields that the placement and the policies read.
	Workload  *workload.Workload
	Judgement *policy.Judgement
	// Facts may be shared with other classes of the same policy class.
	Facts *Facts
	// Replica is what one node must have free.
	Replica capacity.Resources

	// Free is how much CPU and memory must be free: by the requests, and by constraints that are a single comparison.
	Free [2]Interval
	// Comparisons are the constraints that are any other single comparison.
	Comparisons []constraint.BoundComparison
	// Mixed are the conditions that combine facts with capacity.
	Mixed []Condition
	// MoreResources reports whether resources other than CPU and memory are requested.
	MoreResources bool

	// perNode is set for a class made by On: the workload requests something on each node of one cluster. noNodes is set if
	// it is not known to run on any node.
	perNode, noNodes bool

	// all are the conditions of each constraint, made when it is asked why a cluster is rejected.
	all  [][]Condition
	once sync.Once
	// lastTally is made when rejections are counted.
	lastTally lastTally
}

// Interval is the amounts from Low to High, both included.
type Interval struct{ Low, High int64 }

// Contains reports whether an amount is within the interval.
func (i Interval) Contains(amount int64) bool { return i.Low <= amount && amount <= i.High }

func (i *Interval) intersect(o Interval) { i.Low, i.High = max(i.Low, o.Low), min(i.High, o.High) }

// NewClass plans how clusters are filtered for workloads that are the same in everything that is read of them.
func NewClass(p *placement.Placement, judgement *policy.Judgement, w *workload.Workload, facts *Facts) *Class {
	everything := Interval{math.MinInt64, math.MaxInt64}
	c := &Class{
		Placement: p, Workload: w, Judgement: judgement, Facts: facts, Replica: w.Replica(),
		Free:          [2]Interval{everything, everything},
		MoreResources: w.Requests.Storage > 0 || len(w.Requests.Extended) > 0,
	}
	for i, amount := range [2]int64{snapshot.CPU: w.Requests.CPU, snapshot.Memory: w.Requests.Memory} {
		if amount > 0 {
			c.Free[i].Low = amount
		}
	}
	for i := range p.Constraints {
		for _, conjunct := range p.Constraints[i].Program.Conjuncts() {
			if placement.ReadsFacts(conjunct) {
				continue // answered once for all workloads with the same fact reads
			}
			condition := newCondition(conjunct, w)
			if !conjunct.Bare() {
				c.Mixed = append(c.Mixed, condition)
				continue
			}
			for _, s := range condition.intervals {
				c.Free[s.resource].intersect(s.Interval)
			}
			for _, k := range condition.checks {
				c.Comparisons = append(c.Comparisons, k.BoundComparison)
			}
		}
	}
	return c
}

// On returns the class of the workload on one cluster: the same for all clusters, unless it has a pod on each node.
func (c *Class) On(row *snapshot.Row) *Class {
	if !c.Workload.PerNode {
		return c
	}
	running, usable := row.NodesFor(c.Workload)
	replica := c.Replica
	if usable == 0 { // what its nodes have is part neither of the cluster's capacity nor of what is free on any one node
		replica = capacity.Resources{}
	}
	return &Class{
		Placement: c.Placement, Workload: c.Workload.On(running, usable), Judgement: c.Judgement, Replica: replica,
		perNode: true, noNodes: running == 0,
	}
}

// Asking returns the class of a workload that requests more or less, and is otherwise the same.
func (c *Class) Asking(w *workload.Workload) *Class {
	if w == c.Workload {
		return c
	}
	return &Class{Placement: c.Placement, Workload: w, Judgement: c.Judgement, Replica: c.Replica, perNode: c.perNode, noNodes: c.noNodes}
}

// conditions returns all conditions, by constraint.
func (c *Class) conditions() [][]Condition {
	c.once.Do(func() {
		c.all = make([][]Condition, len(c.Placement.Constraints))
		for i := range c.all {
			for _, conjunct := range c.Placement.Constraints[i].Program.Conjuncts() {
				c.all[i] = append(c.all[i], newCondition(conjunct, c.Workload))
			}
		}
	})
	return c.all
}
