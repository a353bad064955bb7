package scoring

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/internal/toleration"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// avoid is what a taint PreferNoSchedule adds to the affinity factor: as much as the annotation avoid-cluster does.
const avoid = -50

// WithTaints adds a term for taints of effect PreferNoSchedule to the terms of the policies, given the tolerations.
func WithTaints(terms []Term, tolerations []corev1.Toleration) []Term {
	return append(slices.Clip(terms), Term{
		Match: Match{PreferNoSchedule: true, Tolerations: tolerations}, Factor: Affinity, OnMatch: avoid,
	})
}

// untolerated returns the first taint PreferNoSchedule of a cluster that is not tolerated, nil if there is none.
func (m *Match) untolerated(row *snapshot.Row) *corev1.Taint {
	for i := range row.Taints {
		taint := &row.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && toleration.Of(m.Tolerations, taint) == nil {
			return taint
		}
	}
	return nil
}
