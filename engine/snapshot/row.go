package snapshot

import (
	"maps"
	"math"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/int128"
)

// Row is one cluster of a fleet with everything derived from it. It is immutable.
type Row struct {
	*Basis
	// Version identifies the row in its fleet; it is 0 for a row that is in none.
	Version int64
	// Allocated is what is in use: what the cluster reports or, in a row of a guest, everything that is not free.
	Allocated capacity.Resources
	// Reserved is what is promised to workloads and not yet in use.
	Reserved capacity.Resources
	// Free = Allocatable - Allocated - Reserved, limited to what Quota leaves; negative if the cluster has shrunk below its promises.
	Free capacity.Resources
	// Quota bounds what the workspace is promised there; nil if only the cluster does.
	Quota *Quota
	// PerformanceScore follows from the mean utilization of CPU and memory: 100 below 50 %, 70 below 80 %, 40 below 95 %,
	// else 10.
	PerformanceScore int64
}

// Basis is the part of a row that does not depend on what is in use. It is immutable once the row is in a fleet, where rows of a cluster
// share it.
type Basis struct {
	*Cluster
	// Facts is a version of everything about the cluster but its capacity: while it is the same, so are location, labels,
	// capabilities, taints and conditions.
	Facts int64
	// HealthScore is 100 if Ready is True, 50 if it is False, 0 if it is unknown.
	HealthScore int64
	// CostScore is 100 for the cheapest cluster of the fleet, 0 for the most expensive one, and 50 if the cost is not known.
	CostScore int64
	// PerMillion is 1,000,000 / Allocatable of CPU and Memory, 0 where nothing is allocatable.
	PerMillion [2]float64
}

// Indices of resources in Figures and Node.
const (
	CPU = iota
	Memory
)

// Figures are the numbers of a row that ranking reads for every cluster: they fit into one cache line.
type Figures struct {
	// Facts, PerMillion and Performance are those of the row.
	Facts int64
	// Free is CPU in millicores and Memory in bytes.
	Free        [2]int64
	PerMillion  [2]float64
	Performance int64
}

// Figures returns the figures of the row.
func (r *Row) Figures() Figures {
	return Figures{Facts: r.Facts, Free: [2]int64{r.Free.CPU, r.Free.Memory}, PerMillion: r.PerMillion, Performance: r.PerformanceScore}
}

// Node is the most CPU, in millicores, and the most Memory, in bytes, that is free on any one node.
type Node [2]int64

// node returns the Node of a cluster, unbounded if it is unknown.
func (c *Cluster) node() Node {
	if c.LargestFree == nil {
		return Node{math.MaxInt64, math.MaxInt64}
	}
	return Node{c.LargestFree.CPU, c.LargestFree.Memory}
}

// Healthy is the HealthScore of a cluster that is Ready.
const Healthy = 100

// NewRow derives the row of a cluster with these reservations.
func NewRow(c *Cluster, reserved capacity.Resources) *Row {
	r := &Row{Basis: &Basis{Cluster: c, CostScore: unknownCost}}
	switch ready, _ := c.Condition(ReadyCondition); ready.Status {
	case "True":
		r.HealthScore = Healthy
	case "False":
		r.HealthScore = 50
	}
	for i, allocatable := range [2]int64{c.Allocatable.CPU, c.Allocatable.Memory} {
		if allocatable > 0 {
			r.PerMillion[i] = 1_000_000 / float64(allocatable)
		}
	}
	r.use(c.Allocatable, c.Allocated, reserved)
	return r
}

// Without stores in to the row as it would be without a workload, given what is promised, reserved and counted for it there. Its
// pods may all be on the node with the most room, so that node is assumed to gain as much. What is reserved beyond r.Reserved is
// part of r.Allocated: see Published.
func (r *Row) Without(promised, reserved, counted capacity.Resources, to *Row) {
	if r.Quota != nil && !promised.IsZero() {
		less := *r
		less.Quota, r = r.Quota.without(promised), &less
	}
	rest, used := r.Reserved.Sub(reserved), counted
	if rest.Negative() {
		rest, used = r.Reserved.Without(reserved), counted.Add(reserved.Without(r.Reserved))
	}
	rest = rest.WithoutNone()
	if used.IsZero() {
		r.with(r.Allocated, rest, to)
		return
	}
	c := *r.Cluster
	c.Allocated = r.Allocated.Sub(used)
	if c.LargestFree != nil && !counted.IsZero() {
		largest := c.LargestFree.Add(counted)
		c.LargestFree = &largest
	}
	next := NewRow(&c, rest)
	next.Facts, next.CostScore = r.Facts, r.CostScore
	if r.Quota != nil {
		next.bound(r.Quota.Left)
	}
	*to = *next
}

