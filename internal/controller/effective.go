package controller

import (
	"slices"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// effects are the conditions Effective of placements by their digest, for one state of the fleet and what policies say in vain.
type effects struct {
	facts      uint64
	policies   []string
	conditions map[string]*conditionsv1alpha1.Condition
}

// lintPlacements looks for what placements say in vain, when they, the policies or what is known of clusters has changed. What the
// policies say in vain comes after what the placement does.
func (w *workspace) lintPlacements(placements []*placementState, registrations []*v1alpha1.ClusterRegistration) {
	last := w.effects
	w.effects = effects{factsHash(registrations), w.linted.told, make(map[string]*conditionsv1alpha1.Condition, len(placements))}
	stale := last.facts != w.effects.facts || !slices.Equal(last.policies, w.effects.policies)
	var linter *lint.Workspace
	for _, p := range placements {
		if p.err != nil {
			p.effective = conditions.UnknownCondition(v1alpha1.EffectiveCondition, "InvalidSpec", "The placement is not valid: see %s", v1alpha1.ConstraintsValidCondition)
			continue
		}
		known := last.conditions[p.placement.Digest]
		if known == nil || stale {
			if linter == nil {
				linter = w.linter()
			}
			known = effective(p.object, linter, w.linted.told)
		}
		w.effects.conditions[p.placement.Digest], p.effective = known, known
	}
}

func (w *workspace) linter() *lint.Workspace {
	var clusters []*snapshot.Cluster
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		clusters = append(clusters, row.Cluster)
	}
	return &lint.Workspace{Fleet: lint.NewFleet(clusters), Constraints: w.engine.Constraints(), Kinds: w.table}
}

// effective is the condition of that name.
func effective(p *v1alpha1.WorkloadPlacement, linter *lint.Workspace, ofPolicies []string) *conditionsv1alpha1.Condition {
	var lines []string
	for _, f := range linter.Placement(p) {
		lines = append(lines, f.Field+": "+f.Message)
	}
	lines = append(lines, ofPolicies...)
	if len(lines) == 0 {
		return conditions.TrueCondition(v1alpha1.EffectiveCondition)
	}
	return conditions.FalseCondition(v1alpha1.EffectiveCondition, "WithoutEffect", conditionsv1alpha1.ConditionSeverityWarning, "%s", shorten(examples(lines)))
}
