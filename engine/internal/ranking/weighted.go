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

// maxMisses is how often a draw may hit, for each cluster that is wanted, one that is not taken.
const maxMisses = 64

// draw draws positions and takes a cluster with the probability of its score. Where too few clusters are feasible for that, it takes
// them by arrival, which is as likely.
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

// arriving takes the clusters that arrive first.
func arriving(t *Tournament, turn *Turn, chosen []Key) []Key {
	all := slices.DeleteFunc(slices.Clone(t.Keys()), func(k Key) bool { return k == 0 })
	slices.SortFunc(all, func(a, b Key) int { return cmp.Or(cmp.Compare(arrival(b, turn), arrival(a, turn)), cmp.Compare(b, a)) })
	return append(chosen, all[:min(len(all), turn.Number)]...)
}

// arrival is when a cluster's turn comes, earlier where it is more. Efraimidis and Spirakis (2006) draw without replacement by the
// largest log(u)/weight, with u uniform in (0, 1) for each.
func arrival(k Key, turn *Turn) int64 {
	u := (float64(mix(turn.Seed, uint64(k.Position()))>>11) + 0.5) / (1 << 53)
	return int64(math.Log(u) / weightOf(k) * (1 << 40))
}

// weightOf is the total of a cluster; one of 0 is drawn now and then.
func weightOf(k Key) float64 {
	var s Strategy
	return max(float64(s.Total(k)), 0.5)
}

// mix returns 64 bits that follow from two numbers and look random, as wyhash makes them.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^0x9e3779b97f4a7c15, b*0xd6e8feb86659fd93+0xa0761d6478bd642f)
	high, low = bits.Mul64(high^low, 0xe7037ed1a0b428db)
	return high ^ low
}
