package placement.builtin.scoring_test

import data.placement.builtin.scoring

test_weights_are_the_documented_ones if {
	scoring.weights == {"capacity": 30, "health": 30, "performance": 20, "affinity": 10, "location": 10}
}

test_weights_do_not_depend_on_the_input if {
	some kind in {"Deployment", "Job"}
	weights := scoring.weights with input as {"workload": {"kind": kind}}
	sum([w | some w in weights]) == 100
}
