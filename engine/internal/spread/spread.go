// Package spread chooses several clusters together, where choosing them one by one from the ranking is not enough: so that they
// satisfy spread constraints, and have room for all replicas of a workload.
package spread

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
)

// MaxWork bounds a search, in visits of a domain or a candidate: some milliseconds. Within it the best solution is found;
// otherwise Solution.Bounded is set.
const MaxWork = 1 << 21

// Candidate is a cluster that can be chosen.
type Candidate struct {
	// Value of the cluster; the sum over the chosen clusters is maximized.
	Value int64
	// Room is how many replicas the cluster can take; it counts where Problem.Need is above 0.
	Room int64
	// Until is for a Problem InOrder: the candidate is no longer wanted once those chosen before it have this much room, at least
	// Need. It is wanted all the same if a constraint breaks without it.
	Until int64
	// Group is the index in Problem.Groups of the domains that the cluster is in.
	Group int32
}

// None is the domain of a cluster that is in none.
const None = -1

// Constraint bounds how uneven the domains of one topology key may become, by Kubernetes' rule for topology spread: a domain that
// gets a cluster may then exceed the domain with the fewest by at most MaxSkew.
type Constraint struct {
	MaxSkew, MinDomains int
	// Cost of each cluster by which a domain that gets clusters exceeds MaxSkew; if it is 0, the constraint is required.
	Cost int64
	// Counts is the count of each domain before anything is chosen.
	Counts []int
	// Eligible marks the domains that are considered for the fewest. If there are fewer of them than MinDomains, the fewest is 0.
	Eligible []bool
}

// Limits appends, for each domain, how many of number clusters it can get at most, whatever else is chosen.
func (c *Constraint) Limits(number int, to []int) []int {
	var few [16]int
	none := append(few[:0], make([]int, len(c.Counts))...)
	limits := append(to, none...)
	if c.Cost == 0 {
		c.limit(limits[len(to):], none, nil, number)
		return limits
	}
	for d := len(to); d < len(limits); d++ {
		limits[d] = number
	}
	return limits
}

// limit sets how many of number more clusters each domain can get at most once some are added, and returns the sum. If open is not
// nil, no domain gets more than that either.
//
// In the end a domain exceeds the fewest by at most MaxSkew. So it can only have more if the fewest rises: for each level of the
// fewest, the clusters that bring all domains to that level are not left for this one.
func (c *Constraint) limit(limits, added, open []int, number int) (sum int) {
	least, all, domains := math.MaxInt, number, 0
	for d, eligible := range c.Eligible {
		if eligible {
			has := c.Counts[d] + added[d]
			all += has
			domains++
			if open != nil {
				least = min(least, has+open[d])
			}
		}
	}
	level, left := 0, number
	if domains > 0 && domains >= c.MinDomains {
		level = min(all/domains, least)
		if left = number - c.needs(level, added); left < 0 {
			fewest := c.fewest(added, nil)
			level = fewest + sort.Search(level-fewest, func(i int) bool { return c.needs(fewest+i+1, added) > number })
			left = number - c.needs(level, added)
		}
	}
	lower, leftThere := level-1, 0
	if level > 0 {
		leftThere = number - c.needs(lower, added)
	}
	for d := range limits {
		has := c.Counts[d] + added[d]
		base := func(level int) int {
			if c.Eligible[d] {
				return max(has, level)
			}
			return has
		}
		most := min(level+c.MaxSkew, left+base(level))
		if level > 0 {
			most = max(most, min(lower+c.MaxSkew, leftThere+base(lower)), lower-1+c.MaxSkew)
		}
		limits[d] = min(most-has, number)
		if open != nil {
			limits[d] = min(limits[d], open[d])
		}
		sum += max(0, limits[d])
	}
	return sum
}

// needs returns how many clusters it takes to bring each eligible domain to a level.
func (c *Constraint) needs(level int, added []int) (needs int) {
	for d, eligible := range c.Eligible {
		if eligible {
			needs += max(0, level-c.Counts[d]-added[d])
		}
	}
	return needs
}

