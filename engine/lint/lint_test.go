package lint_test

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// clusters are the fleet of these tests.
const clusters = `
- {metadata: {name: frankfurt, labels: {tier: gold}}, spec: {location: eu-central, capabilities: [{type: gpu, attributes: {model: a100}}]}, status: {allocatable: {cpu: 32, memory: 128Gi, nvidia.com/gpu: 4}}}
- {metadata: {name: dublin, labels: {tier: gold}}, spec: {location: eu-west}, status: {allocatable: {cpu: 16, memory: 64Gi}}}
- {metadata: {name: paris, labels: {tier: silver, fast: ""}}, spec: {location: eu-west, taints: [{key: maintenance, effect: NoSchedule}]}}
`

func workspace(t *testing.T, clusters string) *lint.Workspace {
	var all []*snapshot.Cluster
	for _, r := range parse[[]v1alpha1.ClusterRegistration](t, clusters) {
		all = append(all, snapshot.FromRegistration(&r, nil))
	}
	constraints, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &lint.Workspace{Fleet: lint.NewFleet(all), Constraints: constraints}
}

func parse[T any](t *testing.T, text string) (value T) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

// row is a check with an input that it finds something in, and one that is nearly the same and fine.
type row struct {
	code, cause string
	// want is the finding, as "field: message".
	want     string
	nearMiss string
}

func (r row) test(t *testing.T, find func(spec string) []lint.Finding) {
	t.Run(r.code, func(t *testing.T) {
		var texts []string
		for _, f := range find(r.cause) {
			texts = append(texts, f.Code+": "+f.Field+": "+f.Message)
		}
		if want := r.code + ": " + r.want; !slices.Equal(texts, []string{want}) {
			t.Errorf("%s has the findings\n%s\nwant\n%s", r.cause, strings.Join(texts, "\n"), want)
		}
		if findings := find(r.nearMiss); len(findings) > 0 {
			t.Errorf("%s is fine, and has the findings %v", r.nearMiss, findings)
		}
	})
}

