package controller

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// effects are the conditions Effective of placements by their digest, for one state of the fleet.
type effects struct {
	facts      uint64
	conditions map[string]*conditionsv1alpha1.Condition
}

// lintPlacements looks for what placements say in vain, when they or what is known of clusters has changed.
func (w *workspace) lintPlacements(placements []*placementState, registrations []*v1alpha1.ClusterRegistration) {
	last := w.effects
	w.effects = effects{factsHash(registrations), make(map[string]*conditionsv1alpha1.Condition, len(placements))}
	var linter *lint.Workspace
	for _, p := range placements {
		if p.err != nil {
			p.effective = conditions.UnknownCondition(v1alpha1.EffectiveCondition, "InvalidSpec", "The placement is not valid: see %s", v1alpha1.ConstraintsValidCondition)
			continue
		}
		known := last.conditions[p.placement.Digest]
		if known == nil || last.facts != w.effects.facts {
			if linter == nil {
				linter = w.linter()
			}
			known = effective(p.object, linter)
		}
		w.effects.conditions[p.placement.Digest], p.effective = known, known
	}
}

func (w *workspace) linter() *lint.Workspace {
	var clusters []*snapshot.Cluster
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		clusters = append(clusters, row.Cluster)
	}
	return &lint.Workspace{Fleet: lint.NewFleet(clusters), Constraints: w.engine.Constraints(), Kinds: workload.Kinds()}
}

// effective is the condition of that name.
func effective(p *v1alpha1.WorkloadPlacement, linter *lint.Workspace) *conditionsv1alpha1.Condition {
	var lines []string
	for _, f := range linter.Placement(p) {
		lines = append(lines, f.Field+": "+f.Message)
	}
	if len(lines) == 0 {
		return conditions.TrueCondition(v1alpha1.EffectiveCondition)
	}
	return conditions.FalseCondition(v1alpha1.EffectiveCondition, "WithoutEffect", conditionsv1alpha1.ConditionSeverityWarning, "%s", shorten(examples(lines)))
}
