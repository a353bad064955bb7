package simulation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/rebalance"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/offline/simulation"
)

// estate is files of a platform team with clusters of 10 cpu, and of teams with Deployments of 1 cpu each, in the order of their creation.
func estate(clusters int, grants string, teams ...string) (files []*manifest.File) {
	var platform strings.Builder
	for i := range clusters {
		fmt.Fprintf(&platform, `apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: c%d, annotations: {kcp.io/path: "root:platform"}}
spec: {location: eu}
status: {allocatable: {cpu: "10", memory: 64Gi}, conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]}
---
`, i)
	}
	fmt.Fprintf(&platform, `apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterSet
metadata: {name: gold, annotations: {kcp.io/path: "root:platform"}}
spec: {clusterSelector: {}, grants: [%s]}
`, grants)
	files = append(files, &manifest.File{Name: "platform.yaml", Text: platform.String()})
	for day, team := range teams {
		var text strings.Builder
		name, count := team[:strings.Index(team, " ")], 0
		_, _ = fmt.Sscanf(team, name+" %d", &count)
		fmt.Fprintf(&text, `apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterSetBinding
metadata: {name: gold, annotations: {kcp.io/path: "root:%[1]s"}}
spec: {clusterSet: gold, workspace: {path: "root:platform"}}
---
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: all, namespace: default, annotations: {kcp.io/path: "root:%[1]s"}}
spec: {workloadSelector: {}, numberOfClusters: 1}
`, name)
		for i := range count {
			fmt.Fprintf(&text, `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: w%03d, namespace: default, creationTimestamp: "2026-01-%02dT00:00:00Z", annotations: {kcp.io/path: "root:%s"}}
spec: {template: {spec: {containers: [{name: c, resources: {requests: {cpu: "1"}}}]}}}
`, i, day+1, name)
		}
		files = append(files, &manifest.File{Name: name + ".yaml", Text: text.String()})
	}
	return files
}

// placedIn counts the workloads of each workspace that are placed.
func placedIn(t *testing.T, files []*manifest.File) map[string]int {
	t.Helper()
	workspaces, errs := manifest.Read(files)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s, err := simulation.New(simulation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), workspaces); err != nil {
		t.Fatal(err)
	}
	result, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	placed := map[string]int{}
	for i := range result.Decisions {
		d := &result.Decisions[i]
		placed[d.Workspace] += min(1, len(d.Clusters))
		if len(d.Clusters) == 0 && d.Error == "" {
			t.Errorf("%s %s: it does not say why it waits", d.Workspace, d.Workload)
		}
	}
	return placed
}

