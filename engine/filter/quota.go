package filter

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/remedy"
)

// Quota rejects clusters on which a grant leaves the workspace too little. What a grant leaves of a set of clusters as a whole is checked when
// clusters are selected: it depends on which others are, so no single cluster can decide it.
const Quota Stage = "Quota"

type quota struct{}

func (quota) violations(q *query, report func(Violation) bool) bool {
	if q.running || q.row.Quota == nil {
		return true
	}
	for _, name := range slices.Sorted(maps.Keys(q.row.Quota.Left)) {
		if asked := q.Workload.Requests.Get(name); asked > 0 && asked > q.row.Quota.Left[name] {
			return report(Violation{resource: name})
		}
	}
	return true
}

func (quota) message(q *query, v Violation) string {
	return fmt.Sprintf("clusterQuota: %s %s left on this cluster, %s asked for", capacity.Format(v.resource, q.row.Quota.Left[v.resource], false),
		v.resource, capacity.Format(v.resource, q.Workload.Requests.Get(v.resource), true))
}

func (quota) obstacles(q *query, _ Violation) []Obstacle {
	var more []remedy.Change
	for _, name := range slices.Sorted(maps.Keys(q.row.Quota.Left)) {
		if lacks := lacking(q.Workload.Requests.Get(name), q.row.Quota.Left[name]); lacks > 0 {
			more = append(more, remedy.Quota(name, lacks))
		}
	}
	return needs(more...)
}
