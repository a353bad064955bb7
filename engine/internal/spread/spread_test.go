package spread

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestChooseIsTheBest: on small problems of every kind, no choice is better, by exhaustive comparison.
func TestChooseIsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawProblem(t)
		unordered := p.InOrder && !slices.IsSortedFunc(p.Candidates, func(a, b Candidate) int { return int(b.Until - a.Until) })
		got := Choose(p)
		if got.Bounded {
			t.Fatalf("%d candidates are too many", len(p.Candidates))
		}
		var best []int
		var bestRank rank
		for set := range 1 << len(p.Candidates) {
			var chosen []int
			for i := range p.Candidates {
				if set&(1<<i) != 0 {
					chosen = append(chosen, i)
				}
			}
			if r, ok := p.rank(chosen); ok && (best == nil && len(chosen) == 0 || bestRank.less(r, chosen, best)) {
				best, bestRank = chosen, r
			}
		}
		if !slices.Equal(got.Chosen, best) {
			t.Errorf("chosen %v, best %v %+v\nof %s", got.Chosen, best, bestRank, describe(p))
		}
		for n := range p.Candidates {
			first := *p
			first.Candidates = p.Candidates[:n+1]
			if of := Choose(&first); !unordered && first.Settles(&of) && !slices.Equal(of.Chosen, best) {
				t.Errorf("the first %d are said to settle it by %v, best %v %+v\nof %s", n+1, of.Chosen, best, bestRank, describe(p))
			}
		}
		if r, _ := p.rank(got.Chosen); got.Room != r.room || got.Cost != r.cost {
			t.Errorf("room %d, cost %d, want %+v", got.Room, got.Cost, r)
		}
	})
}

// rank orders choices by how good they are.
type rank struct {
	least, room, size, value, cost int64
	inOrder                        bool
}

// less reports whether another choice is better.
func (r rank) less(o rank, chosen, best []int) bool {
	switch {
	case o.least != r.least:
		return o.least > r.least
	case o.room != r.room:
		return o.room > r.room
	case r.inOrder:
		// Where two choices differ, the one with the earlier candidate; no candidate that is not wanted.
		for i := range min(len(chosen), len(best)) {
			if chosen[i] != best[i] {
				return chosen[i] < best[i]
			}
		}
		return len(chosen) > len(best)
	case o.size != r.size:
		return o.size > r.size
	case o.value-o.cost != r.value-r.cost:
		return o.value-o.cost > r.value-r.cost
	default:
		return slices.Compare(chosen, best) < 0
	}
}

// rank returns how good a choice is; false if it is not valid.
func (p *Problem) rank(chosen []int) (r rank, ok bool) {
	if len(chosen) > p.Number {
		return r, false
	}
	r.inOrder, r.size, r.least = p.InOrder, int64(len(chosen)), int64(min(p.Least, len(chosen)))
	if p.Fewest {
		r.size = -r.size
	}
	for at, i := range chosen {
		if p.InOrder && at >= p.Least && r.room >= p.Candidates[i].Until {
			if _, holds := p.rank(chosen[:at]); holds {
				return r, false
			}
		}
		r.room += p.Candidates[i].Room
		r.value += p.Candidates[i].Value
	}
	r.room = min(r.room, p.Need)
	for k, c := range p.Constraints {
		counts, got, outside := slices.Clone(c.Counts), make([]int, len(c.Counts)), 0
		for _, i := range chosen {
			if d := p.Domains(i)[k]; d == None {
				outside++
			} else {
				counts[d]++
				got[d]++
			}
		}
		var eligible []int
		for d := range counts {
			if c.Eligible[d] {
				eligible = append(eligible, counts[d])
			}
		}
		fewest := 0
		if len(eligible) > 0 && len(eligible) >= c.MinDomains {
			fewest = slices.Min(eligible)
		}
		excess := outside
		for d := range counts {
			for range got[d] {
				if counts[d]-fewest > c.MaxSkew {
					excess++
					counts[d]--
				}
			}
		}
		if c.Cost == 0 && excess > 0 {
			return r, false
		}
		r.cost += int64(excess) * c.Cost
	}
	return r, true
}

