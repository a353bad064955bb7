# METADATA
# title: Green energy
# description: >-
#   A cluster tells what it runs on by its label energy: renewable, mixed or fossil; without the label it counts as mixed.
#   A workload tells what it wants by its label green: "required" runs on renewable energy only, "preferred" goes for it,
#   "ignore" does not care. Without the label, or with any other value, it prefers renewable energy mildly.
package placement.library.green_energy

import data.placement.builtin.scoring

# METADATA
# description: Either a required term, or terms that like renewable energy as much as they dislike fossil, or none.
# entrypoint: true
terms contains {
	"match": {"labelSelector": {"matchLabels": {"energy": "renewable"}}},
	"factor": "affinity",
	"required": true,
	"reason": "the workload runs on renewable energy only, by its label green",
} if {
	input.workload.labels.green == "required"
}

terms contains {
	"match": {"labelSelector": {"matchLabels": {"energy": "renewable"}}},
	"factor": "affinity",
	"onMatch": pull,
	"otherwise": 0,
	"reason": "the cluster runs on renewable energy",
}

terms contains {
	"match": {"labelSelector": {"matchLabels": {"energy": "fossil"}}},
	"factor": "affinity",
	"onMatch": 0 - pull,
	"otherwise": 0,
	"reason": "the cluster runs on fossil energy",
}

# METADATA
# description: For a workload that prefers green energy this counts most; for any other the built-in weights hold.
# entrypoint: true
weights := {"capacity": 20, "health": 10, "performance": 10, "affinity": 50, "location": 10} if {
	input.workload.labels.green == "preferred"
} else := scoring.weights

# pull is how far the energy moves a cluster. It is undefined, and so are the terms, where nothing is to be preferred.
pull := 50 if input.workload.labels.green == "preferred"

pull := 20 if not decided

decided if input.workload.labels.green in {"required", "preferred", "ignore"}
