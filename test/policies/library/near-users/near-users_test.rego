package placement.library.near_users_test

import data.placement.builtin.scoring
import data.placement.library.near_users

terms_for(annotations) := terms if {
	terms := near_users.terms with input as {"workload": {"annotations": annotations}}
}

# pulls is what the terms add for each location, and subtract for all others.
pulls(users) := {term.match.location: term.onMatch |
	some term in terms_for({"tmc.kcp.io/users": users})
	term.factor == "location"
	term.otherwise == 0 - term.onMatch
}

# factor is the location factor of a cluster before it is limited to 0 to 100.
factor(users, location) := 50 + sum([delta |
	some term in terms_for({"tmc.kcp.io/users": users})
	delta := {true: term.onMatch, false: term.otherwise}[term.match.location == location]
])

test_no_annotation_no_term if {
	terms_for({}) == set()
	terms_for({"example.com/other": "eu"}) == set()
}

test_no_annotations_at_all_no_term if {
	near_users.terms == set() with input as {}
	near_users.terms == set() with input as {"workload": {}}
}

test_in_proportion_to_the_users if {
	pulls("eu-central=60,us-east=40") == {"eu-central": 30, "us-east": 20}
}

test_the_location_factor_becomes_the_share_of_users if {
	factor("eu-central=60,us-east=40", "eu-central") == 60
	factor("eu-central=60,us-east=40", "us-east") == 40
	factor("eu-central=60,us-east=40", "ap-south") == 0
}

test_one_location_has_all_users if {
	pulls("eu-central") == {"eu-central": 50}
	pulls("eu-central=7") == {"eu-central": 50}
}

test_a_plain_list_shares_alike if {
	pulls("eu-central,us-east") == {"eu-central": 25, "us-east": 25}
}

test_shares_are_relative_to_each_other if {
	pulls("eu-central=3,us-east=1") == {"eu-central": 38, "us-east": 13}
	pulls("eu-central=999999999,us-east=0") == {"eu-central": 50}
}

test_pulls_are_whole_numbers_within_bounds if {
	every pull in pulls("a=1,b=1,c=1,d=4,e=0") {
		pull == round(pull)
		pull >= -100
		pull <= 100
	}
}

test_a_location_that_is_named_twice_has_both_shares if {
	pulls("eu-central=20,us-east=40,eu-central=40") == {"eu-central": 30, "us-east": 20}
}

test_spaces_and_leading_zeros_do_not_matter if {
	pulls(" eu-central = 060 , us-east=40 ") == {"eu-central": 30, "us-east": 20}
}

test_what_cannot_be_understood_is_left_out if {
	every users in [
		"x=,eu-central=60",
		"eu-central=60,x=many",
		"x=-1,eu-central=60",
		"eu-central=60,x=1.5",
		"x=1e3,eu-central=60",
		"eu-central=60,x=40%",
		"x=1=2,eu-central=60",
		"eu-central=60,=40",
		",eu-central=60",
		"eu-central=60, ",
		"x=0,eu-central=60",
		"eu-central=60,x=1234567890",
	] {
		pulls(users) == {"eu-central": 50}
	}
}

test_an_annotation_that_is_too_long_says_nothing if {
	long := "eu-central=60,                                                                                                                                                                                                                                                   "
	count(long) > 256
	pulls(long) == {}
}

test_nothing_understood_no_term if {
	every users in ["", ",", "=", "eu-central=", "eu-central=0,us-east=0"] {
		pulls(users) == {}
	}
}

test_only_the_first_sixteen_locations_are_read if {
	count(pulls("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r")) == 16
}

test_location_counts_most_where_latency_is_critical if {
	weights := near_users.weights with input as {"workload": {"labels": {"latency": "critical"}}}
	weights == {"capacity": 15, "health": 10, "performance": 10, "affinity": 5, "location": 60}
}

test_builtin_weights_for_others if {
	every labels in [{}, {"latency": ""}, {"latency": "whatever"}] {
		near_users.weights == scoring.weights with input as {"workload": {"labels": labels}}
	}
	near_users.weights == scoring.weights with input as {}
}

test_every_term_gives_a_reason if {
	every term in terms_for({"tmc.kcp.io/users": "eu-central=60,us-east=40"}) {
		term.reason != ""
	}
}
