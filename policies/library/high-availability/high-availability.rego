# METADATA
# title: High availability
# description: >-
#   A workload tells by its label availability what it is to survive: "cluster", the loss of any one cluster, or "location", that
#   of a whole location. Then it runs on two clusters, in the latter case of two locations, or waits until it can. Any other
#   workload is scheduled as its placement says; and what a placement says itself, such as its numberOfClusters, counts first.
package placement.library.high_availability

# METADATA
# description: Two clusters, and no fewer; for a whole location they are in two.
# entrypoint: true
scheduling := {
	"numberOfClusters": 2,
	"minClusters": 2,
	"spreadConstraints": [{"topologyKey": "location", "maxSkew": 1, "minDomains": 2}],
} if {
	input.workload.labels.availability == "location"
} else := {"numberOfClusters": 2, "minClusters": 2} if {
	input.workload.labels.availability == "cluster"
}
