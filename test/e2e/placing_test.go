package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func kindOf(kind string) conditionsv1alpha1.ConditionType {
	return conditionsv1alpha1.ConditionType(kind)
}

// TestRestart runs alone, before the parallel tests: a controller that starts when nothing has changed writes nothing.
func TestRestart(t *testing.T) {
	team := newTeam(t)
	team.apply(cluster("a", "4"), cluster("b", "4"), policies("p", "package placement.scoring\nweights := {\"capacity\": 1}"),
		placement("app", "strategy: {type: RoundRobin}"), placement("big"),
		deployment("one", "app", "1"), deployment("two", "app", "1"), deployment("huge", "big", "100"))
	team.expect("Deployment one", "a")
	team.expect("Deployment two", "b")
	team.eventually("Ready", "True", func() string { return team.condition("app", v1alpha1.ReadyCondition) })
	team.eventually("Scheduled", "False WorkloadsWaiting", func() string {
		c, _, _ := strings.Cut(team.condition("big", v1alpha1.ScheduledCondition), ":")
		return c
	})
	versions := func() string {
		var all []string
		for _, resource := range []schema.GroupVersionResource{clusters, placements, decisions, configMaps} {
			list, err := team.client.Resource(resource).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range list.Items {
				all = append(all, item.GetKind()+"/"+item.GetName()+"="+item.GetResourceVersion())
			}
		}
		return strings.Join(all, " ")
	}
	for name, counts := range map[string]string{"app": "2 of 2", "big": "0 of 1"} {
		team.eventually("what is placed for "+name, counts, func() string {
			return team.field(placements, name, "status", "placed") + " of " + team.field(placements, name, "status", "workloads")
		})
	}
	// Other counts are written up to five seconds later, and up to two more while other workspaces publish.
	before := ""
	for now := versions(); now != before; now = versions() {
		before = now
		time.Sleep(8 * time.Second)
	}

	current.stop()
	next, err := startController(context.Background()) // it serves the tests that follow, too
	if err != nil {
		t.Fatal(err)
	}
	current = next
	team.eventually("ready", "<nil>", func() string { return fmt.Sprint(next.Ready()) })
	team.eventually("the event that huge waits is repeated", "true", func() string {
		events, _ := next.writes.in(team)
		return fmt.Sprint(len(events) > 0)
	})
	time.Sleep(2 * time.Second)
	if after := versions(); after != before {
		t.Errorf("changed by a restart:\nbefore %s\nafter  %s", before, after)
	}
	if _, others := next.writes.in(team); len(others) > 0 {
		t.Errorf("written after a restart:\n%s", strings.Join(others, "\n"))
	}
	// It does work, and what it restored counts.
	team.apply(deployment("three", "app", "4"))
	team.eventually("three waits", "Deployment default/three: waits for 1 more cpu free on a: 0 of 2 clusters are feasible: 2 rejected by Capacity", func() string {
		_, message, _ := strings.Cut(team.condition("app", v1alpha1.ScheduledCondition), "wait. ")
		message, _, _ = strings.Cut(message, " (")
		return message
	})
}

// TestStages: of seven clusters, every placement admits only the one that it asks for.
func TestStages(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(
		clusterWith("unready", "False", "1000", "{tier: gold}"),
		clusterWith("plain", "True", "8", "{}"),
		clusterWith("gold", "True", "8", "{tier: gold}"),
		strings.Replace(cluster("far", "8"), "location: here", "location: far", 1),
		cluster("gpu", "8", "capabilities: [{type: gpu, available: true}]"),
		cluster("broken", "8", "capabilities: [{type: gpu, available: false}]"),
		cluster("large", "64", "taints: [{key: dedicated, value: big, effect: NoSchedule}]"),
	)
	for name, test := range map[string]struct{ spec, cpu, want string }{
		"location":    {"locationSelector: {matchLabels: {location: far}}", "1", "far"},
		"labels":      {"clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}", "1", "gold"},
		"names":       {"clusterSelector: {clusterNames: [plain, unready]}", "1", "plain"},
		"capability":  {"capabilityRequirements: [{type: gpu, required: true}]", "1", "gpu"},
		"optional":    {"capabilityRequirements: [{type: gpu}]\nclusterSelector: {clusterNames: [plain, broken]}", "1", "plain"},
		"constraint":  {"constraints: [{name: c, expression: 'cluster.labels.?tier.orValue(\"\") == \"gold\"'}]", "1", "gold"},
		"workload":    {"constraints: [{name: c, expression: 'cluster.name == workload.name'}]", "1", ""},
		"free":        {"tolerations: [{key: dedicated, operator: Exists}]\nconstraints: [{name: c, expression: 'capacity.free.cpu > 10 * workload.requests.cpu'}]", "1", "large"},
		"tolerations": {"tolerations: [{key: dedicated, value: big}]", "32", "large"},
		"taint":       {"strategy: {type: Spread}", "32", ""},
		"capacity":    {"strategy: {type: Spread}", "500", ""},
	} {
		team.apply(placement(name, test.spec), deployment(name, name, test.cpu))
		team.expect("Deployment "+name, test.want)
		// One at a time, since each would otherwise change what is free for the others.
		team.delete(deployments, "default", name)
		team.expect("Deployment "+name, "")
	}
}

