package filter

import (
	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/engine/nodes"
)

// Nodes rejects clusters that report their nodes and have none for the pods of some template, by its node selector, its
// required node affinity and its tolerations. As in Kubernetes, these are ignored during execution.
const Nodes Stage = "Nodes"

type nodeGroups struct{}

func (nodeGroups) violations(q *query, report func(Violation) bool) bool {
	if q.running || q.row.Nodes == nil {
		return true
	}
	all := q.Workload.Nodes.Pods()
	for i := range all {
		if !q.row.Nodes.Have(&all[i]) && !report(Violation{index: i}) {
			return false
		}
	}
	return true
}

func (nodeGroups) message(q *query, v Violation) string {
	lack := lackOf(q, v)
	if lack.Field == "" {
		return lack.Message
	}
	return lack.Message + " (" + lack.Field + ")"
}

func (nodeGroups) obstacles(q *query, v Violation) []Obstacle {
	lack := lackOf(q, v)
	if lack.InTemplate {
		return needs(remedy.Elsewhere(lack.Remedy))
	}
	return needs(remedy.Words(lack.Remedy))
}

func lackOf(q *query, v Violation) nodes.Lack {
	return q.row.Nodes.Lacking(&q.Workload.Nodes.Pods()[v.index])
}