// Problem asks for clusters.
type Problem struct {
	// Candidates in order, none with a larger Value than one before. Of equally good choices, the one with the earlier
	// candidates is chosen.
	Candidates  []Candidate
	Constraints []Constraint
	// Groups are the combinations of domains: one domain for each constraint, None where there is none.
	Groups [][]int32
	// Number is the most clusters to choose; Least is how many there have to be, as far as possible.
	Number, Least int
	// Need is how many replicas there must be room for, as far as possible; 0 where room does not count.
	Need int64
	// Fewest chooses as few clusters as have the room, instead of as many as possible.
	Fewest bool
	// InOrder chooses the first candidates that have the room, whatever the sum of values, and among these each that is wanted (see
	// Candidate.Until): a candidate is passed over only if a constraint or Number leaves no other way.
	InOrder bool
}

// Solution is the chosen candidates by index, in order.
type Solution struct {
	Chosen []int
	// Room of all chosen candidates, as far as it is needed.
	Room int64
	// Cost of the constraints that are not required.
	Cost int64
	// Bounded is set if the search was cut short: there may be a better choice.
	Bounded bool
}

// Choose solves a problem. In order of importance it maximizes the number of clusters up to Least, then the room up to Need, then the
// number of clusters (or minimizes it, with Fewest), then the sum of values less costs.
func Choose(p *Problem) Solution {
	s := searches.Get().(*search)
	s.begin(p)
	if !p.InOrder {
		s.consider()
	}
	s.step(0)
	best := s.best
	s.Problem, s.best = nil, Solution{}
	searches.Put(s)
	return best
}

// searches are reused: most are so short that allocating one takes longer.
var searches = sync.Pool{New: func() any { return new(search) }}

// Settles reports whether a solution stays the best if there are more candidates, none of which has a larger value than the last
// one here.
func (p *Problem) Settles(s *Solution) bool {
	n := len(s.Chosen)
	switch {
	case s.Room < p.Need || n < p.Least:
		return false
	case n == 0 && (p.Number == 0 || p.Fewest):
		return true
	case p.InOrder:
		var room int64
		for _, i := range s.Chosen {
			room += p.Candidates[i].Room
		}
		return (n == 0 || s.Chosen[n-1] == n-1) && // where one is passed over, a later one could have made room for it
			(n == p.Number || n < len(p.Candidates) && room >= p.Candidates[n].Until)
	case p.Fewest:
		if n > max(1, p.Least) {
			return false
		}
	case n < p.Number:
		return false
	}
	value, most := -s.Cost, p.Candidates[len(p.Candidates)-1].Value
	for at, i := range s.Chosen {
		value += p.Candidates[i].Value
		if at < n-1 {
			most += p.Candidates[at].Value
		}
	}
	// Among equals, the choice with the earlier candidates is the best: all but the last are the first ones here.
	return value > most || value == most && (n == 1 || s.Chosen[n-2] == n-2)
}

// Domains returns the domains of candidate i, one for each constraint.
func (p *Problem) Domains(i int) []int32 { return p.Groups[p.Candidates[i].Group] }

// SetGroups puts the candidates into groups by their domains.
func (p *Problem) SetGroups(domains [][]int32) {
	groups := map[string]int32{}
	for i := range p.Candidates {
		text := fmt.Sprint(domains[i])
		group, found := groups[text]
		if !found {
			group = int32(len(groups))
			groups[text], p.Groups = group, append(p.Groups, domains[i])
		}
		p.Candidates[i].Group = group
	}
}

