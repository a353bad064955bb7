package selection

import "slices"

// Ranking keeps candidates in order while they change: to change one and to find the best ones takes a few dozen
// comparisons, however many clusters there are. It is a tournament: over the keys by place stand the largest of each
// group of them, over these the largest of each group, up to a single group.
type Ranking struct {
	clusters int
	levels   [][]Key
}

// group is how many keys one key of the next level stands for.
const group = 16

// NewRanking makes a ranking of that many clusters, none of them a candidate.
func NewRanking(clusters int) *Ranking {
	sizes, all := make([]int, 0, 8), 0 // 8 levels are more than MaxClusters need
	for n := clusters; len(sizes) == 0 || sizes[len(sizes)-1] > group; n /= group {
		n = (max(n, 1) + group - 1) / group * group
		sizes, all = append(sizes, n), all+n
	}
	r := &Ranking{clusters: clusters, levels: make([][]Key, len(sizes))}
	keys := make([]Key, all)
	for i, n := range sizes {
		r.levels[i], keys = keys[:n:n], keys[n:]
	}
	return r
}

// Clone copies the ranking.
func (r *Ranking) Clone() *Ranking {
	c := NewRanking(r.clusters)
	for i, level := range r.levels {
		copy(c.levels[i], level)
	}
	return c
}

// Len is the number of clusters.
func (r *Ranking) Len() int { return r.clusters }

// Bytes is about how much memory the ranking takes.
func (r *Ranking) Bytes() int {
	var n int
	for _, level := range r.levels {
		n += 8 * len(level)
	}
	return n
}

// Keys are those of all clusters, by place. Whoever changes them calls Order before anything else.
func (r *Ranking) Keys() []Key { return r.levels[0][:r.clusters] }

// Order makes the ranking true for Keys.
func (r *Ranking) Order() {
	for i, level := range r.levels[1:] {
		for g := range len(r.levels[i]) / group {
			level[g] = largest(r.levels[i], g)
		}
	}
}

// At returns the key of a place.
func (r *Ranking) At(place int) Key { return r.levels[0][place] }

// Set changes the key of a place.
func (r *Ranking) Set(place int, key Key) {
	before := r.levels[0][place]
	r.levels[0][place] = key
	for i, level := range r.levels[1:] {
		place /= group
		was, now := level[place], key
		if before == was { // the largest of the group itself has changed
			now = largest(r.levels[i], place)
		} else if now < was {
			return
		}
		level[place] = now
		before, key = was, now
	}
}

// Best appends the best candidates, best first, n at most.
func (r *Ranking) Best(n int, to []Key) []Key {
	if n > len(r.levels[0])/group {
		return append(to, r.all(n)...)
	}
	before := len(to)
	for range n {
		best := largest(r.levels[len(r.levels)-1], 0)
		if best == 0 {
			break
		}
		to = append(to, best)
		r.Set(best.Place(), 0)
	}
	for _, key := range to[before:] {
		r.Set(key.Place(), key)
	}
	return to
}

// all sorts the candidates.
func (r *Ranking) all(n int) []Key {
	sorted := slices.DeleteFunc(slices.Clone(r.Keys()), func(k Key) bool { return k == 0 })
	slices.Sort(sorted)
	slices.Reverse(sorted)
	return sorted[:min(n, len(sorted))]
}

// largest of a group.
func largest(level []Key, g int) Key {
	keys := (*[group]Key)(level[g*group:])
	best := keys[0]
	for _, key := range keys[1:] {
		best = max(best, key)
	}
	return best
}
