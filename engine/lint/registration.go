package lint

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/spelling"
)

// registrations are the checks of registrations.
var registrations = []check[*v1alpha1.ClusterRegistration]{
	{Warning, "taint", taints},
	{Warning, "annotation", registrationAnnotations},
	{Warning, "cost", cost},
}

// Registration returns findings about parts of a registration that have no effect.
func Registration(r *v1alpha1.ClusterRegistration) []Finding {
	return run(registrations, "ClusterRegistration "+r.Name, r, nil)
}

// effects of taints.
var effects = []string{string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}

func taints(r *v1alpha1.ClusterRegistration, _ *Workspace, report *report) {
	for i, t := range r.Spec.Taints {
		at := spec.Child("taints").Index(i)
		if effect := string(t.Effect); !slices.Contains(effects, effect) {
			report.at(at.Child("effect"), "%q is no effect: until that is mended, the taint keeps workloads out as NoSchedule does%s", effect, didYouMeanOr(effect, effects))
		}
		if slices.ContainsFunc(r.Spec.Taints[:i], func(o corev1.Taint) bool { return o.MatchTaint(&t) }) {
			report.at(at, "there is another taint with key %s and effect %s", t.Key, t.Effect)
		}
	}
}

// cost reports a cost that is not a number: the cluster then counts as one of unknown cost.
func cost(r *v1alpha1.ClusterRegistration, _ *Workspace, report *report) {
	for _, key := range slices.Sorted(maps.Keys(r.Labels)) {
		if spelling.Typo(key, []string{v1alpha1.LabelCost}) != "" {
			report.name(metadataLabels.Key(key), "the cost of a cluster is read from the label %s", v1alpha1.LabelCost)
		}
	}
	if text, labelled := r.Labels[v1alpha1.LabelCost]; labelled {
		if _, err := snapshot.ParseCost(text); err != nil {
			report.at(metadataLabels.Key(v1alpha1.LabelCost), "%v: the factor cost takes the cost of the cluster as unknown, and gives it 50", err)
		}
	}
}
