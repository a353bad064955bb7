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
