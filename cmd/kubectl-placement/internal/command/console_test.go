package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/command"
	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// still is a source of files that do not change.
type still []*manifest.Workspace

func (s still) Follow(ctx context.Context, tell func(console.Reading)) {
	tell(console.Reading{Workspaces: s, At: time.Now()})
	<-ctx.Done()
}

// consoleOf is a console of files, and a function that asks it.
func consoleOf(t *testing.T, paths ...string) func(method, path string, body, into any) {
	t.Helper()
	var files []*manifest.File
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, &manifest.File{Name: p, Text: string(text)})
	}
	workspaces, errs := manifest.Read(files)
	if err := manifest.Join(errs); err != nil {
		t.Fatal(err)
	}
	handler := console.Handler(&console.Local{Token: "t", From: still(workspaces), Kind: console.SourceFiles}, console.Options{})
	return func(method, path string, body, into any) {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost/api/v1/"+path, strings.NewReader(string(text)))
		r.Header.Set("Authorization", "Bearer t")
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("%s: %d: %s", path, w.Code, w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
}

// printedJSON is what a command prints with -o json.
func printedJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	var out, errOut strings.Builder
	command.Run(t.Context(), append(args, "-o", "json"), strings.NewReader(""), &out, &errOut)
	if err := json.Unmarshal([]byte(out.String()), into); err != nil {
		t.Fatalf("%v: %v: %s%s", args, err, &out, &errOut)
	}
}

// decidedFleet is a fleet whose workloads have decisions: web1 to web6 are on full, and empty has room. train waits for a GPU.
func decidedFleet(t *testing.T) string {
	t.Helper()
	text := `apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: all, namespace: default}
spec:
  workloadSelector: {workloadTypes: [{apiVersion: apps/v1, kind: Deployment}]}
  constraints:
    - {name: gpus, expression: 'capacity.free[?"nvidia.com/gpu"].orValue(0) >= workload.requests[?"nvidia.com/gpu"].orValue(0)'}
  numberOfClusters: 1
`
	for _, c := range []struct {
		name, tier string
		cpu        int
	}{{"empty", "gold", 64}, {"full", "silver", 16}} {
		text += fmt.Sprintf(`---
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: %s, labels: {tier: %s}}
spec: {location: eu}
status:
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]
  allocatable: {cpu: "%d", memory: 64Gi}
`, c.name, c.tier, c.cpu)
	}
	decisions := ""
	deployment := func(name, requests string) {
		text += fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s, namespace: default, uid: uid-%[1]s}
spec:
  replicas: 1
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: i, resources: {requests: %s}}]}
`, name, requests)
	}
	for i := range 6 {
		name := fmt.Sprintf("web%d", i+1)
		deployment(name, `{cpu: "2", memory: 1Gi}`)
		decisions += fmt.Sprintf(`  - workload: {apiVersion: apps/v1, kind: Deployment, name: %s, uid: uid-%[1]s}
    clusters: [{name: full, replicas: 1, score: 80, reason: Excellent}]
    reserved: {cpu: "2", memory: 1Gi}
    decidedAt: "2026-01-01T00:00:00Z"
