package engine

import (
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// topology is the clusters of a fleet by domain.
type topology struct {
	facts int64
	// of is the domain of each position, spread.None where it is in none; domains are their names.
	of      []int32
	domains []string
}

// topology returns the domains of a topology key. It is kept until facts of a cluster change.
func (w *workspace) topology(key snapshot.TopologyKey) *topology {
	facts := w.fleet.Facts()
	if t := w.topologies[key]; t != nil && t.facts == facts {
		return t
	}
	t := &topology{facts: facts, of: make([]int32, w.fleet.Len())}
	ids := map[string]int32{}
	for position := range t.of {
		domain, found := key.Domain(w.fleet.Row(position).Cluster)
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

// maxTopologies bounds how many topology keys are kept of a workspace.
const maxTopologies = 64

// eligibleDomains are the domains with a cluster that passes all but capacity.
func (c *class) eligibleDomains(w *workspace, t *topology) []bool {
	eligible := make([]bool, len(t.domains))
	for position, domain := range t.of {
		if domain != spread.None && !eligible[domain] && c.ranking.Admits(position, w.fleet.Row(position)) {
			eligible[domain] = true
		}
	}
	return eligible
}
