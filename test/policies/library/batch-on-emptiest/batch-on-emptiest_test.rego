package placement.library.batch_on_emptiest_test

import data.placement.builtin.scoring
import data.placement.library.batch_on_emptiest

weights_for(kind) := weights if {
	weights := batch_on_emptiest.weights with input as {"workload": {"kind": kind}}
}

test_a_job_goes_where_it_is_empty if {
	weights_for("Job") == {"capacity": 50, "performance": 40, "affinity": 5, "location": 5}
}

test_capacity_and_performance_dominate if {
	weights := weights_for("Job")
	weights.capacity + weights.performance > 2 * (weights.affinity + weights.location)
}

test_builtin_weights_for_other_kinds if {
	every kind in ["Deployment", "StatefulSet", "job", ""] {
		weights_for(kind) == scoring.weights
	}
}

test_builtin_weights_without_a_kind if {
	batch_on_emptiest.weights == scoring.weights with input as {}
	batch_on_emptiest.weights == scoring.weights with input as {"workload": {}}
}
