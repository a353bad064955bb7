package placement.library.data_residency_test

import data.placement.library.data_residency

terms_for(labels) := terms if {
	terms := data_residency.terms with input as {"workload": {"labels": labels}}
}

regions_for(label) := expression.values if {
	some term in terms_for({"data-residency": label})
	some expression in term.match.labelSelector.matchExpressions
	expression.operator == "In"
}

test_a_workload_without_the_label_is_free if {
	terms_for({}) == set()
	terms_for({"region": "eu"}) == set()
}

test_no_labels_at_all_no_term if {
	data_residency.terms == set() with input as {}
	data_residency.terms == set() with input as {"workload": {}}
}

test_one_region if {
	terms := terms_for({"data-residency": "eu"})
	count(terms) == 1
	some term in terms
	term.match == {"labelSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["eu"]}]}}
	term.required
}

test_several_regions if {
	regions_for("eu_uk") == ["eu", "uk"]
	regions_for("eu-central_ch.zurich") == ["ch.zurich", "eu-central"]
}

test_a_region_counts_once if {
	regions_for("uk_eu_uk") == ["eu", "uk"]
}

test_what_is_no_region_widens_nothing if {
	every label in ["eu__", "eu_-uk", "eu_uk.", "eu_u k", "eu_ük"] {
		regions_for(label) == ["eu"]
	}
}

test_a_label_that_names_no_region_keeps_all_clusters_away if {
	every label in ["", "_", "-eu", "eu-_-uk", "a234567890123456789012345678901234567890123456789012345678901234"] {
		terms := terms_for({"data-residency": label})
		count(terms) == 1
		every term in terms {
			term.required
			{expression.operator | some expression in term.match.labelSelector.matchExpressions} == {"Exists", "DoesNotExist"}
		}
	}
}

test_every_term_gives_a_reason if {
	every label in ["eu", "eu_uk", ""] {
		every term in terms_for({"data-residency": label}) {
			term.reason != ""
		}
	}
}
