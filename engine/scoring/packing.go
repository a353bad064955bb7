package scoring

import (
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// packingFactor is how little of a cluster a workload takes away from the usual workloads of the workspace: the mean of how
// much of that it asks for itself, rather than makes unusable, and of how much they can use there afterwards. It takes the
// fragmentation gradient of Weng et al., "Beware of Fragmentation", USENIX ATC 2023, over all resources, in proportion to the
// request, so that it says as much of a large cluster as of a small one.
var packingFactor = factor{
	name: "packing",
	score: func(row *snapshot.Row, a Asked) int64 {
		asked, left := packing(row, a)
		return int64(100*asked+100*left) / 2
	},
	because: func(row *snapshot.Row, a Asked) string {
		if a.Usual == nil {
			return "nothing is usual yet: no workload has a place"
		}
		asked, left := packing(row, a)
		text := fmt.Sprintf("mean of %.0f%% asked for of what usual workloads lose there, and %.0f%% left of what they can use", 100*asked, 100*left)
		if shape, now, then := a.Usual.MostLost(row.Free, a.Requests); now > then {
			text += fmt.Sprintf(": one of %s fits %d times, then %d", describeShape(shape), now, then)
		}
		return text
	},
}

// packing returns, of what usual workloads lose by the workload, how much it asks for itself, and of what they can use, how much
// is left; each 0..1.
func packing(row *snapshot.Row, a Asked) (asked, left float64) {
	if a.Usual == nil {
		return 1, 1
	}
	now, then, asks := a.Usual.Usable(row.Allocatable, row.Free, a.Requests)
	lost := now - then
	if lost <= 0 {
		return 1, 1
	}
	return min(1, asks/lost), then / now
}

func describeShape(r capacity.Resources) string {
	var parts []string
	for name, amount := range r.Each {
		if amount > 0 {
			parts = append(parts, name+" "+capacity.Format(name, amount, true))
		}
	}
	return strings.Join(parts, ", ")
}
