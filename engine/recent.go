package engine

import "math/bits"

// recent is in which order clusters have changed last, by position. Whoever looks again finds each that has changed since, once, however
// often it has.
//
// A change writes to little memory, one after the other: workspaces on other processors want to read it at once.
type recent struct {
	// generation counts the changes. The position of the cluster that has changed at one is at its index, modulo the length.
	generation int64
	positions  []int32
}

// arrange begins anew with so many clusters.
func (r *recent) arrange(clusters int) {
	r.positions = make([]int32, 1<<bits.Len(uint(clusters)))
}

// touch records that a cluster has changed, and returns the generation of that.
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
		if position := int(r.positions[g&int64(len(r.positions)-1)]); sites[position].changed == g { // else it has changed again
			yield(position)
		}
	}
}
