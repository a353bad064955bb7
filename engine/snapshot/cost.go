package snapshot

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// unknownCost is the CostScore of a cluster whose cost is not known: neither cheap nor dear.
const unknownCost = 50

// Cost is what a cluster costs by its label; known is false where it has none or one that is no number.
func (c *Cluster) Cost() (cost float64, known bool) {
	text, labelled := c.Labels[v1alpha1.LabelCost]
	if !labelled {
		return 0, false
	}
	cost, err := ParseCost(text)
	return cost, err == nil
}

// ParseCost reads the value of v1alpha1.LabelCost.
func ParseCost(text string) (float64, error) {
	cost, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no decimal number such as 0.25 or 12", text)
	}
	return cost, nil
}

// costs are the least and the most that a cluster of a fleet costs; none is known where the least is above the most.
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

// score is 100 for the least and 0 for the most cost.
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

// costChanged notes whether a cluster that is replaced by another, either may be nil, changes the costs of the fleet.
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

// scaleCosts gives rows the scores of their costs among those of the present fleet, if any cost has changed.
//
// Invariant: in a Snapshot the CostScore of every row is that among all clusters of this snapshot.
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
