package simulation

import (
	"slices"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Suspended is what is suspended of a workspace: the controller makes no decisions there at present, so what is simulated happens once
// the suspension ends.
type Suspended struct {
	Workspace string `json:"workspace"`
	// Placements that are suspended, as namespace/name; empty if the whole workspace is.
	Placements []string `json:"placements,omitempty"`
	// By is what suspends them: spec.suspend of the placements, the PlacementConfig, or --suspend of the controller.
	By string `json:"by"`
}

// suspended returns what is suspended of all workspaces.
func (s *Simulation) suspended() (all []Suspended) {
	for _, w := range s.workspaces {
		all = append(all, suspendedIn(w.Workspace)...)
	}
	return shown(s, all, func(one *Suspended) string { return one.Workspace })
}

func suspendedIn(w *manifest.Workspace) []Suspended {
	byController := func(p manifest.Typed[v1alpha1.WorkloadPlacement]) bool {
		c := conditions.Get(p.Typed, v1alpha1.SuspendedCondition)
		return c != nil && c.Reason == v1alpha1.ControllerSuspendedReason
	}
	if slices.ContainsFunc(w.Placements, byController) {
		return []Suspended{{Workspace: w.Name.String(), By: "--suspend of the controller"}}
	}
	for _, c := range w.Configs {
		if c.Typed.Spec.Suspend {
			return []Suspended{{Workspace: w.Name.String(), By: "spec.suspend of the PlacementConfig"}}
		}
	}
	var names []string
	for _, p := range w.Placements {
		if p.Typed.Spec.Suspend {
			names = append(names, p.Typed.Namespace+"/"+p.Typed.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return []Suspended{{Workspace: w.Name.String(), Placements: names, By: "spec.suspend"}}
}
