package placement.library.avoid_maintenance_test

import data.placement.library.avoid_maintenance

terms_for(labels) := terms if {
	terms := avoid_maintenance.terms with input as {"workload": {"labels": labels}}
}

expressions(term) := term.match.labelSelector.matchExpressions

excluding(terms) := {term | some term in terms; term.required}

disliking(terms) := {term | some term in terms; not term.required}

test_maintenance_is_disliked_by_all if {
	every labels in [{}, {"maintenance": "tolerated"}] {
		terms := disliking(terms_for(labels))
		count(terms) == 1
		every term in terms {
			expressions(term) == [{"key": "maintenance", "operator": "In", "values": ["planned", "in-progress"]}]
			term.factor == "affinity"
			term.onMatch == -50
			term.otherwise == 0
		}
	}
}

test_maintenance_in_progress_excludes if {
	every labels in [{}, {"maintenance": ""}, {"maintenance": "whatever"}] {
		terms := excluding(terms_for(labels))
		count(terms) == 1
		every term in terms {
			expressions(term) == [{"key": "maintenance", "operator": "NotIn", "values": ["in-progress"]}]
		}
	}
}

test_a_workload_that_tolerates_it_is_not_excluded if {
	excluding(terms_for({"maintenance": "tolerated"})) == set()
}

test_missing_input_tolerates_nothing if {
	count(excluding(avoid_maintenance.terms)) == 1 with input as {}
	count(excluding(avoid_maintenance.terms)) == 1 with input as {"workload": {}}
}

test_every_term_gives_a_reason if {
	every term in terms_for({}) {
		term.reason != ""
	}
}
