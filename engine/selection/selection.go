// Package selection goes from candidates to clusters: a strategy says in which order feasible clusters stand and
// which of them one workload gets. All orders end with the cluster's name, so that every answer is the only one.
package selection

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/scoring"
)

// Candidate is a feasible cluster.
type Candidate struct {
	Name string
	scoring.Score
}

// Strategy orders candidates and takes from them.
type Strategy struct {
	// Compare orders candidates, best first.
	Compare func(a, b *Candidate) int
	// Select takes the clusters of one workload from the candidates in order. inUse counts the workloads of the
	// same placement on each cluster.
	Select func(ranked []*Candidate, inUse map[string]int) []*Candidate
}

// For returns the strategy of a placement; numberOfClusters is what Spread takes at most.
func For(strategy v1alpha1.Strategy, numberOfClusters int) (Strategy, error) {
	switch strategy {
	case v1alpha1.StrategyRoundRobin:
		return Strategy{Compare: byTotal, Select: leastUsed}, nil
	case v1alpha1.StrategySpread:
		return Strategy{Compare: byTotal, Select: best(numberOfClusters)}, nil
	case v1alpha1.StrategyAffinity:
		return Strategy{Compare: byAffinity, Select: best(1)}, nil
	default:
		return Strategy{}, fmt.Errorf("unknown strategy %q", strategy)
	}
}

// byTotal: larger total, then larger headroom, then name.
func byTotal(a, b *Candidate) int {
	return cmp.Or(
		cmp.Compare(b.Total, a.Total),
		cmp.Compare(b.Headroom, a.Headroom),
		strings.Compare(a.Name, b.Name),
	)
}

// byAffinity: larger sum of the affinity and location factors, then as byTotal.
func byAffinity(a, b *Candidate) int {
	near := func(c *Candidate) int64 { return c.Factors[scoring.Affinity] + c.Factors[scoring.Location] }
	return cmp.Or(cmp.Compare(near(b), near(a)), byTotal(a, b))
}

func best(n int) func([]*Candidate, map[string]int) []*Candidate {
	return func(ranked []*Candidate, _ map[string]int) []*Candidate { return ranked[:min(n, len(ranked))] }
}

// leastUsed takes the best of the candidates that hold the fewest workloads of the placement. Successive workloads
// so go round the feasible clusters, best first, and the rotation needs no memory beyond the decisions themselves.
func leastUsed(ranked []*Candidate, inUse map[string]int) []*Candidate {
	if len(ranked) == 0 {
		return nil
	}
	least := ranked[0]
	for _, c := range ranked[1:] {
		if inUse[c.Name] < inUse[least.Name] {
			least = c
		}
	}
	return []*Candidate{least}
}
