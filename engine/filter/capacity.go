package filter

import (
	"fmt"
	"math"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Capacity rejects clusters that lack what the workload requests: in the whole cluster, or for one replica on every
// node.
const Capacity Stage = "Capacity"

type room struct{}

func (room) violations(q *query, report func(Violation) bool) bool {
	if q.running {
		return true
	}
	if q.NodesUnknown() {
		return report(Violation{})
	}
	resource, onNode := q.row.Lacking(q.Workload.Requests, q.Replica)
	if q.row.Quota != nil && !onNode {
		if resource, _ = q.row.Quota.Free.Lacking(q.Workload.Requests); resource == "" {
			resource, onNode = q.row.LackingOnNode(q.Replica)
		}
	}
	return resource == "" || report(Violation{resource: resource, onNode: onNode})
}

// Shortage returns the violation of a cluster that lacks what the workload, as it is On the cluster, requests, for
// resources of which that exceeds what is promised to it; nil if the cluster has enough.
func (c *Class) Shortage(row *snapshot.Row, promised capacity.Resources) *Violation {
	requests := c.Workload.Requests.MoreThan(promised)
	replica := requests.Combine(c.Replica, func(more, replica int64) int64 { return replica * min(more, 1) })
	resource, onNode := row.Lacking(requests, replica)
	switch {
	case row.Withdrawn && !requests.IsZero():
		return &Violation{Stage: Unschedulable} // what is there stays, and gets no more
	case resource == "":
		return nil
	case !onNode && row.Quota != nil && row.Quota.Free.Get(resource) >= requests.Get(resource):
		return &Violation{Stage: Quota, resource: resource}
	default:
		return &Violation{Stage: Capacity, resource: resource, onNode: onNode}
	}
}

// NodesUnknown reports whether it is unknown what the workload, as it is On a cluster, requests there.
func (c *Class) NodesUnknown() bool { return c.noNodes }

func (room) message(q *query, v Violation) string {
	if q.NodesUnknown() {
		return "has a pod on each usable node, and no usable node is known (status.nodes.usable)"
	}
	if v.onNode {
		return fmt.Sprintf("each replica asks for %s %s, %s free on any one node", capacity.Format(v.resource, q.Replica.Get(v.resource), true),
			v.resource, capacity.Format(v.resource, q.row.LargestFree.Get(v.resource), false))
	}
	if v.resource == capacity.Storage && q.row.Allocatable.Storage == 0 {
		return fmt.Sprintf("claims volumes of %s, and the cluster has no allocatable storage", capacity.Format(v.resource, q.Workload.Requests.Storage, true))
	}
	return fmt.Sprintf("asks for %s %s, %s free", capacity.Format(v.resource, q.Workload.Requests.Get(v.resource), true),
		v.resource, capacity.Format(v.resource, freeOn(q.row).Get(v.resource), false))
}

// freeOn returns what is free on a cluster, ignoring quotas.
func freeOn(row *snapshot.Row) capacity.Resources {
	if row.Quota != nil {
		return row.Quota.Free
	}
	return row.Free
}

func (room) obstacles(q *query, _ Violation) []Obstacle {
	if q.NodesUnknown() {
		return needs(remedy.Words("a usable node in status.nodes"))
	}
	var more []remedy.Change
	need := func(lacking capacity.Resources, onNode bool) {
		for name, amount := range lacking.Each {
			if amount > 0 {
				more = append(more, remedy.Free(remedy.More{Resource: name, OnNode: onNode, Amount: amount}))
			}
		}
	}
	need(q.Workload.Requests.Combine(freeOn(q.row), lacking), false)
	need(q.lackingOnNode(q.row), true)
	return needs(more...)
}

// Lacking returns how much more would have to be free: in the whole cluster or, if that is enough, on its largest
// node.
func (c *Class) Lacking(row *snapshot.Row) capacity.Resources {
	if lacking := c.lackingInAll(row); !lacking.IsZero() {
		return lacking
	}
	return c.lackingOnNode(row)
}

func (c *Class) lackingInAll(row *snapshot.Row) capacity.Resources {
	return c.On(row).Workload.Requests.Combine(row.Free, lacking)
}

func (c *Class) lackingOnNode(row *snapshot.Row) capacity.Resources {
	if row.LargestFree == nil {
		return capacity.Resources{}
	}
	return c.Replica.Combine(*row.LargestFree, lacking)
}

// lacking returns by how much the request exceeds what is free.
func lacking(asked, free int64) int64 {
	if asked <= 0 {
		return 0
	}
	if more := asked - free; more >= 0 || free > 0 {
		return max(0, more)
	}
	return math.MaxInt64
}
