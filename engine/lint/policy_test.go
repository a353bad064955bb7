package lint_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

var policyFleet = lint.NewFleet([]*snapshot.Cluster{
	{Name: "frankfurt", Location: "eu-central", Labels: map[string]string{"region": "eu", "tier": "gold"}, Scores: []snapshot.Score{
		{Name: "cheap", Value: 10, From: "prices", Expired: time.Unix(0, 0)}, {Name: "green", Value: 60, From: "meter"},
	}},
	{Name: "dublin", Location: "eu-west", Labels: map[string]string{"region": "eu", "tier": "silver"}, Capabilities: []snapshot.Capability{{Type: "gpu"}}},
	{Name: "virginia", Location: "us-east", Labels: map[string]string{"region": "us", "tier": "silver"}},
})

func findings(t *testing.T, modules map[string]string) (found []string) {
	t.Helper()
	c, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.Compile(modules)
	if err != nil {
		t.Fatal(err)
	}
	p := lint.Policies{Set: set, Kinds: workload.Kinds().References(), Probes: set.Probe(context.Background(), workload.Kinds().References()), Fleet: policyFleet}
	for _, f := range p.Find() {
		found = append(found, fmt.Sprintf("%s:%d %s %s: %s", f.Object, f.Line, f.Severity, f.Code, f.Message))
	}
	return found
}

const (
	scoringHead  = "package placement.scoring\n\nimport rego.v1\n\ndefault weights := {\"health\": 50, \"affinity\": 50}\n\n"
	affinityHead = "package placement.affinity\n\nimport rego.v1\n\n"
)

