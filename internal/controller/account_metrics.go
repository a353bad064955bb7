package controller

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/sharing"
)

// accounts exports metrics of what workspaces use of shared clusters, for platform teams.
//
// Invariant: only grants that both sides agree on and resources that clusters have are exported, and of each fleet at most maxAccounts
// accounts and maxAccounts*maxAccountResources of their resources, the same number for each account.
type accounts struct {
	mu sync.Mutex
	of map[logicalcluster.Name][]chargedAccount
}

const (
	maxAccounts         = 1000
	maxAccountResources = 8
)

// chargedAccount is an account with the capacity that it has a share of and the number of workloads waiting.
type chargedAccount struct {
	engine.Account
	has     capacity.Resources
	waiting int
}

var (
	accountLabels   = []string{"fleet", "set", "workspace"}
	accountUsed     = prometheus.NewDesc("placement_shared_used", "What workspaces are promised on the clusters of a ClusterSet, in cores, bytes or pieces; with an empty set, on clusters that are in none of theirs any more.", append(accountLabels, "resource"), nil)
	accountReserved = prometheus.NewDesc("placement_shared_reserved", "The part of placement_shared_used that clusters do not count yet.", append(accountLabels, "resource"), nil)
	accountQuota    = prometheus.NewDesc("placement_shared_quota", "The most that workspaces may be promised, for resources that their grant bounds.", append(accountLabels, "resource"), nil)
	accountShare    = prometheus.NewDesc("placement_shared_dominant_share", "The largest share, from 0 to 1, of anything that workspaces have of the clusters of a ClusterSet.", accountLabels, nil)
	accountWaiting  = prometheus.NewDesc("placement_shared_waiting_workloads", "Workloads of workspaces that wait for shared clusters.", accountLabels, nil)
	accountLeftOut  = prometheus.NewDesc("placement_shared_omitted_resources", "Resources of accounts of a fleet that are not among the metrics, since there are too many.", []string{"fleet"}, nil)
	accountOmitted  = prometheus.NewDesc("placement_shared_omitted_accounts", "Accounts of a fleet that are not among the metrics, since there are too many.", []string{"fleet"}, nil)
)

func newAccounts() *accounts { return &accounts{of: map[logicalcluster.Name][]chargedAccount{}} }

// put replaces the accounts of a fleet.
func (a *accounts) put(fleet logicalcluster.Name, all []chargedAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of[fleet] = all; len(all) == 0 {
		delete(a.of, fleet)
	}
}

// Describe implements prometheus.Collector.
func (a *accounts) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{accountUsed, accountReserved, accountQuota, accountShare, accountWaiting, accountOmitted, accountLeftOut} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (a *accounts) Collect(to chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for fleet, all := range a.of {
		shown, leftOut := all[:min(len(all), maxAccounts)], 0
		for _, one := range shown {
			labels := []string{fleet.String(), one.Set, one.Workspace.String()}
			resources := resourcesOf(one.has)
			most := min(len(resources), maxAccounts*maxAccountResources/len(shown))
			leftOut += len(resources) - most
			for _, name := range resources[:most] {
				of := append(slices.Clone(labels), name)
				send(accountUsed, inUnits(name, one.Promised.Get(name)), of...)
				send(accountReserved, inUnits(name, one.Reserved.Get(name)), of...)
				if quota, bounded := one.Quota[name]; bounded {
					send(accountQuota, inUnits(name, quota), of...)
				}
			}
			share, _ := sharing.DominantShare(one.Promised, one.has)
			send(accountShare, float64(share)/1000, labels...)
			send(accountWaiting, float64(one.waiting), labels...)
		}
		send(accountLeftOut, float64(leftOut), fleet.String())
		send(accountOmitted, float64(max(0, len(all)-maxAccounts)), fleet.String())
	}
}

// resourcesOf returns the names of the resources with an amount above zero: cpu, memory and storage first.
func resourcesOf(has capacity.Resources) (names []string) {
	for name, amount := range has.Each {
		if amount > 0 {
			names = append(names, name)
		}
	}
	return names
}

// inUnits converts an amount to the units of the metrics: cores, bytes or pieces.
func inUnits(name string, amount int64) float64 {
	if name == capacity.CPU {
		return float64(amount) / 1000
	}
	return float64(amount)
}

// charged returns the accounts of the workspaces that use the set.
func (s *setReport) charged() (all []chargedAccount) {
	of := map[logicalcluster.Name]chargedAccount{}
	for _, g := range s.Grants {
		if g.Bound {
			of[g.Workspace.Name] = chargedAccount{accountOf(s.accounts, g.Workspace.Name, s.Name), s.has, s.waiting(g.Workspace.Name)}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, of[name])
	}
	return all
}
