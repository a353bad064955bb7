package lint_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/workload"
)

// together are placements that choose clusters together: spread, divided and in groups. The workloads are web, of 4 replicas, and
// logs, with a pod on each node.
var together = []row{
	{
		code:     "topology_key",
		cause:    `spreadConstraints: [{topologyKey: teir}]`,
		want:     "spec.spreadConstraints[0].topologyKey: no cluster of the fleet has teir, so that nothing can be placed, did you mean tier?",
		nearMiss: `spreadConstraints: [{topologyKey: tier}]`,
	},
	{
		code:     "topology_key", // an attribute of a capability
		cause:    `spreadConstraints: [{topologyKey: "capability:gpu/modell", whenUnsatisfiable: ScheduleAnyway}]`,
		want:     "spec.spreadConstraints[0].topologyKey: no cluster of the fleet has capability:gpu/modell, so that each cluster costs the same, did you mean capability:gpu/model?",
		nearMiss: `spreadConstraints: [{topologyKey: "capability:gpu/model", whenUnsatisfiable: ScheduleAnyway}]`,
	},
	{
		code:     "topology_key", // nothing is lost with a domain that there is not
		cause:    `headroom: {survive: {topologyKey: teir}}`,
		want:     "spec.headroom.survive.topologyKey: no cluster of the fleet has teir, so that nothing is checked, did you mean tier?",
		nearMiss: `headroom: {survive: {topologyKey: tier}}`,
	},
	{
		code:     "contradiction", // two tiers with a cluster each, and one more than maxSkew lets one have
		cause:    "minClusters: 3\nnumberOfClusters: 3\nspreadConstraints: [{topologyKey: location, minDomains: 4}]",
		want:     "spec.spreadConstraints: at most 2 of the 3 clusters that pass keep all constraints at once, and minClusters is 3: every workload waits. Raise maxSkew, lower minDomains or minClusters, or write whenUnsatisfiable: ScheduleAnyway",
		nearMiss: "minClusters: 2\nspreadConstraints: [{topologyKey: location}]",
	},
	{
		code:     "contradiction", // each of them alone leaves a choice
		cause:    "minClusters: 2\nclusterSelector: {clusterNames: [dublin, frankfurt]}\nspreadConstraints: [{topologyKey: location}, {topologyKey: tier, minDomains: 2}]",
		want:     "spec.spreadConstraints: at most 1 of the 2 clusters that pass keep all constraints at once, and minClusters is 2: every workload waits. Raise maxSkew, lower minDomains or minClusters, or write whenUnsatisfiable: ScheduleAnyway",
		nearMiss: "minClusters: 2\nclusterSelector: {clusterNames: [paris, frankfurt]}\nspreadConstraints: [{topologyKey: location}, {topologyKey: tier, minDomains: 2}]",
	},
	{
		code:     "contradiction", // a group outside of what the spec selects
		cause:    "locationSelector: {matchLabels: {location: eu-west}}\nfallback: [{name: near}, {name: far, locationSelector: {matchLabels: {location: eu-central}}}]",
		want:     "spec.fallback[1].locationSelector.matchLabels[location]: matches nothing, since spec.locationSelector.matchLabels[location] asks for the contrary: remove one of them",
		nearMiss: "fallback: [{name: near, locationSelector: {matchLabels: {location: eu-west}}}, {name: far, locationSelector: {matchLabels: {location: eu-central}}}]",
	},
	{
		code:     "contradiction", // more clusters than the selectors leave
		cause:    "numberOfClusters: All\nminClusters: 3\nlocationSelector: {matchLabels: {location: eu-west}}",
		want:     "spec.minClusters: every workload waits for 3 clusters, and 2 of the fleet's 3 pass the selectors and capabilityRequirements",
		nearMiss: "numberOfClusters: All\nminClusters: 2\nlocationSelector: {matchLabels: {location: eu-west}}",
	},
	{
		code:     "contradiction", // more clusters than any group has
		cause:    "minClusters: 3\nfallback: [{name: central, locationSelector: {matchLabels: {location: eu-central}}}, {name: west, locationSelector: {matchLabels: {location: eu-west}}}]",
		want:     "spec.minClusters: every workload waits for 3 clusters, and no fallback group has more than the 2 of west",
		nearMiss: "minClusters: 3\nreplicaScheduling: {type: Divided, division: Overflow}\nfallback: [{name: central, locationSelector: {matchLabels: {location: eu-central}}}, {name: west, locationSelector: {matchLabels: {location: eu-west}}}]",
	},
	{
		code:     "fallback", // more clusters than one group has
		cause:    "minClusters: 2\nfallback: [{name: central, locationSelector: {matchLabels: {location: eu-central}}}, {name: west, locationSelector: {matchLabels: {location: eu-west}}}]",
		want:     "spec.fallback[0]: places nothing: 1 clusters are in it, and minClusters is 2",
		nearMiss: "minClusters: 2\nfallback: [{name: west, locationSelector: {matchLabels: {location: eu-west}}}, {name: any}]",
	},
	{
		code:     "contradiction", // spread over more domains than any group has
		cause:    "minClusters: 2\nspreadConstraints: [{topologyKey: location, minDomains: 2}]\nfallback: [{name: gold, clusterSelector: {clusterNames: [dublin, paris]}}, {name: west, locationSelector: {matchLabels: {location: eu-west}}}]",
		want:     "spec.spreadConstraints: at most 1 of the 2 clusters in fallback group gold keep all constraints at once, and minClusters is 2: every workload waits. Raise maxSkew, lower minDomains or minClusters, or write whenUnsatisfiable: ScheduleAnyway",
		nearMiss: "minClusters: 2\nspreadConstraints: [{topologyKey: location, minDomains: 2}]\nfallback: [{name: gold, clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}}, {name: any}]",
	},
	{
		code:     "fallback", // spread over more domains than one group has
		cause:    "minClusters: 2\nspreadConstraints: [{topologyKey: location, minDomains: 2}]\nfallback: [{name: west, locationSelector: {matchLabels: {location: eu-west}}}, {name: any}]",
		want:     "spec.fallback[0]: places nothing: at most 1 of its 2 clusters keep all spread constraints, and minClusters is 2",
		nearMiss: "minClusters: 2\nspreadConstraints: [{topologyKey: location}]\nfallback: [{name: west, locationSelector: {matchLabels: {location: eu-west}}}, {name: any}]",
	},
	{
		code:     "spread", // over one domain
		cause:    "locationSelector: {matchLabels: {location: eu-west}}\nspreadConstraints: [{topologyKey: location}]",
		want:     "spec.spreadConstraints[0]: keeps nothing even: all clusters that pass are in one domain of location",
		nearMiss: "locationSelector: {matchLabels: {location: eu-west}}\nspreadConstraints: [{topologyKey: tier}]",
	},
	{
		code:     "spread", // over the one domain of each group
		cause:    "spreadConstraints: [{topologyKey: location}]\nfallback: [{name: central, locationSelector: {matchLabels: {location: eu-central}}}, {name: west, locationSelector: {matchLabels: {location: eu-west}}}]",
		want:     "spec.spreadConstraints[0]: keeps nothing even: the clusters of each fallback group are in one domain of location",
		nearMiss: "spreadConstraints: [{topologyKey: location}]\nfallback: [{name: central, locationSelector: {matchLabels: {location: eu-central}}}, {name: any}]",
	},
	{
		code:     "never_holds", // in a group, as anywhere
		cause:    "fallback: [{name: own, constraints: [{name: c, expression: cluster.location == 'eu-west' && cluster.labels.tier == 'gold' && cluster.name == 'paris'}]}, {name: any}]",
		want:     "spec.fallback[0].constraints[0].expression: holds for no cluster of the fleet: each part does, but not all of them together",
		nearMiss: "fallback: [{name: own, constraints: [{name: c, expression: cluster.location == 'eu-west' && cluster.labels.tier == 'gold'}]}, {name: any}]",
	},
	{
		code:     "toleration", // in a group, as anywhere
		cause:    "fallback: [{name: own}, {name: any, tolerations: [{key: maintenence, operator: Exists}]}]",
		want:     "spec.fallback[1].tolerations[0].key: no cluster of the fleet has a taint maintenence, did you mean maintenance?",
		nearMiss: "fallback: [{name: own}, {name: any, tolerations: [{key: maintenance, operator: Exists}]}]",
	},
	{
		code:     "spread", // of one workload on one cluster
		cause:    "numberOfClusters: 1\nspreadConstraints: [{topologyKey: location}]",
		want:     "spec.spreadConstraints[0]: keeps nothing even: each workload has one cluster; scope: Workloads counts the workloads of the placement",
		nearMiss: "numberOfClusters: 1\nspreadConstraints: [{topologyKey: location, scope: Workloads}]",
	},
	{
		code:     "spread", // over clusters
		cause:    "spreadConstraints: [{topologyKey: cluster}]",
		want:     "spec.spreadConstraints[0]: keeps nothing even: a workload is on each cluster once; scope: Workloads counts the workloads of the placement",
		nearMiss: "spreadConstraints: [{topologyKey: cluster, scope: Workloads}]",
	},
	{
		code:     "spread", // a skew that no choice reaches
		cause:    "numberOfClusters: 2\nspreadConstraints: [{topologyKey: location, maxSkew: 2}]",
		want:     "spec.spreadConstraints[0].maxSkew: keeps nothing even: a workload has 2 clusters at most, and a domain may exceed another by 2",
		nearMiss: "numberOfClusters: 3\nspreadConstraints: [{topologyKey: location, maxSkew: 2}]",
	},
	{
		code:     "spread", // a weight of what has to hold
		cause:    "spreadConstraints: [{topologyKey: location, weight: 50}]",
		want:     "spec.spreadConstraints[0].weight: counts only where whenUnsatisfiable is ScheduleAnyway",
		nearMiss: "spreadConstraints: [{topologyKey: location, weight: 50, whenUnsatisfiable: ScheduleAnyway}]",
	},
	{
		code:     "spread", // more domains than there are
		cause:    "spreadConstraints: [{topologyKey: tier, minDomains: 3}]",
		want:     "spec.spreadConstraints[0].minDomains: the clusters that pass are in 2 domains of tier: until there are 3, none of them gets more than maxSkew (1)",
		nearMiss: "spreadConstraints: [{topologyKey: tier, minDomains: 2}]",
	},
	{
		code:     "spread", // more clusters than keep it
		cause:    "numberOfClusters: 3\nclusterSelector: {labelSelector: {matchLabels: {}}}\nspreadConstraints: [{topologyKey: tier, minDomains: 2}, {topologyKey: location}, {topologyKey: 'capability:gpu/model'}]",
		want:     "spec.numberOfClusters: 3 clusters are asked for, and at most 1 of the 3 that pass keep the spread constraints",
		nearMiss: "numberOfClusters: 3\nspreadConstraints: [{topologyKey: tier, minDomains: 2}, {topologyKey: location}]",
	},
	{
		code:     "weights", // of no cluster
		cause:    "replicaScheduling: {type: Divided, division: Weighted, weights: [{clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}, weight: 0}]}",
		want:     "spec.replicaScheduling.weights: none of the 3 clusters that pass has a weight above 0, so that nothing is placed: an entry {weight: 1} at the end is for all others",
		nearMiss: "replicaScheduling: {type: Divided, division: Weighted, weights: [{clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}, weight: 0}, {weight: 1}]}",
	},
	{
		code:     "weights", // an entry for clusters that the spec does not select
		cause:    "locationSelector: {matchLabels: {location: eu-west}}\nreplicaScheduling: {type: Divided, division: Weighted, weights: [{weight: 2, clusterSelector: {clusterNames: [frankfurt]}}, {weight: 1}]}",
		want:     "spec.replicaScheduling.weights[0]: matches no cluster that passes the selectors and capabilityRequirements",
		nearMiss: "replicaScheduling: {type: Divided, division: Weighted, weights: [{weight: 2, clusterSelector: {clusterNames: [frankfurt]}}, {weight: 1}]}",
	},
	{
		code:     "weights", // an entry after the one for all
		cause:    "replicaScheduling: {type: Divided, division: Weighted, weights: [{weight: 1}, {weight: 2, clusterSelector: {clusterNames: [frankfurt]}}]}",
		want:     "spec.replicaScheduling.weights[1]: an entry before it matches each of its clusters, and the first one counts: move it up",
		nearMiss: "replicaScheduling: {type: Divided, division: Weighted, weights: [{weight: 2, clusterSelector: {clusterNames: [frankfurt]}}, {weight: 1}]}",
	},
	{
		code:     "unknown_cluster", // in weights, as anywhere
		cause:    "replicaScheduling: {type: Divided, division: Weighted, weights: [{weight: 2, clusterSelector: {clusterNames: [frankfrut, dublin]}}, {weight: 1}]}",
		want:     "spec.replicaScheduling.weights[0].clusterSelector.clusterNames[0]: there is no cluster frankfrut in the fleet, did you mean frankfurt?",
		nearMiss: "replicaScheduling: {type: Divided, division: Weighted, weights: [{weight: 2, clusterSelector: {clusterNames: [frankfurt, dublin]}}, {weight: 1}]}",
	},
	{
		code:     "unknown_capability", // in a group, as anywhere
		cause:    "fallback: [{name: own, capabilityRequirements: [{type: gpus, required: true}]}, {name: any}]",
		want:     "spec.fallback[0].capabilityRequirements[0].type: no cluster of the fleet lists the capability gpus, did you mean gpu?",
		nearMiss: "fallback: [{name: own, capabilityRequirements: [{type: gpu, required: true}]}, {name: any}]",
	},
	{
		code:     "never_true", // in a group, as anywhere
		cause:    "fallback: [{name: own, constraints: [{name: c, expression: 1 > 2}]}, {name: any}]",
		want:     "spec.fallback[0].constraints[0].expression: holds for no cluster and no workload, so nothing is placed by this group",
		nearMiss: "fallback: [{name: own, constraints: [{name: c, expression: capacity.free.cpu > 2000}]}, {name: any}]",
	},
	{
		code:     "replicas", // a pod on each node
		cause:    "workloadSelector: {labelSelector: {matchLabels: {app: logs}}}\nreplicaScheduling: {type: Divided}",
		want:     "spec.replicaScheduling.type: divides nothing: DaemonSet shop/logs has a pod on each node, or pods of several kinds, and each cluster gets all of them",
		nearMiss: "workloadSelector: {labelSelector: {matchLabels: {app: web}}}\nreplicaScheduling: {type: Divided}",
	},
	{
		code:     "replicas", // more clusters than shares
		cause:    "minClusters: 2\nreplicaScheduling: {type: Divided, minPerCluster: 3}",
		want:     "spec.minClusters: Deployment shop/web has 4 replicas, of which a cluster gets 3 at least: on 1 clusters at most, so that it waits",
		nearMiss: "minClusters: 2\nreplicaScheduling: {type: Divided, minPerCluster: 2}",
	},
	{
		code:     "replicas", // more replicas than the clusters may have
		cause:    "numberOfClusters: 2\nreplicaScheduling: {type: Divided, maxPerCluster: 1}",
		want:     "spec.replicaScheduling.maxPerCluster: 2 clusters with 1 replicas each have room for 2 of the 4 of Deployment shop/web, so that it waits",
		nearMiss: "numberOfClusters: 2\nreplicaScheduling: {type: Divided, maxPerCluster: 2}",
	},
	{
		code:     "preemption",
		cause:    "preemption: {policy: PreemptLowerPriority}",
		want:     "spec.preemption.policy: no WorkloadPlacement has a priority below 0, so nobody makes room: give this one a higher priority",
		nearMiss: "priority: 1\npreemption: {policy: PreemptLowerPriority}",
	},
	{
		code:     "bin_pack",
		cause:    "strategy: {type: BinPack}\nworkloadSelector: {labelSelector: {matchLabels: {app: logs}}}",
		want:     "spec.strategy.type: BinPack fills the fullest cluster that has room, and DaemonSet shop/logs requests nothing: all clusters are alike for it",
		nearMiss: "strategy: {type: BinPack}\nworkloadSelector: {labelSelector: {matchLabels: {app: web}}}",
	},
	{
		code:     "fallback", // to nothing
		cause:    "fallback: [{name: own, clusterSelector: {clusterNames: [dublin]}}]",
		want:     "spec.fallback[0]: there is no other group to fall back to: add one, or write into the spec what this one says",
		nearMiss: "fallback: [{name: own, clusterSelector: {clusterNames: [dublin]}}, {name: any}]",
	},
	{
		code:     "fallback", // the same text
		cause:    "fallback: [{name: own, returnAfter: 5m, clusterSelector: {clusterNames: [dublin]}}, {name: again, clusterSelector: {clusterNames: [dublin]}}]",
		want:     "spec.fallback[1]: says the same as group own before it, so that nothing falls back to it",
		nearMiss: "fallback: [{name: own, returnAfter: 5m, clusterSelector: {clusterNames: [dublin]}}, {name: again, clusterSelector: {clusterNames: [paris]}}]",
	},
	{
		code:     "fallback", // the same clusters, said otherwise
		cause:    "fallback: [{name: gold, clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}}, {name: central, locationSelector: {matchLabels: {location: eu-central}}}]",
		want:     "spec.fallback[1]: each cluster that is in it is in group gold before it, too, so that nothing falls back to it",
		nearMiss: "fallback: [{name: gold, clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}, constraints: [{name: room, expression: capacity.free.cpu > 1000}]}, {name: central, locationSelector: {matchLabels: {location: eu-central}}}]", // gold asks for more
	},
	{
		code:     "fallback", // selectors that exclude each other over what there is
		cause:    "clusterSelector: {labelSelector: {matchLabels: {tier: silver}}}\nfallback: [{name: west}, {name: central, locationSelector: {matchLabels: {location: eu-central}}}]",
		want:     "spec.fallback[1]: no cluster passes both the spec and this group: the group narrows what the spec selects",
		nearMiss: "clusterSelector: {labelSelector: {matchLabels: {tier: gold}}}\nfallback: [{name: west, locationSelector: {matchLabels: {location: eu-west}}}, {name: central, locationSelector: {matchLabels: {location: eu-central}}}]",
	},
	{
		code:     "fallback", // all clusters come first, and the way back is not all that is wrong
		cause:    "fallback: [{name: any}, {name: own, clusterSelector: {clusterNames: [dublin]}}]",
		want:     "spec.fallback[1]: each cluster that is in it is in group any before it, too, so that nothing falls back to it",
		nearMiss: "fallback: [{name: own, clusterSelector: {clusterNames: [dublin]}}, {name: any}]",
	},
	{
		code:     "fallback", // a way back that nobody goes
		cause:    "fallback: [{name: own, clusterSelector: {clusterNames: [dublin]}}, {name: any, returnAfter: 5m}]",
		want:     "spec.fallback[1].returnAfter: nothing returns to the last group, since there is none after it",
		nearMiss: "fallback: [{name: own, returnAfter: 5m, clusterSelector: {clusterNames: [dublin]}}, {name: any}]",
	},
}

