# METADATA
# title: Which clusters a workload likes
package placement.affinity

# Whatever is labelled tier=gold likes gold clusters.
terms contains {
	"match": {"labelSelector": {"matchLabels": {"tier": "gold"}}},
	"factor": "affinity",
	"onMatch": 40,
	"otherwise": -40,
	"reason": "gold workloads like gold clusters",
} if {
	input.workload.labels.tier == "gold"
}
