package filter

import (
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/engine/snapshot"
)

// Ready rejects clusters whose Ready condition is not True.
const Ready Stage = "Ready"

type ready struct{}

func (ready) violations(q *query, report func(Violation) bool) bool {
	return q.row.Ready() || q.running && !q.row.NotReady() || report(Violation{})
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

func (ready) obstacles(*query, Violation) []Obstacle { return needs("Ready to be True") }