func TestStrategies(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "64"), cluster("b", "64"), cluster("c", "64"), cluster("d", "64"),
		placement("spread", "strategy: {type: Spread}"), placement("round", "strategy: {type: RoundRobin}"), placement("near", "strategy: {type: Affinity}"))
	team.apply(deployment("wide", "spread", "0"))
	team.expect("Deployment wide", "a,b,c")
	for i, want := range []string{"a", "b", "c", "d", "a"} {
		name := fmt.Sprintf("r%d", i)
		team.apply(deployment(name, "round", "0"))
		team.expect("Deployment "+name, want)
	}
	team.apply(deployment("likes", "near", "0", "tmc.kcp.io/preferred-cluster: c"))
	team.expect("Deployment likes", "c")
	team.apply(deployment("avoids", "near", "0", "tmc.kcp.io/avoid-cluster: a"))
	team.expect("Deployment avoids", "b")
}

func TestPolicyChangesDecision(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(
		clusterWith("roomy", "True", "64", "{}"), clusterWith("liked", "True", "4", "{liked: 'yes'}"),
		placement("app", "strategy: {type: Spread}\nnumberOfClusters: 1"))
	// What runs stays, so a new workload has to show what is in force.
	made := 0
	expect := func(want string) {
		t.Helper()
		team.eventually("a new workload is on", want, func() (on string) {
			made++
			name := fmt.Sprintf("web%d", made)
			team.apply(deployment(name, "app", "100m"))
			for deadline := time.Now().Add(within); on == "" && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				on = team.placed()["Deployment "+name]
			}
			team.delete(deployments, "default", name)
			return on
		})
	}
	expect("roomy")
	taste := policies("taste", `package placement

scoring.weights := {"affinity": 100}

affinity.terms contains {
	"match": {"labelSelector": {"matchLabels": {"liked": "yes"}}},
	"factor": "affinity", "onMatch": 40, "reason": "we like it",
}`)
	// Without the ConfigMap, its label or the key, the policy is no longer in force.
	patch := func(patch string) {
		t.Helper()
		_, err := team.client.Resource(configMaps).Namespace("default").Patch(t.Context(), "taste", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, unload := range []func(){
		func() { patch(`{"metadata": {"labels": {"openpolicyagent.org/policy": null}}}`) },
		func() { patch(`{"data": {"policy.rego": null}}`) },
		func() { patch(`{"data": {"policy.rego": null, "policy_test.rego": "nonsense"}}`) },
		func() { team.delete(configMaps, "default", "taste") },
	} {
		team.apply(taste)
		expect("liked")
		unload()
		expect("roomy")
	}
}

// TestClusterScores: a score that a provider writes decides until it runs out, when the controller notices by itself.
func TestClusterScores(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	score := func(name, cluster string, value int, until string) string {
		return fmt.Sprintf("apiVersion: tmc.kcp.io/v1alpha1\nkind: ClusterScore\nmetadata: {name: %s}\nclusterName: %s\nscores: [{name: green, value: %d}]\n%s", name, cluster, value, until)
	}
	team.apply(cluster("coal", "64"), cluster("hydro", "64"), placement("app", "numberOfClusters: 1"),
		score("meter-hydro", "hydro", 90, ""), score("meter-coal", "coal", 20, ""),
		policies("green", "package placement.scoring\n\nweights := {\"score/green\": 100}"))
	team.eventually("Effective", "True", func() string { return team.condition("app", v1alpha1.EffectiveCondition) })
	team.apply(deployment("early", "app", "1"))
	team.expect("Deployment early", "hydro")
	until := time.Now().Add(5 * time.Second).UTC().Truncate(time.Second)
	team.apply(score("meter-hydro", "hydro", 90, "validUntil: "+until.Format(time.RFC3339)))
	team.eventually("Effective", `False WithoutEffect: default/green/policy.rego:3:1: the score "green" has run out for 1 of 2 clusters and weighs nothing there: of cluster hydro at `+until.Format(time.RFC3339),
		func() string { return team.condition("app", v1alpha1.EffectiveCondition) })
	if now := time.Now(); now.Before(until) {
		t.Errorf("it has run out at %s, before %s", now, until)
	}
	team.apply(deployment("late", "app", "1"))
	team.expect("Deployment late", "coal")
	team.expect("Deployment early", "hydro")
}

func TestBrokenPolicy(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("roomy", "64"), cluster("wanted", "8"), placement("app", "numberOfClusters: 1"),
		policies("good", "package placement.affinity\n\nterms contains {\"factor\": \"affinity\", \"match\": {\"clusterNames\": [\"wanted\"]}, \"required\": true}"))
	team.apply(deployment("one", "app", "1"))
	team.expect("Deployment one", "wanted")
	team.apply(policies("bad", "package placement.scoring\n\nweights := {\"price\": 1}"))
	want := `the last good policies stay in force: default/bad/policy.rego:3:1: shape_error: data.placement.scoring.weights has an unknown factor "price": the factors are capacity, health, performance, affinity, location, cost, packing, and score/<name> for a score of ClusterScores`
	team.eventually("PoliciesReady", "False PolicyError: "+want, func() string { return team.condition("app", v1alpha1.PoliciesReadyCondition) })
	status := func(name string) string {
		object, err := team.client.Resource(configMaps).Namespace("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var status struct {
			Status string
			Error  struct {
				Errors []struct{ Location struct{ Row, Col int } }
			}
		}
		if text := object.GetAnnotations()[v1alpha1.AnnotationPolicyStatus]; text == "" {
			return "none"
		} else if err := json.Unmarshal([]byte(text), &status); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(status.Status, status.Error.Errors)
	}
	team.eventually("the broken one", "error[{{3 1}}]", func() string { return status("bad") })
	team.eventually("the sound one", "ok[]", func() string { return status("good") })
	// The last good policies stay in force.
	team.apply(deployment("two", "app", "1"))
	team.expect("Deployment two", "wanted")
	team.delete(configMaps, "default", "bad")
	team.eventually("PoliciesReady", "True", func() string { return team.condition("app", v1alpha1.PoliciesReadyCondition) })
}

