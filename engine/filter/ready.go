package filter

import (
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Ready rejects clusters whose Ready condition is not True. What runs there stays while the condition is not known, and for
// some time while it is False: see placement.ToleratesNotReady. It has to leave if the cluster is lost.
const Ready Stage = "Ready"

type ready struct{}

func (ready) violations(q *query, report func(Violation) bool) bool {
	if q.row.Ready() || q.running && !q.row.Lost() && q.mayStayNotReady() {
		return true
	}
	return report(Violation{Evicts: q.running && q.row.Lost()})
}

func (q *query) mayStayNotReady() bool {
	if !q.row.NotReady() {
		return true
	}
	until, tolerated := q.Placement.ToleratesNotReady(q.row.NotReadySince)
	return tolerated && !placement.Over(until, q.now)
}

func (ready) message(q *query, _ Violation) string {
	condition, known := q.row.Condition(snapshot.ReadyCondition)
	switch {
	case !known:
		return "the cluster has not reported a Ready condition"
	case condition.Reason != "" || condition.Message != "":
		return fmt.Sprintf("Ready is %s: %s", condition.Status, strings.Trim(condition.Reason+": "+condition.Message, ": "))
	default:
		return "Ready is " + condition.Status
	}
}

func (ready) obstacles(*query, Violation) []Obstacle { return needs(remedy.Ready()) }
