package engine_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// packers place pods on nodes without this engine, by rules from the literature: a pod goes to the node with the highest score
// among those where it fits, the first one among equals.
var packers = []packer{
	{"random", func(*trace) scorer {
		random := rand.New(rand.NewPCG(0, 0))
		return func(*pod, *node, vector) float64 { return random.Float64() }
	}},
	{"first-fit", func(*trace) scorer { return func(*pod, *node, vector) float64 { return 0 } }},
	// The least is left, over all resources together, in shares of the largest node.
	{"best-fit", func(t *trace) scorer {
		largest := t.largest()
		return func(p *pod, _ *node, free vector) (score float64) {
			for i := range free {
				score -= float64(free[i]-p.asks[i]) / float64(largest[i])
			}
			return score
		}
	}},
	// The most is left, as a share of the node, on average over what the pod asks for: like kube-scheduler's LeastAllocated.
	{"least-allocated", func(*trace) scorer {
		return func(p *pod, n *node, free vector) (score float64) {
			asked := 0.0
			for i, amount := range p.asks {
				if amount > 0 {
					score += float64(free[i]-amount) / float64(n.has[i])
					asked++
				}
			}
			return score / asked
		}
	}},
	// The smallest product of what is asked for and what is free, as Tetris aligns tasks, after Weng et al.
	{"dot-product", func(t *trace) scorer {
		largest := t.largest()
		return func(p *pod, _ *node, free vector) (score float64) {
			for i := range free {
				score -= float64(free[i]) / float64(largest[i]) * float64(p.asks[i]) / float64(largest[i])
			}
			return score
		}
	}},
	// The fewest additional GPUs become useless to the pods of the trace, which are all known beforehand: the gradient of Weng
	// et al., "Beware of Fragmentation", USENIX ATC 2023, for whole GPUs.
	{"gradient", func(t *trace) scorer {
		counts := map[vector]float64{}
		for _, p := range t.pods {
			counts[p.asks] += 1 / float64(len(t.pods))
		}
		shapes := make([]vector, 0, len(counts))
		for shape := range counts {
			shapes = append(shapes, shape)
		}
		slices.SortFunc(shapes, func(a, b vector) int { return slices.Compare(a[:], b[:]) })
		memory := map[vector]float64{}
		useless := func(free vector) (gpus float64) {
			if known, found := memory[free]; found {
				return known
			}
			for _, shape := range shapes {
				if shape[2] == 0 || !shape.fitInto(free) {
					gpus += counts[shape] * float64(free[2])
				}
			}
			memory[free] = gpus
			return gpus
		}
		return func(p *pod, _ *node, free vector) float64 {
			left := free
			for i, amount := range p.asks {
				left[i] -= amount
			}
			return useless(free) - useless(left)
		}
	}},
}

// packer scores nodes for a pod by what is free on them.
type packer struct {
	name string
	of   func(*trace) scorer
}

type scorer func(p *pod, n *node, free vector) float64

func (r *packer) replay(_ *testing.B, t *trace) *outcome {
	score, o := r.of(t), &outcome{cached: -1}
	free := make([]vector, len(t.nodes))
	for i, n := range t.nodes {
		free[i] = n.has
	}
	for i := range t.pods {
		p, best, highest := &t.pods[i], -1, 0.0
		for j := range t.nodes {
			n := &t.nodes[j]
			if !p.asks.fitInto(free[j]) || p.models != "" && !slices.Contains(strings.Split(p.models, "|"), n.model) {
				continue
			}
			if s := score(p, n, free[j]); best < 0 || s > highest {
				best, highest = j, s
			}
		}
		if best < 0 {
			continue
		}
		o.place(p)
		for k, amount := range p.asks {
			free[best][k] -= amount
		}
	}
	return o
}

func (a vector) fitInto(free vector) bool {
	return a[0] <= free[0] && a[1] <= free[1] && a[2] <= free[2]
}

// largest is the most of each resource that any node has.
func (t *trace) largest() (largest vector) {
	for _, n := range t.nodes {
		for i, amount := range n.has {
			largest[i] = max(largest[i], amount)
		}
	}
	return largest
}
