package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/offline/simulation"
)

// Accounts prints what each workspace has of the shared clusters, with a row for each resource that it uses or that its grant has an
// amount of.
func Accounts(w io.Writer, accounts []simulation.Account) {
	if len(accounts) == 0 {
		fmt.Fprintln(w, "no clusters are shared: that takes a ClusterSet, and a ClusterSetBinding in another workspace")
		return
	}
	for first := 0; first < len(accounts); {
		fleet := accounts[first].Fleet
		fmt.Fprintf(w, "clusters of workspace %s\n\n", cmp.Or(accounts[first].FleetPath, fleet))
		t := NewTable(w)
		t.AppendHeader(table.Row{"SET", "WORKSPACE", "RESOURCE", "USED", "RESERVED", "QUOTA", "LEFT", "GUARANTEED", "SHARE", "WAITING"})
		for ; first < len(accounts) && accounts[first].Fleet == fleet; first++ {
			account(t, &accounts[first])
		}
		render(w, t)
	}
}

func account(t table.Writer, a *simulation.Account) {
	name := cmp.Or(a.Path, a.Workspace)
	switch {
	case a.Set != "" && a.Grant == "":
		name += " (grant taken away)"
	case a.Set != "" && !a.Bound:
		name += " (not bound)"
	}
	set, share, waiting := cmp.Or(a.Set, "-"), fmt.Sprintf("%d.%d%%", a.DominantShare/10, a.DominantShare%10), fmt.Sprint(a.Waiting)
	if a.Dominant != "" {
		share += " " + a.Dominant
	}
	for _, resource := range accounted(a) {
		bound := func(amounts map[string]int64) string {
			if most, bounded := amounts[resource]; bounded {
				return amount(resource, most)
			}
			return "-"
		}
		t.AppendRow(table.Row{set, name, resource, amount(resource, a.Used[resource]), amount(resource, a.Reserved[resource]), bound(a.Quota), bound(a.Left), bound(a.Guaranteed), share, waiting})
		set, name, share, waiting = "", "", "", ""
	}
}

// accounted returns the resources of an account: cpu and memory, then others that it uses or that its grant has an amount of.
func accounted(a *simulation.Account) []string {
	resources, others := []string{capacity.CPU, capacity.Memory}, map[string]bool{}
	for name, used := range a.Used {
		others[name] = used > 0
	}
	for _, bounds := range []map[string]int64{a.Quota, a.Guaranteed} {
		for name := range bounds {
			others[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if others[name] && !slices.Contains(resources, name) {
			resources = append(resources, name)
		}
	}
	return resources
}
