package sharing

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/partition"
)

// maxSteps bounds the search for sets that come to more than they have together, of all sets of a workspace: beyond, they are told where
// they do one by one, and all that share clusters.
const maxSteps = 1_000_000

// maxNested is of how many sets that share clusters it is asked which are within others.
const maxNested = 64

// maxNamed is how many of them are named.
const maxNamed = 10

// overcommitted finds what grants come to where that is more than clusters have, and resources that none of them has.
//
// Quotas, and what is guaranteed, are overcommitted where not all can be had at once: by Hall's theorem where those of some sets come to more
// than the clusters of these have. Quotas on each cluster are where they come to more than one has. What a workspace has on a cluster counts
// in each of its sets, so of a set within another one no more counts for it than is beyond in the other.
func overcommitted(sets []Set, allocatable func(string) capacity.Resources) {
	steps, all := maxSteps, make([]*Set, len(sets))
	for i := range sets {
		all[i] = &sets[i]
	}
	for _, together := range overlapping(all) {
		p := poolOf(together, allocatable)
		if len(p.parts) == 0 {
			continue
		}
		for _, set := range together {
			set.unknownResources(p.has(together))
		}
		p.find(QuotaOvercommitted, "quota", (*engine.Grant).Limits, &steps)
		p.find(GuaranteeOvercommitted, "guaranteed", func(g *engine.Grant) map[string]int64 { return g.Guaranteed }, &steps)
		p.findOnEach(allocatable)
	}
}

// overlapping divides sets into groups that share no cluster with each other.
func overlapping(sets []*Set) (groups [][]*Set) {
	parent := make([]int, len(sets))
	var root func(i int) int
	root = func(i int) int {
		if parent[i] != i {
			parent[i] = root(parent[i])
		}
		return parent[i]
	}
	of := map[string]int{} // the first set of a cluster
	for i := range sets {
		parent[i] = i
		for _, name := range sets[i].Clusters {
			if first, shared := of[name]; shared {
				// Invariant: a root is the first of its group.
				a, b := root(first), root(i)
				parent[max(a, b)] = min(a, b)
			} else {
				of[name] = i
			}
		}
	}
	at := map[int]int{}
	for i := range sets {
		r := root(i)
		if r == i {
			at[i] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[r]] = append(groups[at[r]], sets[i])
	}
	return groups
}

// pool is the clusters of sets that overlap.
type pool struct {
	sets []*Set
	// parts are clusters that the same sets have, of which parts by set has the indices.
	parts []part
	of    map[*Set][]int
	// inside are the sets within each.
	inside map[*Set][]*Set
}

type part struct {
	clusters []string
	sets     []*Set
	has      capacity.Resources
}

