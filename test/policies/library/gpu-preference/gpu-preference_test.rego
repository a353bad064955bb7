package placement.library.gpu_preference_test

import data.placement.builtin.scoring
import data.placement.library.gpu_preference

terms_for(annotations) := terms if {
	terms := gpu_preference.terms with input as workload(annotations)
}

workload(annotations) := {"workload": {"requests": {"cpu": 1000, "nvidia.com/gpu": 2}, "annotations": annotations}}

# worth is what the terms add for each preferred model.
worth(models) := {model: term.onMatch |
	some term in terms_for({"tmc.kcp.io/gpu-models": models})
	model := term.match.labelSelector.matchLabels["gpu-model"]
}

default_worth := {"h100": 50, "a100": 40, "l40s": 30, "a10": 20, "t4": 10}

# disliked returns the models of the term that dislikes clusters with any other model.
disliked(models) := expression.values if {
	some term in terms_for({"tmc.kcp.io/gpu-models": models})
	some expression in term.match.labelSelector.matchExpressions
	expression.key == "gpu-model"
	expression.operator == "NotIn"
	term.onMatch == -50
	term.factor == "affinity"
}

test_each_next_model_is_worth_less if {
	worth("a100,h100,l4") == {"a100": 50, "h100": 40, "l4": 30}
	disliked("a100,h100,l4") == ["a100", "h100", "l4"]
}

test_spaces_do_not_matter if {
	worth(" a100 , h100 ") == {"a100": 50, "h100": 40}
}

test_a_model_counts_where_it_is_named_first if {
	worth("a100,h100,a100,l4") == {"a100": 50, "h100": 40, "l4": 30}
}

test_models_after_the_fifth_are_neither_liked_nor_disliked if {
	worth("a,b,c,d,e,f,g") == {"a": 50, "b": 40, "c": 30, "d": 20, "e": 10}
	disliked("a,b,c,d,e,f,g") == ["a", "b", "c", "d", "e", "f", "g"]
}

test_only_the_first_sixteen_models_are_read if {
	count(disliked("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r")) == 16
}

test_default_order_without_the_annotation if {
	terms_for({}) == terms_for({"tmc.kcp.io/gpu-models": "h100,a100,l40s,a10,t4"})
	gpu_preference.terms == terms_for({}) with input as {"workload": {"requests": {"nvidia.com/gpu": 1}}}
}

test_default_order_where_the_annotation_is_of_no_use if {
	every models in ["", " ", ",,", "-a100,h100-", "a 100", "a100;h100", "ä100"] {
		worth(models) == default_worth
	}
}

test_default_order_where_the_annotation_is_too_long if {
	long := "a100,                                                                                                                                                                                                                                                            "
	count(long) > 256
	worth(long) == default_worth
}

test_what_is_no_model_is_left_out if {
	worth("_,a100,a b,h100,.x,y.") == {"a100": 50, "h100": 40}
	worth("a234567890123456789012345678901234567890123456789012345678901234,a100") == {"a100": 50}
}

test_no_gpus_wanted_keeps_off_gpus if {
	every requests in [{}, {"cpu": 1000}, {"nvidia.com/gpu": 0}] {
		terms := gpu_preference.terms with input as {"workload": {"requests": requests}}
		count(terms) == 1
		every term in terms {
			term.match == {"labelSelector": {"matchExpressions": [{"key": "gpu-model", "operator": "Exists"}]}}
			term.factor == "affinity"
			term.onMatch == -50
			not term.required
		}
	}
}

test_no_input_at_all_no_error if {
	count(gpu_preference.terms) == 1 with input as {}
	gpu_preference.weights == scoring.weights with input as {}
}

test_the_model_counts_most_with_gpus if {
	weights := gpu_preference.weights with input as workload({})
	weights == {"capacity": 10, "health": 10, "performance": 10, "affinity": 60, "location": 10}
}

test_builtin_weights_without_gpus if {
	gpu_preference.weights == scoring.weights with input as {"workload": {"requests": {"cpu": 1000}}}
}

test_every_term_gives_a_reason if {
	every term in terms_for({}) {
		term.reason != ""
	}
	every term in gpu_preference.terms {
		term.reason != ""
	}
}
