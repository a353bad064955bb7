package filter

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// Taint rejects clusters with a taint that the placement does not tolerate. PreferNoSchedule rejects nothing.
const Taint Stage = "Taint"

type taint struct{}

func (taint) violations(q *query, report func(Violation) bool) bool {
	for i := range q.row.Taints {
		t := &q.row.Taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule &&
			!corev1helpers.TolerationsTolerateTaint(klog.Logger{}, q.Placement.Tolerations, t, false) &&
			!report(Violation{index: i}) {
			return false
		}
	}
	return true
}

func (taint) message(q *query, v Violation) string {
	return fmt.Sprintf("taint %s is not tolerated", q.row.Taints[v.index].ToString())
}

func (taint) obstacles(q *query, v Violation) []Obstacle {
	return needs(fmt.Sprintf("a toleration of taint %s in the placement", q.row.Taints[v.index].ToString()))
}