// placements are specs without a workloadSelector, unless they have one.
var placements = []row{
	{
		code:     "contradiction", // a value that is asked for and excluded
		cause:    `clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: In, values: [gold]}, {key: tier, operator: NotIn, values: [gold]}]}}`,
		want:     "spec.clusterSelector.labelSelector.matchExpressions[1]: matches nothing, since spec.clusterSelector.labelSelector.matchExpressions[0] asks for the contrary: remove one of them",
		nearMiss: `clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: In, values: [gold, silver]}, {key: tier, operator: NotIn, values: [gold]}]}}`,
	},
	{
		code:     "contradiction", // matchLabels against matchExpressions
		cause:    `workloadSelector: {labelSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: In, values: [db, cache]}]}}`,
		want:     "spec.workloadSelector.labelSelector.matchExpressions[0]: matches nothing, since spec.workloadSelector.labelSelector.matchLabels[app] asks for the contrary: remove one of them",
		nearMiss: `workloadSelector: {labelSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: In, values: [db, web]}]}}`,
	},
	{
		code:     "contradiction", // a label that is there and is not
		cause:    `clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: Exists}, {key: tier, operator: DoesNotExist}]}}`,
		want:     "spec.clusterSelector.labelSelector.matchExpressions[1]: matches nothing, since spec.clusterSelector.labelSelector.matchExpressions[0] asks for the contrary: remove one of them",
		nearMiss: `clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: Exists}, {key: fast, operator: DoesNotExist}]}}`,
	},
	{
		code:     "location_key",
		cause:    `locationSelector: {matchLabels: {region: eu-west}}`,
		want:     "spec.locationSelector.matchLabels[region]: matches no cluster: the only key here is location, the spec.location of registrations; labels are selected by clusterSelector.labelSelector",
		nearMiss: `locationSelector: {matchLabels: {location: eu-west}}`,
	},
	{
		code:     "unknown_cluster",
		cause:    `clusterSelector: {clusterNames: [dublin, frankfrut]}`,
		want:     "spec.clusterSelector.clusterNames[1]: there is no cluster frankfrut in the fleet, did you mean frankfurt?",
		nearMiss: `clusterSelector: {clusterNames: [dublin, frankfurt]}`,
	},
	{
		code:     "unknown_location",
		cause:    `locationSelector: {matchExpressions: [{key: location, operator: In, values: [eu-central, eu-wset]}]}`,
		want:     "spec.locationSelector.matchExpressions[0].values[1]: no cluster of the fleet has the location=eu-wset, did you mean eu-west?",
		nearMiss: `locationSelector: {matchExpressions: [{key: location, operator: NotIn, values: [us-east]}]}`, // to exclude what is not there yet is prudent
	},
	{
		code:     "unknown_label", // a key
		cause:    `clusterSelector: {labelSelector: {matchLabels: {teir: gold}}}`,
		want:     "spec.clusterSelector.labelSelector.matchLabels[teir]: no cluster of the fleet has the label teir, did you mean tier?",
		nearMiss: `clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}`,
	},
	{
		code:     "unknown_label", // a value
		cause:    `clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [glod]}]}}`,
		want:     "spec.clusterSelector.labelSelector.matchExpressions[0].values[0]: no cluster of the fleet has the label tier=glod, did you mean gold?",
		nearMiss: `clusterSelector: {labelSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [platinum]}]}}`,
	},
	{
		code:     "unknown_capability",
		cause:    `capabilityRequirements: [{type: gpus}]`,
		want:     "spec.capabilityRequirements[0].type: no cluster of the fleet lists the capability gpus, did you mean gpu?",
		nearMiss: `capabilityRequirements: [{type: gpu}]`,
	},
	{
		code:     "no_cluster",
		cause:    `{locationSelector: {matchLabels: {location: eu-west}}, capabilityRequirements: [{type: gpu, required: true}]}`,
		want:     "spec: no cluster of the fleet passes the selectors and capabilityRequirements",
		nearMiss: `{locationSelector: {matchLabels: {location: eu-west}}, capabilityRequirements: [{type: gpu}]}`,
	},
	{
		code:     "too_many_clusters", // names
		cause:    `{numberOfClusters: 3, clusterSelector: {clusterNames: [dublin, paris]}}`,
		want:     "spec.numberOfClusters: 3 clusters are asked for, and clusterSelector.clusterNames has 2",
		nearMiss: `{numberOfClusters: 2, clusterSelector: {clusterNames: [dublin, paris]}}`,
	},
	{
		code:     "too_many_clusters", // the fleet
		cause:    `numberOfClusters: 4`,
		want:     "spec.numberOfClusters: 4 clusters are asked for, and the fleet has 3",
		nearMiss: `numberOfClusters: 3`,
	},
	{
		code:     "too_many_clusters", // selectors
		cause:    `{numberOfClusters: 3, locationSelector: {matchLabels: {location: eu-west}}}`,
		want:     "spec.numberOfClusters: 3 clusters are asked for, and the selectors and capabilityRequirements leave 2 of the fleet's 3",
		nearMiss: `{locationSelector: {matchLabels: {location: eu-west}}}`, // left out, it is as many as there are, up to 3
	},
	{
		code:     "toleration",
		cause:    `tolerations: [{key: maintenance, operator: Exists, effect: NoSchedule, tolerationSeconds: 60}]`,
		want:     "spec.tolerations[0].tolerationSeconds: has no effect: only taints with effect NoExecute are tolerated for a time; write effect: NoExecute",
		nearMiss: `tolerations: [{key: maintenance, operator: Exists, effect: NoExecute, tolerationSeconds: 60}]`,
	},
	{
		code:     "toleration",
		cause:    `tolerations: [{key: maintainance, operator: Exists}]`,
		want:     "spec.tolerations[0].key: no cluster of the fleet has a taint maintainance, did you mean maintenance?",
		nearMiss: `tolerations: [{key: dedicated, operator: Exists}]`,
	},
}

