# METADATA
# title: Default weights
# description: >-
#   How much each factor of a cluster's score counts, 0 to 100, in a workspace that does not define
#   data.placement.scoring.weights.
package placement.builtin.scoring

# METADATA
# description: Room and health count most.
# entrypoint: true
weights := {
	"capacity": 30,
	"health": 30,
	"performance": 20,
	"affinity": 10,
	"location": 10,
}
