package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
)

// console is a block of commands, each after "$ ", and of what they print. Three dots stand for what the page leaves out.
var console = regexp.MustCompile("(?ms)^```\n(\\$ .*?)^```$")

// TestAuthoringPage types what docs/authoring.md tells authors to type, in its order, and sees what the page shows.
func TestAuthoringPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/authoring.md")
	if err != nil {
		t.Fatal(err)
	}
	// What authors bring themselves: the candidate of section 5, and the live workspace of section 6.
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	files := map[string]string{
		"affinity.rego": file(t, "author.txtar", "affinity.rego"),
		"live.yaml":     fmt.Sprintf(live, ago(12*time.Minute+30*time.Second), ago(3*time.Hour+7*time.Minute+30*time.Second)),
	}
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	typeAll(t, string(page), 6)
}

// written is a file that a page shows, of that name.
var written = regexp.MustCompile("(?ms)^```yaml\n# file: (\\S+)\n(.*?)^```$")

// TestPlacementPage does what docs/placement.md shows, with the files that it shows, on the fleet of an example.
func TestPlacementPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/placement.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, "examples"), os.DirFS("../../examples")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder)
	for _, file := range written.FindAllStringSubmatch(string(page), -1) {
		if err := os.WriteFile(file[1], []byte(file[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	typeAll(t, string(page), 7)
}

// TestRebalancePage does what docs/rebalance.md shows, with the files that it shows.
func TestRebalancePage(t *testing.T) { typePage(t, "rebalance.md", 4) }

// TestMovesPage does what docs/moves.md shows, with the files that it shows.
func TestMovesPage(t *testing.T) { typePage(t, "moves.md", 3) }

// TestSharedFleetsPage tries a quota as docs/shared-fleets.md shows it, with the files that it shows.
func TestSharedFleetsPage(t *testing.T) { typePage(t, "shared-fleets.md", 2) }

func typePage(t *testing.T, name string, atLeast int) {
	t.Helper()
	page, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, file := range written.FindAllStringSubmatch(string(page), -1) {
		if err := os.WriteFile(file[1], []byte(file[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	typeAll(t, string(page), atLeast)
}

// TestDeliveryPage does what docs/delivery.md shows of rendering, with the files that it shows.
func TestDeliveryPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/delivery.md")
	if err != nil {
		t.Fatal(err)
	}
	described := file(t, "describe.txtar", "web.txt")
	t.Chdir(t.TempDir())
	page := ""
	for _, name := range []string{"What is delivered", "Overrides"} {
		_, section, found := strings.Cut(string(text), "\n## "+name+"\n")
		if !found {
			t.Fatalf("the page has no section %s", name)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		page += section
	}
	for _, file := range written.FindAllStringSubmatch(page, -1) {
		if err := os.WriteFile(file[1], []byte(file[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	typeAll(t, page, 3)
	if !strings.Contains(string(text), described) {
		t.Errorf("the page does not show what describe.txtar does:\n%s", described)
	}
}

// typeAll types the commands of a page, in at least so many blocks, and compares what they print with what the page shows. A command
// that ends with "# exit code 1" is to fail so.
func typeAll(t *testing.T, page string, atLeast int) {
	t.Helper()
	blocks := console.FindAllStringSubmatch(page, -1)
	if len(blocks) < atLeast {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	for _, block := range blocks {
		for _, typed := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			line, shown, _ := strings.Cut(typed, "\n")
			line, want, fails := strings.Cut(line, " # exit code ")
			if !fails {
				want = "0"
			}
			args := strings.Fields(strings.TrimPrefix(line, "kubectl placement "))
			if len(args) == 1 && args[0] == "top" {
				args = append(args, "live.yaml")
			}
			var out, errOut strings.Builder
			if code := command.Run(t.Context(), args, strings.NewReader(""), &out, &errOut); fmt.Sprint(code) != want {
				t.Errorf("%s: exit code %d: %s", line, code, &errOut)
			}
			if !pattern(shown).MatchString(changing.ReplaceAllString(out.String(), "${2}0$1")) {
				t.Errorf("%s: the page shows\n%s\nit prints\n%s", line, shown, &out)
			}
		}
	}
}

// live is what the workspace of section 6 has.
const live = `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: amber}
spec: {location: eu}
status:
  allocatable: {cpu: "8", memory: 31.3Gi}
  allocated: {cpu: "3", memory: 6Gi}
  largestFree: {cpu: 1500m, memory: 12Gi}
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]
---
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: basalt}
spec: {location: eu}
status:
  allocatable: {cpu: "2", memory: 8Gi}
  allocated: {cpu: 1500m, memory: 2Gi}
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]
---
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: urgent, namespace: default}
spec: {priority: 100, workloadSelector: {labelSelector: {matchLabels: {app: train}}}, clusterSelector: {clusterNames: [amber]}, numberOfClusters: 1}
---
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: web, namespace: default}
spec: {workloadSelector: {labelSelector: {matchLabels: {app: web}}}, numberOfClusters: 1}
---
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: web-0, namespace: default, labels: {tmc.kcp.io/placement: web}}
placementName: web
count: 1
decisions:
  - workload: {apiVersion: apps/v1, kind: Deployment, name: old, uid: uid-old}
    clusters: [{name: amber, replicas: 1, score: 84, reason: Excellent}, {name: basalt, replicas: 1, score: 60, reason: Good}]
    reserved: {cpu: "1", memory: 1Gi}
    decidedAt: "2026-01-01T00:00:00Z"
---
apiVersion: batch/v1
kind: Job
metadata: {name: train, namespace: default, labels: {app: train}, creationTimestamp: %q}
spec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: "2", memory: 1Gi}}}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {app: web}, creationTimestamp: %q}
spec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: 500m, memory: 1Gi}}}]}}}
`

// pattern matches what a page shows.
func pattern(shown string) *regexp.Regexp {
	shown = changing.ReplaceAllString(strings.TrimRight(shown, "\n")+"\n", "${2}0$1")
	text := regexp.QuoteMeta(shown)
	text = strings.ReplaceAll(text, `\.\.\.`+"\n", `(?s:.*)`)
	text = strings.ReplaceAll(text, `\.\.\.`, `.*`)
	// Columns are as wide as what is in them, also as what the page leaves out.
	text = regexp.MustCompile(` {2,}`).ReplaceAllString(text, ` {2,}`)
	return regexp.MustCompile(`^` + text + `\n*$`)
}

// file is a file of a script.
func file(t *testing.T, script, name string) string {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	t.Fatalf("%s has no %s", script, name)
	return ""
}
