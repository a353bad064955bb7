package simulation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

func read(t testing.TB, texts ...string) []*manifest.Workspace {
	t.Helper()
	var files []*manifest.File
	for i, text := range texts {
		files = append(files, &manifest.File{Name: fmt.Sprintf("%d.yaml", i), Text: text})
	}
	workspaces, errs := manifest.Read(files)
	if err := manifest.Join(errs); err != nil {
		t.Fatal(err)
	}
	return workspaces
}

func load(t testing.TB, texts ...string) *simulation.Simulation {
	t.Helper()
	s, err := simulation.New(simulation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), read(t, texts...)); err != nil {
		t.Fatal(err)
	}
	return s
}

func run(t testing.TB, s *simulation.Simulation) *simulation.Result {
	t.Helper()
	r, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// where lists where the workloads run, in order.
func where(r *simulation.Result) string {
	var lines []string
	for _, d := range r.Decisions {
		line := d.Workload.Name + ":"
		for _, c := range d.Clusters {
			line += " " + c.Name
		}
		if d.Kept {
			line += ", stays"
		}
		if d.Error != "" {
			line += " " + d.Error
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func cluster(name, cpu string, more ...string) string {
	return fmt.Sprintf(`
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: %s}
spec: {location: eu%s}
status:
  allocatable: {cpu: "%s", memory: 64Gi}
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z"}]
---`, name, strings.Join(more, ""), cpu)
}

func placement(name, spec string) string {
	return fmt.Sprintf("\n{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: %s}, spec: {%s}}\n---", name, spec)
}

func deployment(name string, second int, cpu string, metadata ...string) string {
	return fmt.Sprintf("\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, creationTimestamp: \"2026-01-01T00:00:%02dZ\"%s}, "+
		"spec: {template: {spec: {containers: [{name: main, resources: {requests: {cpu: \"%s\"}}}]}}}}\n---", name, second, strings.Join(metadata, ""), cpu)
}

const one = "workloadSelector: {}, numberOfClusters: 1"

// TestOrder: the oldest workload is placed first, then by name. It belongs to the oldest placement, unless an annotation
// names another.
func TestOrder(t *testing.T) {
	s := load(t, cluster("a", "2"), placement("p", one), placement("q", one),
		deployment("late", 3, "1"), deployment("b", 2, "1"), deployment("a", 2, "1", ", annotations: {tmc.kcp.io/placement: q}"))
	r := run(t, s)
	want := "a: a\nb: a\nlate: 0 of 1 clusters are feasible: 1 rejected by Capacity"
	if got := where(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if r.Decisions[0].Placement != "q" || r.Decisions[1].Placement != "p" {
		t.Errorf("owners %s, %s", r.Decisions[0].Placement, r.Decisions[1].Placement)
	}
	if got := fmt.Sprint(r.Clusters[0].Reserved["cpu"], r.Clusters[0].Utilization["cpu"], r.Summary.Placed, r.Summary.Unplaced); got != "2000 100 2 1" {
		t.Error(got)
	}
}

// TestPriority: workloads of a placement with a higher priority are placed first, whatever their age. A workload of no
// placement has priority 0.
func TestPriority(t *testing.T) {
	s := load(t, cluster("a", "2"), placement("low", one+", priority: -1"), placement("high", one+", priority: 1"),
		deployment("old", 1, "1", ", annotations: {tmc.kcp.io/placement: low}"), deployment("b", 3, "1", ", annotations: {tmc.kcp.io/placement: high}"),
		deployment("a", 3, "1", ", annotations: {tmc.kcp.io/placement: high}"), deployment("alien", 9, "1", ", namespace: elsewhere"))
	want := "a: a\nb: a\nalien: no WorkloadPlacement of namespace elsewhere selects this workload\nold: 0 of 1 clusters are feasible: 1 rejected by Capacity"
	if got := where(run(t, s)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestAgain: a workload stays in the next run, and moves for the reasons for which the controller would move it.
func TestAgain(t *testing.T) {
	a, b := cluster("a", "4"), cluster("b", "2")
	web := deployment("web", 1, "1")
	s := load(t, a, b, placement("p", one), web)
	expect := func(want string, texts ...string) {
		t.Helper()
		if err := s.Load(t.Context(), read(t, texts...)); err != nil {
			t.Fatal(err)
		}
		if got := where(run(t, s)); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	expect("web: a", a, b, placement("p", one), web)
	expect("web: a, stays", a, b, placement("p", one), web)
	stays, noSchedule := "web: a, stays", cluster("a", "4", ", taints: [{key: x, effect: NoSchedule}]")
	expect(stays, cluster("a", "1"), b, placement("p", one), web) // a full cluster is no reason to move
	expect(stays, noSchedule, b, placement("p", one), web)        // nor one that takes nothing more
	expect(stays, a, b, placement("p", one+`, constraints: [{name: c, expression: "true"}]`), web)
	expect(stays, a, b, placement("q", one), web) // nor another placement
	expect("web: b", cluster("a", "4", ", taints: [{key: x, effect: NoExecute}]"), b, placement("p", one), web)
	expect("web: a", a, placement("p", one), web) // b is gone
	expect("web: a b", a, b, placement("p", "workloadSelector: {}, numberOfClusters: 2"), web)
	expect("web: no WorkloadPlacement of namespace default selects this workload", a, b, web)
	expect("web: a", a, b, placement("p", one), web)
}

// TestDecisions: PlacementDecisions say where workloads run. They hold reservations of workloads that are not given, too,
// and Fresh ignores them all.
func TestDecisions(t *testing.T) {
	fleet := cluster("a", "4") + cluster("b", "4") + placement("p", one)
	web := deployment("web", 1, "1")
	decision := func(uid, cluster string) string {
		return fmt.Sprintf(`
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: p-1}
placementName: p
decisions:
  - {workload: {apiVersion: apps/v1, kind: Deployment, name: web, uid: "%s"}, clusters: [{name: %s, replicas: 1, score: 7, reason: Poor}], reserved: {cpu: "1"}, policyDigest: x, inputsDigest: x, snapshotGeneration: 1, decidedAt: "2026-01-01T00:00:00Z"}
  - {workload: {apiVersion: apps/v1, kind: Deployment, name: other, uid: u}, clusters: [{name: a, replicas: 1, score: 7, reason: Poor}], reserved: {cpu: "4"}, policyDigest: x, inputsDigest: x, snapshotGeneration: 1, decidedAt: "2026-01-01T00:00:00Z"}
`, uid, cluster)
	}
	for _, test := range []struct {
		name    string
		options simulation.Options
		texts   []string
		want    string
	}{
		{"a decision on a former workload of the name is made again, beside the reservations of others", simulation.Options{}, []string{fleet, deployment("web", 1, "1", ", uid: u2"), decision("u1", "a")}, "web: b"},
		{"a workload in a file without UID is the one that was decided on", simulation.Options{}, []string{fleet, web, decision("u1", "a")}, "web: a, stays"},
		{"Fresh ignores decisions", simulation.Options{Fresh: true}, []string{fleet, web, decision("u1", "a")}, "web: a"},
		{"a decision stays in force where a policy is wrong", simulation.Options{}, []string{
			fleet, web, decision("u1", "b"),
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: c, labels: {openpolicyagent.org/policy: rego}}, data: {a.rego: nonsense}}",
		}, "web: b, stays 3.yaml:1:115: rego_parse_error: ConfigMap default/c: data[a.rego]: package expected"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := simulation.New(test.options)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Load(t.Context(), read(t, test.texts...)) // the decision has the error, too
			if got := where(run(t, s)); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestTrial: policies that fail for a workload come into force where they are in force already, as ConfigMaps of a server say:
// the others go on, and it waits alone. Text that has changed since is tried again.
func TestTrial(t *testing.T) {
	const weighed = "package placement.scoring\ndefault weights := {\"health\": 1}\nweights := {\"health\": to_number(input.workload.labels.weight)}\n"
	fleet := cluster("a", "4") + placement("p", one) + deployment("db", 1, "1", ", labels: {weight: heavy}") + deployment("web", 2, "1", `, labels: {weight: "5"}`)
	configMap := func(text, status string) string {
		object, err := json.Marshal(corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{
				Name: "c", Labels: map[string]string{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}, Annotations: map[string]string{v1alpha1.AnnotationPolicyStatus: status},
			},
			Data: map[string]string{"a.rego": text, "a_test.rego": "package a_test\n"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(object)
	}
	compiler, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := compiler.Compile(map[string]string{"default/c/a.rego": weighed})
	if err != nil {
		t.Fatal(err)
	}
	inForce := fmt.Sprintf(`{"status":"ok","digest":%q}`, set.Digest())
	for _, test := range []struct {
		name, text, status string
		// waits are those that are not decided.
		waits []string
	}{
		{"without a status", weighed, "", []string{"db", "web"}},
		{"the status of a refusal", weighed, `{"status":"error","error":{"code":"invalid_parameter"}}`, []string{"db", "web"}},
		{"a status that cannot be read", weighed, "ok", []string{"db", "web"}},
		{"in force", weighed, inForce, []string{"db"}},
		{"another text than that in force", weighed + "# 2", inForce, []string{"db", "web"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := simulation.New(simulation.Options{})
			if err != nil {
				t.Fatal(err)
			}
			workspaces := read(t, fleet, configMap(test.text, test.status))
			for range 2 { // the second time as the candidates of a diff that leave the policies as they are
				err := s.Load(t.Context(), workspaces)
				if refused := len(test.waits) == 2; (err != nil) != refused || refused && !strings.Contains(err.Error(), "(for Deployment default/db)") {
					t.Errorf("loaded: %v", err)
				}
				var waits []string
				for _, d := range run(t, s).Decisions {
					if d.Failed() {
						waits = append(waits, d.Workload.Name)
					}
				}
				if !slices.Equal(waits, test.waits) {
					t.Errorf("%v wait, want %v", waits, test.waits)
				}
			}
		})
	}
}

// TestCompare: some workloads move, some stay with other scores, some are placed, and some lose their place.
func TestCompare(t *testing.T) {
	fleet := cluster("a", "8") + cluster("b", "2")
	base := fleet + placement("p", one) + deployment("moves", 1, "1", ", labels: {x: moves}") + deployment("stays", 2, "1") +
		placement("big", "workloadSelector: {labelSelector: {matchLabels: {x: big}}}")
	s := load(t, base)
	before := run(t, s)
	rego := &manifest.File{Name: "a.rego", Text: `package placement.affinity

terms contains {"match": {"clusterNames": ["b"]}, "factor": "affinity", "onMatch": 50, "otherwise": -50, "required": true} if {
	input.workload.labels.x == "moves"
}

terms contains {"match": {"clusterNames": ["a"]}, "factor": "affinity", "onMatch": 50} if not input.workload.labels.x`}
	candidates, _ := manifest.Read([]*manifest.File{rego})
	overlaid, err := manifest.Overlay(read(t, base), candidates, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), overlaid); err != nil {
		t.Fatal(err)
	}
	diff := simulation.Compare(before, run(t, s))
	text, err := json.Marshal(diff.Summary)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"workloads":2,"before":2,"after":2,"moved":1,"gained":0,"rescored":1,"redivided":0,"movedReplicas":0,"placed":0,"unplaced":0,"standing":0,"held":0}`; string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	if len(diff.Moves) != 1 || diff.Moves[0].Before[0].Name != "a" || diff.Moves[0].After[0].Name != "b" {
		t.Errorf("moves %+v", diff.Moves)
	}
	if len(diff.Rescored) != 1 || diff.Rescored[0].Workload.Name != "stays" {
		t.Errorf("rescored %+v", diff.Rescored)
	}
	if len(diff.Clusters) != 2 {
		t.Errorf("clusters %+v", diff.Clusters)
	}
	if same := simulation.Compare(before, before); same.Summary.Moved+same.Summary.Rescored+len(same.Clusters) != 0 {
		t.Errorf("a result differs from itself: %+v", same)
	}
}

func TestInterrupted(t *testing.T) {
	s := load(t, cluster("a", "2"), placement("p", one), deployment("web", 1, "1"))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	if _, err := s.Run(ctx); err == nil {
		t.Error("it went on")
	}
}

// TestNeverOversubscribed: whatever is simulated, no cluster promises more than it has, every workload has a decision, and
// the order of the objects does not change the result.
func TestNeverOversubscribed(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var objects []string
		for i := range rapid.IntRange(0, 4).Draw(r, "clusters") {
			objects = append(objects, cluster(fmt.Sprintf("c%d", i), fmt.Sprint(rapid.IntRange(0, 8).Draw(r, "cpu"))))
		}
		strategy := rapid.SampledFrom([]string{"strategy: {type: Spread}, numberOfClusters: 2", "strategy: {type: RoundRobin}", "strategy: {type: Affinity}"}).Draw(r, "strategy")
		objects = append(objects, placement("p", "workloadSelector: {}, "+strategy))
		workloads := rapid.IntRange(0, 12).Draw(r, "workloads")
		for i := range workloads {
			objects = append(objects, deployment(fmt.Sprintf("w%d", i), rapid.IntRange(0, 3).Draw(r, "second"), fmt.Sprintf("%dm", rapid.IntRange(0, 4000).Draw(r, "request"))))
		}
		result := func(objects []string) *simulation.Result {
			workspaces := read(t, strings.Join(objects, ""))
			s, err := simulation.New(simulation.Options{Rejected: true})
			if err != nil {
				r.Fatal(err)
			}
			if err := s.Load(t.Context(), workspaces); err != nil {
				r.Fatal(err)
			}
			result, err := s.Run(context.Background())
			if err != nil {
				r.Fatal(err)
			}
			result.Summary.ElapsedMs = 0
			for i := range result.Decisions {
				result.Decisions[i].Explained = nil
			}
			return result
		}
		first := result(objects)
		for _, c := range first.Clusters {
			if c.Reserved["cpu"] > c.Allocatable["cpu"] {
				r.Errorf("%s promises %d of %d", c.Name, c.Reserved["cpu"], c.Allocatable["cpu"])
			}
		}
		if len(first.Decisions) != workloads {
			r.Errorf("%d decisions for %d workloads", len(first.Decisions), workloads)
		}
		slices.Reverse(objects)
		again := result(objects)
		a, _ := json.Marshal(first)
		b, _ := json.Marshal(again)
		if string(a) != string(b) {
			r.Errorf("the order of the objects counts:\n%s\n%s", a, b)
		}
	})
}

// TestWaitingCostsNoVerdicts: to place a workload that waits does not take to look at each cluster again and say why it is none, for which
// nobody has asked.
func TestWaitingCostsNoVerdicts(t *testing.T) {
	const clusters, workloads = 300, 100
	var texts []string
	for i := range clusters {
		texts = append(texts, cluster(fmt.Sprintf("c%03d", i), "4"))
	}
	texts = append(texts, placement("all", one))
	for i := range workloads {
		texts = append(texts, deployment(fmt.Sprintf("huge%03d", i), i%60, "1000"))
	}
	s := load(t, strings.Join(texts, "\n---\n"))
	if all := run(t, s); all.Summary.Placed != 0 {
		t.Fatalf("%d are placed, want that all wait", all.Summary.Placed)
	}
	if allocated := testing.AllocsPerRun(1, func() { run(t, s) }) / workloads; allocated > clusters/2 {
		t.Errorf("one that waits for any of %d clusters takes %.0f allocations", clusters, allocated)
	}
}
