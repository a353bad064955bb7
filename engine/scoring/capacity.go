package scoring

import (
	"fmt"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// capacityFactor is how many times the free amount covers the request: the mean of CPU and memory.
var capacityFactor = factor{
	name: "capacity",
	score: func(row *snapshot.Row, a *Asked) int64 {
		return (coverage(row.Free.CPU, a.Requests.CPU) + coverage(row.Free.Memory, a.Requests.Memory)) / 2
	},
	because: func(row *snapshot.Row, a *Asked) string {
		return fmt.Sprintf("mean of cpu %s and memory %s", describeCoverage(capacity.CPU, row.Free.CPU, a.Requests.CPU),
			describeCoverage(capacity.Memory, row.Free.Memory, a.Requests.Memory))
	},
}

// coverage scores how many times the free amount covers the required one.
func coverage(free, required int64) int64 {
	if required <= 0 {
		return 100
	}
	switch times := free / required; {
	case times >= 10:
		return 100
	case times >= 5:
		return 80
	case times >= 2:
		return 60
	case times >= 1:
		return 40
	default:
		return 0
	}
}

func describeCoverage(name string, free, required int64) string {
	if required <= 0 {
		return "100 (not asked for)"
	}
	return fmt.Sprintf("%d (%s free for %s)", coverage(free, required), capacity.Format(name, free, false), capacity.Format(name, required, true))
}
