package console_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var regions = []string{"ap-east", "ap-south", "eu-north", "eu-west", "us-east", "us-west"}

// writeFleet writes a fleet and its workloads, and where most of these run, as files. The same numbers write the same files.
func writeFleet(t testing.TB, clusters, workloads int) string {
	t.Helper()
	folder := t.TempDir()
	write := func(name string, objects []string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.Join(objects, "\n---\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name := func(i int) string { return fmt.Sprintf("%s-%02d", regions[i%len(regions)], i/len(regions)+1) }
	var fleet []string
	for i := range clusters {
		cpu, ready, reason := 64+64*(i%3), "True", "AgentReporting"
		use := 5 + i*7%40 // percent
		if i%len(regions) < 3 {
			use += 50
		}
		if i%37 == 36 {
			ready, reason = "False", "KubeletNotReady"
		}
		fleet = append(fleet, fmt.Sprintf(`apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata:
  name: %s
  labels: {tier: %s, provider: %s, topology.kubernetes.io/zone: %s-%d}
spec:
  location: %s
status:
  allocatable: {cpu: "%d", memory: %dGi, nvidia.com/gpu: "%d"}
  allocated: {cpu: "%d", memory: %dGi}
  conditions:
    - {type: Ready, status: "%s", reason: %s, lastTransitionTime: "2026-01-01T00:00:00Z"}`,
			name(i), []string{"gold", "silver", "bronze"}[i%3], []string{"metal", "cloud"}[i%2], regions[i%len(regions)], i%3, regions[i%len(regions)],
			cpu, 4*cpu, 8*(i%2), cpu*use/100, 4*cpu*use/100, ready, reason))
	}
	write("fleet.yaml", fleet)
	write("placements.yaml", []string{`apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: web, namespace: shop}
spec:
  workloadSelector: {workloadTypes: [{apiVersion: apps/v1, kind: Deployment}]}
  constraints:
    - name: room-to-grow
      expression: capacity.free.cpu >= 2 * workload.requests.cpu && cluster.labels.tier in ["gold", "silver"]
      message: the web front doubles at noon
  numberOfClusters: 1`, `apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: batch, namespace: shop}
spec:
  workloadSelector: {workloadTypes: [{apiVersion: batch/v1, kind: Job}]}
  numberOfClusters: 1`, `apiVersion: v1
kind: ConfigMap
metadata:
  name: policies
  namespace: shop
  labels: {openpolicyagent.org/policy: rego}
data:
  weights.rego: |
    package placement.scoring

    weights := {"capacity": 10, "health": 10, "performance": 40, "location": 10}
`})
	var all, web, batch []string
	for j := range workloads {
		meta := fmt.Sprintf("name: app-%04d, namespace: shop, labels: {app: app-%04d}", j, j)
		if j%2 == 1 {
			meta += fmt.Sprintf(", annotations: {tmc.kcp.io/preferred-location: %s}", regions[j%len(regions)])
		}
		cpu, gpu, waits := 1+j%4, 0, j%25 == 24
		if waits {
			gpu = 16 // more than any cluster has
		}
		pods := fmt.Sprintf(`spec: {containers: [{name: main, image: main, resources: {requests: {cpu: %dm, memory: 256Mi, nvidia.com/gpu: "%d"}}}], restartPolicy: %s}`,
			100*cpu, gpu, []string{"Always", "Never"}[j%5/4])
		kind, decided := "apps/v1, kind: Deployment", &web
		if j%5 == 4 {
			kind, decided = "batch/v1, kind: Job", &batch
			all = append(all, fmt.Sprintf("{apiVersion: batch/v1, kind: Job, metadata: {%s}, spec: {template: {%s}}}", meta, pods))
		} else {
			all = append(all, fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {%s}, spec: {replicas: 1, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, %s}}}", meta, pods))
		}
		if !waits {
			at := j * 5 % clusters
			for at%3 == 2 || at%37 == 36 { // where it may be
				at = (at + 1) % clusters
			}
			*decided = append(*decided, fmt.Sprintf(`  - {workload: {apiVersion: %s, name: app-%04d, uid: ""}, clusters: [{name: %s, replicas: 1, score: 80, reason: Excellent}], reserved: {cpu: %dm, memory: 256Mi}, decidedAt: "2026-01-01T00:00:00Z"}`,
				kind, j, name(at), 100*cpu))
		}
	}
	write("workloads.yaml", all)
	var slices []string
	for _, of := range []struct {
		placement string
		decided   []string
	}{{"web", web}, {"batch", batch}} {
		for n := 0; n*100 < len(of.decided); n++ {
			slices = append(slices, fmt.Sprintf("apiVersion: tmc.kcp.io/v1alpha1\nkind: PlacementDecision\nmetadata: {name: %s-%d, namespace: shop}\nplacementName: %s\ndecisions:\n%s",
				of.placement, n, of.placement, strings.Join(of.decided[n*100:min(len(of.decided), (n+1)*100)], "\n")))
		}
	}
	write("decisions.yaml", slices)
	return folder
}