// expressions are constraints; the field of what is found is the expression.
var expressions = []row{
	{code: "unknown_value", cause: `cluster.location == "eu-wset"`, // a location
		want: `no cluster of the fleet has the location eu-wset, did you mean eu-west?`, nearMiss: `cluster.location == "eu-west"`},
	{code: "unknown_value", cause: `cluster.location in ["eu-west", "eu-norht"]`, // a list of locations
		want: `no cluster of the fleet has the location eu-norht`, nearMiss: `cluster.location != "us-east"`},
	{code: "unknown_value", cause: `cluster.name != "pariss"`, // a name
		want: `there is no cluster of the name pariss, did you mean paris?`, nearMiss: `cluster.name != "tokyo"`},
	{code: "unknown_value", cause: `cluster.labels["teir"] == "gold"`, // the key of a label
		want: `no cluster of the fleet has the label teir, did you mean tier?`, nearMiss: `cluster.labels.?region.orValue("") == ""`},
	{code: "unknown_value", cause: `cluster.labels.?tier.orValue("") == "glod"`, // the value of a label
		want: `no cluster of the fleet has the label tier with the value glod, did you mean gold?`, nearMiss: `cluster.labels["tier"] == "silver"`},
	{code: "unknown_value", cause: `cluster.capabilities.exists(c, c.type == "gpuu")`, // a capability
		want: `no cluster of the fleet has the capability gpuu, did you mean gpu?`, nearMiss: `cluster.capabilities.exists(c, c.type == "gpu")`},
	{code: "unknown_value", cause: `cluster.capabilities.exists(c, c.attributes[?"model"].hasValue() && c.attributes["modle"] == "a100")`, // the attribute of a capability
		want: `no cluster of the fleet has a capability with the attribute modle, did you mean model?`, nearMiss: `cluster.capabilities.exists(c, c.attributes[?"model"].orValue("") == "a100")`},
	{code: "unknown_value", cause: `!cluster.taints.exists(t, t.effect == "NoScheduel")`, // the effect of a taint
		want: `there is no effect NoScheduel, did you mean NoSchedule?`, nearMiss: `!cluster.taints.exists(t, t.key == "spot")`},
	{code: "unknown_value", cause: `cluster.conditions.exists(c, c.status == "true")`, // the status of a condition
		want: `no condition has the status true, did you mean True?`, nearMiss: `cluster.conditions.exists(c, c.status == "True")`},
	{code: "unknown_value", cause: `placement.labels["team"] == "shop"`, // a label of the placement
		want: `the placement has no label team`, nearMiss: `placement.labels.?team.orValue("shop") == "shop"`},
	{code: "unknown_value", cause: `capacity.free.memry > 0`, // a resource
		want: `there is no resource memry, did you mean memory?`, nearMiss: `capacity.free.memory > 0`},
	{code: "unknown_value", cause: `capacity.free[?"gpu"].orValue(1) > 0`, // a resource that need not be there
		want: `there is no resource gpu, did you mean nvidia.com/gpu?`, nearMiss: `capacity.free[?"nvidia.com/gpu"].orValue(1) > 0`},
	{code: "unknown_value", cause: `capacity.free["amd.com/gpu"] > 0`, // a resource that no cluster has
		want: `no cluster of the fleet reports the resource amd.com/gpu, so this is an error for each: ask whether it is there first`, nearMiss: `capacity.free[?"amd.com/gpu"].orValue(0) > 0`},
	{code: "unknown_value", cause: `workload.requests[?"nvidia.com/gpus"].orValue(0) == 0`, // a resource of the workload
		want: `there is no resource nvidia.com/gpus, did you mean nvidia.com/gpu?`, nearMiss: `workload.requests[?"example.com/dongle"].orValue(0) == 0`},
	{code: "never_true", cause: `capacity.free.cpu > 2000 && capacity.free.cpu < 1000`, // the whole
		want: `holds for no cluster and no workload, so nothing is placed`, nearMiss: `capacity.free.cpu > 1000 && capacity.free.cpu < 2000`},
	{code: "never_true", cause: `capacity.free.memory > 1000000000000 * 1000000000000`, // an overflow
		want: `1000000000000 * 1000000000000 is an error for every cluster and workload: integer overflow`, nearMiss: `capacity.free.memory > 1000 * 1000`},
	{code: "always_true", cause: `workload.replicas >= 0`, // the whole
		want: `holds for every cluster and workload, so it has no effect`, nearMiss: `workload.replicas > 0`},
	{code: "always_true", cause: `workload.replicas > 0 && 1 < 2`, // a part that holds
		want: `1 < 2 holds for every cluster and workload`, nearMiss: `workload.replicas > 0 && capacity.free.cpu < 2`},
	{code: "always_true", cause: `workload.replicas > 0 || 1 > 2`, // a part that does not
		want: `1 > 2 holds for no cluster and no workload`, nearMiss: `workload.replicas > 0 || capacity.free.cpu > 2`},
}

