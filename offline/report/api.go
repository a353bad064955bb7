package report

import (
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/workload"
)

// FromAPI converts the decisions of a PlacementDecision.
func FromAPI(slice *v1alpha1.PlacementDecision) []Placed {
	placed := make([]Placed, len(slice.Decisions))
	for i, d := range slice.Decisions {
		ref := workload.Reference{Kind: d.Workload.Kind, Namespace: slice.Namespace, Name: d.Workload.Name}
		placed[i] = Placed{Workload: ref.String(), Placement: slice.PlacementName}
		for _, c := range d.Clusters {
			placed[i].Clusters = append(placed[i].Clusters, engine.Choice{
				Name: c.Name, Replicas: int64(c.Replicas), Score: int64(c.Score), Reason: c.Reason,
			})
		}
	}
	return placed
}
