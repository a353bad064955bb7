package scoring

import (
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// packingFactor is how much of what the usual workloads can use of a cluster is left once the workload is there. What it takes
// away is what it asks for and what it makes unusable: the fragmentation gradient of Weng et al., "Beware of Fragmentation", USENIX
// ATC 2023, over all resources.
var packingFactor = factor{
	name: "packing",
	score: func(row *snapshot.Row, a Asked) int64 {
		if a.Usual == nil {
			return 100
		}
		now, then := a.Usual.Usable(row.Allocatable, row.Free, a.Requests)
		if then >= now { // nothing can be used anyway
			return 100
		}
		return int64(100 * (then / now))
	},
	because: func(row *snapshot.Row, a Asked) string {
		if a.Usual == nil {
			return "no usual workloads are known, or it weighs nothing"
		}
		now, then := a.Usual.Usable(row.Allocatable, row.Free, a.Requests)
		if now <= 0 {
			return "no usual workload fits there anyway"
		}
		text := fmt.Sprintf("%.1f%% of what usual workloads can use there is left", 100*min(1, then/now))
		if shape, before, after := a.Usual.MostLost(row.Free, a.Requests); before > after {
			text += fmt.Sprintf(": one of %s fits %d times, then %d times", describeShape(shape), before, after)
		}
		return text
	},
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
