# METADATA
# title: Batch on the emptiest clusters
# description: >-
#   A workload of kind Job goes to where most is free and least is used. It understands no labels and no annotations.
package placement.library.batch_on_emptiest

import data.placement.builtin.scoring

# METADATA
# description: >-
#   For a Job, capacity and performance count most, and what little is left to affinity and location decides between
#   clusters that are as empty as each other. For any other kind the built-in weights hold.
# entrypoint: true
weights := {"capacity": 50, "performance": 40, "affinity": 5, "location": 5} if {
	input.workload.kind == "Job"
} else := scoring.weights
