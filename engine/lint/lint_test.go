package lint_test

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
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
	return &lint.Workspace{Fleet: lint.NewFleet(all), Constraints: constraints, Kinds: workload.Kinds()}
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
		code:     "unknown_kind", // in lower case
		cause:    `workloadSelector: {workloadTypes: [{apiVersion: apps/v1, kind: deployment}]}`,
		want:     "spec.workloadSelector.workloadTypes[0]: selects nothing: deployment of apps/v1 is not a kind of workload, did you mean Deployment of apps/v1?",
		nearMiss: `workloadSelector: {workloadTypes: [{apiVersion: apps/v1, kind: Deployment}]}`,
	},
	{
		code:     "unknown_kind", // another version
		cause:    `workloadSelector: {workloadTypes: [{apiVersion: batch/v1, kind: Job}, {apiVersion: extensions/v1beta1, kind: Deployment}]}`,
		want:     "spec.workloadSelector.workloadTypes[1]: selects nothing: Deployment of extensions/v1beta1 is not a kind of workload, did you mean Deployment of apps/v1?",
		nearMiss: `workloadSelector: {workloadTypes: [{apiVersion: batch/v1, kind: CronJob}, {apiVersion: ray.io/v1, kind: RayCluster}]}`,
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
		nearMiss: `locationSelector: {matchExpressions: [{key: location, operator: In, values: [eu-west, us-west]}, {key: location, operator: NotIn, values: [us-east]}]}`, // to exclude what is not there yet is prudent
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
		cause:    `tolerations: [{key: tmc.kcp.io/not-redy, operator: Exists}]`,
		want:     "spec.tolerations[0].key: no cluster of the fleet has a taint tmc.kcp.io/not-redy, did you mean tmc.kcp.io/not-ready?",
		nearMiss: `tolerations: [{key: tmc.kcp.io/not-ready, operator: Exists}, {operator: Exists}]`,
	},
	{
		code:     "toleration",
		cause:    `tolerations: [{key: maintainance, operator: Exists}]`,
		want:     "spec.tolerations[0].key: no cluster of the fleet has a taint maintainance, did you mean maintenance?",
		nearMiss: `tolerations: [{key: dedicated, operator: Exists}]`,
	},
}

// selecting are placements whose workloadSelector says more of workloads.
var selecting = []row{
	{
		code: "unknown_value", cause: `{workloadSelector: {workloadTypes: [{apiVersion: batch/v1, kind: Job}]}, constraints: [{name: c, expression: 'workload.kind == "CronJob" || workload.replicas > 1'}]}`,
		want:     "spec.constraints[0].expression: workloadSelector.workloadTypes has no CronJob",
		nearMiss: `{workloadSelector: {workloadTypes: [{apiVersion: batch/v1, kind: Job}]}, constraints: [{name: c, expression: 'workload.kind == "Job" || workload.kind != "CronJob"'}]}`,
	},
	{
		code: "unknown_value", cause: `{workloadSelector: {labelSelector: {matchLabels: {app: web}}}, constraints: [{name: c, expression: 'workload.labels.app == "wbe"'}]}`,
		want:     "spec.constraints[0].expression: the placement selects workloads with the label app=web and none with a value wbe, did you mean web?",
		nearMiss: `{workloadSelector: {labelSelector: {matchLabels: {app: web}}}, constraints: [{name: c, expression: 'workload.labels.app.startsWith("w") && workload.labels.app != "db"'}]}`,
	},
}

// annotated are placements.
var annotated = []row{
	{
		code: "annotation", cause: `metadata: {annotations: {tmc.kcp.io/disruption: unlimited}}`,
		want:     "metadata.annotations[tmc.kcp.io/disruption]: no such annotation is read, did you mean tmc.kcp.io/disruptions?",
		nearMiss: `metadata: {annotations: {tmc.kcp.io/disruptions: unlimited, example.com/disruption: x, kcp.io/cluster: y}}`,
	},
	{
		code: "annotation", cause: `metadata: {annotations: {tcm.kcp.io/disruptions: unlimited}}`, // the prefix
		want:     "metadata.annotations[tcm.kcp.io/disruptions]: no such annotation is read, did you mean tmc.kcp.io/disruptions?",
		nearMiss: `metadata: {annotations: {tmc.kcp.io/disruptions: unlimited}}`,
	},
	{
		code: "annotation", cause: `metadata: {annotations: {tmc.kcp.io/disruptions: Unlimited}}`, // the value
		want:     `metadata.annotations[tmc.kcp.io/disruptions]: has no effect with the value "Unlimited", did you mean unlimited?`,
		nearMiss: `metadata: {annotations: {tmc.kcp.io/disruptions: unlimited}}`,
	},
	{
		code: "annotation", cause: `metadata: {annotations: {tmc.kcp.io/preferred-cluster: paris}}`, // of workloads
		want:     `metadata.annotations[tmc.kcp.io/preferred-cluster]: is read from workloads: write it there`,
		nearMiss: `metadata: {labels: {tmc.kcp.io/preferred-cluster: paris}}`, // constraints can read it
	},
	{
		code: "annotation", cause: `metadata: {labels: {tmc.kcp.io/disruptions: unlimited}}`, // a label
		want:     `metadata.labels[tmc.kcp.io/disruptions]: is read from the annotations: write it under metadata.annotations`,
		nearMiss: `metadata: {labels: {team: shop}}`,
	},
}

