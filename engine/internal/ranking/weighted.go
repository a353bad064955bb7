package ranking

import (
	"math"
	"math/bits"
	"slices"
)

// weighted draws the clusters of a workload at random, in proportion to their scores, without putting them back. The draw follows
// from the workload's UID and the cluster's position, so that it is the same whenever it is repeated on the same fleet.
func weighted(number int) Strategy { return Strategy{Number: number, Select: draw, Prefer: arrival} }

// draw orders clusters by their arrival.
func draw(t *Tournament, turn *Turn, chosen []Key) []Key {
	type arrived struct {
		key Key
		at  int64
	}
	first := make([]arrived, 0, turn.Number+1)
	for _, key := range t.Keys() {
		if key == 0 {
			continue
		}
		a := arrived{key, arrival(key, turn)}
		at, _ := slices.BinarySearchFunc(first, a, func(a, b arrived) int {
			if a.at != b.at {
				return int(min(max(b.at-a.at, -1), 1))
			}
			if a.key > b.key {
				return -1
			}
			return 1
		})
		if at < turn.Number {
			first = slices.Insert(first, at, a)
			first = first[:min(len(first), turn.Number)]
		}
	}
	for _, a := range first {
		chosen = append(chosen, a.key)
	}
	return chosen
}

// arrival is when a cluster's turn comes, later where it is less: Efraimidis and Spirakis draw without replacement by the largest
// log(u)/weight, with u uniform in (0, 1) for each. A total of 0 counts as the least weight.
func arrival(k Key, turn *Turn) int64 {
	high, low := bits.Mul64(turn.Seed^0x9e3779b97f4a7c15, uint64(k.Position())*0xd6e8feb86659fd93+0xa0761d6478bd642f)
	high, low = bits.Mul64(high^low, 0xe7037ed1a0b428db)
	u := (float64((high^low)>>11) + 0.5) / (1 << 53)
	var s Strategy
	weight := max(float64(s.Total(k)), 0.5)
	return int64(math.Log(u) / weight * (1 << 40))
}
