package controller

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// effects are the conditions Effective of placements, for one state of the fleet and of the findings in policies.
type effects struct {
	facts    uint64
	policies []string
	of       map[types.UID]effect
}

// effect is a condition Effective and the parts of a placement that it depends on: the digest does not cover the annotations.
type effect struct {
	digest      string
	annotations map[string]string
	findings    []lint.Finding
	condition   *conditionsv1alpha1.Condition
	// scheduled is the condition including findings in the placement as policies schedule its workloads; under is those placements by digest.
	scheduled *conditionsv1alpha1.Condition
	under     map[string][]lint.Finding
}

// lintPlacements looks for parts of placements that have no effect, whenever placements, policies or known cluster facts have changed.
// Findings in the policies come after those in the placement.
func (w *workspace) lintPlacements(placements []*placementState) {
	last := w.effects
	w.effects = effects{w.facts, w.linted.messages, make(map[types.UID]effect, len(placements))}
	stale := last.facts != w.effects.facts || !slices.Equal(last.policies, w.effects.policies)
	var linter *lint.Workspace
	for _, p := range placements {
		if p.err != nil {
			p.effective = conditions.UnknownCondition(v1alpha1.EffectiveCondition, "InvalidSpec", "The placement is not valid: see %s", v1alpha1.ConstraintsValidCondition)
			continue
		}
		known, found := last.of[p.object.UID]
		if !found || stale || known.digest != p.placement.Digest || !maps.Equal(known.annotations, p.object.Annotations) {
			if linter == nil {
				linter = w.linter()
			}
			findings := linter.Placement(p.object)
			known = effect{digest: p.placement.Digest, annotations: p.object.Annotations, findings: findings, condition: effectiveCondition(findings, w.linted.messages)}
		}
		w.effects.of[p.object.UID], p.effective = known, cmp.Or(known.scheduled, known.condition)
	}
}

// lintScheduled looks for parts without effect in placements as policies schedule their workloads.
func (w *workspace) lintScheduled(placements []*placementState) {
	var linter *lint.Workspace
	for _, p := range placements {
		known, found := w.effects.of[p.object.UID]
		samples := p.sampled()
		if !found || len(samples)+len(known.under) == 0 {
			continue
		}
		under, same := make(map[string][]lint.Finding, len(samples)), len(known.under) == len(samples)
		for digest, s := range samples {
			findings, present := known.under[digest]
			if !present {
				if same = false; linter == nil {
					linter = w.linter()
				}
				findings = linter.Scheduled(p.object, s.under, s.workload, w.linted.findings)
			}
			under[digest] = findings
		}
		if !same {
			all := slices.Clone(known.findings)
			for _, digest := range slices.Sorted(maps.Keys(under)) {
				all = append(all, under[digest]...)
			}
			known.under, known.scheduled = under, effectiveCondition(all, w.linted.messages)
			w.effects.of[p.object.UID] = known
		}
		p.effective = known.scheduled
	}
}

func (w *workspace) linter() *lint.Workspace {
	var clusters []*snapshot.Cluster
	for _, row := range w.engine.Snapshot(w.name).Rows() {
		clusters = append(clusters, row.Cluster)
	}
	return &lint.Workspace{Fleet: lint.NewFleet(clusters), Constraints: w.engine.Constraints(), Kinds: w.table}
}

// effectiveCondition returns the condition Effective.
func effectiveCondition(findings []lint.Finding, ofPolicies []string) *conditionsv1alpha1.Condition {
	message := messageOf(findings, ofPolicies...)
	if message == "" {
		return conditions.TrueCondition(v1alpha1.EffectiveCondition)
	}
	return conditions.FalseCondition(v1alpha1.EffectiveCondition, withoutEffect, conditionsv1alpha1.ConditionSeverityWarning, "%s", message)
}

// withoutEffect is the reason of Effective False.
const withoutEffect = "WithoutEffect"

// messageOf returns the message of condition Effective for findings in an object, and for further ones; empty if there are none.
func messageOf(findings []lint.Finding, more ...string) string {
	var lines []string
	for _, f := range findings {
		lines = append(lines, strings.TrimPrefix(f.Field+": "+f.Message, ": "))
	}
	lines = append(lines, more...)
	if len(lines) == 0 {
		return ""
	}
	return shorten(examples(lines))
}
