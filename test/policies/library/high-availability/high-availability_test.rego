package placement.library.high_availability_test

import data.placement.library.high_availability

labelled(availability) := {"workload": {"labels": {"availability": availability}}}

test_two_locations if {
	scheduling := high_availability.scheduling with input as labelled("location")
	scheduling.minClusters == 2
	scheduling.numberOfClusters == 2
	some constraint in scheduling.spreadConstraints
	constraint.topologyKey == "location"
	constraint.minDomains == 2
}

test_two_clusters_anywhere if {
	scheduling := high_availability.scheduling with input as labelled("cluster")
	scheduling == {"numberOfClusters": 2, "minClusters": 2}
}

test_others_are_scheduled_as_their_placement_says if {
	every other in [labelled(""), labelled("region"), {"workload": {"labels": {}}}, {"workload": {}}, {}] {
		not high_availability.scheduling with input as other
	}
}