// drawProblem draws sizes evenly: rapid itself prefers small ones, where little can go wrong.
func drawProblem(t *rapid.T) *Problem {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	p := &Problem{Number: random.IntN(6)}
	domains := make([]int, random.IntN(3))
	for k := range domains {
		domains[k] = 1 + random.IntN(4)
		c := Constraint{MaxSkew: 1 + random.IntN(2), MinDomains: random.IntN(4), Cost: []int64{0, 0, 3, 20}[random.IntN(4)]}
		for range domains[k] {
			c.Counts = append(c.Counts, random.IntN(3))
			c.Eligible = append(c.Eligible, random.IntN(2) == 0)
		}
		p.Constraints = append(p.Constraints, c)
	}
	divided := random.IntN(2) == 0
	if divided {
		p.Need, p.Least = random.Int64N(13), random.IntN(4)
		p.Fewest = random.IntN(2) == 0
		p.InOrder = !p.Fewest && random.IntN(2) == 0
	}
	var in [][]int32
	for range random.IntN(10) {
		c := Candidate{Value: random.Int64N(105) - 5}
		if divided {
			c.Room = 1 + random.Int64N(5)
			c.Until = p.Need + random.Int64N(5)*random.Int64N(2)
		}
		in = append(in, make([]int32, len(domains)))
		for k := range domains {
			d := random.IntN(domains[k]+1) - 1
			if d != None {
				p.Constraints[k].Eligible[d] = true // a candidate makes its domain eligible
			}
			in[len(in)-1][k] = int32(d)
		}
		p.Candidates = append(p.Candidates, c)
	}
	p.SetGroups(in)
	slices.SortStableFunc(p.Candidates, func(a, b Candidate) int { return int(b.Value - a.Value) })
	if random.IntN(4) > 0 { // usually, later candidates are wanted less
		for i := 1; i < len(p.Candidates); i++ {
			p.Candidates[i].Until = min(p.Candidates[i].Until, p.Candidates[i-1].Until)
		}
	}
	return p
}

func describe(p *Problem) string { return fmt.Sprintf("%+v", *p) }

// TestChooseIsBounded: however many clusters there are, and however constraints cross, choosing ends with the best choice
// found so far, and reports that it was cut short.
func TestChooseIsBounded(t *testing.T) {
	// Each domain of either key can have one cluster: the best choice is an assignment.
	const domains = 30
	p := &Problem{Number: domains}
	for range 2 {
		c := Constraint{MaxSkew: 1, MinDomains: domains + 1, Counts: make([]int, domains), Eligible: make([]bool, domains)}
		for d := range domains {
			c.Eligible[d] = true
		}
		p.Constraints = append(p.Constraints, c)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var in [][]int32
	for i := range 1000 {
		p.Candidates = append(p.Candidates, Candidate{Value: int64(1000 - i)})
		in = append(in, []int32{random.Int32N(domains), random.Int32N(domains)})
	}
	p.SetGroups(in)
	s := Choose(p)
	if _, valid := p.rank(s.Chosen); !valid || len(s.Chosen) == 0 || !s.Bounded {
		t.Errorf("valid %t: %+v", valid, s)
	}
}

func BenchmarkChoose(b *testing.B) {
	p := &Problem{Number: 3, Constraints: []Constraint{{MaxSkew: 1, Counts: make([]int, 3), Eligible: []bool{true, true, true}}}}
	var in [][]int32
	for i := range 1000 {
		p.Candidates = append(p.Candidates, Candidate{Value: int64(1000 - i)})
		in = append(in, []int32{int32(max(0, i-900) % 3)})
	}
	p.SetGroups(in)
	for b.Loop() {
		Choose(p)
	}
}

// BenchmarkWorst: a thousand candidates, crossing constraints, and as many domains as clusters.
func BenchmarkWorst(b *testing.B) {
	for _, domains := range []int{30, 1000} {
		random := rand.New(rand.NewPCG(1, 2))
		p := &Problem{Number: 30}
		for range 8 {
			c := Constraint{MaxSkew: 1, MinDomains: domains + 1, Counts: make([]int, domains), Eligible: make([]bool, domains)}
			p.Constraints = append(p.Constraints, c)
		}
		var in [][]int32
		for i := range 1000 {
			in = append(in, make([]int32, len(p.Constraints)))
			for k := range p.Constraints {
				d := random.Int32N(int32(domains))
				p.Constraints[k].Eligible[d] = true
				in[i][k] = d
			}
			p.Candidates = append(p.Candidates, Candidate{Value: int64(1000 - i)})
		}
		p.SetGroups(in)
		b.Run(fmt.Sprintf("domains=%d", domains), func(b *testing.B) {
			for b.Loop() {
				Choose(p)
			}
		})
	}
}
