package engine

import (
	"slices"

	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// topology is the clusters of a fleet by domain.
type topology struct {
	facts int64
	// of is the domain of each position, spread.None if it is in none; domains are the names of domains.
	of      []int32
	domains []string
}

// topology returns the domains of a topology key. They are kept until facts of a cluster change.
func (w *workspace) topology(key snapshot.TopologyKey) *topology {
	facts := w.seen.Facts()
	if t := w.topologies[key]; t != nil && t.facts == facts {
		return t
	}
	t := &topology{facts: facts, of: make([]int32, w.seen.Len())}
	ids := map[string]int32{}
	for position := range t.of {
		domain, found := key.Domain(w.seen.Row(position).Cluster)
		if !found {
			t.of[position] = spread.None
			continue
		}
		id, known := ids[domain]
		if !known {
			id = int32(len(ids))
			ids[domain], t.domains = id, append(t.domains, domain)
		}
		t.of[position] = id
	}
	if len(w.topologies) >= maxTopologies {
		clear(w.topologies)
	}
	w.topologies[key] = t
	return t
}

// maxTopologies bounds how many topology keys are kept per workspace.
const maxTopologies = 64

// eligible marks the eligible domains of a topology for a class, by the facts of the clusters.
type eligible struct {
	topology *topology
	domains  []bool
}

// groups has the group number of each position: clusters in the same domains of all spread constraints are a group.
type groups struct {
	facts int64
	of    []int32
	n     int
	// domains are the domains of each group, one for each constraint.
	domains [][]int32
}

// groupsOf returns the groups of clusters for the spread constraints of a class. They are kept until facts of a cluster change.
func (w *workspace) groupsOf(c *class) *groups {
	facts := w.seen.Facts()
	if c.groups != nil && c.groups.facts == facts {
		return c.groups
	}
	keys := ""
	for k := range c.Placement.Spread {
		keys += string(c.Placement.Spread[k].Key) + "\n"
	}
	if c.groups = w.groups[keys]; c.groups != nil && c.groups.facts == facts {
		return c.groups
	}
	g := &groups{facts: facts, of: make([]int32, w.seen.Len()), n: 1}
	topologies := make([]*topology, len(c.Placement.Spread))
	for k := range topologies {
		topologies[k] = w.topology(c.Placement.Spread[k].Key)
		g.split(topologies[k])
	}
	g.domains = make([][]int32, g.n)
	for position, group := range g.of {
		for k := len(g.domains[group]); k < len(topologies); k++ {
			g.domains[group] = append(g.domains[group], topologies[k].of[position])
		}
	}
	if len(w.groups) >= maxTopologies {
		clear(w.groups)
	}
	w.groups[keys], c.groups = g, g
	return g
}

// split splits each group by the domains of a topology.
func (g *groups) split(t *topology) {
	numbers := map[[2]int32]int32{}
	for position, group := range g.of {
		of := [2]int32{group, t.of[position]}
		number, known := numbers[of]
		if !known {
			number = int32(len(numbers))
			numbers[of] = number
		}
		g.of[position] = number
	}
	g.n = len(numbers)
}

// eligibleDomains returns the domains with a cluster that passes everything but capacity, by any of the classes.
func (w *workspace) eligibleDomains(classes []*class, t *topology) []bool {
	domains := classes[0].eligibleDomains(w, t)
	if len(classes) > 1 {
		domains = slices.Clone(domains)
	}
	for _, c := range classes[1:] {
		for domain, eligible := range c.eligibleDomains(w, t) {
			domains[domain] = domains[domain] || eligible
		}
	}
	return domains
}

// eligibleDomains returns the domains with a cluster that passes everything but capacity, gets any replicas if they are divided by
// weight, and is in a domain of each required constraint: as in Kubernetes, a cluster that lacks one of the topology keys counts for
// none.
func (c *class) eligibleDomains(w *workspace, t *topology) []bool {
	if at := slices.IndexFunc(c.eligible, func(e eligible) bool { return e.topology == t }); at >= 0 {
		return c.eligible[at].domains
	}
	domains, division := make([]bool, len(t.domains)), c.Placement.Divides(c.Whole)
	var required []*topology
	for k := range c.Placement.Spread {
		if s := &c.Placement.Spread[k]; s.Required {
			required = append(required, w.topology(s.Key))
		}
	}
	for position, domain := range t.of {
		if domain == spread.None || domains[domain] || slices.ContainsFunc(required, func(o *topology) bool { return o.of[position] == spread.None }) {
			continue
		}
		row := w.seen.Row(position)
		domains[domain] = (division == nil || !division.Excludes(row.Cluster)) && c.ranking.Admits(position, row)
	}
	if len(c.eligible) >= len(c.Placement.Spread) {
		c.eligible = c.eligible[:0] // those of earlier facts
	}
	c.eligible = append(c.eligible, eligible{t, domains})
	return domains
}
