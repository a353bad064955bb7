# METADATA
# title: Avoid maintenance
# description: >-
#   A cluster tells of its maintenance by its label maintenance: planned or in-progress. Planned maintenance is disliked.
#   Where it is in progress no workload goes, unless its own label maintenance is "tolerated"; such a workload merely
#   dislikes it.
package placement.library.avoid_maintenance

# METADATA
# description: A term that dislikes maintenance, and one that excludes it while it is in progress.
# entrypoint: true
terms contains {
	"match": {"labelSelector": {"matchExpressions": [{
		"key": "maintenance",
		"operator": "In",
		"values": ["planned", "in-progress"],
	}]}},
	"factor": "affinity",
	"onMatch": -50,
	"otherwise": 0,
	"reason": "maintenance of the cluster is planned or in progress",
}

terms contains {
	"match": {"labelSelector": {"matchExpressions": [{
		"key": "maintenance",
		"operator": "NotIn",
		"values": ["in-progress"],
	}]}},
	"factor": "affinity",
	"required": true,
	"reason": "maintenance of the cluster is in progress, and the workload does not tolerate it by its label maintenance",
} if {
	not input.workload.labels.maintenance == "tolerated"
}
