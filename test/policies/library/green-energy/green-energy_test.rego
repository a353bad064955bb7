package placement.library.green_energy_test

import data.placement.builtin.scoring
import data.placement.library.green_energy

terms_for(labels) := terms if {
	terms := green_energy.terms with input as {"workload": {"labels": labels}}
}

# delta is the sum that the terms add for each kind of energy.
delta(labels) := {energy: term.onMatch |
	some term in terms_for(labels)
	not term.required
	term.factor == "affinity"
	term.otherwise == 0
	energy := term.match.labelSelector.matchLabels.energy
}

required(terms) := {term.match | some term in terms; term.required}

test_required_runs_on_renewable_energy_only if {
	terms := terms_for({"green": "required"})
	required(terms) == {{"labelSelector": {"matchLabels": {"energy": "renewable"}}}}
	count(terms) == 1
}

test_preferred_goes_for_it if {
	delta({"green": "preferred"}) == {"renewable": 50, "fossil": -50}
}

test_ignore_turns_it_off if {
	terms_for({"green": "ignore"}) == set()
}

test_others_prefer_it_mildly if {
	every labels in [{}, {"green": ""}, {"green": "Required"}, {"energy": "fossil"}] {
		delta(labels) == {"renewable": 20, "fossil": -20}
	}
}

test_missing_input_prefers_it_mildly if {
	every incomplete in [{}, {"workload": {}}] {
		green_energy.terms == terms_for({}) with input as incomplete
	}
}

test_only_required_excludes if {
	every labels in [{}, {"green": "preferred"}, {"green": "ignore"}] {
		required(terms_for(labels)) == set()
	}
}

test_energy_counts_most_where_green_is_preferred if {
	weights := green_energy.weights with input as {"workload": {"labels": {"green": "preferred"}}}
	weights == {"capacity": 20, "health": 10, "performance": 10, "affinity": 50, "location": 10}
}

test_builtin_weights_for_others if {
	every labels in [{}, {"green": "required"}, {"green": "ignore"}, {"green": "whatever"}] {
		green_energy.weights == scoring.weights with input as {"workload": {"labels": labels}}
	}
	green_energy.weights == scoring.weights with input as {}
}

test_every_term_gives_a_reason if {
	every green in ["required", "preferred", ""] {
		every term in terms_for({"green": green}) {
			term.reason != ""
		}
	}
}
