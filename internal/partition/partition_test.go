package partition

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestOf(t *testing.T) {
	sets, group := Of([][]string{{"a", "b", "c"}, {"b", "c", "b"}, {"c", "d"}, {}})
	for e, want := range map[string][]int{"a": {0}, "b": {0, 1}, "c": {0, 1, 2}, "d": {2}} {
		if got := sets[group[e]]; !slices.Equal(got, want) {
			t.Errorf("%s is in the sets %v, want %v", e, got, want)
		}
	}
	if len(sets) != 4 || len(group) != 4 {
		t.Errorf("groups %v of %v, want one for each element", sets, group)
	}
}

// TestOfIsExact holds that two elements are in one group exactly where the same sets have them, and that no group is empty.
func TestOfIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 9), 0, 12), 0, 5).Draw(t, "sets")
		sets, group := Of(all)
		used := make([]bool, len(sets))
		for e := range 10 {
			var want []int
			for set, elements := range all {
				if slices.Contains(elements, e) {
					want = append(want, set)
				}
			}
			g, grouped := group[e]
			if grouped != (len(want) > 0) {
				t.Fatalf("%d: grouped %t, in sets %v", e, grouped, want)
			}
			if grouped {
				used[g] = true
				if !slices.Equal(sets[g], want) {
					t.Fatalf("%d: in sets %v, want %v", e, sets[g], want)
				}
			}
		}
		if slices.Contains(used, false) {
			t.Fatalf("empty groups: %v", used)
		}
		for g := range sets {
			if slices.ContainsFunc(sets[:g], func(other []int) bool { return slices.Equal(other, sets[g]) }) {
				t.Fatalf("groups %v: two of the same sets", sets)
			}
		}
	})
}