// expressions are constraints of a placement that selects two workloads; the field of what is found is the expression.
var expressions = []row{
	{code: "unknown_value", cause: `workload.kind in ["Deployment", "cronjob"]`, // a kind
		want: `there is no kind of workload cronjob, did you mean CronJob?`, nearMiss: `workload.kind == "Deployment" && workload.apiVersion == "apps/v1"`},
	{code: "unknown_value", cause: `cluster.location == "eu-wset"`, // a location
		want: `no cluster of the fleet has the location eu-wset, did you mean eu-west?`, nearMiss: `cluster.location == "eu-west"`},
	{code: "unknown_value", cause: `cluster.location in ["eu-west", "eu-cetnral"]`, // a list of locations
		want: `no cluster of the fleet has the location eu-cetnral, did you mean eu-central?`, nearMiss: `cluster.location in ["eu-west", "us-east"] && cluster.location != "us-east"`},
	{code: "unknown_value", cause: `workload.kind != "Job" || cluster.location == "us-east"`, // what a part of the workloads needs
		want: `no cluster of the fleet has the location us-east`, nearMiss: `cluster.labels.?zone.orValue("") == "a" || cluster.location == "us-east" || cluster.labels.tier == "gold"`},
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
	{code: "unknown_value", cause: `workload.requests["example.com/dongle"] > 0`, // a resource that no workload requests
		want: `none of the workloads given that the placement selects requests the resource example.com/dongle, so this is an error for each: ask whether it is there first`, nearMiss: `"example.com/dongle" in workload.requests && workload.requests["example.com/dongle"] > 1 || workload.replicas > 1`},
	{code: "unknown_value", cause: `workload.namespace == "prodd" || capacity.free.cpu > 4000`, // a namespace
		want: `a placement selects workloads of its own namespace, shop, and none of the namespace prodd`, nearMiss: `workload.namespace == "shop" && workload.namespace != "kube-system"`},
	{code: "unknown_value", cause: `workload.labels.?ap.orValue("") == "web"`, // the key of a workload's label
		want: `none of the workloads given that the placement selects has the label ap, did you mean app?`, nearMiss: `workload.labels.?team.orValue("shop") == "shop"`},
	{code: "unknown_value", cause: `workload.labels["app"] != "nihgtly"`, // the value of a workload's label
		want: `none of the workloads given that the placement selects has the label app with the value nihgtly, did you mean nightly?`, nearMiss: `workload.labels["app"] != "db"`},
	{code: "unknown_value", cause: `workload.annotations.?team.orValue("") != "shpo"`, // the value of a workload's annotation
		want: `none of the workloads given that the placement selects has the annotation team with the value shpo, did you mean shop?`, nearMiss: `workload.annotations.?team.orValue("") != "catalog"`},
	{code: "unknown_value", cause: `"tmc.kcp.io/prefered-cluster" in workload.annotations || capacity.free.cpu > 4000`, // one of our annotations
		want: `no such annotation is read, did you mean tmc.kcp.io/preferred-cluster?`, nearMiss: `"tmc.kcp.io/preferred-cluster" in workload.annotations || capacity.free.cpu > 4000`},
	{code: "unknown_value", cause: `workload.name != "nihgtly"`, // the name of a workload
		want: `none of the workloads given that the placement selects has the name nihgtly, did you mean nightly?`, nearMiss: `workload.name != "catalog"`},
	{code: "unknown_value", cause: `placement.name == "front"`, // the name of the placement
		want: `the placement does not have the name front`, nearMiss: `placement.name == "web" && placement.namespace == "shop"`},
	{code: "unknown_value", cause: `cluster.name.startsWith("frankfrut")`, // a beginning
		want: `there is no cluster of the name that starts with frankfrut, did you mean frankfurt?`, nearMiss: `cluster.name.startsWith("frank") && !cluster.name.startsWith("tokyo")`},
	{code: "unknown_value", cause: `cluster.location.endsWith("-wset") || workload.replicas > 1`, // an end
		want: `no cluster of the fleet has the location that ends with -wset, did you mean -west?`, nearMiss: `cluster.location.endsWith("-west")`},
	{code: "unknown_value", cause: `cluster.labels.tier.contains("bronze")`, // a part
		want: `no cluster of the fleet has the label tier with the value that contains bronze`, nearMiss: `cluster.labels.tier.contains("ol")`},
	{code: "unknown_value", cause: `cluster.location.matches("^us-")`, // a pattern
		want: `no cluster of the fleet has the location that matches ^us-`, nearMiss: `cluster.location.matches("^eu-(west|north)$") || !cluster.location.matches("^us-")`},
	{code: "never_holds", cause: `capacity.free.cpu > 4000 && cluster.labels["tier"] + "!" == "bronze!"`, // for clusters
		want: `holds for no cluster of the fleet: cluster.labels["tier"] + "!" == "bronze!"`, nearMiss: `cluster.labels["tier"] + "!" == "gold!"`},
	{code: "never_holds", cause: `cluster.location == "eu-central" && cluster.labels.tier == "silver"`, // several parts
		want: `holds for no cluster of the fleet: each part does, but not all of them together`, nearMiss: `cluster.location == "eu-west" && cluster.labels.tier == "silver"`},
	{code: "never_holds", cause: `workload.kind == "CronJob"`, // for workloads
		want: `holds for no workload given that the placement selects: workload.kind == "CronJob"`, nearMiss: `workload.kind == "Job"`},
	{code: "never_holds", cause: `workload.labels.app == cluster.labels.tier`, // for workloads on clusters
		want: `holds for no cluster of the fleet and workload given that the placement selects: workload.labels.app == cluster.labels.tier`, nearMiss: `workload.labels.app == "web" && cluster.labels.tier == "gold"`},
	{code: "never_holds", cause: `placement.labels.size() > 3`, // for the placement
		want: `does not hold for this placement: placement.labels.size() > 3`, nearMiss: `placement.labels.size() < 3`},
	{code: "never_holds", cause: `cluster.capabilities.exists(c, c.type == "gpu" && c.attributes.model == "a" + "200")`, // what a cluster is
		want:     `holds for no cluster of the fleet: cluster.capabilities.exists(c, c.type == "gpu" && c.attributes.model == "a" + "200")`,
		nearMiss: `cluster.capabilities.exists(c, c.type == "gpu" && c.available) && cluster.conditions.exists(c, c.status == "True") && cluster.taints.exists(t, t.value == "x") && workload.replicas > 99`}, // what changes
	{code: "unit", cause: `capacity.free.memory > 64`,
		want: `memory is in bytes, and nothing is as small as 64, did you mean quantity("64Gi") or quantity("64Mi")?`, nearMiss: `capacity.free.memory >= 1 && capacity.free.memory > quantity("64Gi")`},
	{code: "unit", cause: `256 <= capacity.free.storage - workload.requests.storage`, // what is left
		want: `storage is in bytes, and nothing is as small as 256, did you mean quantity("256Gi") or quantity("256Mi")?`, nearMiss: `quantity("1Mi") <= capacity.free.storage - workload.requests.storage`},
	{code: "unit", cause: `capacity.allocatable.cpu >= 32`,
		want: `cpu is in millicores, and nothing is as small as 32, did you mean 32000?`, nearMiss: `capacity.allocatable.cpu >= 100 && workload.requests.cpu > 10 && capacity.free["nvidia.com/gpu"] >= 2`},
	{code: "unit", cause: `workload.requests.cpu <= 2 * 1 || workload.requests.cpu < 4`, // of a workload
		want: `cpu is in millicores, and nothing is as small as 4, did you mean 4000?`, nearMiss: `workload.requests.cpu / workload.replicas < 4 || workload.requests.cpu > 0`},
	{code: "unit", cause: `capacity.utilization.cpu < 1`, // a share
		want: `utilization goes up to 100, and 1 is hardly meant: it is no fraction`, nearMiss: `capacity.utilization.cpu == 0 || capacity.utilization.memory <= 100`},
	{code: "unit", cause: `capacity.utilization["nvidia.com/gpu"] < 800`, // too much
		want: `utilization is in percent, and more than 100 is hardly meant`, nearMiss: `capacity.utilization.cpu < 80`},
	{code: "unit", cause: `capacity.healthScore > 1`, // a score
		want: `healthScore goes up to 100, and 1 is hardly meant: it is no fraction`, nearMiss: `capacity.healthScore > 50 && capacity.performanceScore >= 100`},
	{code: "never_true", cause: `capacity.free.cpu > 2000 && capacity.free.cpu < 1000`, // the whole
		want: `holds for no cluster and no workload, so nothing is placed`, nearMiss: `capacity.free.cpu > 1000 && capacity.free.cpu < 2000`},
	{code: "never_true", cause: `capacity.free.memory > 1000000000000 * 1000000000000`, // an overflow
		want: `1000000000000 * 1000000000000 is an error for every cluster and workload: integer overflow`, nearMiss: `capacity.free.memory > 1000 * 1000`},
	{code: "always_true", cause: `workload.replicas >= 0`, // the whole
		want: `holds for every cluster and workload, so it has no effect`, nearMiss: `workload.replicas > 0`},
	{code: "always_true", cause: `workload.replicas > 0 && 1 < 2`, // a part that holds
		want: `1 < 2 holds for every cluster and workload`, nearMiss: `workload.replicas > 0 && capacity.free.cpu < 2000`},
	{code: "always_true", cause: `workload.replicas > 0 || 1 > 2`, // a part that does not
		want: `1 > 2 holds for no cluster and no workload`, nearMiss: `workload.replicas > 0 || capacity.free.cpu > 2000`},
}

