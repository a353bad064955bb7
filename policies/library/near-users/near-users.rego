# METADATA
# title: Near the users
# description: >-
#   A workload tells where its users are by its annotation tmc.kcp.io/users, as in "eu-central=60,us-east=40", or
#   "eu-central" where all are in one place. Shares are whole numbers, relative to each other; a location without one
#   counts as 1. Locations are those of the clusters. With the label latency "critical" this counts more than anything.
package placement.library.near_users

import data.placement.builtin.scoring

# METADATA
# description: >-
#   One term for each location. The location factor starts at 50, and what these terms add and take away makes it the
#   percentage of users who are there: 60 in eu-central, 40 in us-east, 0 anywhere else.
# entrypoint: true
terms contains {
	"match": {"location": location},
	"factor": "location",
	"onMatch": pull,
	"otherwise": 0 - pull,
	"reason": "users of the workload are there, by tmc.kcp.io/users",
} if {
	some location, share in shares
	pull := round((50 * share) / total)
}

# METADATA
# description: >-
#   For a workload whose latency is critical the location counts most; for any other the built-in weights hold.
# entrypoint: true
weights := {"capacity": 15, "health": 10, "performance": 10, "affinity": 5, "location": 60} if {
	input.workload.labels.latency == "critical"
} else := scoring.weights

total := sum([item.share | some item in listed])

# shares of users by location. A location that is named twice has both shares.
shares := {location: share |
	some location in {item.location | some item in listed}
	share := sum([item.share | some item in listed; item.location == location])
	share > 0
}

# listed is what the annotation says, less what cannot be understood. Annotations can be long, so only the first sixteen
# locations are read, of an annotation of at most 256 characters: no workload may use up the policies' budget.
listed := [{"location": location, "share": share} |
	text := input.workload.annotations["tmc.kcp.io/users"]
	count(text) <= 256
	some i, item in split(text, ",")
	i < 16
	fields := split(item, "=")
	location := trim_space(fields[0])
	location != ""
	share := share_of(fields)
]

share_of(fields) := 1 if count(fields) == 1

# to_number keeps leading zeros, which are no JSON; round drops them.
share_of(fields) := round(to_number(digits)) if {
	count(fields) == 2
	digits := trim_space(fields[1])
	is_whole(digits)
}

# is_whole tells whether a text is a whole number of at most nine digits: to_number of anything else fails the whole
# judgement.
is_whole(text) if {
	text != ""
	count(text) <= 9
	every character in split(text, "") {
		contains("0123456789", character)
	}
}
