package scoring

import (
	"fmt"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// performanceFactor is how little of a cluster's CPU and memory is in use.
var performanceFactor = factor{
	name:  "performance",
	score: func(row *snapshot.Row, _ capacity.Resources, _ []Term) int64 { return row.PerformanceScore },
	because: func(row *snapshot.Row, _ capacity.Resources, _ []Term) string {
		return fmt.Sprintf("mean of cpu %d%% and memory %d%% in use", row.Utilization.CPU, row.Utilization.Memory)
	},
}