// registrations are specs.
var registrations = []row{
	{
		code:     "taint",
		cause:    `{location: a, taints: [{key: k, effect: PreferNoScheduel}]}`,
		want:     `spec.taints[0].effect: "PreferNoScheduel" is no effect: until that is mended, the taint keeps workloads out as NoSchedule does, did you mean PreferNoSchedule?`,
		nearMiss: `{location: a, taints: [{key: k, effect: PreferNoSchedule}]}`,
	},
	{
		code:     "taint",
		cause:    `{location: a, taints: [{key: k, effect: NoSchedule, value: x}, {key: k, effect: NoSchedule, value: y}]}`,
		want:     "spec.taints[1]: there is another taint with key k and effect NoSchedule",
		nearMiss: `{location: a, taints: [{key: k, effect: NoSchedule}, {key: k, effect: NoExecute}]}`,
	},
}

// annotatedRegistrations are registrations.
var annotatedRegistrations = []row{{
	code: "cost", cause: `metadata: {labels: {tmc.kcp.io/cost: "1e3"}}`,
	want:     `metadata.labels[tmc.kcp.io/cost]: "1e3" is no decimal number such as 0.25 or 12: the factor cost takes the cost of the cluster as unknown, and gives it 50`,
	nearMiss: `metadata: {labels: {tmc.kcp.io/cost: "0.5"}}`,
}, {
	code: "cost", cause: `metadata: {labels: {tmc.kcp.io/costs: "1"}}`,
	want:     `metadata.labels[tmc.kcp.io/costs]: the cost of a cluster is read from the label tmc.kcp.io/cost`,
	nearMiss: `metadata: {labels: {example.com/billing: "1"}}`,
}, {
	code: "annotation", cause: `metadata: {annotations: {tmc.kcp.io/cost: "1"}}`,
	want:     `metadata.annotations[tmc.kcp.io/cost]: is read from the labels of a ClusterRegistration: write it under metadata.labels`,
	nearMiss: `metadata: {labels: {tmc.kcp.io/cost: "1"}}`,
}, {
	code: "annotation", cause: `metadata: {annotations: {tmc.kcp.io/location: eu-west}}`,
	want:     "metadata.annotations[tmc.kcp.io/location]: no annotation of a ClusterRegistration is read: clusters are told apart by spec.location, labels, spec.capabilities and spec.taints",
	nearMiss: `metadata: {annotations: {example.com/location: eu-west}, labels: {tmc.kcp.io/location: eu-west}}`,
}}