func poolOf(sets []*Set, allocatable func(string) capacity.Resources) *pool {
	p := &pool{sets: sets, of: map[*Set][]int{}, inside: map[*Set][]*Set{}}
	clusters := make([][]string, len(sets))
	for i, set := range sets {
		clusters[i] = set.Clusters
	}
	groups, of := partition.Of(clusters)
	p.parts = make([]part, len(groups))
	for i, in := range groups {
		for _, k := range in {
			p.parts[i].sets = append(p.parts[i].sets, sets[k])
			p.of[sets[k]] = append(p.of[sets[k]], i)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		part := &p.parts[of[name]]
		part.clusters, part.has = append(part.clusters, name), part.has.Add(allocatable(name))
	}
	p.nest()
	return p
}

// nest finds which sets are within which.
func (p *pool) nest() {
	if len(p.sets) > maxNested {
		return
	}
	within := func(inner, outer int) bool {
		a, b := p.of[p.sets[inner]], p.of[p.sets[outer]]
		if inner == outer || len(a) == len(b) && inner < outer {
			return false // of sets with the same clusters the later ones are within the first
		}
		return !slices.ContainsFunc(a, func(part int) bool { _, has := slices.BinarySearch(b, part); return !has })
	}
	for outer, set := range p.sets {
		for inner, one := range p.sets {
			if within(inner, outer) {
				p.inside[set] = append(p.inside[set], one)
			}
		}
	}
}

// within are the sets within another one of which something is asked for, but for those that are within another of these.
func (p *pool) within(set *Set, asked func(*Set) int64) (inner []*Set) {
	all := slices.DeleteFunc(slices.Clone(p.inside[set]), func(one *Set) bool { return asked(one) == 0 })
	for _, one := range all {
		if !slices.ContainsFunc(all, func(other *Set) bool { return slices.Contains(p.inside[other], one) }) {
			inner = append(inner, one)
		}
	}
	return inner
}

// has is what the clusters of some sets have together.
func (p *pool) has(some []*Set) (sum capacity.Resources) {
	counted := map[int]bool{}
	for _, set := range some {
		for _, i := range p.of[set] {
			if !counted[i] {
				counted[i] = true
				sum = sum.Add(p.parts[i].has)
			}
		}
	}
	return sum
}

// find tells sets of which the amounts of their grants come to more than their clusters have: each that does alone, those that do with
// others, and all that do together.
func (p *pool) find(reason, what string, amounts func(*engine.Grant) map[string]int64, steps *int) {
	type ask struct {
		set  *Set
		name string
	}
	asks, own, all := map[*Set]capacity.Resources{}, map[*Set]capacity.Resources{}, capacity.Resources{}
	borrowed := map[ask]bool{}                      // not by the field itself
	given := map[*Set]map[string]map[string]int64{} // by whom it is for
	for _, set := range p.sets {
		given[set] = make(map[string]map[string]int64, len(set.counting))
		for whom, g := range set.counting {
			given[set][whom] = amounts(g)
		}
	}
	for _, set := range p.sets {
		for whom, g := range set.counting {
			for name, amount := range given[set][whom] {
				if quota, bounded := g.Quota[name]; what == "quota" && (!bounded || amount < quota) {
					borrowed[ask{set, name}] = true
				}
				of := func(set *Set) int64 { return given[set][whom][name] }
				for _, inner := range p.within(set, of) {
					amount -= min(amount, of(inner))
				}
				asks[set] = asks[set].Add(capacity.Of(name, amount))
			}
		}
		own[set], all = p.has([]*Set{set}), all.Add(asks[set])
	}
	has := p.has(p.sets)
	for name, sum := range all.Each {
		if has.Get(name) == 0 {
			continue // nobody has any, which is told
		}
		d := &division{pool: p, resource: name, asks: map[*Set]int64{}, gives: make([]int64, len(p.parts)), given: map[*Set][]int64{}, steps: steps}
		for i := range p.parts {
			d.gives[i] = p.parts[i].has.Get(name)
		}
		var over []*Set
		for _, set := range p.sets {
			if d.asks[set] = asks[set].Get(name); d.asks[set] > own[set].Get(name) {
				over = append(over, set)
				d.asks[set] = own[set].Get(name)
			}
		}
		families := [][]*Set{}
		for _, set := range over {
			families = append(families, []*Set{set})
		}
		families = append(families, d.short()...)
		asking := slices.DeleteFunc(slices.Clone(p.sets), func(set *Set) bool { return asks[set].Get(name) == 0 })
		if sum > has.Get(name) && !slices.ContainsFunc(families, func(f []*Set) bool { return len(f) == len(asking) }) {
			families = append(families, asking)
		}
		for _, family := range families {
			var comes capacity.Resources
			var names []string
			field, of := what, "the grants"
			for _, set := range family {
				if comes = comes.Add(capacity.Of(name, asks[set].Get(name))); len(names) < maxNamed {
					names = append(names, set.Name)
				}
				if borrowed[ask{set, name}] {
					field = "quota, or guaranteed with borrowingLimit,"
				}
			}
			if len(family) > 1 {
				if more := len(family) - len(names); more > 0 {
					names = append(names, fmt.Sprintf("and %d more", more))
				}
				of = fmt.Sprintf("the grants of ClusterSets %s, which share clusters,", strings.Join(names, ", "))
			}
			text := fmt.Sprintf("%s of %s of %s comes to %s, and the clusters have %s", field, name, of,
				capacity.Format(name, comes.Get(name), true), capacity.Format(name, p.has(family).Get(name), false))
			for _, set := range family {
				if asks[set].Get(name) > 0 {
					set.Problems = append(set.Problems, Problem{reason, "spec.grants", text})
				}
			}
		}
	}
}

// division divides a resource of clusters among sets: the maximal flow from sets to parts.
type division struct {
	*pool
	resource string
	// asks is what each set asks for still, gives what each part has left, given what sets have, by the parts that they have.
	asks  map[*Set]int64
	gives []int64
	given map[*Set][]int64
	steps *int
}

// short returns the sets that cannot get all that they ask for, in groups that share clusters, each with those that would have to give it
// up for them; none where the search takes too long.
func (d *division) short() [][]*Set {
	for _, set := range d.sets {
		d.given[set] = make([]int64, len(d.of[set]))
	}
	reached := map[*Set]bool{}
	for _, set := range d.sets {
		for d.asks[set] > 0 {
			more, seen := d.augment(set)
			if *d.steps < 0 {
				return nil
			}
			if !more {
				// Invariant: no later path leads out of these sets and their parts, of which nothing is left.
				for _, one := range seen {
					reached[one] = true
				}
				break
			}
		}
	}
	some := slices.DeleteFunc(slices.Clone(d.sets), func(set *Set) bool { return !reached[set] })
	return overlapping(some)
}

// augment gives a set more along the shortest path: from a part with something left, or from a set that finds it elsewhere. Where there is
// none, it returns the sets that have all that could be given.
func (d *division) augment(from *Set) (more bool, seen []*Set) {
	type step struct {
		set  *Set
		part int // the index in the parts of the set before, by which it was reached
		by   int // the step before
	}
	path, known, parts := []step{{from, 0, -1}}, map[*Set]bool{from: true}, map[int]bool{}
	for at := 0; at < len(path); at++ {
		for k, i := range d.of[path[at].set] {
			if *d.steps--; *d.steps < 0 {
				return false, nil
			}
			if parts[i] {
				continue
			}
			parts[i] = true
			if d.gives[i] > 0 {
				amount := min(d.asks[from], d.gives[i])
				for s := path[at]; s.by >= 0; s = path[s.by] {
					amount = min(amount, d.given[s.set][d.index(s.set, d.of[path[s.by].set][s.part])])
				}
				d.gives[i] -= amount
				d.given[path[at].set][k] += amount
				for s := path[at]; s.by >= 0; s = path[s.by] {
					d.given[s.set][d.index(s.set, d.of[path[s.by].set][s.part])] -= amount
					d.given[path[s.by].set][s.part] += amount
				}
				d.asks[from] -= amount
				return true, nil
			}
			for _, other := range d.parts[i].sets {
				if *d.steps--; !known[other] && d.given[other][d.index(other, i)] > 0 {
					known[other] = true
					path = append(path, step{other, k, at})
				}
			}
		}
	}
	for _, s := range path {
		seen = append(seen, s.set)
	}
	return false, seen
}

// index is that of a part among those of a set, which are in order.
func (d *division) index(set *Set, part int) int {
	i, _ := slices.BinarySearch(d.of[set], part)
	return i
}

// findOnEach tells of quotas on each cluster that come to more than one has, of what a cluster has any of.
func (p *pool) findOnEach(allocatable func(string) capacity.Resources) {
	type over struct {
		cluster   string
		comes     int64
		has, more int64
	}
	of, each := map[*Set]map[string]*over{}, map[*Set]capacity.Resources{}
	for _, set := range p.sets {
		for _, g := range set.counting {
			limits := g.Limits()
			for name, amount := range g.ClusterQuota {
				if most, bounded := limits[name]; bounded {
					amount = min(amount, most)
				}
				each[set] = each[set].Add(capacity.Of(name, amount))
			}
		}
	}
	for i := range p.parts {
		part := &p.parts[i]
		var sums capacity.Resources
		for _, set := range part.sets {
			sums = sums.Add(each[set])
		}
		for _, cluster := range part.clusters {
			here := allocatable(cluster)
			for name, sum := range sums.Each {
				has := here.Get(name)
				if has == 0 || sum <= has {
					continue
				}
				for _, set := range part.sets {
					if each[set].Get(name) == 0 {
						continue
					}
					if of[set] == nil {
						of[set] = map[string]*over{}
					}
					switch o := of[set][name]; {
					case o == nil:
						of[set][name] = &over{cluster, sum, has, 0}
					case cluster < o.cluster:
						of[set][name] = &over{cluster, sum, has, o.more + 1}
					default:
						o.more++
					}
				}
			}
		}
	}
	for _, set := range p.sets {
		for _, name := range slices.Sorted(maps.Keys(of[set])) {
			o, others := of[set][name], ""
			if o.more > 0 {
				others = fmt.Sprintf("; the same is so of %d more", o.more)
			}
			set.find(QuotaOvercommitted, field.NewPath("spec", "grants"), "clusterQuota of %s of the grants comes to %s on cluster %s, which has %s%s", name,
				capacity.Format(name, o.comes, true), o.cluster, capacity.Format(name, o.has, false), others)
		}
	}
}
