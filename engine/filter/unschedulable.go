package filter

import (
	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Unschedulable rejects clusters that are cordoned or drained, or no longer granted. What runs on a cordoned cluster stays as it is; it
// leaves the others once there is another place.
const Unschedulable Stage = "Unschedulable"

type unschedulable struct{}

func (unschedulable) violations(q *query, report func(Violation) bool) bool {
	return !q.row.Leaving() && (q.running || !q.row.Unschedulable) || report(Violation{})
}

// Grows returns the violation of a cluster that takes no more replicas, for a workload, as it is On the cluster, that runs there and
// asks for more replicas than it has. A workload with a pod on each node follows the nodes.
func (c *Class) Grows(row *snapshot.Row, has int64) *Violation {
	if !row.Cordoned() || c.perNode || c.Workload.Replicas <= has {
		return nil
	}
	return &Violation{Stage: Unschedulable}
}

func (unschedulable) message(q *query, _ Violation) string {
	if q.row.Withdrawn {
		return "the cluster is not granted to this workspace any more (ClusterSet)"
	}
	if q.row.Draining {
		return "the cluster is being drained (spec.drain)"
	}
	return "the cluster is cordoned (spec.unschedulable)"
}

func (unschedulable) obstacles(q *query, _ Violation) []Obstacle {
	if q.row.Withdrawn {
		return needs(remedy.Schedulable("a grant of a ClusterSet that has the cluster"))
	}
	if q.row.Draining {
		return needs(remedy.Schedulable("no spec.drain"))
	}
	return needs(remedy.Schedulable("no spec.unschedulable"))
}
