package placement.affinity_test

import data.placement.affinity

test_gold_likes_gold if {
	terms := affinity.terms with input as {"workload": {"labels": {"tier": "gold"}}}
	count(terms) == 1
	some term in terms
	term.match.labelSelector.matchLabels == {"tier": "gold"}
	term.onMatch > term.otherwise
}

test_others_have_no_wish if {
	count(affinity.terms) == 0 with input as {"workload": {"labels": {}}}
}
