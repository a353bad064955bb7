package ranking

import (
	"maps"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Strategy selects the clusters of one workload from the ranking of the feasible clusters.
type Strategy struct {
	// ByProximity orders clusters by the sum of their affinity and location factors before all else.
	ByProximity bool
	// Packs orders clusters by how little headroom is left before all else.
	Packs bool
	// Number of clusters that one workload gets at most.
	Number int
	// Select selects the clusters of one workload and appends them to chosen, best first; if nil, the best Number are selected.
	// The selection depends only on the ranking and the turn.
	Select func(t *Tournament, turn *Turn, chosen []Key) []Key
	// Prefer returns what a cluster is worth to a workload, more is better; nil if that follows from the key.
	Prefer func(k Key, turn *Turn) int64
}

// Turn is what a strategy knows of the workload whose turn it is.
type Turn struct {
	// InUse counts the workloads of the same placement on the cluster at a position.
	InUse func(position int) int
	// Seed is always the same for one workload.
	Seed uint64
	// Number of clusters to select.
	Number int
}

// strategies by name, each given numberOfClusters. A new strategy is a file and a line here; the API lists the names.
var strategies = map[v1alpha1.StrategyType]func(number int) Strategy{
	v1alpha1.StrategySpread:     spread,
	v1alpha1.StrategyRoundRobin: roundRobin,
	v1alpha1.StrategyAffinity:   affinity,
	v1alpha1.StrategyBinPack:    binPack,
	v1alpha1.StrategyWeighted:   weighted,
}

// StrategyFor returns the strategy of a name that ClustersOf knows.
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
