# METADATA
# title: Data residency
# description: >-
#   A workload with the label data-residency runs only in the regions that the label names: one, as in "eu", or several,
#   as in "eu_uk". A cluster tells its region by its label region; one without that label is in none. A workload without
#   the label is free.
package placement.library.data_residency

# METADATA
# description: One required term for a workload with the label, none for any other.
# entrypoint: true
terms contains {
	"match": {"labelSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": regions}]}},
	"factor": "location",
	"required": true,
	"reason": "the workload's data must stay in the regions that its label data-residency names",
} if {
	count(regions) > 0
}

# Whoever sets the label means to restrict the workload. Where it names no region, the safe answer is a term that no
# cluster matches: data that waits can be moved later, data that has left cannot be called back.
terms contains {
	"match": {"labelSelector": {"matchExpressions": [
		{"key": "region", "operator": "Exists"},
		{"key": "region", "operator": "DoesNotExist"},
	]}},
	"factor": "location",
	"required": true,
	"reason": "the workload's label data-residency names no region, so no cluster may have its data",
} if {
	is_string(input.workload.labels["data-residency"])
	count(regions) == 0
}

# regions are separated by "_", since the values of labels have no commas.
regions := sort({region |
	some region in split(input.workload.labels["data-residency"], "_")
	is_label_value(region)
})

# is_label_value tells whether a label can have the value: a selector with any other fails the whole judgement.
is_label_value(value) if {
	value != ""
	count(value) <= 63
	every character in split(value, "") {
		contains("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", character)
	}
	every edge in ["-", "_", "."] {
		not startswith(value, edge)
		not endswith(value, edge)
	}
}
