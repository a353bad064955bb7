package scoring

import (
	"fmt"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// costFactor is how cheap a cluster is among those of its fleet.
var costFactor = factor{
	name:  "cost",
	score: func(row *snapshot.Row, _ *Asked) int64 { return row.CostScore },
	because: func(row *snapshot.Row, _ *Asked) string {
		text, labelled := row.Labels[v1alpha1.LabelCost]
		if !labelled {
			return "no label " + v1alpha1.LabelCost
		}
		if _, err := snapshot.ParseCost(text); err != nil {
			return fmt.Sprintf("label %s: %v", v1alpha1.LabelCost, err)
		}
		return fmt.Sprintf("costs %s, where the cheapest cluster scores 100 and the dearest 0", text)
	},
}
