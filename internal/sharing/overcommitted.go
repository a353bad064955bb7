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

// maxSteps bounds the search, over all sets of a workspace, for groups of sets that are overcommitted together. Once it is used up, only
// sets that are overcommitted on their own are reported, and all that share clusters together.
const maxSteps = 1_000_000

// maxNested is the number of sets sharing clusters up to which nesting among them is determined.
const maxNested = 64

// maxNamed is how many sets of a group a message names.
const maxNamed = 10

// overcommitted finds grants that add up to more than clusters have, and resources that none of the clusters has.
//
// Quotas, and guaranteed amounts, are overcommitted if not all of them can be had at once: by Hall's theorem, if those of some group of sets
// add up to more than the clusters of that group have. Cluster quotas are overcommitted if they add up to more than one cluster has. What a
// workspace has on a cluster counts in each of its sets, so for a set that contains another, only the excess over the inner set counts.
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

// overlapping splits sets into groups such that no two groups share a cluster.
func overlapping(sets []*Set) (groups [][]*Set) {
	parent := make([]int, len(sets))
	var root func(i int) int
	root = func(i int) int {
		if parent[i] != i {
			parent[i] = root(parent[i])
		}
		return parent[i]
	}
	of := map[string]int{} // the first set that has the cluster
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

// pool is the clusters of a group of overlapping sets.
type pool struct {
	sets []*Set
	// parts are groups of clusters that belong to the same sets; of holds the indices of each set's parts.
	parts []part
	of    map[*Set][]int
	// inside holds the sets contained in each set.
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

// nest determines which sets contain which.
func (p *pool) nest() {
	if len(p.sets) > maxNested {
		return
	}
	within := func(inner, outer int) bool {
		a, b := p.of[p.sets[inner]], p.of[p.sets[outer]]
		if inner == outer || len(a) == len(b) && inner < outer {
			return false // of sets with the same clusters, the later ones count as within the first
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

// within returns the outermost sets contained in a set, among those of which something is asked for.
func (p *pool) within(set *Set, asked func(*Set) int64) (inner []*Set) {
	all := slices.DeleteFunc(slices.Clone(p.inside[set]), func(one *Set) bool { return asked(one) == 0 })
	for _, one := range all {
		if !slices.ContainsFunc(all, func(other *Set) bool { return slices.Contains(p.inside[other], one) }) {
			inner = append(inner, one)
		}
	}
	return inner
}

// has returns what the clusters of some sets have in total.
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

// find reports sets whose grants add up to more than their clusters have: each set that is overcommitted on its own, groups that are
// overcommitted together, and all sets if they are.
func (p *pool) find(reason, what string, amounts func(*engine.Grant) map[string]int64, steps *int) {
	type ask struct {
		set  *Set
		name string
	}
	asks, own, all := map[*Set]capacity.Resources{}, map[*Set]capacity.Resources{}, capacity.Resources{}
	borrowed := map[ask]bool{}                      // the amount is not from the field itself
	given := map[*Set]map[string]map[string]int64{} // by the workspace that the grant is for
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
			continue // nobody has any, which is reported elsewhere
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
		groups := [][]*Set{}
		for _, set := range over {
			groups = append(groups, []*Set{set})
		}
		groups = append(groups, d.short()...)
		asking := slices.DeleteFunc(slices.Clone(p.sets), func(set *Set) bool { return asks[set].Get(name) == 0 })
		if sum > has.Get(name) && !slices.ContainsFunc(groups, func(f []*Set) bool { return len(f) == len(asking) }) {
			groups = append(groups, asking)
		}
		for _, group := range groups {
			var comes capacity.Resources
			var names []string
			field, of := what, "the grants"
			for _, set := range group {
				if comes = comes.Add(capacity.Of(name, asks[set].Get(name))); len(names) < maxNamed {
					names = append(names, set.Name)
				}
				if borrowed[ask{set, name}] {
					field = "quota, or guaranteed with borrowingLimit,"
				}
			}
			if len(group) > 1 {
				if more := len(group) - len(names); more > 0 {
					names = append(names, fmt.Sprintf("and %d more", more))
				}
				of = fmt.Sprintf("the grants of ClusterSets %s, which share clusters,", strings.Join(names, ", "))
			}
			text := fmt.Sprintf("%s of %s of %s comes to %s, and the clusters have %s", field, name, of,
				capacity.Format(name, comes.Get(name), true), capacity.Format(name, p.has(group).Get(name), false))
			for _, set := range group {
				if asks[set].Get(name) > 0 {
					set.Problems = append(set.Problems, Problem{reason, "spec.grants", text})
				}
			}
		}
	}
}

// division distributes a resource of clusters among sets: a maximal flow from sets to parts.
type division struct {
	*pool
	resource string
	// asks is what each set still asks for, gives what each part has left, given what each set has got from each of its parts.
	asks  map[*Set]int64
	gives []int64
	given map[*Set][]int64
	steps *int
}

// short returns the sets that cannot get all that they ask for, in groups that share clusters, each including the sets that would have to
// give up something; none if the search takes too long.
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
				// Invariant: no later path leads out of these sets and their parts, which have nothing left.
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

// augment gives a set more along the shortest path: from a part with something left, or from a set that can replace it elsewhere. If there is
// no path, it returns the sets that were reached.
func (d *division) augment(from *Set) (more bool, seen []*Set) {
	type step struct {
		set  *Set
		part int // the index among the previous set's parts, through which it was reached
		by   int // the previous step
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

// index returns the index of a part among those of a set, which are sorted.
func (d *division) index(set *Set, part int) int {
	i, _ := slices.BinarySearch(d.of[set], part)
	return i
}

// findOnEach reports cluster quotas that add up to more than a cluster has, ignoring resources that the cluster has none of.
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
