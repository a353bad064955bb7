package placement.builtin.affinity_test

import data.placement.builtin.affinity

terms_for(annotations) := terms if {
	terms := affinity.terms with input as {"workload": {"annotations": annotations}}
}

test_no_wish_no_term if {
	terms_for({}) == set()
	terms_for({"example.com/other": "x"}) == set()
}

test_no_annotations_at_all_no_term if {
	affinity.terms == set() with input as {}
	affinity.terms == set() with input as {"workload": {}}
}

test_an_empty_wish_is_none if {
	terms_for({
		"tmc.kcp.io/preferred-cluster": "",
		"tmc.kcp.io/avoid-cluster": "",
		"tmc.kcp.io/preferred-location": "",
	}) == set()
}

test_preferred_cluster if {
	some term in terms_for({"tmc.kcp.io/preferred-cluster": "alpha"})
	term.match == {"clusterNames": ["alpha"]}
	term.factor == "affinity"
	term.onMatch == 50
	term.otherwise == -25
}

test_avoid_cluster if {
	some term in terms_for({"tmc.kcp.io/avoid-cluster": "alpha"})
	term.match == {"clusterNames": ["alpha"]}
	term.factor == "affinity"
	term.onMatch == -50
	term.otherwise == 0
}

test_preferred_location if {
	some term in terms_for({"tmc.kcp.io/preferred-location": "eu"})
	term.match == {"location": "eu"}
	term.factor == "location"
	term.onMatch == 50
	term.otherwise == -20
}

test_wishes_add_up if {
	count(terms_for({
		"tmc.kcp.io/preferred-cluster": "alpha",
		"tmc.kcp.io/avoid-cluster": "beta",
		"tmc.kcp.io/preferred-location": "eu",
	})) == 3
}

test_every_term_gives_a_reason if {
	every term in terms_for({
		"tmc.kcp.io/preferred-cluster": "alpha",
		"tmc.kcp.io/avoid-cluster": "beta",
		"tmc.kcp.io/preferred-location": "eu",
	}) {
		term.reason != ""
	}
}
