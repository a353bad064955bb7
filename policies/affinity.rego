# METADATA
# title: Wishes that workloads state in annotations
# description: >-
#   In force in every workspace that does not say data.placement.affinity.use_builtin := false.
package placement.builtin.affinity

# METADATA
# description: >-
#   A set of terms, each of which moves the affinity or location factor of the clusters that match, and of
#   those that do not.
# entrypoint: true
terms contains {
	"match": {"clusterNames": [name]},
	"factor": "affinity",
	"onMatch": 50,
	"otherwise": -25,
	"reason": "the workload prefers a cluster by tmc.kcp.io/preferred-cluster",
} if {
	name := wish("tmc.kcp.io/preferred-cluster")
}

terms contains {
	"match": {"clusterNames": [name]},
	"factor": "affinity",
	"onMatch": -50,
	"otherwise": 0,
	"reason": "the workload avoids a cluster by tmc.kcp.io/avoid-cluster",
} if {
	name := wish("tmc.kcp.io/avoid-cluster")
}

terms contains {
	"match": {"location": location},
	"factor": "location",
	"onMatch": 50,
	"otherwise": -20,
	"reason": "the workload prefers a location by tmc.kcp.io/preferred-location",
} if {
	location := wish("tmc.kcp.io/preferred-location")
}

# wish is what an annotation says; an empty one says nothing.
wish(annotation) := value if {
	value := input.workload.annotations[annotation]
	value != ""
}
