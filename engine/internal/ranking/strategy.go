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
	// Packs orders clusters by how little headroom is left before all else.
	Packs bool
	// Number of clusters that one workload gets at most.
	Number int
	// Select takes the clusters of one workload, best first, and appends them to chosen; the best Number if nil. What it chooses
	// follows from the ranking and the turn alone.
	Select func(t *Tournament, turn *Turn, chosen []Key) []Key
	// Prefer is what a cluster is worth to a workload, where that does not follow from its key: more is better. Nil otherwise.
	Prefer func(k Key, turn *Turn) int64
}

// Turn is what a strategy knows of the workload whose turn it is.
type Turn struct {
	// InUse counts the workloads of the same placement on the cluster of a position.
	InUse func(position int) int
	// Seed is the same for one workload, whenever it is asked for.
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
