# METADATA
# title: GPU preference
# description: >-
#   A workload that requests nvidia.com/gpu prefers models in the order of its annotation tmc.kcp.io/gpu-models, best
#   first, as in "a100,h100"; without a usable annotation, in a default order. A workload that requests none is kept off
#   clusters with GPUs, softly. A cluster tells its model by its label gpu-model, and has no GPUs without it.
package placement.library.gpu_preference

import data.placement.builtin.scoring

# METADATA
# description: The first models are worth the more the earlier they stand; clusters with a model not listed are disliked.
# entrypoint: true
terms contains {
	"match": {"labelSelector": {"matchLabels": {"gpu-model": models[i]}}},
	"factor": "affinity",
	"onMatch": choice.worth,
	"otherwise": 0,
	"reason": choice.reason,
} if {
	wants_gpus
	some i, choice in choices
}

terms contains {
	"match": {"labelSelector": {"matchExpressions": [{"key": "gpu-model", "operator": "NotIn", "values": models}]}},
	"factor": "affinity",
	"onMatch": -50,
	"otherwise": 0,
	"reason": "the cluster has none of the GPU models that the workload prefers",
} if {
	wants_gpus
}

# GPUs are dear: they are left for those who use them, as long as there is room elsewhere.
terms contains {
	"match": {"labelSelector": {"matchExpressions": [{"key": "gpu-model", "operator": "Exists"}]}},
	"factor": "affinity",
	"onMatch": -50,
	"otherwise": 0,
	"reason": "the workload has no use for the cluster's GPUs",
} if {
	not wants_gpus
}

# METADATA
# description: For a workload with GPUs the model counts most; for any other the built-in weights hold.
# entrypoint: true
weights := {"capacity": 10, "health": 10, "performance": 10, "affinity": 60, "location": 10} if {
	wants_gpus
} else := scoring.weights

wants_gpus if input.workload.requests["nvidia.com/gpu"] > 0

# choices are what the first models in the list are worth. Those after them are neither liked nor disliked.
choices := [
	{"worth": 50, "reason": "the GPU model is the workload's first choice"},
	{"worth": 40, "reason": "the GPU model is the workload's second choice"},
	{"worth": 30, "reason": "the GPU model is the workload's third choice"},
	{"worth": 20, "reason": "the GPU model is the workload's fourth choice"},
	{"worth": 10, "reason": "the GPU model is the workload's fifth choice"},
]

default_models := ["h100", "a100", "l40s", "a10", "t4"]

models := wanted if {
	count(wanted) > 0
} else := default_models

# wanted has every model once, where it is named first: a model named twice would be worth both.
wanted := [model |
	some i, model in listed
	not listed_before(i, model)
]

listed_before(i, model) if {
	some j, earlier in listed
	j < i
	earlier == model
}

# listed is what the annotation says, less what cannot be the value of a label. Annotations can be long, so only the
# first sixteen models are read, of an annotation of at most 256 characters: no workload may use up the policies' budget.
listed := [model |
	text := input.workload.annotations["tmc.kcp.io/gpu-models"]
	count(text) <= 256
	some i, item in split(text, ",")
	i < 16
	model := trim_space(item)
	is_label_value(model)
]

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
