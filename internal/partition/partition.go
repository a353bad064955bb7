// Package partition groups the elements of overlapping sets by the sets that have them, so that what counts in each of several sets is
// worked out once for all elements of a group.
package partition

import "slices"

// Of returns the groups of the elements that the same sets have: sets[g] are the sets of group g, as ascending indices, and group has the
// group of each element. No group is empty. Equal input gives equal numbers.
func Of[E comparable](all [][]E) (sets [][]int, group map[E]int) {
	group = map[E]int{}
	var refined [][]int
	for set, elements := range all {
		joined := map[int]int{} // the groups that elements of other groups join, -1 for those of none
		for _, e := range elements {
			from, grouped := group[e]
			var before []int
			if grouped {
				before = refined[from]
			} else {
				from = -1
			}
			if slices.Contains(before, set) {
				continue
			}
			to, made := joined[from]
			if !made {
				to = len(refined)
				joined[from], refined = to, append(refined, append(slices.Clone(before), set))
			}
			group[e] = to
		}
	}
	// Groups whose elements have all joined others are left out.
	number := make([]int, len(refined))
	for _, g := range group {
		number[g] = 1
	}
	for g, used := range number {
		if number[g] = len(sets); used > 0 {
			sets = append(sets, refined[g])
		}
	}
	for e, g := range group {
		group[e] = number[g]
	}
	return sets, group
}
