package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/kcp-placement/placement/policies"
)

// TestSchemas: the schemas that editors and `opa check` use say the same as the engine.
func TestSchemas(t *testing.T) {
	const weights, terms, scheduling = "schemas/scoring/weights.json", "schemas/affinity/terms.json", "schemas/scheduling/scheduling.json"
	term := func(rest string) string { return `[{"factor": "affinity", ` + rest + `}]` }
	for _, test := range []struct {
		schema, document string
		valid            bool
	}{
		{weights, `{"capacity": 100, "health": 0}`, true},
		{weights, `{"location": 1}`, true},
		{weights, `{}`, false},
		{weights, `{"health": 0, "capacity": 0}`, false},
		{weights, `{"health": 101}`, false},
		{weights, `{"health": -1}`, false},
		{weights, `{"health": 1.5}`, false},
		{weights, `{"health": "1"}`, false},
		{weights, `{"health": 1, "price": 1}`, false},
		{weights, `{"cost": 1}`, true},
		{weights, `{"cost": 0, "packing": 100}`, true},
		{weights, `[]`, false},
		{weights, `{"score/green": 1}`, true},
		{weights, `{"score/example.com/green": 1, "health": 0}`, true},
		{weights, `{"score/green": 0}`, false},
		{weights, `{"score/green": 101}`, false},
		{weights, `{"score/": 1}`, false},
		{weights, `{"scores/green": 1}`, false},
		{terms, `[]`, true},
		{terms, term(`"match": {"location": "eu"}`), true},
		{terms, term(`"match": {"capability": "gpu"}, "onMatch": 100, "otherwise": -100, "required": true, "reason": "because"`), true},
		{terms, term(`"match": {"clusterNames": ["a"]}`), true},
		{terms, term(`"match": {"labelSelector": {}}`), true},
		{terms, term(`"match": {"labelSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}`), true},
		{terms, term(`"match": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}`), false},
		{terms, term(`"match": {"labelSelector": {"matchLabel": {"a": "b"}}}`), false},
		{terms, term(`"match": {}`), false},
		{terms, term(`"match": {"clusterNames": []}`), false},
		{terms, term(`"match": {"location": ""}`), false},
		{terms, term(`"match": {"cluster": "a"}`), false},
		{terms, term(`"match": {"location": "eu"}, "onMatch": 101`), false},
		{terms, term(`"match": {"location": "eu"}, "otherwise": -101`), false},
		{terms, term(`"match": {"location": "eu"}, "onMatch": "5"`), false},
		{terms, term(`"match": {"location": "eu"}, "bonus": 1`), false},
		{terms, term(`"match": {"location": "eu"}, "reason": "` + strings.Repeat("x", 257) + `"`), false},
		{terms, term(`"match": {"location": "eu"}, "requiredDuringExecution": true`), true},
		{terms, term(`"score": "green", "onMatch": -20`), true},
		{terms, term(`"score": "green", "match": {"location": "eu"}, "onMatch": 20, "otherwise": 5, "required": true`), true},
		{terms, term(`"score": "", "onMatch": 20`), false},
		{terms, term(`"score": "green", "onMatch": 20, "otherwise": 5`), false},
		{terms, term(`"score": "green", "onMatch": 20, "required": true`), false},
		{terms, term(`"score": 7, "onMatch": 20`), false},
		{terms, `[{"factor": "health", "match": {"location": "eu"}}]`, false},
		{terms, `[{"match": {"location": "eu"}}]`, false},
		{terms, `[{"factor": "affinity"}]`, false},
		{terms, `{}`, false},
		{scheduling, `{}`, true},
		{scheduling, `{"numberOfClusters": 2, "minClusters": 2}`, true},
		{scheduling, `{"numberOfClusters": "All"}`, true},
		{scheduling, `{"numberOfClusters": "2"}`, false},
		{scheduling, `{"numberOfClusters": 0}`, false},
		{scheduling, `{"minClusters": 1001}`, false},
		{scheduling, `{"minClusters": -1}`, false},
		{scheduling, `{"spreadConstraints": [{"topologyKey": "location", "maxSkew": 2, "minDomains": 2, "whenUnsatisfiable": "DoNotSchedule", "scope": "Workloads"}]}`, true},
		{scheduling, `{"spreadConstraints": [{"maxSkew": 2}]}`, false},
		{scheduling, `{"spreadConstraints": [{"topologyKey": "location", "whenUnsatisfiable": "Never"}]}`, false},
		{scheduling, `{"spreadConstraints": [{"topologyKey": "location", "scope": "Pods"}]}`, false},
		{scheduling, `{"spreadConstraints": [{"topologyKey": "location", "whenUnsatisfiable": "ScheduleAnyway", "weight": 101}]}`, false},
		{scheduling, `{"spreadConstraints": {"topologyKey": "location"}}`, false},
		{scheduling, `{"replicaScheduling": {"type": "Divided", "division": "FreeCapacity", "minPerCluster": 2, "partial": true}}`, true},
		{scheduling, `{"replicaScheduling": {"type": "Divided", "division": "Weighted", "weights": [{"weight": 2, "clusterSelector": {"clusterNames": ["a"]}}]}}`, true},
		{scheduling, `{"replicaScheduling": {"type": "Divided", "division": "Weighted", "weights": [{"weight": 2000000}]}}`, false},
		{scheduling, `{"replicaScheduling": {"type": "Divide"}}`, false},
		{scheduling, `{"replicaScheduling": {"type": "Divided", "division": "Even", "minPerCluster": -2}}`, false},
		{scheduling, `{"strategy": {"type": "Spread"}}`, true},
		{scheduling, `{"strategy": {"type": "RoundRobin"}, "numberOfClusters": 1}`, true},
		{scheduling, `{"strategy": {"type": "Robin"}}`, false},
		{scheduling, `{"strategy": "RoundRobin"}`, false},
		{scheduling, `{"strategy": {"kind": "RoundRobin"}}`, false},
		{scheduling, `{"workloadAffinity": [{"type": "Repel", "labelSelector": {}, "required": true}]}`, true},
		{scheduling, `{"workloadAffinity": [{"type": "Attract", "labelSelector": {"matchLabels": {"app": "db"}}, "namespaces": ["*"], "topologyKey": "location", "weight": 100}]}`, true},
		{scheduling, `{"workloadAffinity": [{"type": "Attract"}]}`, false},
		{scheduling, `{"workloadAffinity": [{"labelSelector": {}}]}`, false},
		{scheduling, `{"workloadAffinity": [{"type": "Avoid", "labelSelector": {}}]}`, false},
		{scheduling, `{"workloadAffinity": [{"type": "Repel", "labelSelector": {}, "weight": 101}]}`, false},
		{scheduling, `{"workloadAffinity": [{"type": "Repel", "labelSelector": {}, "weight": -1}]}`, false},
		{scheduling, `{"workloadAffinity": [{"type": "Repel", "labelSelector": {}, "required": "yes"}]}`, false},
		{scheduling, `{"workloadAffinity": [{"type": "Repel", "labelSelector": {}, "topologykey": "location"}]}`, false},
		{scheduling, `{"tolerations": [{"key": "tmc.kcp.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]}`, true},
		{scheduling, `{"tolerations": [{"operator": "Exists"}]}`, true},
		{scheduling, `{"tolerations": [{"key": "a", "operator": "Is"}]}`, false},
		{scheduling, `{"tolerations": [{"key": "a", "effect": "Evict"}]}`, false},
		{scheduling, `{"tolerations": [{"key": "a", "value": 1}]}`, false},
		{scheduling, `{"tolerations": [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 1.5}]}`, false},
		{scheduling, `{"tolerations": {"key": "a"}}`, false},
		{scheduling, `{"workloadAffinity": {"type": "Repel", "labelSelector": {}}}`, false},
		{scheduling, `{"workloadAffinity": [` + strings.Repeat(`{"type": "Repel", "labelSelector": {}}, `, 16) + `{"type": "Repel", "labelSelector": {}}]}`, false},
		{scheduling, `[]`, false},
	} {
		t.Run(test.document, func(t *testing.T) {
			if got := matchesSchema(t, test.schema, test.document); got != test.valid {
				t.Errorf("the schema says %v", got)
			}
			text := "package placement.scoring\nweights := " + test.document
			switch {
			case test.schema == scheduling:
				text = "package placement\nscheduling := " + test.document
			case test.schema == terms && test.document[0] == '[':
				text = "package placement.affinity\nterms contains t if some t in " + test.document
			case test.schema == terms:
				text = "package placement.affinity\nterms := " + test.document
			}
			if _, err := compiler(t).Compile(map[string]string{"a.rego": text}); (err == nil) != test.valid {
				t.Errorf("the engine says %v", err)
			}
		})
	}
}

func matchesSchema(t *testing.T, file, document string) bool {
	t.Helper()
	schema, err := policies.Schemas.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var input any
	if err := json.Unmarshal(fmt.Appendf(nil, `{"document": %s, "schema": %s}`, document, schema), &input); err != nil {
		t.Fatal(err)
	}
	results, err := rego.New(rego.Query(`json.match_schema(input.document, input.schema)[0]`), rego.Input(input)).Eval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return results.Allowed()
}
