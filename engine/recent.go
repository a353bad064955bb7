package engine

import "iter"

// recent is in which order clusters have changed last, by position. Whoever looks again finds each that has changed since, once, however
// often it has.
//
// Invariant: from the latest on, no cluster has changed after the one before it.
type recent struct {
	// generation counts the changes.
	generation int64
	latest     int32
	clusters   []lastChange
}

// lastChange is the generation of the last change of a cluster, and who has changed next before and after it, -1 where nobody has.
type lastChange struct {
	generation   int64
	older, newer int32
}

// arrange begins anew with so many clusters.
func (r *recent) arrange(clusters int) {
	r.latest, r.clusters = -1, make([]lastChange, clusters)
	for i := range r.clusters {
		r.clusters[i] = lastChange{r.generation, r.latest, -1}
		if i > 0 {
			r.clusters[i-1].newer = int32(i)
		}
		r.latest = int32(i)
	}
}

// touch records that a cluster has changed.
func (r *recent) touch(position int) {
	r.generation++
	c := &r.clusters[position]
	c.generation = r.generation
	if c.newer < 0 {
		return // it is the latest already
	}
	r.clusters[c.newer].older = c.older
	if c.older >= 0 {
		r.clusters[c.older].newer = c.newer
	}
	r.clusters[r.latest].newer = int32(position)
	c.older, c.newer, r.latest = r.latest, -1, int32(position)
}

// since yields the positions of the clusters that have changed after a generation, the latest first.
func (r *recent) since(generation int64) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := r.latest; i >= 0 && r.clusters[i].generation > generation && yield(int(i)); {
			i = r.clusters[i].older
		}
	}
}
