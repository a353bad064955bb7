package description

import (
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// History is how a workload came to run where it does. Its JSON is a contract.
type History struct {
	Workspace string              `json:"workspace"`
	Workload  simulation.Workload `json:"workload"`
	Placement string              `json:"placement,omitempty"`
	// Clusters that it runs on by its decision; none if it has no decision.
	Clusters []string `json:"clusters"`
	// Changes of its clusters, the latest first.
	Changes []v1alpha1.DecisionChange `json:"changes"`
}

// HistoryOf returns the changes of a workload's clusters that its decision records.
func HistoryOf(w *manifest.Workspace, d *simulation.Decision) History {
	h := History{Workspace: d.Workspace, Workload: d.Workload, Clusters: []string{}, Changes: []v1alpha1.DecisionChange{}}
	if _, stored := Decision(w, Object(w, d)); stored != nil {
		h.Placement = d.Placement
		for _, c := range stored.Clusters {
			h.Clusters = append(h.Clusters, c.Name)
		}
		h.Changes = append(h.Changes, stored.History...)
	}
	return h
}