type search struct {
	*Problem
	// closed holds for each group the largest room of a candidate that was passed over: a later one with no more room is no better.
	closed []int64
	// sums of the values before each candidate.
	sums []int64
	// roomLeft is the room of this candidate and those after it.
	roomLeft []int64
	// added holds, for each constraint, how many clusters each domain has got, open how many candidates of it are still to come, and
	// most how many more it can get.
	added, open, most [][]int
	// left is scratch space. amounts, counts and lists are the memory of the slices above.
	left    []int
	amounts []int64
	counts  []int
	lists   [][]int

	chosen []int
	value  int64
	room   int64
	// plain is set if only values and required constraints count.
	plain bool
	// work is how much has been done; domains is the least cost of a step, for the domains of all constraints.
	work, domains int

	best      Solution
	bestValue int64
	found     bool
	done      bool
}

// begin begins a search in the memory of the previous one.
func (s *search) begin(p *Problem) {
	n, groups, domains, widest := len(p.Candidates), int32(0), 0, 0
	for i := range p.Candidates {
		groups = max(groups, p.Candidates[i].Group+1)
	}
	for k := range p.Constraints {
		domains += len(p.Constraints[k].Counts)
		widest = max(widest, len(p.Constraints[k].Counts))
	}
	*s = search{
		Problem: p, domains: 8 + 4*domains, chosen: s.chosen[:0], best: Solution{Chosen: make([]int, 0, min(n, max(0, p.Number)))},
		amounts: zeros(s.amounts, 2*(n+1)+int(groups)), counts: zeros(s.counts, 3*domains+widest), lists: zeros(s.lists, 3*len(p.Constraints)),
	}
	s.plain = !p.InOrder && !p.Fewest && p.Need == 0 && !slices.ContainsFunc(p.Constraints, func(c Constraint) bool { return c.Cost > 0 })
	s.sums, s.roomLeft, s.closed = s.amounts[:n+1], s.amounts[n+1:2*(n+1)], s.amounts[2*(n+1):]
	for i := range p.Candidates {
		s.sums[i+1] = s.sums[i] + p.Candidates[i].Value
	}
	for i := n - 1; i >= 0; i-- {
		s.roomLeft[i] = min(math.MaxInt64/2, s.roomLeft[i+1]+p.Candidates[i].Room)
	}
	for g := range s.closed {
		s.closed[g] = -1
	}
	counts := s.counts
	take := func(n int) (taken []int) {
		taken, counts = counts[:n:n], counts[n:]
		return taken
	}
	s.left = take(widest)
	s.added, s.open, s.most = s.lists[:len(p.Constraints)], s.lists[len(p.Constraints):2*len(p.Constraints)], s.lists[2*len(p.Constraints):]
	for k := range p.Constraints {
		n := len(p.Constraints[k].Counts)
		s.added[k], s.open[k], s.most[k] = take(n), take(n), take(n)
	}
	s.pass(0, n, 1)
}

// zeros returns n zero values, in the given memory if it is large enough.
func zeros[T any](memory []T, n int) []T {
	memory = slices.Grow(memory[:0], n)[:n]
	clear(memory)
	return memory
}

// step decides on candidate i and all after it.
func (s *search) step(i int) {
	if s.done || !s.promising(i, s.mostMore()) {
		return
	}
	if s.plain && len(s.chosen) == s.Number-1 {
		s.chooseLast(i)
		return
	}
	first, n := i, len(s.Candidates)
	if len(s.chosen) == s.Number {
		i = n
	}
	enough := s.InOrder && s.room >= s.Need && len(s.chosen) >= s.Least && s.holds()
	for i < n && (s.excluded(&s.Candidates[i]) || enough && s.room >= s.Candidates[i].Until) {
		i++
	}
	if s.work += s.domains + i - first; s.work > MaxWork {
		i, s.done = n, true
	}
	if i == n && s.InOrder {
		s.consider()
	}
	s.best.Bounded = s.best.Bounded || s.work > MaxWork
	if i < n {
		s.pass(first, i, -1)
		s.choose(i)
		s.pass(first, i, 1)
	}
}