`, name)
	}
	deployment("train", `{cpu: "1", memory: 1Gi, nvidia.com/gpu: "1"}`)
	text += `---
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: all-1, namespace: default, labels: {tmc.kcp.io/placement: all}}
placementName: all
count: 6
decisions:
` + decisions
	file := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPlaygroundIsDiff: whatever is tried, in whichever order, moves what kubectl placement diff says that it moves.
func TestPlaygroundIsDiff(t *testing.T) {
	file := decidedFleet(t)
	ask := consoleOf(t, file)
	var policies console.Policies
	ask("GET", "policies", nil, &policies)
	constraint := func(expression string) string {
		return strings.Replace(policies.Placements[0].YAML, "constraints:", "constraints:\n  - {name: tried, expression: '"+expression+"'}", 1)
	}
	required := "package placement.affinity\n\nterms contains {\"match\": {\"labelSelector\": {\"matchLabels\": {\"tier\": \"gold\"}}}, \"factor\": \"affinity\", \"required\": true}\n"
	tries := []console.Play{
		{Modules: map[string]string{"affinity.rego": required}},
		{Placements: map[string]string{"default/all": constraint(`cluster.name == "empty"`)}},
		{Modules: map[string]string{"scoring.rego": "package placement.scoring\n\nweights := {\"capacity\": 60, \"health\": 1}\n"}},
		{Modules: map[string]string{"scoring.rego": "package placement.scoring\n\nweights := {\"capacity\": 60, \"health\": 1}\n"}, Fresh: true},
		{Placements: map[string]string{"default/all": constraint(`cluster.name == "none"`)}},
		{Modules: map[string]string{}},
		{Modules: map[string]string{"affinity.rego": required}, Fresh: true},
		{Modules: map[string]string{"affinity.rego": required}},
	}
	moves := 0
	for i, play := range tries {
		folder := t.TempDir()
		args := []string{"diff", file, "-c", folder}
		for name, text := range play.Modules {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range play.Placements {
			if err := os.WriteFile(filepath.Join(folder, "placement.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if play.Modules != nil {
			args = append(args, "--prune")
		}
		if play.Fresh {
			args = append(args, "--fresh")
		}
		var want simulation.Diff
		printedJSON(t, &want, args...)
		var got console.Played
		ask("POST", "playground", play, &got)
		if got.Diff == nil {
			t.Fatalf("try %d: %+v", i, got)
		}
		if diff := cmp.Diff(&want, got.Diff); diff != "" {
			t.Errorf("try %d: kubectl placement diff says otherwise (-diff +playground):\n%s", i, diff)
		}
		moves += got.Diff.Summary.Moved + got.Diff.Summary.Held
	}
	if moves == 0 {
		t.Error("nothing was ever moved")
	}
}

// TestConsoleIsTop: a workload that waits shows what top shows that it waits for, and the clusters are as full as top says.
func TestConsoleIsTop(t *testing.T) {
	file := decidedFleet(t)
	ask := consoleOf(t, file)
	var top simulation.Top
	printedJSON(t, &top, "top", file)
	var waiting console.Workloads
	ask("GET", "workloads?state=Waiting", nil, &waiting)
	if len(top.Queue) != 1 || len(waiting.Workloads) != 1 {
		t.Fatalf("top has %d, the console %d that wait", len(top.Queue), len(waiting.Workloads))
	}
	want, got := top.Queue[0], waiting.Workloads[0]
	if got.Workload != want.Workload || got.WaitsFor != want.WaitsFor || got.Position != want.Position || got.Nearest != want.Nearest {
		t.Errorf("top: %+v\nconsole: %+v", want, got.Queued)
	}
	if diff := cmp.Diff(want.BlockedBy, got.BlockedBy); diff != "" {
		t.Errorf("other blockers (-top +console):\n%s", diff)
	}
	var fleet console.Fleet
	ask("GET", "fleet", nil, &fleet)
	for i := range top.Clusters {
		if diff := cmp.Diff(top.Clusters[i], fleet.Clusters[i].ClusterLoad); diff != "" {
			t.Errorf("another cluster (-top +console):\n%s", diff)
		}
	}
}

// TestWhyIsExplain: the verdicts are those of explain, the chain is that of describe.
func TestWhyIsExplain(t *testing.T) {
	file := decidedFleet(t)
	ask := consoleOf(t, file)
	for _, name := range []string{"train", "web3"} {
		var want simulation.Explanation
		printedJSON(t, &want, "explain", name, file)
		var described struct {
			Chain []struct{ Name, State string }
			Wrong string
		}
		printedJSON(t, &described, "describe", name, file)
		var got console.Why
		ask("GET", "workloads/Deployment/default/"+name+"/why", nil, &got)
		if diff := cmp.Diff(want.Verdicts, got.Verdicts); diff != "" {
			t.Errorf("%s: other verdicts (-explain +why):\n%s", name, diff)
		}
		if len(got.Chain) != len(described.Chain) || got.Wrong != described.Wrong {
			t.Errorf("%s: describe says %+v, why %+v", name, described, got.Chain)
		}
		if waits := len(got.Clusters) == 0; waits != (len(got.Remedies) > 0) || waits != (got.Queue != nil) {
			t.Errorf("%s: %+v %+v", name, got.Remedies, got.Queue)
		}
	}
}
