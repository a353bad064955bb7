package scoring

import (
	"github.com/kcp-placement/placement/engine/snapshot"
)

// healthFactor is 100 if Ready is True, 50 if it is False, 0 if it is not known.
var healthFactor = factor{
	name:  "health",
	score: func(row *snapshot.Row, _ *Asked) int64 { return row.HealthScore },
	because: func(row *snapshot.Row, _ *Asked) string {
		if ready, known := row.Condition(snapshot.ReadyCondition); known {
			return "Ready is " + ready.Status
		}
		return "no Ready condition"
	},
}