func TestClusterGoesUnready(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	patience := fmt.Sprintf("tolerations: [{key: %s, operator: Exists, effect: NoExecute, tolerationSeconds: 1}]", v1alpha1.TaintNotReady)
	team.apply(cluster("a", "64"), cluster("b", "32"), placement("app", "numberOfClusters: 1", patience), deployment("web", "app", "1"))
	team.expect("Deployment web", "a")
	team.apply(clusterWith("a", "False", "64", "{}"))
	team.expect("Deployment web", "b")
	team.apply(cluster("a", "64"))
	time.Sleep(500 * time.Millisecond)
	team.expect("Deployment web", "b") // it stays where it is
	team.delete(clusters, "", "b")
	team.expect("Deployment web", "a")
	team.eventually("the events", "Moved Moved", func() string { return team.events("web") })
	team.eventually("the placement's event", "Placed", func() string { return team.events("app") })
}

// events reads the reasons of an object's events, sorted and with repetitions.
func (t *team) events(name string) string {
	list, err := t.client.Resource(events).Namespace("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for i := range list.Items {
		if e := as[corev1.Event](t, &list.Items[i]); e.InvolvedObject.Name == name {
			count[e.Reason] += int(max(e.Count, 1))
		}
	}
	var reasons []string
	for _, reason := range []string{"Moved", "NotPlaced", "Placed", "InvalidWorkload"} {
		for range count[reason] {
			reasons = append(reasons, reason)
		}
	}
	return strings.Join(reasons, " ")
}

