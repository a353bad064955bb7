package filter

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/engine/internal/remedy"
)

// ClusterSelector rejects clusters that the placement's clusterSelector does not select, by name or by label.
const ClusterSelector Stage = "ClusterSelector"

type clusterSelector struct{}

func (clusterSelector) violations(q *query, report func(Violation) bool) bool {
	return !unnamed(q) && q.Placement.Clusters.Matches(labels.Set(q.row.Labels)) || report(Violation{})
}

func (clusterSelector) message(q *query, _ Violation) string {
	if unnamed(q) {
		return "not among clusterSelector.clusterNames"
	}
	return fmt.Sprintf("labels are not selected by clusterSelector %q", q.Placement.Clusters)
}

func (clusterSelector) obstacles(q *query, _ Violation) []Obstacle {
	lacking := unmet(q.Placement.Clusters, labels.Set(q.row.Labels), toLabel)
	if unnamed(q) {
		lacking = append(lacking, remedy.Elsewhere("its name in the placement's clusterSelector.clusterNames"))
	}
	return needs(lacking...)
}

// unnamed reports whether the placement names clusters and this is none of them.
func unnamed(q *query) bool {
	names := q.Placement.ClusterNames
	return len(names) > 0 && !slices.Contains(names, q.row.Name)
}
