package scoring

import (
	"math"
	"math/bits"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// FactScore is the part of a score that depends only on the facts of a cluster, however full it is.
type FactScore struct {
	// Weighted is the sum of weight x factor over health, affinity, location and named scores.
	Weighted int64
	// Proximity is the sum of the affinity and location factors, 0..200.
	Proximity int64
}

// FactScoreOf returns the fact score of a cluster as if it had the given health; matches states for each of the terms whether it matches.
func FactScoreOf(row *snapshot.Row, health int64, weights *Weights, terms []Term, matches []bool) FactScore {
	affinity, location := int64(neutral), int64(neutral)
	for i := range terms {
		delta := terms[i].delta(row, matches[i])
		if terms[i].Factor == Affinity {
			affinity += delta
		} else {
			location += delta
		}
	}
	affinity, location = clamp(affinity), clamp(location)
	weighted := weights.Factors[Health]*health + weights.Factors[Affinity]*affinity + weights.Factors[Location]*location
	for _, w := range weights.Scores {
		weighted += w.Weight * w.score(row)
	}
	return FactScore{Weighted: weighted, Proximity: affinity + location}
}

// Scorer scores feasible clusters as Of does, in a few nanoseconds: what depends on the requests alone is computed
// once, what depends on the facts of a cluster is its FactScore, and multiplication replaces division. Factors without
// a faster form are scored for every row if they have a weight.
type Scorer struct {
	asked                 Asked
	capacity, performance int64 // weights
	sum                   uint32
	// inverse is 2^64 / sum, rounded up: bits 64 and up of its product with a 32-bit number are the quotient. See D. Lemire, O. Kaser and
	// N. Kurz, Faster remainder by direct computation, 2019.
	inverse uint64
	// others are the factors without a faster form that have a weight.
	others []weightedFactor
	// amounts of CPU and memory, and the steps by which free amounts cover them.
	amounts [2]int64
	steps   [2]steps
	// exact: resources other than CPU and memory are requested, or so much that steps would overflow, or Packs changes the headroom.
	exact bool
}

type weightedFactor struct {
	Factor
	weight int64
}

// steps are the free amounts from which coverage is higher.
type steps struct{ one, two, five, ten int64 }

// NewScorer makes the scorer of workloads that ask for something.
func NewScorer(asked Asked, weights Weights) Scorer {
	requests := &asked.Requests
	s := Scorer{asked: asked, capacity: weights.Factors[Capacity], performance: weights.Factors[Performance]}
	for f, weight := range weights.Factors {
		s.sum += uint32(weight)
		if Factor(f) >= numPlanned && weight > 0 {
			s.others = append(s.others, weightedFactor{Factor(f), weight})
		}
	}
	for _, w := range weights.Scores {
		s.sum += uint32(w.Weight)
	}
	if s.sum > 1 {
		s.inverse = math.MaxUint64/uint64(s.sum) + 1
	}
	s.amounts = [2]int64{requests.CPU, requests.Memory}
	s.steps = [2]steps{stepsOf(requests.CPU), stepsOf(requests.Memory)}
	s.exact = asked.Packs || requests.Storage > 0 || len(requests.Extended) > 0 || max(requests.CPU, requests.Memory) > math.MaxInt64/10
	return s
}

func stepsOf(required int64) steps {
	if required <= 0 {
		return steps{math.MinInt64, math.MinInt64, math.MinInt64, math.MinInt64}
	}
	return steps{required, 2 * required, 5 * required, 10 * required}
}

func (s *steps) coverage(free int64) int64 {
	switch {
	case free >= s.ten:
		return 100
	case free >= s.five:
		return 80
	case free >= s.two:
		return 60
	case free >= s.one:
		return 40
	default:
		return 0
	}
}

// Among returns the scorer for the same workloads, given what others usually ask for.
func (s *Scorer) Among(usual *capacity.Usual) Scorer {
	among := *s
	among.asked.Usual = usual
	return among
}

// Score returns the total and the headroom of a cluster, given the Weighted of its FactScore. The figures are those of the row.
func (s *Scorer) Score(f *snapshot.Figures, row *snapshot.Row, weighted int64) (total, least int64) {
	for _, o := range s.others {
		weighted += o.weight * factors[o.Factor].score(row, &s.asked)
	}
	if s.exact {
		covered := coverage(f.Free[snapshot.CPU], s.asked.Requests.CPU) + coverage(f.Free[snapshot.Memory], s.asked.Requests.Memory)
		return s.total(covered, weighted, f), s.asked.headroom(row)
	}
	covered := s.steps[snapshot.CPU].coverage(f.Free[snapshot.CPU]) + s.steps[snapshot.Memory].coverage(f.Free[snapshot.Memory])
	// What is left of a feasible cluster is not negative, so the bits of shares compare like the shares, and the minimum of integers needs
	// no branch.
	share := math.Float64bits(MaxHeadroom)
	if amount := s.amounts[snapshot.CPU]; amount > 0 {
		share = min(share, math.Float64bits(float64(f.Free[snapshot.CPU]-amount)*f.PerMillion[snapshot.CPU]))
	}
	if amount := s.amounts[snapshot.Memory]; amount > 0 {
		share = min(share, math.Float64bits(float64(f.Free[snapshot.Memory]-amount)*f.PerMillion[snapshot.Memory]))
	}
	// The products are off by less than a billionth. So the minimum is on the same side of a whole number as the exact value, unless it is
	// within 32/2^24 of one.
	const bits, near = 24, 32
	parts := int64(math.Float64frombits(share) * (1 << bits))
	if least = parts >> bits; uint64(parts&(1<<bits-1)-near) >= 1<<bits-2*near {
		least = s.headroom(f, row)
	}
	return s.total(covered, weighted, f), least
}

func (s *Scorer) total(covered, weighted int64, f *snapshot.Figures) int64 {
	points := uint32(weighted + s.capacity*(covered/2) + s.performance*f.Performance)
	if s.sum <= 1 {
		return int64(points * s.sum)
	}
	total, _ := bits.Mul64(uint64(points), s.inverse)
	return int64(total)
}

// headroom computes Score.Headroom exactly, for requests of CPU and memory.
func (s *Scorer) headroom(f *snapshot.Figures, row *snapshot.Row) int64 {
	least, allocatable := int64(MaxHeadroom), [2]int64{row.Allocatable.CPU, row.Allocatable.Memory}
	for i, amount := range s.amounts {
		if amount > 0 {
			least = min(least, permillion(f.Free[i]-amount, allocatable[i]))
		}
	}
	return least
}