func TestTogether(t *testing.T) {
	for _, r := range together {
		r.test(t, func(spec string) []lint.Finding {
			w := workspace(t, clusters)
			w.Workloads = []*workload.Workload{
				{
					Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web"},
					Labels:    map[string]string{"app": "web"}, Divisible: true, Replicas: 4, Requests: capacity.Resources{CPU: 400},
				},
				{
					Reference: workload.Reference{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "shop", Name: "logs"},
					Labels:    map[string]string{"app": "logs"}, Replicas: 1,
				},
			}
			p := v1alpha1.WorkloadPlacement{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}, Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec),
			}
			return w.Placement(&p)
		})
	}
}

// TestTooLargeForAShare: of a workload whose replicas are divided, no cluster has to have room for all.
func TestTooLargeForAShare(t *testing.T) {
	w := workspace(t, clusters)
	o := lint.Workload{Unstructured: object(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: 10, template: {spec: {
		containers: [{name: main, resources: {requests: {cpu: "20"}}}]}}}}`)}
	var err error
	if o.Read, err = workload.FromObject(o.Unstructured); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{
		"{}":                                   "requests 200 cpu in all, more than any cluster of the fleet has (32)",
		"{replicaScheduling: {type: Divided}}": "",
		"{replicaScheduling: {type: Divided, minPerCluster: 2}}": "requests 40 cpu for 2 of its replicas, more than any cluster of the fleet has (32)",
	} {
		w.Placements = []*v1alpha1.WorkloadPlacement{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}, Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec)}}
		got := ""
		for _, f := range w.Workload(o) {
			got += f.Message
		}
		if got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
	}
}

// TestMoreReplicasThanThereIsRoomFor: what waits on an empty fleet waits for ever.
func TestMoreReplicasThanThereIsRoomFor(t *testing.T) {
	w := workspace(t, "- {metadata: {name: a}, spec: {location: eu}, status: {allocatable: {cpu: 10}}}\n- {metadata: {name: b}, spec: {location: us}, status: {allocatable: {cpu: 4}}}\n")
	w.Workloads = []*workload.Workload{{
		Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web"}, Divisible: true, Replicas: 12, Requests: capacity.Resources{CPU: 12_000},
	}}
	for spec, want := range map[string]string{
		"replicaScheduling: {type: Divided}":                                                                                     "",
		"{numberOfClusters: 1, replicaScheduling: {type: Divided}}":                                                              "spec.replicaScheduling: even if all clusters are empty there is room for 10 of the 12 replicas of Deployment shop/web, as long as numberOfClusters is 1, so that it waits: partial: true places these",
		"{numberOfClusters: 1, replicaScheduling: {type: Divided, partial: true}}":                                               "spec.replicaScheduling: even if all clusters are empty there is room for 10 of the 12 replicas of Deployment shop/web, as long as numberOfClusters is 1, so that the others wait",
		"{replicaScheduling: {type: Divided, minPerCluster: 5}}":                                                                 "spec.replicaScheduling: even if all clusters are empty there is room for 10 of the 12 replicas of Deployment shop/web, so that it waits: partial: true places these",
		"{replicaScheduling: {type: Divided, division: Weighted, weights: [{weight: 1, clusterSelector: {clusterNames: [b]}}]}}": "spec.replicaScheduling: even if all clusters are empty there is room for 4 of the 12 replicas of Deployment shop/web, so that it waits: partial: true places these",
	} {
		p := v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"}, Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec)}
		got := ""
		for _, f := range w.Placement(&p) {
			if f.Code == "replicas" {
				got += f.Field + ": " + f.Message
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
	}
}
