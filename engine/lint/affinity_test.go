package lint_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/workload"
)

// affinities are specs of a placement of the workloads app=web, among workloads app=db, app=hen and app=egg; hens and eggs need each
// other.
var affinities = []row{
	{
		code:     "topology_key",
		cause:    `workloadAffinity: [{type: Attract, required: true, topologyKey: teir, labelSelector: {matchLabels: {app: db}}}]`,
		want:     "spec.workloadAffinity[0].topologyKey: no cluster of the fleet has teir, so that nothing can be placed, did you mean tier?",
		nearMiss: `workloadAffinity: [{type: Attract, required: true, topologyKey: tier, labelSelector: {matchLabels: {app: db}}}]`,
	},
	{
		code:     "topology_key", // nothing is repelled
		cause:    `workloadAffinity: [{type: Repel, required: true, topologyKey: rack, labelSelector: {}}]`,
		want:     "spec.workloadAffinity[0].topologyKey: no cluster of the fleet has rack, so that the term has no effect",
		nearMiss: `workloadAffinity: [{type: Repel, required: true, labelSelector: {}}]`,
	},
	{
		code:     "no_workload",
		cause:    `workloadAffinity: [{type: Attract, required: true, labelSelector: {matchLabels: {app: dbb}}}]`,
		want:     "spec.workloadAffinity[0].labelSelector: there are no workloads with app=dbb: nothing is placed before there is one",
		nearMiss: `workloadAffinity: [{type: Attract, required: true, labelSelector: {matchLabels: {app: db}}}]`,
	},
	{
		code:     "no_workload", // it is in another namespace
		cause:    `workloadAffinity: [{type: Repel, labelSelector: {matchLabels: {app: far}}}]`,
		want:     "spec.workloadAffinity[0].labelSelector: there are no workloads with app=far",
		nearMiss: `workloadAffinity: [{type: Repel, namespaces: [shop, away], labelSelector: {matchLabels: {app: far}}}]`,
	},
	{
		code: "contradiction", // the same and its contrary
		cause: `workloadAffinity: [{type: Attract, required: true, labelSelector: {matchLabels: {app: db}}},
			{type: Repel, required: true, topologyKey: cluster, labelSelector: {matchLabels: {app: db}}}]`,
		want: "spec.workloadAffinity[1]: asks for the contrary of workloadAffinity[0], and both are required: remove one of them",
		nearMiss: `workloadAffinity: [{type: Attract, required: true, topologyKey: location, labelSelector: {matchLabels: {app: db}}},
			{type: Repel, required: true, topologyKey: cluster, labelSelector: {matchLabels: {app: db}}}]`,
	},
	{
		code:  "circle", // through two others
		cause: `workloadAffinity: [{type: Attract, required: true, labelSelector: {matchLabels: {app: hen}}}]`,
		want: "spec.workloadAffinity[0]: its workloads wait for Deployment shop/hen, which wait for others in turn, and none of them is ever the first: " +
			"leave out required in one of their terms, or have the labelSelector of one select its own workloads, too",
		nearMiss: `workloadAffinity: [{type: Attract, required: true, labelSelector: {matchExpressions: [{key: app, operator: In, values: [hen, web]}]}}]`,
	},
}

func TestAffinities(t *testing.T) {
	var workloads []*workload.Workload
	for _, name := range []string{"web", "db", "hen", "egg"} {
		workloads = append(workloads, &workload.Workload{
			Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: name}, Labels: map[string]string{"app": name},
		})
	}
	workloads = append(workloads, &workload.Workload{Reference: workload.Reference{Namespace: "away", Name: "far"}, Labels: map[string]string{"app": "far"}})
	placementOf := func(app, spec string) *v1alpha1.WorkloadPlacement {
		p := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: app}, Spec: parse[v1alpha1.WorkloadPlacementSpec](t, spec)}
		p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
		return p
	}
	for _, r := range affinities {
		r.test(t, func(spec string) []lint.Finding {
			w := workspace(t, clusters)
			p := placementOf("web", spec)
			w.Workloads, w.Placements = workloads, []*v1alpha1.WorkloadPlacement{
				p, placementOf("db", "{}"),
				placementOf("hen", `workloadAffinity: [{type: Attract, required: true, labelSelector: {matchLabels: {app: egg}}}]`),
				placementOf("egg", `workloadAffinity: [{type: Attract, required: true, labelSelector: {matchLabels: {app: hen}}}]`),
			}
			return w.Placement(p)
		})
	}
}
