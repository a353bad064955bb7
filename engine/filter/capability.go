package filter

import (
	"fmt"

	"github.com/kcp-placement/placement/engine/internal/remedy"
)

// Capability rejects clusters without a capability that the placement requires, and those that list a required one
// as not available.
const Capability Stage = "Capability"

type capability struct{}

func (capability) violations(q *query, report func(Violation) bool) bool {
	for i, requirement := range q.Placement.Capabilities {
		c, listed := q.row.Capability(requirement.Type)
		if (listed && !c.Available || !listed && requirement.Required) && !report(Violation{index: i}) {
			return false
		}
	}
	return true
}

func (capability) message(q *query, v Violation) string {
	kind := q.Placement.Capabilities[v.index].Type
	if _, listed := q.row.Capability(kind); listed {
		return fmt.Sprintf("capability %q is not available", kind)
	}
	return fmt.Sprintf("capability %q is required and not listed", kind)
}

func (capability) obstacles(q *query, v Violation) []Obstacle {
	return needs(remedy.Capability(q.Placement.Capabilities[v.index].Type))
}
