package simulation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/offline/manifest"
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