// unknownFields are the specs of pods in a Deployment, or whole objects.
var unknownFields = []row{
	{
		code: "unknown_field", cause: `{containers: [], container: []}`,
		want: "spec.template.spec.container: unknown field, did you mean containers?", nearMiss: `{containers: [{name: a, resources: {requests: {cpu: 1}}}]}`,
	},
	{
		code: "unknown_field", cause: `{kind: CronJob, apiVersion: batch/v1, spec: {shedule: "@daily"}}`,
		want: "spec.shedule: unknown field, did you mean schedule?", nearMiss: `{kind: CronJob, apiVersion: batch/v1, spec: {schedule: "@daily"}, status: {x: 1}}`,
	},
	{
		code: "unknown_field", cause: `{kind: RayCluster, apiVersion: ray.io/v1, spec: {mine: {template: {spec: {containers: [{nam: a}]}}}}}`, // of a kind whose other fields are not known
		want: "spec.mine.template.spec.containers[0].nam: unknown field, did you mean name?", nearMiss: `{kind: RayCluster, apiVersion: ray.io/v1, spec: {mine: {template: {spec: {containers: [{name: a}]}}}}}`,
	},
}

// workloads are the specs of pods in a Deployment, or whole objects.
var workloads = []row{
	{
		code: "unit", cause: `{containers: [{name: a, resources: {requests: {cpu: 1, memory: 512m}}}]}`,
		want:     "spec.template.spec.containers[0].resources.requests.memory: 512m is 512 thousandths of a byte, did you mean 512Mi?",
		nearMiss: `{containers: [{name: a, resources: {requests: {cpu: 500m, memory: 512Mi}}}]}`,
	},
	{
		code: "unit", cause: `{containers: [{name: a, resources: {requests: {cpu: 1, memory: 512}}}]}`,
		want:     "spec.template.spec.containers[0].resources.requests.memory: 512 is less than a program needs, did you mean 512Mi?",
		nearMiss: `{containers: [{name: a, resources: {requests: {cpu: 1, memory: 64e6}}}]}`,
	},
	{
		code: "unit", cause: `{initContainers: [{name: a, resources: {limits: {cpu: 500}}}], containers: [{name: a, resources: {requests: {cpu: 1}}}]}`,
		want:     "spec.template.spec.initContainers[0].resources.limits.cpu: 500 processors are more than any cluster of the fleet has, did you mean 500m?",
		nearMiss: `{initContainers: [{name: a, resources: {limits: {cpu: 32}}}], containers: [{name: a, resources: {requests: {cpu: 1}}}]}`,
	},
	{
		code: "no_requests", cause: `{containers: [{name: a}]}`,
		want:     ": requests nothing, so that any cluster has room for it: write resources.requests for its containers",
		nearMiss: `{containers: [{name: a}, {name: b, resources: {requests: {nvidia.com/gpu: 1}}}]}`,
	},
	{
		code: "unknown_resource", cause: `{containers: [{name: a, resources: {requests: {memroy: 1Gi}, limits: {cpu: 1, memroy: 1Gi}}}]}`,
		want:     "spec.template.spec.containers[0].resources.requests.memroy: there is no such resource, did you mean memory?",
		nearMiss: `{containers: [{name: a, resources: {requests: {memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}}]}`,
	},
	{
		code: "unknown_resource", cause: `{containers: [{name: a, resources: {limits: {cpu: 1, nvidia.com/gpus: 1}}}]}`,
		want:     "spec.template.spec.containers[0].resources.limits[nvidia.com/gpus]: no cluster of the fleet has this resource, did you mean nvidia.com/gpu?",
		nearMiss: `{containers: [{name: a, resources: {limits: {cpu: 1, nvidia.com/gpus: 0}}}]}`,
	},
	{
		code: "too_large", cause: `{containers: [{name: a, resources: {requests: {cpu: 20}}}, {name: b, resources: {requests: {cpu: 20}}}]}`,
		want:     ": requests 40 cpu in all, more than any cluster of the fleet has (32)",
		nearMiss: `{containers: [{name: a, resources: {requests: {cpu: 20}}}, {name: b, resources: {requests: {cpu: 12}}}]}`,
	},
	{
		code: "not_looked_at", cause: `{containers: [{name: a, resources: {requests: {cpu: 1}}}], affinity: {podAffinity: {x: y}}, nodeSelector: {a: b}, volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}`,
		want: "spec.template.spec.nodeSelector: placing does not look at nodeSelector, affinity.podAffinity, volumes of type persistentVolumeClaim: the nodes of a cluster have to meet it. " +
			"If those of some clusters do not, say by clusterSelector, capabilityRequirements or a constraint which do, or have the agents of clusters tell of their nodes (status.nodeGroups): " +
			"then nodeSelector, required node affinity and tolerations are matched with them",
		nearMiss: `{containers: [{name: a, resources: {requests: {cpu: 1}}}], affinity: {nodeAffinity: {}}, nodeSelector: {}, schedulerName: default-scheduler, volumes: [{name: v, emptyDir: {}}]}`,
	},
	{
		code: "not_looked_at", cause: `{containers: [{name: a, resources: {requests: {cpu: 1}, claims: [{name: gpu}]}}], resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}]}`,
		want: "spec.template.spec.resourceClaims: placing does not look at resourceClaims: the nodes of a cluster have to meet it. " +
			"If those of some clusters do not, say by clusterSelector, capabilityRequirements or a constraint which do",
		nearMiss: `{containers: [{name: a, resources: {requests: {cpu: 1, nvidia.com/gpu: 1}}}], resourceClaims: []}`,
	},
	{
		code: "annotation", cause: `{kind: X, metadata: {annotations: {tmc.kcp.io/prefered-cluster: paris}}}`,
		want:     "metadata.annotations[tmc.kcp.io/prefered-cluster]: no such annotation is read, did you mean tmc.kcp.io/preferred-cluster?",
		nearMiss: `{kind: X, metadata: {annotations: {tmc.kcp.io/preferred-cluster: paris, kcp.io/cluster: x, example.com/prefered-cluster: x}}}`,
	},
	{
		code: "annotation", cause: `{kind: X, metadata: {annotations: {tcm.kcp.io/avoid-cluster: paris}}}`,
		want:     "metadata.annotations[tcm.kcp.io/avoid-cluster]: no such annotation is read, did you mean tmc.kcp.io/avoid-cluster?",
		nearMiss: `{kind: X, metadata: {annotations: {tmc.kcp.io/avoid-cluster: paris}}}`,
	},
	{
		code: "annotation", cause: `{kind: X, metadata: {annotations: {tmc.kcp.io/disruptions: unlimited}}}`,
		want:     "metadata.annotations[tmc.kcp.io/disruptions]: is read from WorkloadPlacements: write it there",
		nearMiss: `{kind: X, metadata: {labels: {tmc.kcp.io/workload-uid: x}}}`,
	},
	{
		code: "annotation", cause: `{kind: X, metadata: {annotations: {tmc.kcp.io/preferred-location: eu-wset}}}`,
		want:     "metadata.annotations[tmc.kcp.io/preferred-location]: there is no cluster of the fleet in eu-wset, did you mean eu-west?",
		nearMiss: `{kind: X, metadata: {annotations: {tmc.kcp.io/preferred-location: eu-west}}}`,
	},
	{
		code: "annotation", cause: `{kind: X, metadata: {namespace: shop, annotations: {tmc.kcp.io/placement: wbe}}}`,
		want:     "metadata.annotations[tmc.kcp.io/placement]: there is no placement in the namespace of the name wbe, did you mean web?",
		nearMiss: `{kind: X, metadata: {namespace: shop, annotations: {tmc.kcp.io/placement: web}}}`,
	},
	{
		code: "annotation", cause: `{kind: X, spec: {template: {metadata: {annotations: {tmc.kcp.io/placement: web}}, spec: {containers: []}}}}`,
		want:     "spec.template.metadata.annotations[tmc.kcp.io/placement]: is read from the annotations of the X itself: write it under metadata.annotations",
		nearMiss: `{kind: X, spec: {template: {metadata: {annotations: {example.com/placement: web}}, spec: {containers: []}}}}`,
	},
	{
		code: "annotation", cause: `{kind: X, metadata: {labels: {tmc.kcp.io/deliver-with: web}}}`,
		want:     "metadata.labels[tmc.kcp.io/deliver-with]: is read from what goes with workloads, such as ConfigMaps: a X is placed by itself",
		nearMiss: `{kind: X, metadata: {labels: {example.com/deliver-with: web}}}`,
	},
	{
		code: "delivery_annotation", cause: `{kind: X, metadata: {annotations: {tmc.kcp.io/wave: first}}}`,
		want:     "metadata.annotations[tmc.kcp.io/wave]: \"first\" must be an integer from -2147483648 to 2147483647, for example \"1\"",
		nearMiss: `{kind: X, metadata: {annotations: {tmc.kcp.io/wave: "-1"}}}`,
	},
	{
		code: "delivery_annotation", cause: `{kind: X, metadata: {annotations: {tmc.kcp.io/take-over: "yes"}}}`,
		want:     "metadata.annotations[tmc.kcp.io/take-over]: \"yes\" must be \"true\", or left out",
		nearMiss: `{kind: X, metadata: {annotations: {tmc.kcp.io/take-over: "true"}}}`,
	},
	{
		code: "delivery_annotation", cause: `{kind: X, metadata: {annotations: {tmc.kcp.io/move: make-before-break}}}`,
		want:     "metadata.annotations[tmc.kcp.io/move]: \"make-before-break\" must be MakeBeforeBreak or BreakBeforeMake",
		nearMiss: `{kind: X, metadata: {annotations: {tmc.kcp.io/move: BreakBeforeMake}}}`,
	},
}

