package ranking

import "slices"

// Tournament keeps the keys of clusters in order while they change: changing one key and finding the best ones takes a
// few dozen comparisons, whatever the number of clusters. The lowest level has the keys by position; each level above
// has the largest key of each group of the level below, up to a single group.
//
// Invariant: every key above the lowest level is the largest of its group.
type Tournament struct {
	clusters int
	levels   [][]Key
}

// group is how many keys one key of the next level stands for.
const group = 16

// NewTournament makes a tournament of that many clusters, none of them feasible.
func NewTournament(clusters int) *Tournament {
	sizes, all := make([]int, 0, 8), 0 // MaxClusters need fewer than 8 levels
	for n := clusters; len(sizes) == 0 || sizes[len(sizes)-1] > group; n /= group {
		n = (max(n, 1) + group - 1) / group * group
		sizes, all = append(sizes, n), all+n
	}
	t := &Tournament{clusters: clusters, levels: make([][]Key, len(sizes))}
	keys := make([]Key, all)
	for i, n := range sizes {
		t.levels[i], keys = keys[:n:n], keys[n:]
	}
	return t
}

// Clone copies the tournament.
func (t *Tournament) Clone() *Tournament {
	c := NewTournament(t.clusters)
	for i, level := range t.levels {
		copy(c.levels[i], level)
	}
	return c
}

// Len returns the number of clusters.
func (t *Tournament) Len() int { return t.clusters }

// Bytes returns about how much memory the tournament takes.
func (t *Tournament) Bytes() int {
	var n int
	for _, level := range t.levels {
		n += 8 * len(level)
	}
	return n
}

// Keys returns the keys of all clusters, by position. A caller that changes them calls Order before anything else.
func (t *Tournament) Keys() []Key { return t.levels[0][:t.clusters] }

// Order restores the invariant after Keys have changed.
func (t *Tournament) Order() {
	for i, level := range t.levels[1:] {
		for g := range len(t.levels[i]) / group {
			level[g] = largest(t.levels[i], g)
		}
	}
}

// At returns the key of a position.
func (t *Tournament) At(position int) Key { return t.levels[0][position] }

// Set changes the key of a position.
func (t *Tournament) Set(position int, key Key) {
	before := t.levels[0][position]
	t.levels[0][position] = key
	for i, level := range t.levels[1:] {
		position /= group
		was, now := level[position], key
		if before == was { // the largest of the group itself has changed
			now = largest(t.levels[i], position)
		} else if now < was {
			return
		}
		level[position] = now
		before, key = was, now
	}
}

// Best appends the n best feasible clusters, or as many as there are, best first.
func (t *Tournament) Best(n int, to []Key) []Key {
	if n > len(t.levels[0])/group {
		all := t.sorted()
		slices.Reverse(all)
		return append(to, all[:min(n, len(all))]...)
	}
	to = slices.Grow(to, n)
	t.Each(n, func(key Key) bool {
		to = append(to, key)
		return true
	})
	return to
}

// Each yields the n best feasible clusters, or as many as there are, best first. Each is found only when it is needed. No key may be
// read or changed meanwhile.
func (t *Tournament) Each(n int, yield func(Key) bool) {
	var few [8]Key
	out := few[:0] // taken out until the end, even if yield panics
	defer func() {
		for _, key := range out {
			t.Set(key.Position(), key)
		}
	}()
	for len(out) < n {
		best := t.best()
		if best == 0 || !yield(best) || len(out) == n-1 {
			break
		}
		out = append(out, best)
		t.Set(best.Position(), 0)
	}
}

// Feasible reports whether any cluster is.
func (t *Tournament) Feasible() bool { return t.best() != 0 }

func (t *Tournament) best() Key { return largest(t.levels[len(t.levels)-1], 0) }

// sorted returns the keys of the feasible clusters, best last.
func (t *Tournament) sorted() []Key {
	sorted := slices.DeleteFunc(slices.Clone(t.Keys()), func(k Key) bool { return k == 0 })
	slices.Sort(sorted)
	return sorted
}

func largest(level []Key, g int) Key {
	keys := (*[group]Key)(level[g*group:])
	a, b, c, d := keys[0], keys[1], keys[2], keys[3]
	for i := 4; i < group; i += 4 { // four independent chains, which the processor runs in parallel
		a, b, c, d = max(a, keys[i]), max(b, keys[i+1]), max(c, keys[i+2]), max(d, keys[i+3])
	}
	return max(a, b, c, d)
}