// TestWorkspacesApart: objects of the same names in two workspaces do not affect each other.
func TestWorkspacesApart(t *testing.T) {
	t.Parallel()
	var teams []*team
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) { teams = append(teams, newTeam(t)) })
	}
	for i, labels := range []string{"{side: left}", "{side: right}"} {
		teams[i].T = t
		teams[i].apply(clusterWith("a", "True", "4", labels), cluster("b", "2"),
			placement("app", "numberOfClusters: 1", fmt.Sprintf("constraints: [{name: side, expression: 'cluster.labels.?side.orValue(\"right\") == \"%s\"'}]", []string{"left", "right"}[i])),
			deployment("web", "app", "3"))
	}
	teams[0].expect("Deployment web", "a")
	teams[1].expect("Deployment web", "a")
	// A broken policy and a full cluster here do not affect the other workspace.
	teams[0].apply(policies("p", "package nonsense"), deployment("more", "app", "3"))
	teams[1].apply(deployment("more", "app", "1"))
	teams[1].expect("Deployment more", "b")
	teams[0].eventually("PoliciesReady", "False", func() string {
		status, _, _ := strings.Cut(teams[0].condition("app", v1alpha1.PoliciesReadyCondition), " ")
		return status
	})
	if got := teams[1].condition("app", v1alpha1.PoliciesReadyCondition); got != "True" {
		t.Errorf("the other workspace's policies: %s", got)
	}
	if got := teams[0].placed()["Deployment more"]; got != "" {
		t.Errorf("placed on %s, which is full", got)
	}
}

func TestDeletionFreesCapacity(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "4"), placement("app", "numberOfClusters: 1"), deployment("first", "app", "3"))
	team.expect("Deployment first", "a")
	team.apply(deployment("second", "app", "3"))
	team.eventually("second waits", "False WorkloadsWaiting: 1 of 2 workloads wait. Deployment default/second: waits for 2 more cpu free on a: 0 of 1 clusters are feasible: 1 rejected by Capacity (a: Capacity: asks for 3 cpu, 1 free)",
		func() string { return team.condition("app", v1alpha1.ScheduledCondition) })
	team.delete(deployments, "default", "first")
	team.expect("Deployment second", "a")
	team.expect("Deployment first", "")
	// The decisions of a placement are deleted with it.
	team.delete(placements, "default", "app")
	team.eventually("slices", "0", func() string {
		list, err := team.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(len(list.Items))
	})
	team.apply(placement("app", "numberOfClusters: 1"))
	team.expect("Deployment second", "a")
}

// TestBurst: decisions that are made together are written together.
func TestBurst(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	const workloads = 250
	var all []string
	for i := range workloads {
		all = append(all, deployment(fmt.Sprintf("w%03d", i), "app", "10m"))
	}
	team.apply(cluster("a", "64"), cluster("b", "64"))
	team.apply(strings.Join(all, "---"))
	team.apply(placement("app", "strategy: {type: RoundRobin}", "suspend: true")) // until the controller sees all
	team.eventually("seen", fmt.Sprint(workloads), func() string { return team.field(placements, "app", "status", "workloads") })
	team.apply(placement("app", "strategy: {type: RoundRobin}"))
	team.eventually("placed", fmt.Sprint(workloads), func() string { return fmt.Sprint(len(team.placed())) })
	list, err := team.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	generations := int64(0)
	for _, slice := range list.Items {
		generations += slice.GetGeneration()
	}
	if len(list.Items) != 3 || generations > 10 {
		t.Errorf("%d slices, written %d times", len(list.Items), generations)
	}
	on := map[string]int{}
	for _, cluster := range team.placed() {
		on[cluster]++
	}
	if on["a"] != workloads/2 || on["b"] != workloads/2 {
		t.Errorf("not in turns: %v", on)
	}
}

func TestOwnership(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("a", "4"), cluster("b", "4"))
	team.apply(placement("app", "clusterSelector: {clusterNames: [a]}"))
	time.Sleep(1100 * time.Millisecond) // creation times have seconds
	team.apply(strings.Replace(placement("later", "clusterSelector: {clusterNames: [b]}"), "app: later", "app: app", 1))
	team.apply(deployment("web", "app", "1"))
	team.expect("Deployment web", "a")
	team.eventually("the other one", "True: Selected, but of other placements: Deployment default/web belongs to app",
		func() string { return team.condition("later", v1alpha1.ScheduledCondition) })
	team.apply(deployment("web", "app", "1", "tmc.kcp.io/placement: later"))
	team.expect("Deployment web", "b")
}