// telling are clusters that tell of their nodes.
const telling = `
- {metadata: {name: a}, spec: {location: eu}, status: {allocatable: {cpu: 8}, nodeGroups: [{labels: {disktype: ssd, zone: eu-1}}]}}
- {metadata: {name: b}, spec: {location: eu}, status: {allocatable: {cpu: 8}, nodeGroups: [{labels: {gpu: a100}, taints: [{key: gpu, effect: NoSchedule}]}], omittedNodeLabels: [serial]}}
`

// wishes are more fields of the pod spec of a Deployment.
var wishes = []row{
	{
		code: "no_node", cause: `nodeSelector: {disktpye: ssd}`,
		want:     "spec.template.spec.nodeSelector: no cluster of the fleet has a node for these pods: no node group has label disktpye=ssd, did you mean disktype?",
		nearMiss: `nodeSelector: {disktype: ssd}`,
	},
	{
		code: "no_node", cause: `nodeSelector: {zone: eu1}`,
		want:     "spec.template.spec.nodeSelector: no cluster of the fleet has a node for these pods: no node group has label zone=eu1, did you mean eu-1?",
		nearMiss: `nodeSelector: {serial: "1"}, tolerations: [{operator: Exists}]`, // which is not told
	},
	{
		code: "no_node", cause: `nodeSelector: {gpu: a100}`,
		want:     "spec.template.spec.tolerations: no cluster of the fleet has a node for these pods: each node that the pods select has a taint that they do not tolerate: gpu:NoSchedule",
		nearMiss: `nodeSelector: {gpu: a100}, tolerations: [{key: gpu, operator: Exists}]`,
	},
	{
		code: "no_node", cause: `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disktype, operator: In, values: [sdd]}]}]}}}`,
		want:     "spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution: no cluster of the fleet has a node for these pods: no node group has disktype In sdd, did you mean ssd?",
		nearMiss: `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disktype, operator: In, values: [sdd]}]}, {matchExpressions: [{key: zone, operator: Exists}]}]}}}`,
	},
	{
		code: "not_looked_at", cause: `nodeSelector: {disktype: ssd}, affinity: {podAntiAffinity: {x: y}}`,
		want: "spec.template.spec.affinity.podAntiAffinity: placing does not look at affinity.podAntiAffinity: the nodes of a cluster have to meet it. " +
			"If those of some clusters do not, say by clusterSelector, capabilityRequirements or a constraint which do",
		nearMiss: `nodeSelector: {disktype: ssd}, affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1}]}}`, // which nothing has to meet
	},
}