// Lacking returns the first resource that does not suffice: for all requests in the whole cluster, or, with onNode, for one
// replica on any one node. It is empty if all suffice.
func (r *Row) Lacking(requests, replica capacity.Resources) (name string, onNode bool) {
	if name, short := r.Free.Lacking(requests); short {
		return name, false
	}
	return r.LackingOnNode(replica)
}

// LackingOnNode returns the first resource of which no node has enough for one replica; empty where all suffice.
func (r *Row) LackingOnNode(replica capacity.Resources) (name string, onNode bool) {
	if r.LargestFree != nil {
		if name, short := r.LargestFree.Lacking(replica); short {
			return name, true
		}
	}
	return "", false
}

// With returns r with other reservations.
func (r *Row) With(reserved capacity.Resources) *Row {
	next := new(Row)
	r.with(r.Allocated, reserved, next)
	return next
}

// with stores in to the row with these amounts in use and reserved.
func (r *Row) with(allocated, reserved capacity.Resources, to *Row) {
	*to = *r
	to.Version = 0
	if len(r.Reserved.Extended)+len(reserved.Extended) > 0 || r.Quota != nil ||
		len(r.Allocated.Extended)+len(allocated.Extended) > 0 && !maps.Equal(r.Allocated.Extended, allocated.Extended) {
		to.use(r.Allocatable, allocated, reserved)
		return
	}
	// Usually no extended resource is involved: then both rows share what is derived from these.
	allocatable := r.Allocatable
	allocatable.Extended, allocated.Extended = nil, nil
	to.use(allocatable, allocated, reserved)
	to.Allocated.Extended, to.Free.Extended = r.Allocated.Extended, r.Free.Extended
}

// use derives everything that depends on what is in use and reserved.
func (r *Row) use(allocatable, allocated, reserved capacity.Resources) {
	used := allocated.Add(reserved)
	r.Allocated, r.Reserved, r.Free = allocated, reserved, allocatable.Sub(used)
	r.PerformanceScore = performance(utilizationOf(used.CPU, allocatable.CPU), utilizationOf(used.Memory, allocatable.Memory))
	if r.Quota != nil {
		r.bound(r.Quota.Left)
	}
}

// Utilization returns (Allocated + Reserved) / Allocatable in percent, truncated. Where nothing is allocatable it is 0 if nothing is
// in use, otherwise 100.
func (r *Row) Utilization() capacity.Resources {
	return r.Allocated.Add(r.Reserved).Combine(r.Allocatable, func(used, allocatable int64) int64 { return utilizationOf(used, allocatable).percent })
}

// performance returns the score of a mean utilization, which is compared exactly.
func performance(cpu, memory utilization) int64 {
	switch {
	case meanBelow(50, cpu, memory):
		return 100
	case meanBelow(80, cpu, memory):
		return 70
	case meanBelow(95, cpu, memory):
		return 40
	default:
		return 10
	}
}

// utilization is an exact share: percent + remainder / whole, where 0 <= remainder < whole.
type utilization struct{ percent, remainder, whole int64 }

// utilizationOf returns used / allocatable. Where nothing is allocatable it is 0 if nothing is in use, otherwise 100 %.
func utilizationOf(used, allocatable int64) utilization {
	switch {
	case used <= 0:
		return utilization{whole: 1}
	case allocatable <= 0:
		return utilization{percent: 100, whole: 1}
	}
	percent, remainder := int128.MulDiv(used, 100, allocatable)
	return utilization{percent, remainder, allocatable}
}

// meanBelow reports whether the mean of two utilizations is below a percentage.
func meanBelow(percent int64, a, b utilization) bool {
	most := 2 * percent
	if a.percent >= most || b.percent >= most {
		return false // and adding them up cannot overflow
	}
	switch sum := a.percent + b.percent; {
	case sum >= most:
		return false
	case sum < most-1:
		return true // the remainders add up to less than 2
	default:
		return int128.Mul(a.remainder, b.whole).Add(int128.Mul(b.remainder, a.whole)).Less(int128.Mul(a.whole, b.whole))
	}
}
