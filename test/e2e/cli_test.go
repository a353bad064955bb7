package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/simulation"
)

// TestCLI: kubectl placement shows what the controller has done and will do in a live workspace, and writes nothing.
func TestCLI(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "4"), clusterWith("b", "True", "8", "{tier: gold}"), placement("app", "numberOfClusters: 1"), placement("big"),
		policies("p", "package placement.scoring\n\nweights := {\"capacity\": 50, \"affinity\": 50}"),
		deployment("one", "app", "1"), deployment("two", "app", "500m"), deployment("huge", "big", "100"), deployment("stray", "none", "1"),
		"\n{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: default, labels: {tmc.kcp.io/deliver-with: one}}, data: {a: b}}\n")
	team.expect("Deployment one", "b")
	team.expect("Deployment two", "b")

	dir := t.TempDir()
	binary, kubeconfig := cliProgram.build(t), filepath.Join(dir, "kubeconfig")
	if err := server.WriteKubeconfig(team.workspace, kubeconfig); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		command := exec.Command(binary, append(args, "--kubeconfig", kubeconfig)...)
		var out, errOut strings.Builder
		command.Stdout, command.Stderr = &out, &errOut
		code := 0
		var exit *exec.ExitError
		if err := command.Run(); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != want {
			t.Fatalf("%v: exit code %d, want %d\n%s%s", args, code, want, &out, &errOut)
		}
		return out.String(), errOut.String()
	}
	contains := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("no %q in\n%s", part, text)
			}
		}
	}
	versions := func() (all []string) {
		for _, resource := range []schema.GroupVersionResource{clusters, placements, decisions, configMaps, deployments} {
			list, err := team.client.Resource(resource).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range list.Items {
				all = append(all, item.GetKind()+"/"+item.GetName()+"="+item.GetResourceVersion())
			}
		}
		return all
	}
	// Counts are written after a few seconds.
	team.eventually("the counts", "2 of 2", func() string {
		object, err := team.client.Resource(placements).Namespace("default").Get(t.Context(), "app", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		status := as[v1alpha1.WorkloadPlacement](team, object).Status
		return fmt.Sprintf("%d of %d", status.Placed, status.Workloads)
	})
	team.eventually("what huge waits for", "true", func() string {
		return fmt.Sprint(strings.Contains(team.condition("big", v1alpha1.ScheduledCondition), "waits for 93500m more cpu free on b"))
	})
	before := versions()

	// What is placed stays, and what waits still waits for the same reason.
	out, _ := run(0, "simulate", "-o", "json")
	var result simulation.Result
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := map[string]string{}
	for _, d := range result.Decisions {
		var on []string
		for _, c := range d.Clusters {
			on = append(on, c.Name)
		}
		got[d.Workload.Name] = strings.Join(on, ",") + d.Error
		if d.Kept != (len(on) > 0) {
			t.Errorf("%s stays: %v", d.Workload, d.Kept)
		}
	}
	for name, want := range map[string]string{
		"one": "b", "two": "b", "huge": "0 of 2 clusters are feasible: 2 rejected by Capacity",
		"stray": "no WorkloadPlacement of namespace default selects this workload",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	out, _ = run(0, "explain", "one")
	contains(out, "Deployment default/one stays where it is, as PlacementDecisions say.", "50, no term")
	out, _ = run(0, "explain", "deployment/huge")
	contains(out, "asks for 100 cpu, 4 free", "96 more cpu free")

	one, err := team.client.Resource(deployments).Namespace("default").Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out, _ = run(0, "render", "one")
	contains(out, "# cluster b", "tmc.kcp.io/workload-uid: "+string(one.GetUID()), "kind: ConfigMap", "name: settings")
	if strings.Contains(out, "kcp.io/cluster") || strings.Contains(out, "managedFields") {
		t.Errorf("what is the server's is delivered:\n%s", out)
	}

	out, _ = run(0, "top")
	contains(out, "1500m      6500m", "Deployment default/huge", "b: 93500m more cpu free", "1 workloads wait")

	// A candidate moves the same workloads as the controller does once it is applied.
	candidate := filepath.Join(dir, "silver.rego")
	rego := "package placement.affinity\n\nterms contains {\"match\": {\"labelSelector\": {\"matchExpressions\": [{\"key\": \"tier\", \"operator\": \"DoesNotExist\"}]}}, \"factor\": \"affinity\", \"required\": true} if input.workload.name == \"one\"\n"
	if err := os.WriteFile(candidate, []byte(rego), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ = run(1, "diff", "-c", candidate, "--exit-code")
	contains(out, "Deployment default/one", "Deployment default/one   app         b (70)   a (65)", "4 workloads: 1 would move")
	if after := versions(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("the workspace was written to:\nbefore %s\nafter  %s", before, after)
	}
	team.apply(policies("silver", rego))
	team.expect("Deployment one", "a")
	team.expect("Deployment two", "b")

	_, stderr := run(2, "simulate", "--workspace", "root")
	contains(stderr, "workspace root does not serve clusterregistrations.tmc.kcp.io: bind the APIExport tmc.kcp.io in it")
	_, stderr = run(2, "simulate", "--workspace", "root:nowhere")
	contains(stderr, "workspace root:nowhere") // Forbidden on kcp v0.28, NotFound on v0.32
	contains(stderr, "clusterregistrations.tmc.kcp.io")
	_, stderr = run(0, "simulate", "--workload-kinds", "deployments.v1.apps,cronjobs.v1.batch")
	contains(stderr, "does not serve cronjobs.batch: there are none")
}
