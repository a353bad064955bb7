package placement.library.cost_aware_test

import data.placement.builtin.scoring
import data.placement.library.cost_aware

# delta is the sum that the terms add for each price.
delta(labels) := {price: term.onMatch |
	terms := cost_aware.terms with input as {"workload": {"labels": labels}}
	some term in terms
	term.factor == "affinity"
	term.otherwise == 0
	price := term.match.labelSelector.matchLabels.price
}

test_a_sensitive_workload_weighs_the_price_strongly if {
	delta({"cost": "sensitive"}) == {"low": 50, "high": -50}
}

test_others_weigh_the_price_mildly if {
	delta({}) == {"low": 20, "high": -20}
	delta({"cost": ""}) == {"low": 20, "high": -20}
	delta({"cost": "whatever"}) == {"low": 20, "high": -20}
}

test_the_price_counts_most_for_a_sensitive_workload if {
	weights := cost_aware.weights with input as {"workload": {"labels": {"cost": "sensitive"}}}
	weights == {"capacity": 20, "health": 10, "performance": 10, "affinity": 50, "location": 10}
}

test_builtin_weights_for_others if {
	cost_aware.weights == scoring.weights with input as {"workload": {"labels": {"cost": "whatever"}}}
}

test_missing_input_is_not_sensitive if {
	every incomplete in [{}, {"workload": {}}] {
		count(cost_aware.terms) == 2 with input as incomplete
		cost_aware.weights == scoring.weights with input as incomplete
	}
}

test_every_term_gives_a_reason if {
	every term in cost_aware.terms {
		term.reason != ""
	}
}
