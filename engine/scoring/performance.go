package scoring

import (
	"fmt"
	"math"

	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/int128"
)

// performanceFactor is how little of a cluster's CPU and memory is in use.
var performanceFactor = factor{
	name:  "performance",
	score: func(row *snapshot.Row, _ *Asked) int64 { return row.PerformanceScore },
	because: func(row *snapshot.Row, _ *Asked) string {
		used := row.Allocated.Add(row.Reserved)
		return fmt.Sprintf("mean of cpu %s and memory %s in use", percent(used.CPU, row.Allocatable.CPU, row.Utilization().CPU),
			percent(used.Memory, row.Allocatable.Memory, row.Utilization().Memory))
	},
}

// percent formats a utilization with a decimal, because the mean is computed from the exact values, not the truncated ones.
func percent(used, allocatable, whole int64) string {
	if used <= 0 || allocatable <= 0 {
		return fmt.Sprintf("%d%%", whole)
	}
	if tenths, _ := int128.MulDiv(used, 1000, allocatable); tenths < math.MaxInt64 && tenths%10 != 0 {
		return fmt.Sprintf("%d.%d%%", tenths/10, tenths%10)
	}
	return fmt.Sprintf("%d%%", whole)
}
