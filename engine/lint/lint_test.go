package lint_test

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// clusters are the fleet of these tests.
const clusters = `
- {metadata: {name: frankfurt, labels: {tier: gold}}, spec: {location: eu-central, capabilities: [{type: gpu}]}, status: {allocatable: {cpu: 32, memory: 128Gi, nvidia.com/gpu: 4}}}
- {metadata: {name: dublin, labels: {tier: gold}}, spec: {location: eu-west}, status: {allocatable: {cpu: 16, memory: 64Gi}}}
- {metadata: {name: paris, labels: {tier: silver, fast: ""}}, spec: {location: eu-west, taints: [{key: maintenance, effect: NoSchedule}]}}
`

func fleet(t *testing.T) *lint.Fleet {
	var all []*snapshot.Cluster
	for _, r := range parse[[]v1alpha1.ClusterRegistration](t, clusters) {
		all = append(all, snapshot.FromRegistration(&r, nil))
	}
	return lint.NewFleet(all)
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
			return lint.Placement(&p, fleet(t))
		})
	}
}

func TestRegistration(t *testing.T) {
	for _, r := range registrations {
		r.test(t, func(spec string) []lint.Finding {
			return lint.Registration(&v1alpha1.ClusterRegistration{Spec: parse[v1alpha1.ClusterRegistrationSpec](t, spec)})
		})
	}
}

// TestUnknownFleet: nothing is said of names where it is not known which there are.
func TestUnknownFleet(t *testing.T) {
	const spec = `{clusterSelector: {clusterNames: [a], labelSelector: {matchLabels: {k: v}}}, locationSelector: {matchLabels: {location: x}}, capabilityRequirements: [{type: gpu}]}`
	p := v1alpha1.WorkloadPlacement{Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec)}
	if findings := lint.Placement(&p, lint.NewFleet(nil)); len(findings) > 0 {
		t.Error(findings)
	}
}

// TestEveryCheckIsTested: each finds something in these tests, and leaves something nearly the same alone.
func TestEveryCheckIsTested(t *testing.T) {
	for _, code := range lint.Codes() {
		if !slices.ContainsFunc(slices.Concat(placements, registrations), func(r row) bool { return r.code == code }) {
			t.Errorf("no row tests %s", code)
		}
	}
}
