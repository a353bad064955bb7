// Package headroom says what the loss of clusters would do to workloads.
package headroom

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Domain is clusters that are lost together.
type Domain struct {
	Key      snapshot.TopologyKey
	Name     string
	Clusters []string
}

// Domains returns the domains of a key by name, without clusters that are lost already.
func Domains(rows []*snapshot.Row, key snapshot.TopologyKey) (all []Domain) {
	clusters := map[string][]string{}
	for _, row := range rows {
		if name, found := key.Domain(row.Cluster); found && !row.Lost() {
			clusters[name] = append(clusters[name], row.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		all = append(all, Domain{key, name, clusters[name]})
	}
	return all
}

// Rest adds up what clusters have that are neither lost nor among some others.
func Rest(rows []*snapshot.Row, without ...string) (rest capacity.Resources) {
	for _, row := range rows {
		if !row.Lost() && !slices.Contains(without, row.Name) {
			rest = rest.Add(row.Allocatable)
		}
	}
	return rest
}

// Size is how large a workload is, for its turn once it is displaced: the largest share of the rest that it asks for of any resource.
func Size(requests, rest capacity.Resources) (size float64) {
	for name, amount := range requests.Each {
		switch rest := rest.Get(name); {
		case amount > 0 && rest <= 0:
			size = math.Inf(1)
		case amount > 0:
			size = max(size, float64(amount)/float64(rest))
		}
	}
	return size
}

// Loss is what the loss of one domain would do to the workloads of a placement.
type Loss struct {
	Domain string
	// Affected workloads are there, Waiting of them would wait; Why is about the first.
	Affected, Waiting int
	Why               string
}

// Add counts what is decided for a workload in a rehearsal of the loss.
func (l *Loss) Add(workload fmt.Stringer, d *engine.Decision) {
	l.Affected++
	if len(d.Clusters) > 0 && d.Waiting == 0 {
		return
	}
	if l.Waiting++; l.Waiting > 1 {
		return
	}
	l.Why = fmt.Sprintf("%s: %s", workload, d.Summary())
	nearest, obstacles := d.Nearest()
	if remedies := filter.Remedies(obstacles); nearest != "" && len(remedies) > 0 {
		l.Why += fmt.Sprintf("; what would help: %s on %s", strings.Join(remedies, " and "), nearest)
	}
}

// Outlook is what a placement's workloads would come to. Outlooks compare with ==.
type Outlook struct {
	// Domains are how many there are of its topology key; Worst is the one whose loss would have most workloads wait.
	Domains int
	Worst   Loss
	// Others is how many other domains there are whose loss would have some wait.
	Others int
}

// Add takes the loss of one more domain into account. Of equal losses the first is the worst.
func (o *Outlook) Add(l Loss) {
	if l.Waiting == 0 {
		return
	}
	if o.Worst.Waiting > 0 {
		o.Others++
	}
	if l.Waiting > o.Worst.Waiting {
		o.Worst = l
	}
}

// Survives reports whether no workload would wait.
func (o *Outlook) Survives() bool { return o.Worst.Waiting == 0 }

// Describe says in one line whether workloads survive the loss of any one domain of a key, which loss would hurt most, and what would help.
func (o *Outlook) Describe(key snapshot.TopologyKey) string {
	switch {
	case o.Domains == 0:
		return fmt.Sprintf("No cluster has %s, so that there is no domain to lose.", key)
	case o.Survives():
		return fmt.Sprintf("All workloads would have a place if any one of %d domains of %s were lost.", o.Domains, key)
	}
	message := fmt.Sprintf("If %s %s were lost, %d of the %d workloads there would wait. %s", key, o.Worst.Domain, o.Worst.Waiting, o.Worst.Affected, o.Worst.Why)
	if o.Others > 0 {
		message += fmt.Sprintf(". So would some for %d other domains.", o.Others)
	}
	return message
}
