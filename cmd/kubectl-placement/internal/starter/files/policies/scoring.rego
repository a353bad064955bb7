# METADATA
# title: How much each factor of a cluster's score counts
# description: 0 to 100 for each; a factor left out weighs nothing.
package placement.scoring

default weights := {"capacity": 30, "health": 30, "performance": 20, "affinity": 20}

# Jobs go where there is room, however far that is.
weights := {"capacity": 70, "performance": 30} if input.workload.kind == "Job"
