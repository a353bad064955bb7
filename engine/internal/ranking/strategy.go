package ranking

import (
	"maps"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Strategy goes from the ranking of the feasible clusters to the clusters of one workload.
type Strategy struct {
	// ByProximity orders clusters by the sum of their affinity and location factors before all else.
	ByProximity bool
	// Number of clusters that one workload gets at most.
	Number int
	// Select takes the clusters of one workload, best first, and appends them to chosen; the best Number if nil. inUse
	// counts the workloads of the same placement on the cluster of a position. What Select chooses follows from the
	// ranking and inUse alone.
	Select func(t *Tournament, inUse func(position int) int, chosen []Key) []Key
}

// strategies by name, each given numberOfClusters. A new strategy is a file and a line here; the API lists the names.
var strategies = map[v1alpha1.StrategyType]func(number int) Strategy{
	v1alpha1.StrategySpread:     spread,
	v1alpha1.StrategyRoundRobin: roundRobin,
	v1alpha1.StrategyAffinity:   affinity,
}

// StrategyFor returns a strategy by its name, which is one that ClustersOf knows.
func StrategyFor(name v1alpha1.StrategyType, numberOfClusters int) Strategy {
	return strategies[name](numberOfClusters)
}

// ClustersOf implements placement.Strategies.
func ClustersOf(name v1alpha1.StrategyType, numberOfClusters int) (clusters int, all []v1alpha1.StrategyType) {
	if strategy, known := strategies[name]; known {
		clusters = strategy(numberOfClusters).Number
	}
	return clusters, slices.Sorted(maps.Keys(strategies))
}