// chooseLast chooses one last candidate where only its value counts: the first that can be chosen.
func (s *search) chooseLast(i int) {
	s.work += s.domains
	for ; i < len(s.Candidates); i++ {
		if s.work++; s.excluded(&s.Candidates[i]) {
			continue
		}
		s.take(i, &s.Candidates[i], 1)
		holds := s.holds()
		if holds {
			s.consider()
		}
		if s.take(i, &s.Candidates[i], -1); holds {
			return
		}
	}
}

// holds reports whether all required constraints hold.
func (s *search) holds() bool {
	for k := range s.Constraints {
		if c := &s.Constraints[k]; c.Cost == 0 && c.excess(s.added[k]) > 0 {
			return false
		}
	}
	return true
}

// choose goes on with candidate i chosen, and then with it passed over.
func (s *search) choose(i int) {
	c := &s.Candidates[i]
	s.pass(i, i+1, -1)
	s.take(i, c, 1)
	if s.possible() {
		if !s.InOrder {
			s.consider()
		}
		s.step(i + 1)
	}
	s.take(i, c, -1)
	group := c.Group
	before := s.closed[group]
	s.closed[group] = max(before, c.Room)
	s.step(i + 1)
	s.closed[group] = before
	s.pass(i, i+1, 1)
}

// pass counts candidates as still to come, or no longer if by is -1.
func (s *search) pass(from, to, by int) {
	for i := from; i < to; i++ {
		for k, d := range s.Domains(i) {
			if d != None {
				s.open[k][d] += by
			}
		}
	}
}

func (s *search) take(i int, c *Candidate, by int) {
	for k, d := range s.Groups[c.Group] {
		if d != None {
			s.added[k][d] += by
		}
	}
	s.value += int64(by) * c.Value
	s.room += int64(by) * c.Room
	if by > 0 {
		s.chosen = append(s.chosen, i)
	} else {
		s.chosen = s.chosen[:len(s.chosen)-1]
	}
}

// excluded reports whether a candidate need not be considered: one of its group that was passed over is as good, or a required
// constraint has no room for it, as mostMore has found.
func (s *search) excluded(c *Candidate) bool {
	if c.Room <= s.closed[c.Group] {
		return true
	}
	for k, d := range s.Groups[c.Group] {
		if s.Constraints[k].Cost == 0 && (d == None || s.most[k][d] <= 0) {
			return true
		}
	}
	return false
}

// promising reports whether choosing up to most more from candidate i on can be better than the best so far.
func (s *search) promising(i, most int) bool {
	if !s.found {
		return true
	}
	size, best := len(s.chosen), len(s.best.Chosen)
	more := min(s.Number-size, len(s.Candidates)-i)
	if least := min(s.Least, size+more); least != min(s.Least, best) {
		return least > best
	}
	room := min(s.Need, s.room+s.roomLeft[i])
	if room != s.best.Room {
		return room > s.best.Room
	}
	if s.InOrder {
		return false // the first one is the best, unless it lacks room
	}
	if s.Fewest {
		if size++; size > best {
			return false
		}
		more = best - len(s.chosen)
		if size < best {
			return true
		}
	} else if more = min(more, most); size+more != best {
		return size+more > best
	}
	return s.value+s.mostValue(i, min(more, len(s.Candidates)-i)) > s.bestValue
}

// mostValue returns what that many more candidates from i on are worth at most, by any one of the required constraints.
func (s *search) mostValue(i, more int) int64 {
	most := s.sums[i+more] - s.sums[i]
	for k := range s.Constraints {
		if s.Constraints[k].Cost > 0 || s.value+most <= s.bestValue {
			continue
		}
		room := s.left[:copy(s.left, s.most[k])]
		value, left := int64(0), more
		j := i
		for ; j < len(s.Candidates) && left > 0; j++ {
			c := &s.Candidates[j]
			if d := s.Groups[c.Group][k]; !s.excluded(c) && room[d] > 0 {
				room[d]--
				left--
				value += c.Value
			}
		}
		s.work += j - i
		if left == 0 {
			most = min(most, value)
		}
	}
	return most
}

