package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
)

// TestALargeFleet shows each feature of docs/placement.md at work on 200 clusters, in four regions of five zones, in output that can
// be read: of many clusters, domains and workloads the first few.
func TestALargeFleet(t *testing.T) {
	var fleet strings.Builder
	for i := range 200 {
		region, owner := []string{"eu", "us", "ap", "sa"}[i%4], "rented"
		if i%10 == 0 {
			owner = "own"
		}
		fmt.Fprintf(&fleet, `---
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: c%03d, labels: {zone: %s-%d, owner: %s}}
spec: {location: %s}
status:
  allocatable: {cpu: "%d", memory: 256Gi}
  conditions: [{type: Ready, status: "True", reason: Test, lastTransitionTime: "2026-01-01T00:00:00Z"}]
`, i, region, i/4%5, owner, region, 64-i%4*8-i%7)
	}
	placement := func(name, spec string) {
		fmt.Fprintf(&fleet, `---
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: %[1]s, namespace: default}
spec:
  workloadSelector: {labelSelector: {matchLabels: {of: %[1]s}}}
%[2]s
`, name, spec)
	}
	deployment := func(name, of string, replicas int, cpu string) {
		fmt.Fprintf(&fleet, `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s, namespace: default, labels: {of: %s}}
spec:
  replicas: %d
  template: {spec: {containers: [{name: main, image: none, resources: {requests: {cpu: "%s", memory: 1Gi}}}]}}
`, name, of, replicas, cpu)
	}
	placement("all", "  numberOfClusters: All")
	placement("spread", `  numberOfClusters: 8
  spreadConstraints: [{topologyKey: location}, {topologyKey: zone}]`)
	placement("shards", `  numberOfClusters: 1
  spreadConstraints: [{topologyKey: zone, scope: Workloads}, {topologyKey: location, scope: Workloads}]`)
	placement("divided", `  numberOfClusters: 6
  spreadConstraints: [{topologyKey: location, whenUnsatisfiable: ScheduleAnyway}]
  replicaScheduling: {type: Divided, division: FreeCapacity, minPerCluster: 10}`)
	placement("packed", `  replicaScheduling: {type: Divided, division: Aggregated}
  numberOfClusters: 30`)
	placement("overflow", `  numberOfClusters: 60
  replicaScheduling: {type: Divided, division: Overflow, partial: true}
  fallback: [{name: own, clusterSelector: {labelSelector: {matchLabels: {owner: own}}}}, {name: eu, locationSelector: {matchLabels: {location: eu}}}]`)
	placement("ledger", `  numberOfClusters: 1
  fallback: [{name: own, clusterSelector: {labelSelector: {matchLabels: {owner: own}}}, constraints: [{name: half, expression: "capacity.utilization.cpu < 10"}]}, {name: any}]`)
	deployment("a-all", "all", 1, "10m")
	deployment("b-spread", "spread", 1, "1")
	for i := range 20 {
		deployment(fmt.Sprintf("c-shard-%02d", i), "shards", 1, "1")
	}
	deployment("d-divided", "divided", 100, "1")
	deployment("e-packed", "packed", 500, "2")
	deployment("f-ledger", "ledger", 1, "4")
	deployment("g-overflow", "overflow", 2500, "1")
	t.Chdir(t.TempDir())
	if err := os.WriteFile("fleet.yaml", []byte(fleet.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command string
		lines   int
		shows   []string
	}{
		{"simulate", 190, []string{
			"and 190 more",
			"Deployment default/b-spread: clusters over location: ap 2, eu 2, sa 2, us 2 (max skew 1); clusters over zone: ",
			"and 12 more with 0 (max skew 1)",
			"and 17 more workloads of these placements",
			"Deployment default/d-divided: 100 of 100 replicas are divided: FreeCapacity; clusters over location: ",
			"Deployment default/e-packed: 500 of 500 replicas are divided: Aggregated",
			"replicas wait: own: ",
			"and 180 more, up to ",
		}},
		{"explain a-all", 60, []string{"and 190 more\n", "and 180 more that are feasible, 180 of them chosen, with totals"}},
		{"explain b-spread", 100, []string{"PASSED OVER", "spread over location: instead of ", " more that are feasible, with totals"}},
		{"explain c-shard-19", 60, []string{"workloads over location: ap 5, eu 5, sa 5, us 5 (max skew 1)", "workloads over zone: ", "and 12 more with 1 (max skew 1)", "spread over zone: instead of "}},
		{"explain d-divided", 80, []string{"100 of 100 replicas are divided: FreeCapacity", "chosen x"}},
		{"explain e-packed", 160, []string{"500 of 500 replicas are divided: Aggregated", "chosen x"}},
		{"explain f-ledger", 60, []string{"by fallback group "}},
		{"explain g-overflow", 80, []string{"by fallback group eu", "2500 replicas are divided: Overflow", "of them chosen"}},
	} {
		var out, errOut strings.Builder
		args := append(strings.Fields(test.command), "fleet.yaml")
		if code := command.Run(t.Context(), args, strings.NewReader(""), &out, &errOut); code != 0 {
			t.Errorf("%s: exit code %d: %s", test.command, code, &errOut)
		}
		for _, want := range test.shows {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: there is no %q in\n%s", test.command, want, &out)
			}
		}
		if n := strings.Count(out.String(), "\n"); n > test.lines {
			t.Errorf("%s: %d lines\n%s", test.command, n, &out)
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 500 {
				t.Errorf("%s: a line of %d bytes: %s", test.command, len(line), line)
			}
		}
	}
}
