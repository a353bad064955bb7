package snapshot

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// unknownCost is the CostScore of a cluster whose cost is not known: neither cheap nor expensive.
const unknownCost = 50

// Cost returns the cost of a cluster from its label; known is false if there is no label, or one that is not a number.
func (c *Cluster) Cost() (cost float64, known bool) {
	text, labelled := c.Labels[v1alpha1.LabelCost]
	if !labelled {
		return 0, false
	}
	cost, err := ParseCost(text)
	return cost, err == nil
}

// ParseCost parses the value of v1alpha1.LabelCost.
func ParseCost(text string) (float64, error) {
	cost, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no decimal number such as 0.25 or 12", text)
	}
	return cost, nil
}

// costs are the lowest and the highest cost of a cluster of a fleet; if least > most, no cost is known.
type costs struct{ least, most float64 }

func costsOf(rows []*Row) costs {
	all := costs{math.Inf(1), math.Inf(-1)}
	for _, r := range rows {
		if cost, known := r.Cost(); known {
			all.least, all.most = min(all.least, cost), max(all.most, cost)
		}
	}
	return all
}

// score returns 100 for the lowest cost and 0 for the highest.
func (all costs) score(c *Cluster) int64 {
	cost, known := c.Cost()
	switch {
	case !known:
		return unknownCost
	case all.most <= all.least:
		return 100
	default:
		return int64(math.Round(100 * ((all.most - cost) / (all.most - all.least))))
	}
}

// costChanged records whether replacing one cluster by another changes the costs of the fleet; either may be nil.
func (f *Fleet) costChanged(before, after *Cluster) {
	of := func(c *Cluster) (cost float64, known bool) {
		if c == nil {
			return 0, false
		}
		return c.Cost()
	}
	was, wasKnown := of(before)
	is, isKnown := of(after)
	f.costsChanged = f.costsChanged || was != is || wasKnown != isKnown
}

// scaleCosts updates the CostScore of every row to the scale of the current fleet, if any cost has changed.
//
// Invariant: in a Snapshot the CostScore of every row is relative to all clusters of that snapshot.
func (f *Fleet) scaleCosts() {
	if !f.costsChanged {
		return
	}
	f.costsChanged = false
	all := costsOf(f.rows)
	for i, row := range f.rows {
		if score := all.score(row.Cluster); score != row.CostScore {
			next, basis := *row, *row.Basis
			basis.CostScore, next.Basis = score, &basis
			f.replace(i, &next)
		}
	}
}