// mostMore returns how many candidates can be added at most under the required constraints, and sets how many each domain can get.
func (s *search) mostMore() int {
	most := math.MaxInt
	for k := range s.Constraints {
		c := &s.Constraints[k]
		if c.Cost > 0 {
			continue
		}
		most = min(most, c.limit(s.most[k], s.added[k], s.open[k], s.Number-len(s.chosen)))
	}
	return most
}

// fewest returns the lowest count of the eligible domains once added are counted, and more unless it is nil.
func (c *Constraint) fewest(added, more []int) int {
	fewest, domains := math.MaxInt, 0
	for d, eligible := range c.Eligible {
		if eligible {
			domains++
			has := c.Counts[d] + added[d]
			if more != nil {
				has += more[d]
			}
			fewest = min(fewest, has)
		}
	}
	if domains == 0 || domains < c.MinDomains {
		return 0
	}
	return fewest
}

// excess returns how many of the added clusters are beyond MaxSkew.
func (c *Constraint) excess(added []int) (excess int) {
	fewest := c.fewest(added, nil)
	for d, n := range added {
		excess += min(n, max(0, c.Counts[d]+n-fewest-c.MaxSkew))
	}
	return excess
}

// Excess returns how many of the chosen candidates are beyond MaxSkew of a constraint, or in none of its domains. If it is 0,
// the constraint holds.
func (p *Problem) Excess(constraint int, chosen []int) (excess int) {
	c := &p.Constraints[constraint]
	added := make([]int, len(c.Counts))
	for _, i := range chosen {
		if d := p.Domains(i)[constraint]; d == None {
			excess++
		} else {
			added[d]++
		}
	}
	return excess + c.excess(added)
}

// possible reports whether what is chosen can still be completed so that all required constraints hold.
func (s *search) possible() bool {
	for k := range s.Constraints {
		c := &s.Constraints[k]
		if c.Cost > 0 {
			continue
		}
		most, domains := 0, 0
		for d, added := range s.added[k] {
			if added > 0 {
				most = max(most, c.Counts[d]+added)
			}
			if c.Eligible[d] {
				domains++
			}
		}
		if domains < c.MinDomains || domains == 0 {
			if most > c.MaxSkew {
				return false
			}
			continue
		}
		left := s.Number - len(s.chosen)
		for d, eligible := range c.Eligible {
			if missing := most - c.MaxSkew - c.Counts[d] - s.added[k][d]; eligible && missing > 0 {
				if left -= missing; missing > s.open[k][d] || left < 0 {
					return false
				}
			}
		}
	}
	return true
}

// consider makes what is chosen the best solution so far, if it is valid and better.
func (s *search) consider() {
	var cost int64
	for k := range s.Constraints {
		c := &s.Constraints[k]
		excess := c.excess(s.added[k])
		if c.Cost == 0 && excess > 0 {
			return
		}
		if c.Cost > 0 {
			for _, i := range s.chosen {
				if s.Domains(i)[k] == None {
					excess++
				}
			}
			cost += int64(excess) * c.Cost
		}
	}
	room, value := min(s.Need, s.room), s.value-cost
	if s.found {
		size, best := len(s.chosen), len(s.best.Chosen)
		least := min(s.Least, size) - min(s.Least, best)
		if s.Fewest {
			size, best = best, size
		}
		switch {
		case least != 0:
			if least < 0 {
				return
			}
		case room != s.best.Room:
			if room < s.best.Room {
				return
			}
		case s.InOrder:
			return
		case size != best:
			if size < best {
				return
			}
		case value <= s.bestValue:
			return
		}
	}
	s.found, s.bestValue = true, value
	s.best.Chosen, s.best.Room, s.best.Cost = append(s.best.Chosen[:0], s.chosen...), room, cost
	if s.InOrder && room == s.Need && len(s.chosen) >= s.Least {
		s.done = true
	}
}
