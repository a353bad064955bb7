package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestRefused: what the API server can validate is refused when it is written.
func TestRefused(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	for name, test := range map[string]struct{ document, err string }{
		"strategy":           {placement("p", "strategy: {type: Best}"), `spec.strategy.type: Unsupported value: "Best": supported values: "Affinity", "BinPack", "RoundRobin", "Spread", "Weighted"`},
		"number of clusters": {placement("p", "numberOfClusters: 0"), `must be from 1 to 1000, or All`},
		"number without use": {placement("p", "strategy: {type: Affinity}", "numberOfClusters: 2"), "numberOfClusters above 1 needs strategy Spread"},
		"two of one name":    {placement("p", "constraints: [{name: a, expression: 'true'}, {name: a, expression: 'true'}]"), "duplicate"},
		"empty expression":   {placement("p", "constraints: [{name: a, expression: ''}]"), "spec.constraints[0].expression in body should be at least 1 chars long"},
		"unknown field":      {placement("p", "constraint: []"), "field not declared in schema"},
		"no location":        {strings.Replace(cluster("c", "1"), "location: here", "location: ''", 1), "spec.location in body should be at least 1 chars long"},
		"not a quantity":     {cluster("c", "lots"), "status.allocatable.cpu"},
		"plain http":         {cluster("c", "1", "clusterEndpoint: {serverURL: 'http://x'}"), "spec.clusterEndpoint.serverURL in body should match"},
	} {
		err := server.Apply(t.Context(), team.workspace, []byte(test.document))
		if err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: error %v, want %q", name, err, test.err)
		}
	}
}

// TestBadInput: what only the controller can validate is reported on the object itself and affects nothing else.
func TestBadInput(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	labels := make([]string, 10_000)
	for i := range labels {
		labels[i] = fmt.Sprintf("l%d: x", i)
	}
	team.apply(
		cluster("good", "64"),
		strings.Replace(cluster("negative", "64"), "memory: 64Gi", "memory: '-1'", 1),
		cluster("absurd", "9000P"),
		clusterWith("labels", "True", "64", "{"+strings.Join(labels, ", ")+"}"),
		"apiVersion: tmc.kcp.io/v1alpha1\nkind: ClusterRegistration\nmetadata: {name: silent}\nspec: {location: here}",
		placement("app", "constraints: [{name: c, expression: 'cluster.labels.all(k, k != \"nope\")'}]"),
		deployment("web", "app", "1"),
	)
	team.expect("Deployment web", "good")

	team.apply(strings.Replace(deployment("nothing", "app", "1"), `resources: {requests: {cpu: "1"}}`, "resources: {}", 1))
	team.expect("Deployment nothing", "good")

	team.apply(placement("cel", "constraints: [{name: typo, expression: 'cluster.nmae == \"a\"'}]"), deployment("cel", "cel", "1"))
	team.eventually("ConstraintsValid", `False InvalidSpec: spec.constraints[0].expression: Invalid value: "cluster.nmae == \"a\"": constraint "typo": 1:8: undefined field 'nmae'`,
		func() string { return team.condition("cel", v1alpha1.ConstraintsValidCondition) })

	team.apply(placement("selector", "locationSelector: {matchExpressions: [{key: location, operator: Like}]}"))
	team.eventually("ConstraintsValid", `False InvalidSpec: spec.locationSelector: Invalid value: "Like" is not a valid label selector operator`,
		func() string { return team.condition("selector", v1alpha1.ConstraintsValidCondition) })

	team.apply(placement("dear", "constraints: [{name: dear, expression: 'cluster.labels.all(a, cluster.labels.all(b, cluster.labels.all(c, a != b + c)))'}]"))
	team.eventually("ConstraintsValid", "true", func() string {
		return fmt.Sprint(strings.Contains(team.condition("dear", v1alpha1.ConstraintsValidCondition), "more than the limit of 100000"))
	})

	team.apply(placement("minus"), strings.Replace(deployment("minus", "minus", "1"), `cpu: "1"`, `cpu: "-1"`, 1))
	team.eventually("Scheduled", "False WorkloadsWaiting: 1 of 1 workloads wait. Deployment default/minus: spec.template.spec.containers[main].resources.requests.cpu: -1 is negative",
		func() string { return team.condition("minus", v1alpha1.ScheduledCondition) })
	team.eventually("the events", "InvalidWorkload", func() string { return team.events("minus") })

	for reason, rego := range map[string]string{
		"rego_parse_error":     "package placement.x\np := {",
		"rego_recursion_error": "package placement.x\np := q\nq := p",
		"rego_type_error":      "package placement.x\np := http.send({})",
		"scope_error":          "package other",
		"limit_error":          "package placement.x\n# " + strings.Repeat("x", 900_000),
		"shape_error":          "package placement.scoring\nweights := 7",
	} {
		team.apply(policies("bad", rego))
		team.eventually(reason, "true", func() string {
			return fmt.Sprint(strings.Contains(team.condition("app", v1alpha1.PoliciesReadyCondition), reason))
		})
	}
	team.apply(deployment("after", "app", "1"))
	team.expect("Deployment after", "good")
}
