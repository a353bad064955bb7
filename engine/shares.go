package engine

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/internal/division"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// shares divides n replicas among clusters, best first, that together have has of them.
func (p *plan) shares(n, has int64, all []place, weights []int64) []int64 {
	shrinks, clusters := n < has, make([]division.Cluster, len(all))
	for i := range all {
		have := all[i].choice.Replicas
		switch c := &clusters[i]; {
		case all[i].part:
			*c = division.Cluster{Low: 1, High: max(1, have)}
			if !shrinks {
				*c = division.Cluster{Low: max(1, have), High: max(1, all[i].room)}
			}
		case shrinks:
			*c = division.Cluster{Low: min(p.minimum, have), High: have}
		case have > 0:
			*c = division.Cluster{Low: have, High: all[i].room}
		default:
			*c = division.Cluster{Low: p.minimum, High: all[i].room}
		}
		clusters[i].Weight = weights[i]
	}
	inOrder := p.division.By == v1alpha1.DivideAggregated || p.division.By == v1alpha1.DivideOverflow
	switch {
	case inOrder && shrinks:
		shares, order := make([]int64, len(all)), make([]int, len(all))
		for i := range clusters {
			shares[i], order[i] = clusters[i].High, len(all)-1-i
		}
		if p.division.By == v1alpha1.DivideAggregated { // the smallest goes first
			slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(shares[a], shares[b]) })
		}
		least, fewest := p.minimum, int(min(int64(p.classes[0].Placement.MinClusters), n/p.minimum))
		if p.hasParts() {
			least, fewest = 1, len(all)
		}
		division.Drain(n, shares, order, least, fewest)
		return shares
	case inOrder:
		return division.Fill(n, clusters)
	}
	shares, number := make([]int64, len(all)), len(all)
	if shrinks {
		number = enough(n, clusters)
	}
	for i, share := range division.Proportional(n, clusters[:number]) {
		clusters[i].Low = share
	}
	copy(shares, division.Fill(n, clusters[:number])) // clusters of weight 0 keep what is left
	return shares
}

// enough returns on how many clusters, best first, n replicas stay: as many as can have their Low, but no fewer than have room for
// all. If these cannot have their Low, every Low becomes 0.
func enough(n int64, clusters []division.Cluster) (number int) {
	var lows, highs int64
	for number < len(clusters) && (lows+clusters[number].Low <= n || highs < n) {
		lows, highs = lows+clusters[number].Low, highs+clusters[number].High
		number++
	}
	for i := range clusters {
		if lows > n {
			clusters[i].Low = 0
		}
	}
	return number
}

// weights returns the weights of clusters in a division, scaled down to at most division.MaxWeight.
func (w *workspace) weights(by *placement.Division, all []place) []int64 {
	weights := make([]int64, len(all))
	var most int64
	for i := range all {
		switch by.By {
		case v1alpha1.DivideWeighted:
			weights[i] = by.Weight(w.rowOf(&all[i]).Cluster)
		case v1alpha1.DivideFreeCapacity:
			weights[i] = all[i].free
		default:
			weights[i] = 1
		}
		most = max(most, weights[i])
	}
	if excess := bits.Len64(uint64(most)) - bits.Len64(division.MaxWeight-1); excess > 0 {
		for i := range weights {
			weights[i] = max(weights[i]>>excess, min(weights[i], 1))
		}
	}
	return weights
}

func sumOf(shares []int64) (sum int64) {
	for _, share := range shares {
		sum += share
	}
	return sum
}

func (w *workspace) rowOf(p *place) *snapshot.Row { return w.seen.Row(p.key.Position()) }
