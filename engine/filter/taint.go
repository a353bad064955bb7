package filter

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Taint rejects clusters with a taint that the placement does not tolerate, or no longer does. As in Kubernetes NoSchedule
// evicts nothing, NoExecute does, and PreferNoSchedule rejects nothing: it is a term of the affinity factor.
const Taint Stage = "Taint"

type taint struct{}

func (taint) violations(q *query, report func(Violation) bool) bool {
	for i := range q.row.Taints {
		t := &q.row.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || q.running && t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		until, tolerated := q.Placement.Tolerates(t)
		if (!tolerated || placement.Over(until, q.now)) && !report(Violation{index: i, Evicts: q.running}) {
			return false
		}
	}
	return true
}

// NextEnd returns when the next toleration of a placement ends on a cluster, the zero time if none does.
func NextEnd(p *placement.Placement, row *snapshot.Row, now time.Time) (next time.Time) {
	consider := func(until time.Time, tolerated bool) {
		if tolerated && until.After(now) && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	for i := range row.Taints {
		consider(p.Tolerates(&row.Taints[i]))
	}
	if row.NotReady() {
		consider(p.ToleratesNotReady(row.NotReadySince))
	}
	return next
}

// HasEnded reports whether a toleration of one of a cluster's taints has ended.
func (c *Class) HasEnded(row *snapshot.Row, now time.Time) bool {
	for i := range row.Taints {
		if until, tolerated := c.Placement.Tolerates(&row.Taints[i]); tolerated && placement.Over(until, now) {
			return true
		}
	}
	return false
}

func (taint) message(q *query, v Violation) string {
	t := &q.row.Taints[v.index]
	if until, tolerated := q.Placement.Tolerates(t); tolerated {
		return fmt.Sprintf("taint %s was tolerated until %s", t.ToString(), until.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("taint %s is not tolerated", t.ToString())
}

func (taint) obstacles(q *query, v Violation) []Obstacle {
	t := &q.row.Taints[v.index]
	if _, tolerated := q.Placement.Tolerates(t); tolerated {
		return needs(remedy.Elsewhere(fmt.Sprintf("more tolerationSeconds for taint %s in the placement", t.ToString())))
	}
	return needs(remedy.Elsewhere(fmt.Sprintf("a toleration of taint %s in the placement", t.ToString())))
}
