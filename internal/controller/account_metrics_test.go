package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// TestAccountMetrics: a platform team sees what to charge whom for, in the units of Prometheus, and however many workspaces and resources
// there are, no more series than there is room for.
func TestAccountMetrics(t *testing.T) {
	a := newAccounts()
	one := chargedAccount{engine.Account{
		Workspace: "shop", Set: "gold", Promised: capacity.Resources{CPU: 1500, Memory: 1 << 30, Extended: map[string]int64{"unheard.of/x": 1}}, Reserved: capacity.Resources{CPU: 500},
		Quota: map[string]int64{"cpu": 4000},
	}, capacity.Resources{CPU: 10000, Memory: 4 << 30}, 3}
	a.put("platform", []chargedAccount{one})
	if err := testutil.CollectAndCompare(a, strings.NewReader(`
# HELP placement_shared_dominant_share The largest share, from 0 to 1, of anything that workspaces have of the clusters of a ClusterSet.
# TYPE placement_shared_dominant_share gauge
placement_shared_dominant_share{fleet="platform",set="gold",workspace="shop"} 0.25
# HELP placement_shared_omitted_accounts Accounts of a fleet that are not among the metrics, since there are too many.
# TYPE placement_shared_omitted_accounts gauge
placement_shared_omitted_accounts{fleet="platform"} 0
# HELP placement_shared_omitted_resources Resources of accounts of a fleet that are not among the metrics, since there are too many.
# TYPE placement_shared_omitted_resources gauge
placement_shared_omitted_resources{fleet="platform"} 0
# HELP placement_shared_quota The most that workspaces may be promised, for resources that their grant bounds.
# TYPE placement_shared_quota gauge
placement_shared_quota{fleet="platform",resource="cpu",set="gold",workspace="shop"} 4
# HELP placement_shared_reserved The part of placement_shared_used that clusters do not count yet.
# TYPE placement_shared_reserved gauge
placement_shared_reserved{fleet="platform",resource="cpu",set="gold",workspace="shop"} 0.5
placement_shared_reserved{fleet="platform",resource="memory",set="gold",workspace="shop"} 0
# HELP placement_shared_used What workspaces are promised on the clusters of a ClusterSet, in cores, bytes or pieces; with an empty set, on clusters that are in none of theirs any more.
# TYPE placement_shared_used gauge
placement_shared_used{fleet="platform",resource="cpu",set="gold",workspace="shop"} 1.5
placement_shared_used{fleet="platform",resource="memory",set="gold",workspace="shop"} 1.073741824e+09
# HELP placement_shared_waiting_workloads Workloads of workspaces that wait for shared clusters.
# TYPE placement_shared_waiting_workloads gauge
placement_shared_waiting_workloads{fleet="platform",set="gold",workspace="shop"} 3
`)); err != nil {
		t.Error(err)
	}

	many := one
	many.has.Extended = map[string]int64{}
	for i := range 1000 {
		many.has.Extended[fmt.Sprintf("example.com/%d", i)] = 1
	}
	a.put("platform", []chargedAccount{many})
	if n, want := testutil.CollectAndCount(a, "placement_shared_used"), 1002; n != want {
		t.Errorf("%d resources of the only account, want %d", n, want)
	}
	var all []chargedAccount
	for i := range 3 * maxAccounts {
		many.Workspace = logicalcluster.Name(fmt.Sprint("w", i))
		all = append(all, many)
	}
	a.put("platform", all)
	if n, most := testutil.CollectAndCount(a), maxAccounts*(3*maxAccountResources+2)+2; n > most {
		t.Errorf("%d series, more than %d", n, most)
	}
	if err := testutil.CollectAndCompare(a, strings.NewReader(fmt.Sprintf(`
# HELP placement_shared_omitted_accounts Accounts of a fleet that are not among the metrics, since there are too many.
# TYPE placement_shared_omitted_accounts gauge
placement_shared_omitted_accounts{fleet="platform"} %d
# HELP placement_shared_omitted_resources Resources of accounts of a fleet that are not among the metrics, since there are too many.
# TYPE placement_shared_omitted_resources gauge
placement_shared_omitted_resources{fleet="platform"} %d
`, 2*maxAccounts, maxAccounts*(1002-maxAccountResources))), "placement_shared_omitted_accounts", "placement_shared_omitted_resources"); err != nil {
		t.Error(err)
	}
	if a.put("platform", nil); testutil.CollectAndCount(a) != 0 {
		t.Error("a workspace that shares nothing any more still has metrics")
	}
	if err := prometheus.NewPedanticRegistry().Register(a); err != nil {
		t.Error(err)
	}
}
