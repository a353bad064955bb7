package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestWhatRunsStays: an edit that leaves no place takes none away. Each of these edits is one line, and what is asked for
// afterwards is nowhere to be had. What runs stays as it was decided, the placement says why and what would help, and is
// content again once the edit is undone. Only a constraint that is required during execution withdraws what violates it.
func TestWhatRunsStays(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	app := func(constraint ...string) string {
		return placement("app", append([]string{"numberOfClusters: 1"}, constraint...)...)
	}
	web := func(replicas int) string {
		return strings.Replace(deployment("web", "app", "1"), "spec:\n", fmt.Sprintf("spec:\n  replicas: %d\n", replicas), 1)
	}
	everywhere := "3 placed: Deployment cache on a, Deployment db on a, Deployment web on a"
	state := func() string {
		object, err := team.client.Resource(placements).Namespace("default").Get(t.Context(), "app", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text, placed := fmt.Sprintf("%d placed:", as[v1alpha1.WorkloadPlacement](team, object).Status.Placed), team.placed()
		for _, name := range []string{"Deployment cache", "Deployment db", "Deployment web"} {
			if clusters := placed[name]; clusters != "" {
				text += fmt.Sprintf(" %s on %s,", name, clusters)
			}
		}
		return strings.TrimSuffix(text, ",")
	}
	written := func() (versions string) {
		list, err := team.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, slice := range list.Items {
			versions += slice.GetName() + "=" + slice.GetResourceVersion() + " "
		}
		return versions
	}
	scheduled := func(want ...string) {
		t.Helper()
		team.eventually("Scheduled", strings.Join(want, " ... "), func() string {
			got := team.condition("app", v1alpha1.ScheduledCondition)
			rest := got
			for _, part := range want {
				var found bool
				if _, rest, found = strings.Cut(rest, part); !found {
					return got
				}
			}
			return strings.Join(want, " ... ")
		})
	}
	team.apply(cluster("a", "64"), cluster("b", "8"), app(), web(1), deployment("db", "app", "1"), deployment("cache", "app", "1"))
	team.eventually("at first", everywhere, state)
	scheduled("True")
	decided := written()

	const nobody = "constraints: [{name: gold, expression: \"cluster.labels.?tier.orValue('') == 'gold'\"%s}]"
	for _, edit := range []struct {
		name       string
		do, undo   func()
		keep       int
		why, helps string
	}{
		{"scaled to what no cluster has", func() { team.apply(web(1000)) }, func() { team.apply(web(1)) }, 1,
			"Deployment default/web stays on clusters that it should leave (a: Capacity: asks for 1000 cpu, 62 free)", "938 more cpu free on a"},
		{"a constraint that nothing satisfies", func() { team.apply(app(fmt.Sprintf(nobody, ""))) }, func() { team.apply(app()) }, 3,
			"(a: Constraint gold: not true: cluster.labels.?tier.orValue(\"\") == \"gold\" (cluster.labels[\"tier\"] = absent))", "label tier=gold on a"},
		{"a policy that requires a cluster that there is not", func() {
			team.apply(policies("only", "package placement.affinity\nterms contains {\"match\": {\"clusterNames\": [\"nowhere\"]}, \"factor\": \"affinity\", \"required\": true}"))
		}, func() { team.delete(configMaps, "default", "only") }, 3,
			"(a: Policy: excluded by a required term)", "another policy: only nowhere will do on a"},
	} {
		edit.do()
		scheduled(fmt.Sprintf("False NoBetterPlace: %d of 3 workloads keep what they had.", edit.keep), edit.why, "what would help: "+edit.helps)
		if now := state(); now != everywhere || written() != decided {
			t.Errorf("%s: %s; decisions %s, before %s", edit.name, now, written(), decided)
		}
		edit.undo()
		scheduled("True")
		if now := state(); now != everywhere || written() != decided {
			t.Errorf("%s, undone: %s; decisions %s, before %s", edit.name, now, written(), decided)
		}
	}

	team.apply(app(fmt.Sprintf(nobody, ", requiredDuringExecution: true")))
	team.eventually("withdrawn", "0 placed:", state)
	scheduled("False WorkloadsWaiting: 3 of 3 workloads wait.", "waits for label tier=gold on a")
	team.apply(app())
	team.eventually("at last", everywhere, state)
	scheduled("True")
}
