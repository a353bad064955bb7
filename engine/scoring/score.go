package scoring

import (
	"math"
	"math/bits"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// neutral is the affinity and location factor of a cluster that no term speaks of.
const neutral = 50

// maxHeadroom is the headroom of a cluster for a workload that asks for nothing.
const maxHeadroom = 1_000_000

// Score is how good a cluster is for a workload, before the workload is placed there.
type Score struct {
	// Factors, 0..100 each.
	Factors [NumFactors]int64
	// Total = sum(weight x factor) / sum(weight), truncated: 0..100.
	Total int64
	// Headroom breaks ties between equal totals: the least, over the resources asked for, of
	// floor(1,000,000 x (free - request) / allocatable).
	Headroom int64
}

// Reason puts a total into a word.
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

// Of scores a cluster for a workload that asks for requests.
func Of(row *snapshot.Row, requests capacity.Resources, weights Weights, terms []Term) Score {
	s := Score{Headroom: headroom(row, requests)}
	s.Factors = [NumFactors]int64{
		Capacity:    (coverage(row.Free.CPU, requests.CPU) + coverage(row.Free.Memory, requests.Memory)) / 2,
		Health:      row.HealthScore,
		Performance: row.PerformanceScore,
		Affinity:    neutral,
		Location:    neutral,
	}
	for i := range terms {
		s.Factors[terms[i].Factor] += terms[i].Delta(row)
	}
	for _, f := range []Factor{Affinity, Location} {
		s.Factors[f] = min(max(s.Factors[f], 0), 100)
	}
	var sum, total int64
	for f, weight := range weights {
		sum += weight * s.Factors[f]
		total += weight
	}
	if total > 0 {
		s.Total = sum / total
	}
	return s
}

// Delta is what the term adds to its factor for a cluster.
func (t *Term) Delta(row *snapshot.Row) int64 {
	if t.Match.Matches(row) {
		return t.OnMatch
	}
	return t.Otherwise
}

// OnlyNames tells whether the clusters that the term is about are told by nothing but their names.
func (m *Match) OnlyNames() bool {
	return len(m.ClusterNames) > 0 && m.Location == "" && m.Labels == nil && m.Capability == ""
}

// Matches tells whether a cluster is one that the term is about.
func (m *Match) Matches(row *snapshot.Row) bool {
	if m.Capability != "" {
		if capability, _ := row.Capability(m.Capability); !capability.Available {
			return false
		}
	}
	return (len(m.ClusterNames) == 0 || slices.Contains(m.ClusterNames, row.Name)) &&
		(m.Location == "" || m.Location == row.Location) &&
		(m.Labels == nil || m.Labels.Matches(labels.Set(row.Labels)))
}

// coverage scores how many times over the free amount covers what is required.
func coverage(free, required int64) int64 {
	if required <= 0 {
		return 100
	}
	switch times := free / required; {
	case times >= 10:
		return 100
	case times >= 5:
		return 80
	case times >= 2:
		return 60
	case times >= 1:
		return 40
	default:
		return 0
	}
}

func headroom(row *snapshot.Row, requests capacity.Resources) int64 {
	least := int64(maxHeadroom)
	consider := func(free, request, allocatable int64) {
		if request <= 0 {
			return
		}
		least = min(least, permillion(free-request, allocatable))
	}
	consider(row.Free.CPU, requests.CPU, row.Allocatable.CPU)
	consider(row.Free.Memory, requests.Memory, row.Allocatable.Memory)
	consider(row.Free.Storage, requests.Storage, row.Allocatable.Storage)
	for name, request := range requests.Extended {
		consider(row.Free.Extended[name], request, row.Allocatable.Extended[name])
	}
	return least
}

// permillion is floor(1,000,000 x part / whole), in 128 bits so that no amount of bytes overflows.
func permillion(part, whole int64) int64 {
	if part <= 0 || whole <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(part), maxHeadroom)
	if hi >= uint64(whole) {
		return math.MaxInt64
	}
	quotient, _ := bits.Div64(hi, lo, uint64(whole))
	return int64(min(quotient, math.MaxInt64))
}