// TestTurns: workspaces that wait for the same room take turns, whoever was there first: what is guaranteed comes first, then the lower
// share by weight, within quotas.
func TestTurns(t *testing.T) {
	grant := func(team, more string) string {
		return fmt.Sprintf(`{name: %s, workspace: {path: "root:%s"}%s}, `, team, team, more)
	}
	for _, test := range []struct {
		name, grants string
		want         map[string]int
	}{
		{"equal shares", grant("a", "") + grant("b", ""), map[string]int{"root:a": 10, "root:b": 10}},
		{"a weight", grant("a", "") + grant("b", ", weight: 3"), map[string]int{"root:a": 5, "root:b": 15}},
		{"a quota", grant("a", "") + grant("b", `, quota: {cpu: "4"}`), map[string]int{"root:a": 16, "root:b": 4}},
		{"a guarantee", grant("a", "") + grant("b", `, guaranteed: {cpu: "14"}`), map[string]int{"root:a": 6, "root:b": 14}},
		{"no grant", grant("a", ""), map[string]int{"root:a": 20, "root:b": 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := placedIn(t, estate(2, test.grants, "a 20", "b 20"))
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// TestGiveBack: borrowers fill the clusters, as decisions say, and a team wants what it is guaranteed. What is reclaimable makes room for that, and
// no more. Who looks at all workspaces reads who gives what to whom; who looks from a team reads that others do, not which, nor how many.
func TestGiveBack(t *testing.T) {
	grants := `{name: shop, workspace: {path: "root:shop"}, guaranteed: {cpu: "3"}}, {name: ml, workspace: {path: "root:ml"}}, {name: web, workspace: {path: "root:web"}}`
	files := estate(1, grants, "ml 6", "web 4", "shop 4")
	for _, f := range files {
		if f.Name == "ml.yaml" {
			f.Text = strings.Replace(f.Text, "numberOfClusters: 1", "numberOfClusters: 1, preemption: {reclaimable: true}", 1)
		}
	}
	for _, team := range []string{"ml 6", "web 4"} {
		name, count := team[:strings.Index(team, " ")], 0
		_, _ = fmt.Sscanf(team, name+" %d", &count)
		text := fmt.Sprintf("apiVersion: tmc.kcp.io/v1alpha1\nkind: PlacementDecision\nmetadata: {name: all-1, namespace: default, annotations: {kcp.io/path: \"root:%s\"}}\nplacementName: all\ndecisions:\n", name)
		for i := range count {
			text += fmt.Sprintf(`- {workload: {apiVersion: apps/v1, kind: Deployment, name: w%03d, uid: u%d}, inputsDigest: d, decidedAt: "2026-01-0%dT00:00:00Z", clusters: [{name: c0, replicas: 1, score: 80, reason: Good, reserved: {cpu: "1"}}]}
`, i, i, i+1)
		}
		files = append(files, &manifest.File{Name: name + "-decisions.yaml", Text: text})
	}
	for _, test := range []struct {
		about     logicalcluster.Name
		given     string // what is given back, by whom and to whom
		decisions int
	}{
		{"", "ml w000 for root:shop w000, ml w001 for root:shop w001, ml w002 for root:shop w002; shop w000 by root:ml w000, shop w001 by root:ml w001, shop w002 by root:ml w002", 14},
		{"root:ml", "ml w000 for others, ml w001 for others, ml w002 for others; ", 6},
		{"root:shop", "; shop w000 by others, shop w001 by others, shop w002 by others", 4},
		{"root:web", "; ", 4},
	} {
		workspaces, errs := manifest.Read(files)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		s, err := simulation.New(simulation.Options{About: test.about})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Load(t.Context(), workspaces); err != nil {
			t.Fatal(err)
		}
		result, err := s.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		side := func(g simulation.GivenBack) string {
			if g.Workload == nil && g.Workspace == "" && g.Placement == "" {
				return "others"
			}
			return g.Workspace + " " + g.Workload.Name
		}
		var gives, gets []string
		for _, d := range result.Decisions {
			who := strings.TrimPrefix(d.Workspace, "root:") + " " + d.Workload.Name
			for _, g := range d.GivesBack {
				gives = append(gives, who+" for "+side(g))
			}
			for _, g := range d.Reclaims {
				gets = append(gets, who+" by "+side(g))
			}
			if len(d.GivesBack) > 0 != (len(d.Clusters) == 0 && strings.HasPrefix(who, "ml")) {
				t.Errorf("%s gives back %v and is on %v", who, d.GivesBack, d.Clusters)
			}
		}
		slices.Sort(gives)
		if got := strings.Join(gives, ", ") + "; " + strings.Join(gets, ", "); got != test.given || len(result.Decisions) != test.decisions {
			t.Errorf("about %q: of %d decisions %s, want of %d %s", test.about, len(result.Decisions), got, test.decisions, test.given)
		}
		var text strings.Builder
		report.Simulation(&text, result)
		for _, other := range []string{"root:ml", "root:shop"} {
			if test.about != "" && test.about != logicalcluster.Name(other) && strings.Contains(text.String(), other) {
				t.Errorf("%s reads of %s: %s", test.about, other, text.String())
			}
		}
	}
}

// TestRebalanceBesideGuests: what teams have on the clusters of a platform team stays, and is in the way where a cluster is to be freed.
func TestRebalanceBesideGuests(t *testing.T) {
	files := append(estate(2, `{name: shop, workspace: {path: "root:shop"}}`, "shop 2"), &manifest.File{Name: "own.yaml", Text: `apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: all, namespace: default, annotations: {kcp.io/path: "root:platform"}}
spec: {workloadSelector: {}, numberOfClusters: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: own, namespace: default, annotations: {kcp.io/path: "root:platform"}}
spec: {template: {spec: {containers: [{name: c, resources: {requests: {cpu: "1"}}}]}}}
`})
	workspaces, errs := manifest.Read(files)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s, err := simulation.New(simulation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), workspaces); err != nil {
		t.Fatal(err)
	}
	result, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	on := ""
	for _, d := range result.Decisions {
		if d.Workspace == "root:shop" && len(d.Clusters) > 0 {
			on = d.Clusters[0].Name
		}
	}
	plan, err := s.Rebalance(t.Context(), "root:platform", rebalance.Free{Cluster: on}, rebalance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Reached || len(plan.Stuck) == 0 || !strings.Contains(fmt.Sprint(plan.Stuck), "it is of workspace root:shop") {
		t.Errorf("%s is free: %t, in the way are %+v", on, plan.Reached, plan.Stuck)
	}
}