// registrations are specs.
var registrations = []row{
	{
		code:     "taint",
		cause:    `{location: a, taints: [{key: k, effect: PreferNoScheduel}]}`,
		want:     `spec.taints[0].effect: "PreferNoScheduel" is no effect, so the taint keeps nothing out, did you mean PreferNoSchedule?`,
		nearMiss: `{location: a, taints: [{key: k, effect: PreferNoSchedule}]}`,
	},
	{
		code:     "taint",
		cause:    `{location: a, taints: [{key: k, effect: NoSchedule, value: x}, {key: k, effect: NoSchedule, value: y}]}`,
		want:     "spec.taints[1]: there is another taint with key k and effect NoSchedule",
		nearMiss: `{location: a, taints: [{key: k, effect: NoSchedule}, {key: k, effect: NoExecute}]}`,
	},
}

func TestPlacement(t *testing.T) {
	for _, r := range placements {
		r.test(t, func(spec string) []lint.Finding {
			p := v1alpha1.WorkloadPlacement{Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec)}
			return workspace(t, clusters).Placement(&p)
		})
	}
}

func TestConstraint(t *testing.T) {
	for _, r := range expressions {
		r.want = "spec.constraints[0].expression: " + r.want
		r.test(t, func(expression string) []lint.Finding {
			p := v1alpha1.WorkloadPlacement{Spec: v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{{Name: "c", Expression: expression}}}}
			return workspace(t, clusters).Placement(&p)
		})
	}
}

func TestRegistration(t *testing.T) {
	for _, r := range registrations {
		r.test(t, func(spec string) []lint.Finding {
			return workspace(t, clusters).Registration(&v1alpha1.ClusterRegistration{Spec: parse[v1alpha1.ClusterRegistrationSpec](t, spec)})
		})
	}
}

// TestUnknownFleet: nothing is said of names where it is not known which there are.
func TestUnknownFleet(t *testing.T) {
	const spec = `{clusterSelector: {clusterNames: [a], labelSelector: {matchLabels: {k: v}}}, locationSelector: {matchLabels: {location: x}}, capabilityRequirements: [{type: gpu}]}`
	p := v1alpha1.WorkloadPlacement{Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec)}
	if findings := workspace(t, "").Placement(&p); len(findings) > 0 {
		t.Error(findings)
	}
}

// TestEveryCheckIsTested: each finds something in these tests, and leaves something nearly the same alone.
func TestEveryCheckIsTested(t *testing.T) {
	for _, code := range lint.Codes() {
		if !slices.ContainsFunc(slices.Concat(placements, expressions, registrations), func(r row) bool { return r.code == code }) {
			t.Errorf("no row tests %s", code)
		}
	}
}
