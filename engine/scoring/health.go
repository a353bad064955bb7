package scoring

import (
	"github.com/kcp-placement/placement/engine/snapshot"
)

// healthFactor is 100 where Ready is True, 50 where it is False, 0 where it is not known.
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
