package scoring

import (
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// packingFactor is the share of a cluster that the usual workloads can still use once the workload is there, compared to before. They lose
// what it asks for, and what it makes unusable for them: the fragmentation gradient of Weng et al., "Beware of Fragmentation", USENIX ATC
// 2023, over all resources.
var packingFactor = factor{
	name: "packing",
	score: func(row *snapshot.Row, a *Asked) int64 {
		if a.Usual == nil {
			return 100
		}
		now, then := a.Usual.Usable(row.Allocatable, row.Free, a.Requests)
		if then >= now {
			return 100
		}
		return int64(100 * (then / now))
	},
	because: func(row *snapshot.Row, a *Asked) string {
		if a.Usual == nil {
			return "nothing is usual yet: no workload has a place"
		}
		now, then := a.Usual.Usable(row.Allocatable, row.Free, a.Requests)
		switch {
		case now <= 0:
			return "no usual workload fits there anyway"
		case then >= now:
			return "usual workloads lose nothing there"
		}
		shape, before, after := a.Usual.MostLost(row.Free, a.Requests)
		return fmt.Sprintf("%.1f%% is left of what usual workloads can use there: one of %s fits %d times, then %d",
			100*then/now, describeShape(shape), before, after)
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
