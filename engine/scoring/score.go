package scoring

import (
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/int128"
)

// MaxHeadroom is the headroom of a cluster for a workload that asks for nothing.
const MaxHeadroom = 1_000_000

// Score is how good a cluster is for a workload, before the workload is placed there.
type Score struct {
	// Factors, 0..100 each.
	Factors PerFactor
	// Named are the factors of Weights.Scores, 0..100 each.
	Named []int64
	// Total = sum(weight x factor) / sum(weight), truncated: 0..100.
	Total int64
	// Headroom breaks ties between equal totals: the minimum, over the requested resources, of
	// floor(1,000,000 x (free - request) / allocatable). With Asked.Packs, it is the mean over all resources.
	Headroom int64
}

// Reason returns a total as a word.
func Reason(total int64) string {
	switch {
	case total >= 80:
		return "Excellent"
	case total >= 60:
		return "Good"
	case total >= 40:
		return "Fair"
	default:
		return "Poor"
	}
}

// Of scores a cluster.
func Of(row *snapshot.Row, a Asked, weights Weights) Score {
	s := Score{Headroom: a.headroom(row)}
	var sum, total int64
	for f := range factors {
		s.Factors[f] = factors[f].score(row, &a)
		sum += weights.Factors[f] * s.Factors[f]
		total += weights.Factors[f]
	}
	for _, w := range weights.Scores {
		score := w.score(row)
		s.Named = append(s.Named, score)
		sum += w.Weight * score
		total += w.Weight
	}
	if total > 0 {
		s.Total = sum / total
	}
	return s
}

func (a *Asked) headroom(row *snapshot.Row) int64 {
	if a.Packs {
		return a.left(row)
	}
	requests, least := &a.Requests, int64(MaxHeadroom)
	consider := func(free, request, allocatable int64) {
		if request > 0 {
			least = min(least, permillion(free-request, allocatable))
		}
	}
	consider(row.Free.CPU, requests.CPU, row.Allocatable.CPU)
	consider(row.Free.Memory, requests.Memory, row.Allocatable.Memory)
	consider(row.Free.Storage, requests.Storage, row.Allocatable.Storage)
	for name, request := range requests.Extended {
		consider(row.Free.Extended[name], request, row.Allocatable.Extended[name])
	}
	return least
}

// left returns the mean share that would be left of CPU, memory, storage, and the extended resource with the largest share left. A resource
// that a cluster does not have counts as 0; one that nobody asks for makes no difference between clusters that have it.
func (a *Asked) left(row *snapshot.Row) int64 {
	requests, extended := &a.Requests, int64(0)
	for name, allocatable := range row.Allocatable.Extended {
		extended = max(extended, permillion(row.Free.Extended[name]-requests.Extended[name], allocatable))
	}
	return (permillion(row.Free.CPU-requests.CPU, row.Allocatable.CPU) + permillion(row.Free.Memory-requests.Memory, row.Allocatable.Memory) +
		permillion(row.Free.Storage-requests.Storage, row.Allocatable.Storage) + extended) / 4
}

// permillion is floor(1,000,000 x part / whole).
func permillion(part, whole int64) int64 {
	if part <= 0 || whole <= 0 {
		return 0
	}
	quotient, _ := int128.MulDiv(part, MaxHeadroom, whole)
	return quotient
}
