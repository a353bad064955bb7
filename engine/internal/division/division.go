// Package division divides the replicas of a workload among its clusters. Shares grow and shrink with the number of replicas: if
// the Low of each cluster is its current share, no cluster loses replicas; if the High is, none gains any.
package division

import (
	"cmp"
	"math/bits"
	"slices"
)

// MaxWeight is the largest weight of a cluster.
const MaxWeight = 1 << 20

// Cluster is a cluster that gets a share of Low to High replicas.
type Cluster struct {
	Low, High int64
	// Weight, from 0 to MaxWeight, for Proportional.
	Weight int64
}

// Proportional divides n replicas, fewer than 1<<31, in proportion to the weights by the method of D'Hondt: each next replica goes
// to the cluster with the least (replicas + 1) / weight, and to the earlier one among equals. A cluster gets at least Low and at
// most High; with weight 0 it gets Low. If the Highs add up to less than n, the rest is not divided.
func Proportional(n int64, clusters []Cluster) []int64 {
	shares := make([]int64, len(clusters))
	// At level t a cluster has floor(weight x t / MaxWeight), within its bounds: all replicas whose quotient is at most t.
	at := func(level uint64) (sum int64) {
		for i, c := range clusters {
			shares[i] = max(c.Low, min(c.High, proportion(c.Weight, level)))
			sum += shares[i]
		}
		return sum
	}
	low, high := uint64(0), uint64(n)*MaxWeight+1 // low is not too high, unless every level is
	for high-low > 1 {
		if middle := low + (high-low)/2; at(middle) <= n {
			low = middle
		} else {
			high = middle
		}
	}
	left := n - at(low)
	// Up to the next level a cluster gets at most one more.
	var next []int
	for i, c := range clusters {
		if c.Weight > 0 && shares[i] < c.High {
			next = append(next, i)
		}
	}
	slices.SortStableFunc(next, func(a, b int) int {
		highA, lowA := bits.Mul64(uint64(shares[a]+1), uint64(clusters[b].Weight))
		highB, lowB := bits.Mul64(uint64(shares[b]+1), uint64(clusters[a].Weight))
		return cmp.Or(cmp.Compare(highA, highB), cmp.Compare(lowA, lowB))
	})
	for _, i := range next[:max(0, min(int64(len(next)), left))] {
		shares[i]++
	}
	return shares
}

// proportion is floor(weight x level / MaxWeight).
func proportion(weight int64, level uint64) int64 {
	high, low := bits.Mul64(uint64(weight), level)
	quotient, _ := bits.Div64(high, low, MaxWeight)
	return int64(quotient)
}

// Fill gives each cluster its Low, and fills them to their High one after the other until n replicas are divided.
func Fill(n int64, clusters []Cluster) []int64 {
	shares := make([]int64, len(clusters))
	for i, c := range clusters {
		shares[i] = c.Low
		n -= c.Low
	}
	for i, c := range clusters {
		more := max(0, min(n, c.High-c.Low))
		shares[i] += more
		n -= more
	}
	return shares
}

// Drain takes replicas away until n are left, from the clusters in the given order: all that a cluster has, or as many as leave
// it least. The last fewest clusters of the order are not emptied. These limits are broken only if there is no other way.
func Drain(n int64, shares []int64, order []int, least int64, fewest int) {
	excess := -n
	for _, share := range shares {
		excess += share
	}
	for _, pass := range []struct {
		least   int64
		emptied int
	}{{least, max(0, len(order)-fewest)}, {least, len(order)}, {0, len(order)}} {
		for at, i := range order {
			less := min(excess, shares[i])
			if at >= pass.emptied || less < shares[i] {
				less = max(0, min(less, shares[i]-pass.least))
			}
			shares[i] -= less
			excess -= less
		}
	}
}