func TestPlacement(t *testing.T) {
	for _, r := range slices.Concat(placements, selecting) {
		r.test(t, func(spec string) []lint.Finding {
			p := v1alpha1.WorkloadPlacement{Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec)}
			return workspace(t, clusters).Placement(&p)
		})
	}
}

func TestAnnotations(t *testing.T) {
	for _, r := range annotated {
		r.test(t, func(text string) []lint.Finding {
			p := parse[v1alpha1.WorkloadPlacement](t, text)
			return workspace(t, clusters).Placement(&p)
		})
	}
	for _, r := range annotatedRegistrations {
		r.test(t, func(text string) []lint.Finding {
			registration := parse[v1alpha1.ClusterRegistration](t, text)
			return lint.Registration(&registration)
		})
	}
}

func TestConstraint(t *testing.T) {
	for _, r := range expressions {
		r.want = "spec.constraints[0].expression: " + r.want
		r.test(t, func(expression string) []lint.Finding {
			p := v1alpha1.WorkloadPlacement{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
				Spec:       v1alpha1.WorkloadPlacementSpec{Constraints: []v1alpha1.Constraint{{Name: "c", Expression: expression}}},
			}
			w := workspace(t, clusters)
			w.Workloads = []*workload.Workload{
				{Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web"}, Labels: map[string]string{"app": "web"}},
				{Reference: workload.Reference{APIVersion: "batch/v1", Kind: "Job", Namespace: "shop", Name: "nightly"}, Labels: map[string]string{"app": "nightly"}, Annotations: map[string]string{"team": "shop"}},
				{Reference: workload.Reference{APIVersion: "batch/v1", Kind: "CronJob", Namespace: "other", Name: "nihgtly"}},
			}
			return w.Placement(&p)
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

// object is an object, or a Deployment with a pod.
func object(t *testing.T, text string) *unstructured.Unstructured {
	content := parse[map[string]any](t, text)
	if content["kind"] == nil {
		content = parse[map[string]any](t, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {template: {spec: "+text+"}}}")
	}
	return &unstructured.Unstructured{Object: content}
}

func TestUnknownFields(t *testing.T) {
	for _, r := range unknownFields {
		r.test(t, func(text string) []lint.Finding { return lint.UnknownFields(object(t, text)) })
	}
}

func TestWorkload(t *testing.T) {
	find := func(clusters, text string) []lint.Finding {
		o := lint.Workload{Unstructured: object(t, text)}
		if read, err := workload.FromObject(o.Unstructured); err == nil && o.GetAPIVersion() == "apps/v1" {
			o.Read = read
		}
		w := workspace(t, clusters)
		w.Placements = []*v1alpha1.WorkloadPlacement{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}}
		return w.Workload(o)
	}
	for _, r := range workloads {
		r.test(t, func(text string) []lint.Finding { return find(clusters, text) })
	}
	for _, r := range wishes {
		r.test(t, func(text string) []lint.Finding {
			return find(telling, "{containers: [{name: a, resources: {requests: {cpu: 1}}}], "+text+"}")
		})
	}
	// While a cluster does not tell, it may have what no other has.
	const silent = "- {metadata: {name: c}, spec: {location: eu}, status: {allocatable: {cpu: 8}}}"
	for _, r := range wishes {
		if findings := find(telling+silent, "{containers: [{name: a, resources: {requests: {cpu: 1}}}], "+r.cause+"}"); r.code == "no_node" && len(findings) > 0 {
			t.Errorf("%s: %v", r.cause, findings)
		}
	}
}

// TestSelection: placements that have no workload, and workloads that have no placement, are told where both are given.
func TestSelection(t *testing.T) {
	selecting := func(namespace, name, app string) *v1alpha1.WorkloadPlacement {
		p := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if app != "" {
			p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
		}
		return p
	}
	app := func(name string) *workload.Workload {
		return &workload.Workload{Reference: workload.Reference{Kind: "Job", Namespace: "shop", Name: name}, Labels: map[string]string{"app": name}}
	}
	type all = []*v1alpha1.WorkloadPlacement
	for _, test := range []struct {
		name       string
		placements all
		workloads  []*workload.Workload
		want       []string
	}{
		{"each has its own", all{selecting("shop", "a", "x"), selecting("shop", "b", "y")}, []*workload.Workload{app("x"), app("y")}, nil},
		{"a part belongs to another", all{selecting("shop", "a", "x"), selecting("shop", "b", "")}, []*workload.Workload{app("x"), app("y")}, nil},
		{"no placements are given", nil, []*workload.Workload{app("x")}, nil},
		{"no workloads are given", all{selecting("shop", "a", "x")}, nil, nil},
		{"a workload of none", all{selecting("shop", "a", "x")}, []*workload.Workload{app("x"), app("y")},
			[]string{"not_selected: Job shop/y: no WorkloadPlacement of namespace shop selects it, so it is not placed"}},
		{"a placement of none", all{selecting("shop", "a", "x"), selecting("shop", "b", "z")}, []*workload.Workload{app("x")},
			[]string{"selects_nothing: WorkloadPlacement shop/b: selects no workload of namespace shop"}},
		{"another namespace", all{selecting("shop", "a", "x"), selecting("shp", "b", "x")}, []*workload.Workload{app("x")},
			[]string{"selects_nothing: WorkloadPlacement shp/b: there is no workload in namespace shp, where placements select"}},
		{"all belongs to another", all{selecting("shop", "a", "x"), selecting("shop", "b", "x")}, []*workload.Workload{app("x")},
			[]string{"selected_twice: WorkloadPlacement shop/b: all that it selects belongs to an older placement, or to one before it in the alphabet: a. " +
				"The annotation tmc.kcp.io/placement of a workload names the one that it belongs to"}},
	} {
		w := workspace(t, "")
		w.Placements, w.Workloads = test.placements, test.workloads
		var got []string
		for _, f := range w.Selection() {
			got = append(got, f.Code+": "+f.Object+": "+f.Message)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
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
		if !slices.ContainsFunc(slices.Concat(placements, together, affinities, expressions, registrations, annotatedRegistrations, workloads, wishes), func(r row) bool { return r.code == code }) {
			t.Errorf("no row tests %s", code)
		}
	}
}