// TestPolicies: what Rego says in vain is found without a workload that shows it. Each row is a module from its seventh (scoring)
// or fifth (affinity) line on, with the beginnings of what is found in it.
func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		name, scoring, affinity, scheduling string
		want                                []string
	}{
		{name: "what is used is fine", scoring: `weights := {"capacity": 10, "location": 5} if input.workload.kind == "Job"`,
			affinity: `terms contains {"match": {"clusterNames": names[input.workload.labels.team]}, "factor": "affinity", "onMatch": 10}
names := {"a": ["dublin"], "b": ["virginia", "frankfurt"]}`},

		// Scores from outside.
		{name: "a score that is there", scoring: `weights := {"score/green": 10} if input.workload.kind == "Job"`},
		{name: "a weight for a score that nobody gives", scoring: `weights := {"score/gren": 10} if input.workload.kind == "Job"`,
			want: []string{`scoring.rego:7 warning unknown_score: no ClusterScore gives a cluster of the fleet the score "gren", did you mean green?`}},
		{name: "a weight for a score that has run out", scoring: `weights := {"score/cheap": 10} if input.workload.kind == "Job"`,
			want: []string{`scoring.rego:7 warning stale_score: the score "cheap" has run out for 1 of 1 clusters and weighs nothing there: of cluster frankfurt at 1970-01-01T00:00:00Z`}},
		{name: "terms by scores", affinity: `terms contains {"score": score, "factor": "affinity", "onMatch": 10} if some score in {"green", "cheap", "quiet"}`,
			want: []string{
				`affinity.rego:5 warning unknown_score: no ClusterScore gives a cluster of the fleet the score "quiet"`,
				`affinity.rego:5 warning stale_score: the score "cheap" has run out for 1 of 1 clusters`,
			}},

		// Scheduling: what a placement would be told that said the same.
		{name: "scheduling that has an effect", scheduling: `minClusters := 2
spreadConstraints := [{"topologyKey": "tier"}] if input.workload.labels.spread == "yes"
workloadAffinity contains {"type": "Repel", "labelSelector": {"matchLabels": {"app": input.workload.labels.app}}, "topologyKey": "location"}`},
		{name: "moves for a gain", scheduling: `stability := {"minGain": 20, "after": 60}`},
		{name: "moves for a gain of what does not move", scheduling: `stability := {"minGain": 20, "pinned": true}`,
			want: []string{"scheduling.rego:5 warning stability: scheduling.stability: what is pinned does not move, whatever minGain and after say: leave out one or the other"}},
		{name: "scheduling over what no cluster has", scheduling: `spreadConstraints := [{"topologyKey": "regoin"}] if input.workload.kind == "Job"
workloadAffinity contains {"type": "Attract", "labelSelector": {}, "topologyKey": "teir", "required": true} if input.workload.labels.tier == "gold"
workloadAffinity contains {"type": "Attract", "labelSelector": {}, "topologyKey": "tier"}`,
			want: []string{
				"scheduling.rego:5 warning topology_key: scheduling.spreadConstraints[0].topologyKey: no cluster of the fleet has regoin, so that nothing can be placed, did you mean region?",
				"scheduling.rego:6 warning topology_key: scheduling.workloadAffinity[0].topologyKey: no cluster of the fleet has teir, so that nothing can be placed, did you mean tier?",
			}},
		{name: "scheduling that the fleet is too small for", scheduling: `numberOfClusters := 5
minClusters := 4 if input.workload.kind == "Job"`,
			want: []string{
				"scheduling.rego:5 warning too_many_clusters: scheduling.numberOfClusters: 5 clusters are asked for, and the fleet has 3",
				"scheduling.rego:6 warning contradiction: scheduling.minClusters: every workload waits for 4 clusters, and 3 of the fleet's 3 pass",
			}},
		{name: "terms that contradict each other", scheduling: `workloadAffinity contains {"type": kind, "labelSelector": {}, "required": true} if some kind in ["Attract", "Repel"]`,
			want: []string{"scheduling.rego:5 warning contradiction: scheduling.workloadAffinity[1]: asks for the contrary of scheduling.workloadAffinity[0], and both are required"}},
		{name: "scheduling by what is made up", scheduling: `spreadConstraints := [{"topologyKey": input.workload.labels.over}]`},

		// What nothing reads, and what reads nothing.
		{name: "a misspelt rule", affinity: `term contains {"match": {"location": "eu-west"}, "factor": "location", "onMatch": 10}`,
			want: []string{"affinity.rego:5 warning unread_rule: nothing reads placement.affinity.term, so it has no effect, did you mean terms?"}},
		{name: "a rule of the other package", scoring: `terms contains {"match": {"location": "eu-west"}, "factor": "location", "onMatch": 10}`,
			want: []string{"scoring.rego:7 warning unread_rule: nothing reads placement.scoring.terms, so it has no effect, did you mean placement.affinity.terms?"}},
		{name: "a helper that nothing calls", scoring: `helper(x) := x + 1`,
			want: []string{"scoring.rego:7 warning unread_rule: nothing reads placement.scoring.helper, so it has no effect"}},
		{name: "a helper that is not there", affinity: `terms contains {"match": {"clusterNames": data.placement.teams.clusters.a}, "factor": "affinity", "onMatch": 10}`,
			want: []string{"affinity.rego:5 warning undefined_rule: data.placement.teams.clusters.a never has a value, since no module defines it"}},
		{name: "a misspelt reference", affinity: `eu := "eu-west"
terms contains {"match": {"location": data.placement.affinity.eu}, "factor": "location", "onMatch": 10} if data.placement.affinity.ue`,
			want: []string{"affinity.rego:6 warning undefined_rule: data.placement.affinity.ue never has a value, since no module defines it, did you mean placement.affinity.eu?"}},

		// Terms.
		{name: "no effect", affinity: `terms contains {"match": {"location": "eu-west"}, "factor": "affinity"} if input.workload.kind == "Job"
terms contains {"match": {"location": "eu-west"}, "factor": "affinity", "onMatch": 5, "otherwise": 5}`,
			want: []string{"affinity.rego:5 warning term_without_effect: a term has no effect: give it onMatch", "affinity.rego:6 warning term_without_effect: a term has no effect: it adds 5 to the clusters that match and to all others alike"}},
		{name: "a factor without weight", scoring: " ", affinity: `terms contains {"match": {"location": "eu-west"}, "factor": "location", "onMatch": 5}
terms contains {"match": {"location": "eu-west"}, "factor": "location", "required": true}`,
			want: []string{"affinity.rego:5 warning term_without_effect: a term has no effect: the weights give its factor location no weight"}},
		{name: "names that no cluster has", affinity: `terms contains {"match": {"clusterNames": ["dublin", "frankfrut"]}, "factor": "affinity", "required": true}
terms contains {"match": {"location": "eu-wset"}, "factor": "affinity", "onMatch": 1}
terms contains {"match": {"capability": "gpus"}, "factor": "affinity", "onMatch": 1}
terms contains {"match": {"labelSelector": {"matchLabels": {"regoin": "eu"}}}, "factor": "affinity", "required": true}
terms contains {"match": {"labelSelector": {"matchExpressions": [{"key": "region", "operator": "NotIn", "values": ["uss"]}]}}, "factor": "affinity", "onMatch": 1}
terms contains {"match": {"labelSelector": {"matchLabels": {"tier": "platinum"}}}, "factor": "affinity", "onMatch": 1} if input.workload.kind == "Job"
terms contains {"match": {"location": "us-east", "capability": "gpu"}, "factor": "affinity", "onMatch": 1}`,
			want: []string{
				`affinity.rego:5 warning term_matches_nothing: a term names the cluster "frankfrut", which is not in the fleet, did you mean frankfurt?; it is required`,
				`affinity.rego:6 warning term_matches_nothing: a term names the location "eu-wset", which no cluster of the fleet has, did you mean eu-west?`,
				`affinity.rego:7 warning term_matches_nothing: a term names the capability "gpus", which no cluster of the fleet has, did you mean gpu?`,
				`affinity.rego:8 warning term_matches_nothing: a term names the label "regoin", which no cluster of the fleet has, did you mean region?; it is required`,
				`affinity.rego:9 warning term_matches_nothing: a term names the label region with the value "uss", which no cluster of the fleet has, did you mean us?`,
				`affinity.rego:10 warning term_matches_nothing: a term names the label tier with the value "platinum", which no cluster of the fleet has`,
				`affinity.rego:11 warning term_matches_nothing: a term matches no cluster of the fleet: each part of its match does, but no cluster all of them`,
			}},
		{name: "what is avoided need not be there", affinity: `terms contains {"match": {"labelSelector": {"matchLabels": {"maintenance": "planned"}}}, "factor": "affinity", "onMatch": -50}
terms contains {"match": {"labelSelector": {"matchExpressions": [{"key": "maintenance", "operator": "DoesNotExist"}]}}, "factor": "affinity", "required": true}
terms contains {"match": {"labelSelector": {"matchExpressions": [{"key": "teir", "operator": "NotIn", "values": ["gold"]}]}}, "factor": "affinity", "required": true}`,
			want: []string{`affinity.rego:7 warning term_matches_nothing: a term names the label "teir", which no cluster of the fleet has, did you mean tier?; it is required`}},
		{name: "names that workloads give are theirs", affinity: `terms contains {"match": {"clusterNames": [input.workload.annotations.cluster], "location": input.workload.namespace}, "factor": "affinity", "onMatch": 10}`},

		// What a field can never be.
		{name: "comparisons", scoring: `weights := {"health": 1} if input.workload.kind == "deployment"
else := {"health": 2} if input.workload.kind in {"Job", "Jbo"}
else := {"health": 3} if input.workload.namespace == "Shop"
else := {"health": 4} if input.workload.labels.team == "a b"
else := {"health": 5} if input.workload.labels["a b"]
else := {"health": 6} if input.workload.requests.memry > 5
else := {"health": 7} if input.workload.replicas < 0
else := {"health": 8} if input.workload.apiVersion == "app/v1"
else := {"health": 9} if input.workspace == "root:shop"
else := {"health": 10} if lower(input.workload.kind) == "job"
else := {"health": 11} if is_batch(input.workload.kind)
is_batch(kind) if kind == "job"`,
			want: []string{
				`scoring.rego:7 error impossible_comparison: input.workload.kind is never "deployment": kinds are written as in manifests, did you mean Deployment?`,
				`scoring.rego:8 warning impossible_comparison: input.workload.kind is never "Jbo": no kind of workload that is placed has this name, did you mean Job?`,
				`scoring.rego:9 error impossible_comparison: input.workload.namespace is never "Shop": a lowercase RFC 1123 label`,
				`scoring.rego:10 error impossible_comparison: input.workload.labels["team"] is never "a b": a valid label`,
				`scoring.rego:11 error impossible_comparison: input.workload.labels["a b"] never has a value: name part must consist`,
				`scoring.rego:12 error impossible_comparison: input.workload.requests["memry"] never has a value: there is no such resource, did you mean memory?`,
				`scoring.rego:13 error impossible_comparison: input.workload.replicas is never less than 0`,
				`scoring.rego:14 warning impossible_comparison: input.workload.apiVersion is never "app/v1": no kind of workload that is placed is of this group and version, did you mean apps/v1?`,
				`scoring.rego:15 warning impossible_comparison: input.workspace is never "root:shop": it is the name of the logical cluster`,
				`scoring.rego:18 error impossible_comparison: input.workload.kind is never "job": kinds are written as in manifests, did you mean Job?`,
			}},

		{name: "units", scoring: `weights := {"health": 1} if input.workload.requests.memory > 64
else := {"health": 2} if 4 <= input.workload.requests.cpu
else := {"health": 3} if heavy(input.workload.requests)
else := {"health": 4} if input.workload.requests.cpu / 2 > 4
else := {"health": 5} if {input.workload.requests.memory > 0; input.workload.requests.cpu >= 10; input.workload.replicas > 2}
heavy(requests) if requests["ephemeral-storage"] > 100`,
			want: []string{
				`scoring.rego:7 warning unit: input.workload.requests["memory"]: memory is in bytes, and nothing is as small as 64, did you mean 68719476736 (64Gi) or 67108864 (64Mi)?`,
				`scoring.rego:8 warning unit: input.workload.requests["cpu"]: cpu is in millicores, and nothing is as small as 4, did you mean 4000?`,
				`scoring.rego:12 warning unit: input.workload.requests["ephemeral-storage"]: ephemeral-storage is in bytes`,
			}},
		{name: "resources and annotations", scoring: `weights := {"health": 1} if input.workload.requests["nvidia.com/gpus"]
else := {"health": 2} if input.workload.annotations["tmc.kcp.io/prefered-cluster"]
else := {"health": 3} if input.workload.requests["example.com/dongle"]
else := {"health": 4} if input.workload.annotations["tmc.kcp.io/users"]
else := {"health": 5} if object.get(input.workload.requests, "nvidia.com/gup", 0) > 0`,
			want: []string{
				`scoring.rego:7 warning impossible_comparison: input.workload.requests["nvidia.com/gpus"]: there is no such resource, did you mean nvidia.com/gpu?`,
				`scoring.rego:8 warning impossible_comparison: input.workload.annotations["tmc.kcp.io/prefered-cluster"]: no such annotation is read otherwise, did you mean tmc.kcp.io/preferred-cluster?`,
				`scoring.rego:11 warning impossible_comparison: input.workload.requests["nvidia.com/gup"]: there is no such resource, did you mean nvidia.com/gpu?`,
			}},

		// Faults that only some workloads meet.
		{name: "of one kind", scoring: `weights := {"healt": 10} if input.workload.kind == "Job"`,
			want: []string{`scoring.rego:5 error shape_error: data.placement.scoring.weights has an unknown factor "healt", did you mean health? (for a Job)`}},
		{name: "of a kind behind a function and a table", scoring: `share := {"Job": 101}
pick(kind) := share[kind]
weights := {"health": pick(input.workload.kind)}`,
			want: []string{`scoring.rego:5 error shape_error: data.placement.scoring.weights gives "health" the weight 101: it must be a whole number from 0 to 100 (for a Job)`}},
		{name: "of one team", affinity: `terms contains {"match": {"location": "eu-west"}, "factor": "location", "onmatch": 10} if {
	input.workload.labels.team == "a"
	input.workload.replicas >= 3
}`,
			want: []string{`affinity.rego:5 error shape_error: data.placement.affinity.terms has a term that cannot be used, {"factor": "location", "match": {"location": "eu-west"}, "onmatch": 10}: unknown field "onmatch", did you mean onMatch? (for a Deployment with input.workload.labels["team"] = "a" and input.workload.replicas = 3)`}},
		{name: "all zero", scoring: `weights := {"health": 0} if input.workload.namespace == "shop"`,
			want: []string{`scoring.rego:5 error shape_error: data.placement.scoring.weights gives no factor any weight: at least one must weigh more than 0 (for a Deployment with input.workload.namespace = "shop")`}},
		{name: "two rules that meet", scoring: `weights := {"health": 1} if input.workload.kind == "Job"
weights := {"health": 2} if input.workload.labels.team == "a"`,
			want: []string{`scoring.rego:8 warning eval_conflict_error: rule data.placement.scoring.weights produced conflicting values: `}},
		{name: "scaled to zero", scoring: `weights := {"health": 1} if input.workload.requests.cpu / input.workload.replicas > 4000`,
			want: []string{`scoring.rego:7 warning eval_builtin_error: div: divide by zero (for a Deployment with no replicas)`}},
		{name: "any text", scoring: `weights := {"health": to_number(input.workload.annotations.weight)}`,
			want: []string{`scoring.rego:7 warning eval_builtin_error: to_number: strconv.ParseFloat: parsing "madeup": invalid syntax (for a Deployment with input.workload.annotations["weight"] = "madeup")`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			modules := map[string]string{}
			if test.scoring != "" {
				modules["scoring.rego"] = scoringHead + test.scoring
			}
			if test.scheduling != "" {
				modules["scheduling.rego"] = "package placement.scheduling\n\nimport rego.v1\n\n" + test.scheduling
			}
			if test.affinity != "" {
				modules["affinity.rego"] = affinityHead + test.affinity
			}
			got := findings(t, modules)
			for i, want := range test.want {
				if i < len(got) && strings.HasPrefix(got[i], want) {
					got[i] = want
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPoliciesForWorkloads: a name that is a typo of one that the workloads given have is told; of any other nobody knows.
func TestPoliciesForWorkloads(t *testing.T) {
	c, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.Compile(map[string]string{"a.rego": scoringHead + `weights := {"health": 1} if input.workload.labels.taem == "shop"
else := {"health": 2} if input.workload.labels.team == "shpo"
else := {"health": 3} if input.workload.namespace in {"prod", "prodd"}
else := {"health": 4} if input.workload.labels.zone == "a"
else := {"health": 5} if input.workload.labels.team == "search"
else := {"health": 6} if input.workload.annotations.note == "urgnet"
else := {"health": 7} if not input.workload.name == "api"`})
	if err != nil {
		t.Fatal(err)
	}
	p := lint.Policies{Set: set, Fleet: policyFleet, Workloads: []*workload.Workload{
		{Reference: workload.Reference{Namespace: "prod", Name: "web"}, Labels: map[string]string{"team": "shop"}, Annotations: map[string]string{"note": "urgent"}},
	}}
	want := []string{
		`7: input.workload.labels["taem"]: none of the workloads given has it, did you mean team?`,
		`8: input.workload.labels["team"] is never "shpo": none of the workloads given has this value, did you mean shop?`,
		`9: input.workload.namespace is never "prodd": none of the workloads given has this value, did you mean prod?`,
		`12: input.workload.annotations["note"] is never "urgnet": none of the workloads given has this value, did you mean urgent?`,
	}
	var got []string
	for _, f := range p.Find() {
		got = append(got, fmt.Sprintf("%d: %s", f.Line, f.Message))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWholePackages: a package that nothing reads is one finding; a library may have more rules than are used.
func TestWholePackages(t *testing.T) {
	got := findings(t, map[string]string{
		"a.rego": "package placement.score\nweights := {\"capacity\": 100}\nother := 1",
		"b.rego": "package placement.teams\nclusters := {\"a\": [\"dublin\"]}",
		"c.rego": "package placement.affinity\nterms contains {\"match\": {\"clusterNames\": data.placement.teems.clusters.a}, \"factor\": \"affinity\", \"onMatch\": 1}\n" +
			"terms contains term if some term in data.placement.library.x.terms",
		"d.rego": "package placement.library.x\nterms contains {\"match\": {\"location\": \"eu-west\"}, \"factor\": \"affinity\", \"onMatch\": 1}\nweights := {\"health\": 1}",
		"e.rego": "package placement.scoring",
	})
	want := []string{
		"a.rego:1 warning unread_rule: nothing reads the package placement.score, so it has no effect, did you mean placement.scoring?",
		"b.rego:1 warning unread_rule: nothing reads the package placement.teams, so it has no effect, did you mean placement.teems?",
		"c.rego:2 warning undefined_rule: data.placement.teems.clusters.a never has a value, since no module defines it, did you mean placement.teams.clusters?",
		"e.rego:1 warning unread_rule: the module has no rules",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestConfigMap: what looks like a policy and is not loaded is told; other ConfigMaps are left alone.
func TestConfigMap(t *testing.T) {
	const module = "package placement.scoring\nweights := {}"
	rego := map[string]string{"openpolicyagent.org/policy": "rego"}
	for _, test := range []struct {
		name        string
		labels      map[string]string
		annotations map[string]string
		data        map[string]string
		binary      map[string][]byte
		want        []string
	}{
		{name: "loaded", labels: rego, data: map[string]string{"a.rego": module, "a_test.rego": module}},
		{name: "not about policies", data: map[string]string{"ca.crt": "x"}},
		{name: "of another tool", data: map[string]string{"a.rego": "package kubernetes.admission\nallow := true"}},
		{name: "keys", labels: rego, data: map[string]string{"a": module, "b.Rego": module, "c.rego.txt": module, "README.md": "hello"}, binary: map[string][]byte{"d.rego": nil},
			want: []string{
				"data[README.md] is not loaded: only keys that end in .rego are policies",
				"data[a] is not loaded: the keys of policies end in .rego, did you mean a.rego?",
				"data[b.Rego] is not loaded: the keys of policies end in .rego, did you mean b.rego?",
				"data[c.rego.txt] is not loaded: the keys of policies end in .rego, did you mean c.rego?",
				"binaryData[d.rego] is not loaded: policies are read from data, write them there as text",
			}},
		{name: "no label", data: map[string]string{"a.rego": module},
			want: []string{"data[a.rego] is not loaded: the ConfigMap needs the label openpolicyagent.org/policy: rego"}},
		{name: "a misspelt label", labels: map[string]string{"openpolicyagent.org/polices": "rego"}, data: map[string]string{"a.rego": module},
			want: []string{"data[a.rego] is not loaded: the ConfigMap needs the label openpolicyagent.org/policy: rego; the label openpolicyagent.org/polices looks misspelt"}},
		{name: "a label with a typo", labels: map[string]string{"openpolicyagent.org/polcy": "rego"}, data: map[string]string{"a.rego": "package mine"},
			want: []string{"metadata.labels[openpolicyagent.org/polcy] is not read, so the policies are not loaded, did you mean openpolicyagent.org/policy?"}},
		{name: "an annotation", annotations: rego, data: map[string]string{"a.rego": module},
			want: []string{"metadata.annotations[openpolicyagent.org/policy] is read from the labels, so the policies are not loaded: write openpolicyagent.org/policy: rego under metadata.labels"}},
		{name: "no policies any more", annotations: map[string]string{"openpolicyagent.org/policy-status": `{"status":"ok"}`}},
		{name: "another value", labels: map[string]string{"openpolicyagent.org/policy": "Rego"}, data: map[string]string{"a.rego": module},
			want: []string{`metadata.labels[openpolicyagent.org/policy] is "Rego", so the policies are not loaded: it must be "rego"`}},
		{name: "nothing", labels: rego, want: []string{" has no policies: it has no data"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, f := range lint.ConfigMap(&corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "policies", Labels: test.labels, Annotations: test.annotations}, Data: test.data, BinaryData: test.binary,
			}) {
				if f.Severity != lint.Warning || f.Object != "ConfigMap default/policies" {
					t.Errorf("%+v", f)
				}
				got = append(got, f.Field+" "+f.Message)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLibraryAlone: packages of a library are for others to use. Alone they are fine, beside modules that use none of them or a
// fleet that they were to decide about they are in vain.
func TestLibraryAlone(t *testing.T) {
	const shared = "package placement.library.team\nlimit := 5"
	alone := map[string]string{"lib.rego": shared, "more.rego": "package placement.library.more\nterms := {x | x := data.placement.library.team.limit}"}
	c, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		modules map[string]string
		fleet   *lint.Fleet
		want    []string
	}{
		{"alone", alone, lint.NewFleet(nil), nil},
		{"with a fleet", alone, policyFleet, []string{"placement.library.team", "placement.library.more"}},
		{"beside others", map[string]string{"lib.rego": shared, "own.rego": "package placement.scoring\nweights := {\"health\": 1}"}, lint.NewFleet(nil), []string{"placement.library.team"}},
		{"used", map[string]string{"lib.rego": shared, "own.rego": "package placement.scoring\nweights := {\"health\": data.placement.library.team.limit}"}, lint.NewFleet(nil), nil},
		{"misspelt", map[string]string{"lib.rego": "package placement.libary.team\nlimit := 5"}, lint.NewFleet(nil), []string{"placement.libary.team"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := c.Compile(test.modules)
			if err != nil {
				t.Fatal(err)
			}
			found := (&lint.Policies{Set: set, Fleet: test.fleet}).Find()
			if len(found) != len(test.want) {
				t.Errorf("%v, want %v", found, test.want)
			}
			for i := range min(len(found), len(test.want)) {
				if found[i].Code != "unread_rule" || !strings.Contains(found[i].Message, test.want[i]+",") {
					t.Errorf("%v, want %v", found[i], test.want[i])
				}
			}
		})
	}
}

// TestAnnotationsOfPolicies: an annotation with our prefix is not misspelt where the workspace's policies look for it.
func TestAnnotationsOfPolicies(t *testing.T) {
	object := lint.Workload{Unstructured: &unstructured.Unstructured{Object: parse[map[string]any](t,
		"{kind: X, metadata: {annotations: {tmc.kcp.io/users: eu-west, tmc.kcp.io/prefered-cluster: paris}}}")}}
	for _, test := range []struct {
		name  string
		reads workload.Reads
		want  int
	}{
		{"neither is read", workload.Reads{Annotations: []string{"team"}}, 2},
		{"one is read", workload.ReadsOfKey("annotations", "tmc.kcp.io/users"), 1},
		{"all are read, and one resembles ours", workload.ReadsOf("annotations"), 1},
		{"both are read", workload.Reads{Annotations: []string{"tmc.kcp.io/prefered-cluster", "tmc.kcp.io/users"}}, 0},
	} {
		w := workspace(t, clusters)
		w.Policies = test.reads
		if got := w.Workload(object); len(got) != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
