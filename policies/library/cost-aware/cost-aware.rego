# METADATA
# title: Cost awareness
# description: >-
#   A cluster tells what it costs by its label price: low, medium or high; without the label it counts as medium. A workload
#   with the label cost "sensitive" goes where it is cheap, as long as there is room; any other takes the price for a hint.
package placement.library.cost_aware

import data.placement.builtin.scoring

# METADATA
# description: Cheap clusters are liked as much as dear ones are disliked; between the two nothing moves.
# entrypoint: true
terms contains {
	"match": {"labelSelector": {"matchLabels": {"price": "low"}}},
	"factor": "affinity",
	"onMatch": pull,
	"otherwise": 0,
	"reason": "the cluster's price is low",
}

terms contains {
	"match": {"labelSelector": {"matchLabels": {"price": "high"}}},
	"factor": "affinity",
	"onMatch": 0 - pull,
	"otherwise": 0,
	"reason": "the cluster's price is high",
}

# METADATA
# description: For a workload that is sensitive to cost the price counts most; for any other the built-in weights hold.
# entrypoint: true
weights := {"capacity": 20, "health": 10, "performance": 10, "affinity": 50, "location": 10} if {
	sensitive
} else := scoring.weights

# pull is how far the price moves a cluster. By the built-in weights the weak one comes to 2 points of the total, enough to
# decide between clusters that are otherwise alike.
pull := 50 if {
	sensitive
} else := 20

sensitive if input.workload.labels.cost == "sensitive"
