// Package spread chooses clusters together, where one by one from the ranking is not enough: so that they are spread over domains
// as constraints ask, and have room for all replicas of a workload.
package spread

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
)

// MaxWork bounds a search, in looks at a domain or a candidate: some milliseconds. What is found within it is the best there is,
// unless Solution says that it may not be.
const MaxWork = 1 << 21

// Candidate is a cluster that can be chosen.
type Candidate struct {
	// Value of the cluster; the sum over those that are chosen is made as large as possible.
	Value int64
	// Room is how many replicas the cluster can take; it counts where Problem.Need is above 0.
	Room int64
	// Until is the room of those before it, in a Problem InOrder, with which it is not wanted any more: at least Need. It is wanted
	// all the same where without it a constraint breaks.
	Until int64
	// Group says which domains the cluster is in: see Problem.Groups.
	Group int32
}

// None is the domain of a cluster that is in none.
const None = -1

// Constraint bounds how uneven the domains of one topology key may become. It is about domains that get a cluster: what they have
// then may exceed what the domain with the fewest has by MaxSkew. That is Kubernetes' rule for topology spread.
type Constraint struct {
	MaxSkew, MinDomains int
	// Cost of each cluster by which a domain that gets clusters exceeds MaxSkew; where it is 0, the constraint has to hold.
	Cost int64
	// Counts is what counts in each domain before.
	Counts []int
	// Eligible are the domains of which one can have the fewest. Where they are fewer than MinDomains, 0 is the fewest.
	Eligible []bool
}

// Limits appends how many of number clusters each domain can get at most, whatever else is chosen.
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

// limit sets how many of number more clusters each domain can get at most, once some are added, and returns the sum. Where open is not
// nil, no domain gets more than that.
//
// What a domain has in the end exceeds the fewest by MaxSkew at most. So to have more, it takes others with it: of each level that the
// fewest can be at, the clusters that bring all domains there are not left for this one.
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

// needs is how many clusters bring each eligible domain to a level.
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
	// Candidates in order, none with a larger Value than one before. Of equally good choices, the one with earlier candidates is
	// chosen.
	Candidates  []Candidate
	Constraints []Constraint
	// Groups are the combinations of domains: one domain for each constraint, None where there is none.
	Groups [][]int32
	// Number of clusters at most, and how many there have to be at least, as far as possible.
	Number, Least int
	// Need is how many replicas there must be room for, as far as possible; 0 where room does not count.
	Need int64
	// Fewest clusters are chosen that have the room, instead of as many as possible.
	Fewest bool
	// InOrder takes the first clusters that have the room, whatever the sum of values, and of these each that is wanted: candidates
	// are passed over only where a constraint, or the Number, leaves no other way.
	InOrder bool
}

// Solution is the chosen candidates by index, in order.
type Solution struct {
	Chosen []int
	// Room of all together, as far as it is needed.
	Room int64
	// Cost of the constraints that do not have to hold.
	Cost int64
	// Bounded: not all choices were looked at, and there may be a better one.
	Bounded bool
}

// Choose solves a problem. The largest number of clusters comes before all else, as far as Least; then the largest room, as far as it
// is needed; then the largest number of clusters, or the smallest; then the sum of values less costs.
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

// searches are used again: most are short, and to allocate one takes longer.
var searches = sync.Pool{New: func() any { return new(search) }}

// Settles reports whether a solution is the best even if there are more candidates, none of which has a larger value than the last
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
	// Of equal ones, the one with earlier candidates is the best: here with those that any other could have.
	return value > most || value == most && (n == 1 || s.Chosen[n-2] == n-2)
}

// Domains are those of the candidate i, one for each constraint.
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
	// closed is for each group the largest room of a candidate that was passed over: one with no more comes later, and is worse.
	closed []int64
	// sums of the values before each candidate.
	sums []int64
	// roomLeft is the room of this candidate and those after it.
	roomLeft []int64
	// added is for each constraint what each domain has got, open how many candidates that are still to come it has, and most how many
	// more it can get.
	added, open, most [][]int
	// left is scratch. The lists above are of amounts, counts and lists.
	left    []int
	amounts []int64
	counts  []int
	lists   [][]int

	chosen []int
	value  int64
	room   int64
	// plain: only values count, and the constraints that have to hold.
	plain bool
	// work is how much is done; a step costs at least what all domains of all constraints cost.
	work, domains int

	best      Solution
	bestValue int64
	found     bool
	done      bool
}

// begin begins a search in the memory of the one before.
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

// zeros returns n zero values, in the memory of others where that is enough.
func zeros[T any](memory []T, n int) []T {
	memory = slices.Grow(memory[:0], n)[:n]
	clear(memory)
	return memory
}

// step decides about the candidate i and all after it.
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

// chooseLast chooses one more candidate, where only its value counts: the first that can be chosen.
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

// holds reports whether all constraints hold that have to.
func (s *search) holds() bool {
	for k := range s.Constraints {
		if c := &s.Constraints[k]; c.Cost == 0 && c.excess(s.added[k]) > 0 {
			return false
		}
	}
	return true
}

// choose chooses the candidate i or passes over it, and goes on.
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

// pass counts candidates among those that are still to come, or not.
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

// excluded reports whether a candidate need not be looked at: one of its group that was passed over is as good, or a constraint
// that has to hold has no room for it, as mostMore has found.
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

// promising reports whether choosing from the candidate i on, so many more at most, can be better than the best so far.
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

// mostValue is what so many more candidates from i on are worth at most, by any one of the constraints that have to hold.
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

// mostMore is how many candidates can be added at most, by the constraints that have to hold, and as many as each domain can get.
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

// fewest is what the domain with the fewest has, of those that are eligible, once some are added, and more.
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

// excess is how many of the clusters that are added are beyond MaxSkew.
func (c *Constraint) excess(added []int) (excess int) {
	fewest := c.fewest(added, nil)
	for d, n := range added {
		excess += min(n, max(0, c.Counts[d]+n-fewest-c.MaxSkew))
	}
	return excess
}

// Excess is how many of the chosen candidates are beyond MaxSkew of a constraint, or in none of its domains. Where it is 0, the
// constraint holds.
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

// possible reports whether what is chosen can still be completed so that all constraints hold that have to.
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

// consider makes what is chosen the best choice, if it is one and better.
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
