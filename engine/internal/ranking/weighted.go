package ranking

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// weighted draws the clusters of a workload at random, in proportion to their scores, without putting them back. The draw follows
// from the workload's UID, so that it is the same whenever it is repeated on the same ranking.
func weighted(number int) Strategy { return Strategy{Number: number, Select: draw, Prefer: arrival} }

// maxMisses is how many positions draw tries for each cluster that is wanted.
const maxMisses = 64

// draw draws positions, and takes a cluster with a probability equal to its score in percent. If it finds too few that way, it takes
// them by arrival, which has the same distribution.
func draw(t *Tournament, turn *Turn, chosen []Key) []Key {
	if t.Len() == 0 {
		return chosen
	}
	first := len(chosen)
	for i := range uint64(maxMisses * turn.Number) {
		random := mix(turn.Seed, i)
		position, _ := bits.Mul64(random, uint64(t.Len()))
		key := t.At(int(position))
		if key == 0 || slices.Contains(chosen[first:], key) || float64(mix(random, i)>>11)/(1<<53) >= weightOf(key)/100 {
			continue
		}
		if chosen = append(chosen, key); len(chosen)-first == turn.Number {
			return chosen
		}
	}
	return arriving(t, turn, chosen[:first])
}

// arriving takes the clusters with the largest arrival.
func arriving(t *Tournament, turn *Turn, chosen []Key) []Key {
	all := slices.DeleteFunc(slices.Clone(t.Keys()), func(k Key) bool { return k == 0 })
	slices.SortFunc(all, func(a, b Key) int { return cmp.Or(cmp.Compare(arrival(b, turn), arrival(a, turn)), cmp.Compare(b, a)) })
	return append(chosen, all[:min(len(all), turn.Number)]...)
}

// arrival orders clusters at random, those with more first. Efraimidis and Spirakis (2006) draw without replacement by the largest
// log(u)/weight, with u uniform in (0, 1) for each item.
func arrival(k Key, turn *Turn) int64 {
	u := (float64(mix(turn.Seed, uint64(k.Position()))>>11) + 0.5) / (1 << 53)
	return int64(math.Log(u) / weightOf(k) * (1 << 40))
}

// weightOf returns the total of a cluster, at least 0.5: one with total 0 is still drawn now and then.
func weightOf(k Key) float64 {
	var s Strategy
	return max(float64(s.Total(k)), 0.5)
}

// mix hashes two numbers to 64 bits that look random, as wyhash does.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^0x9e3779b97f4a7c15, b*0xd6e8feb86659fd93+0xa0761d6478bd642f)
	high, low = bits.Mul64(high^low, 0xe7037ed1a0b428db)
	return high ^ low
}
