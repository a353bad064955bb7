package placement.scoring_test

import data.placement.scoring

test_jobs_go_by_room if {
	scoring.weights.capacity == 70 with input as {"workload": {"kind": "Job"}}
}

test_others_go_by_affinity_too if {
	scoring.weights.affinity == 20 with input as {"workload": {"kind": "Deployment"}}
}
