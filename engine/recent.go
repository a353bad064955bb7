package engine

import "math/bits"

// recent records the order in which clusters have last changed, by position. A reader finds each cluster that has changed since it last
// read exactly once, however often it has changed.
//
// A change writes to little memory, sequentially: workspaces on other processors may read it at the same time.
type recent struct {
	// generation counts the changes. The position of the cluster that changed at generation g is at index g modulo the length.
	generation int64
	positions  []int32
}

// arrange resets the positions for that many clusters.
func (r *recent) arrange(clusters int) {
	r.positions = make([]int32, 1<<bits.Len(uint(clusters)))
}

// touch records that a cluster has changed, and returns the generation of the change.
func (r *recent) touch(position int) int64 {
	r.generation++
	r.positions[r.generation&int64(len(r.positions)-1)] = int32(position)
	return r.generation
}

// since yields the positions of the sites that have changed after a generation, in no order.
func (r *recent) since(generation int64, sites []site, yield func(position int)) {
	if r.generation-generation > int64(len(r.positions)) {
		for position := range sites {
			if sites[position].changed > generation {
				yield(position)
			}
		}
		return
	}
	for g := generation + 1; g <= r.generation; g++ {
		if position := int(r.positions[g&int64(len(r.positions)-1)]); sites[position].changed == g { // else it has changed again since
			yield(position)
		}
	}
}
