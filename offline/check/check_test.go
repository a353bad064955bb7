package check_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/check"
	"github.com/kcp-placement/placement/offline/manifest"
)

const root = "../.."

// found returns the findings in files, but for those with one of some codes.
func found(t *testing.T, files []*manifest.File, but ...string) (findings []string) {
	t.Helper()
	report, err := check.Run(context.Background(), workload.Kinds(), files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if !slices.Contains(but, f.Code) {
			findings = append(findings, fmt.Sprintf("%s: %s [%s]", f.Position, f.Description(), f.Code))
		}
	}
	return findings
}

func read(t *testing.T, folder string) (files []*manifest.File) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yaml", ".rego"}, filepath.Ext(path)) || d.Name() == "expected.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		files = append(files, &manifest.File{Name: path, Text: string(text)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestNoFalseAlarm: there is no finding in what we give people as examples.
func TestNoFalseAlarm(t *testing.T) {
	for _, folder := range []string{"examples/team-shop", "examples/team-ml"} {
		if findings := found(t, read(t, filepath.Join(root, folder))); len(findings) > 0 {
			t.Errorf("%s:\n%s", folder, strings.Join(findings, "\n"))
		}
	}
	// A library policy and the story that shows what it is for.
	archives, err := filepath.Glob(filepath.Join(root, "test/policies/library/*/*.txtar"))
	if err != nil || len(archives) == 0 {
		t.Fatal(archives, err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files := read(t, filepath.Join(root, "policies/library", filepath.Base(filepath.Dir(path))))
		for _, f := range archive.Files {
			if slices.Contains([]string{".yaml", ".rego"}, filepath.Ext(f.Name)) && f.Name != "expect.yaml" {
				files = append(files, &manifest.File{Name: f.Name, Text: string(f.Data)})
			}
		}
		if findings := found(t, files); len(findings) > 0 {
			t.Errorf("%s:\n%s", path, strings.Join(findings, "\n"))
		}
	}
}

// shown are the objects that docs/cel.md evaluates its examples for.
const shown = `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: alpha, labels: {tier: gold, rack.example.com/row: "7"}}
spec:
  location: eu-west
  capabilities: [{type: gpu, available: true, attributes: {model: a100, driver: 550.54.15}}, {type: fpga, available: false}]
  taints: [{key: dedicated, value: ml, effect: NoSchedule}]
status: {allocatable: {cpu: 8, memory: 32Gi, nvidia.com/gpu: 4}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web, tier: gold}, annotations: {note: x}}
spec: {replicas: 3, template: {spec: {containers: [{name: a, resources: {requests: {cpu: 500m, memory: 1Gi}}}]}}}
---
`

var (
	blocks = regexp.MustCompile("(?s)```cel\n(.*?)```")
	rows   = regexp.MustCompile("(?m)^\\|.*\\| `([^`]+)` \\| true \\|$")
)

// TestNoFalseAlarmInDocs: there is no finding in a constraint that the reference shows to hold, other than that it always does.
func TestNoFalseAlarmInDocs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/cel.md"))
	if err != nil {
		t.Fatal(err)
	}
	var expressions []string
	for _, block := range blocks.FindAllStringSubmatch(string(page), -1) {
		for _, example := range strings.Split(block[1], "\n\n") {
			if expression, result, _ := strings.Cut(example, "\n//"); strings.TrimSpace(result) == "true" {
				expressions = append(expressions, expression)
			}
		}
	}
	for _, row := range rows.FindAllStringSubmatch(string(page), -1) {
		expressions = append(expressions, strings.ReplaceAll(row[1], `\|`, "|"))
	}
	if len(expressions) < 100 {
		t.Fatalf("%d examples are found", len(expressions))
	}
	for _, expression := range expressions {
		placement, err := json.Marshal(map[string]any{
			"apiVersion": "tmc.kcp.io/v1alpha1", "kind": "WorkloadPlacement",
			"metadata": map[string]any{"name": "p", "namespace": "shop", "labels": map[string]string{"team": "shop"}},
			"spec":     map[string]any{"workloadSelector": map[string]any{}, "constraints": []any{map[string]string{"name": "c", "expression": expression}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if findings := found(t, []*manifest.File{{Name: "f.yaml", Text: shown + string(placement)}}, "always_true"); len(findings) > 0 {
			t.Errorf("%s:\n%s", expression, strings.Join(findings, "\n"))
		}
	}
}

// TestScheduledByPolicies: a placement is checked as policies schedule the workloads that there are, by the checks of what it says
// itself. What is in vain whatever the placement is told of the policies alone.
func TestScheduledByPolicies(t *testing.T) {
	files := []*manifest.File{
		{Name: "fleet.yaml", Text: `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: paris, labels: {zone: a}}
spec: {location: eu}
status: {allocatable: {cpu: "8"}}
---
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: dublin, labels: {zone: b}}
spec: {location: eu}
status: {allocatable: {cpu: "8"}}
---
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: virginia, labels: {zone: c}}
spec: {location: us}
status: {allocatable: {cpu: "8"}}
`},
		{Name: "placements.yaml", Text: `
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: one, namespace: default}
spec:
  workloadSelector: {labelSelector: {matchLabels: {placement: one}}}
  clusterSelector: {clusterNames: [paris]}
---
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: single, namespace: default}
spec:
  workloadSelector: {labelSelector: {matchLabels: {placement: single}}}
  strategy: {type: Affinity}
  workloadAffinity: [{type: Attract, labelSelector: {matchLabels: {placement: one}}, required: true}]
`},
		{Name: "workloads.yaml", Text: `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {placement: one, tier: gold}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: plain, namespace: default, labels: {placement: one}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: default, labels: {placement: single, tier: gold}}
`},
		{Name: "policies/scheduling.rego", Text: `package placement.scheduling

minClusters := 2 if input.workload.labels.tier == "gold"

spreadConstraints := [{"topologyKey": "zoen", "whenUnsatisfiable": "ScheduleAnyway"}] if input.workload.labels.placement == "single"

workloadAffinity contains {"type": "Repel", "labelSelector": {"matchLabels": {"placement": "one"}}, "required": true} if {
	input.workload.labels.placement == "single"
}

workloadAffinity contains {"type": "Attract", "labelSelector": {"matchLabels": {"app": "db"}}} if input.workload.labels.tier == "gold"
`},
	}
	for i, text := range []string{files[2].Text} { // each has a pod that asks for something
		files[2+i].Text = strings.ReplaceAll(text, "\n---", "\nspec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: \"1\"}}}]}}}\n---") +
			"spec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: \"1\"}}}]}}}\n"
	}
	want := []string{
		"placements.yaml:2:1: WorkloadPlacement default/one: scheduling.minClusters: every workload waits for 2 clusters, and 1 of the fleet's 3 pass the selectors and capabilityRequirements (as the policies schedule Deployment default/web) [contradiction]",
		"placements.yaml:2:1: WorkloadPlacement default/one: scheduling.workloadAffinity[0].labelSelector: there are no workloads with app=db (as the policies schedule Deployment default/web) [no_workload]",
		"placements.yaml:9:1: WorkloadPlacement default/single: scheduling.minClusters: has no effect: 2 is above the number of clusters, which is 1 (as the policies schedule Deployment default/api) [overruled]",
		"placements.yaml:9:1: WorkloadPlacement default/single: scheduling.spreadConstraints[0]: keeps nothing even: each workload has one cluster; scope: Workloads counts the workloads of the placement (as the policies schedule Deployment default/api) [spread]",
		"placements.yaml:9:1: WorkloadPlacement default/single: scheduling.workloadAffinity[0].labelSelector: there are no workloads with app=db (as the policies schedule Deployment default/api) [no_workload]",
		"placements.yaml:9:1: WorkloadPlacement default/single: scheduling.workloadAffinity[1]: asks for the contrary of workloadAffinity[0], and both are required: remove one of them (as the policies schedule Deployment default/api) [contradiction]",
		"policies/scheduling.rego:5:1: scheduling.spreadConstraints[0].topologyKey: no cluster of the fleet has zoen, so that each cluster costs the same, did you mean zone? [topology_key]",
	}
	got := found(t, files)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestDeadlineOfDrain: a drain that begins after its deadline has no pace, which is hardly meant. One that is under way may pass it.
func TestDeadlineOfDrain(t *testing.T) {
	for _, test := range []struct{ name, cluster, want string }{
		{"past", `spec: {location: eu, drain: {deadline: "2026-01-01T01:00:00+01:00"}}`, "fleet.yaml:5:40: ClusterRegistration a: spec.drain.deadline: 2026-01-01T00:00:00Z has passed, " +
			"so that all that can leave does at once: give a later time, or leave it out to keep the pace [deadline]"},
		{"future", `spec: {location: eu, drain: {deadline: "9999-01-01T00:00:00Z"}}`, ""},
		{"none", `spec: {location: eu, drain: {}}`, ""},
		{"under way", "spec: {location: eu, drain: {deadline: \"2026-01-01T00:00:00Z\"}}\nstatus: {drain: {remaining: 1}}", ""},
	} {
		text := "apiVersion: tmc.kcp.io/v1alpha1\nkind: ClusterRegistration\nmetadata:\n  name: a\n" + test.cluster
		if got := strings.Join(found(t, []*manifest.File{{Name: "fleet.yaml", Text: text}}), "\n"); got != test.want {
			t.Errorf("%s: got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// TestOfSomeFiles: what is found in a file is the same, whether the others are reported, too, or not.
func TestOfSomeFiles(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(root, "examples/*"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(workspaces []*manifest.Workspace, wrong []*manifest.Error, of func(*manifest.File) bool) (found []string) {
		report, err := check.Workspaces(t.Context(), workload.Kinds(), workspaces, wrong, of)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			if of(f.File) {
				found = append(found, fmt.Sprintf("%s: %s: %s [%s]", f.Severity, f.Position, f.Description(), f.Code))
			}
		}
		return found
	}
	inFiles := 0
	for _, folder := range folders {
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			continue
		}
		files := read(t, folder)
		for _, f := range files { // as one mistypes
			f.Text = strings.NewReplacer("nvidia.com/gpu", "nvidia.com/gqu", "preferred-location", "preferred-lokation", "weights :=", "weihts :=", "tier", "teir").Replace(f.Text)
		}
		workspaces, wrong := manifest.Reader{Kinds: workload.Kinds()}.Read(files)
		var all, each []string
		for _, f := range files {
			of := func(of *manifest.File) bool { return of == f }
			each = append(each, check(workspaces, wrong, of)...)
		}
		all = check(workspaces, wrong, func(f *manifest.File) bool { return f != nil })
		slices.Sort(all)
		slices.Sort(each)
		if diff := gocmp.Diff(all, each); diff != "" {
			t.Errorf("%s: in all files, and in each:\n%s", folder, diff)
		}
		inFiles += len(all)
	}
	if inFiles == 0 {
		t.Error("nothing is found anywhere")
	}
}
