package controller

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestPoliciesSchedule: how many clusters a workload gets by the policies is what its placement is measured by. What is placed gets
// more when the policies say so, nothing moves, and an unchanged world is not written.
func TestPoliciesSchedule(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8"), testCluster("b", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{})}
	w.workloads = []*workloadObject{testWorkload("plain", 100), testWorkload("gold", 100)}
	say := func(rego string) {
		w.configMaps = []*corev1.ConfigMap{{
			ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default", UID: "cm"}, Data: map[string]string{"a.rego": "package placement\n" + rego},
		}}
		w.sleep(countsEvery)
		w.pass()
	}
	say(`scheduling := {"numberOfClusters": 1}`)
	w.expect(map[string]string{"plain": "b", "gold": "a"})
	if got := w.condition(v1alpha1.ScheduledCondition); got != "True" {
		t.Error(got)
	}
	say(`scheduling := {"numberOfClusters": 3} if input.workload.name == "gold" else := {"numberOfClusters": 1}`)
	w.expect(map[string]string{"plain": "b", "gold": "a,b"})
	if got := w.condition(v1alpha1.ScheduledCondition); got != "True : On fewer clusters than asked for: Deployment default/gold has 2 of 3" {
		t.Error(got)
	}
	writes := len(w.writes)
	w.pass()
	w.restart()
	w.pass()
	if len(w.writes) != writes {
		t.Errorf("nothing has changed, and %v is written", w.writes[writes:])
	}

	// Where they have replicas divided the decisions say so, for those who bring workloads to clusters.
	shop := testWorkload("shop", 400)
	shop.workload.Divisible, shop.workload.Replicas = true, 4
	w.workloads = append(w.workloads, shop)
	say(`scheduling := {"replicaScheduling": {"type": "Divided"}} if input.workload.name == "shop" else := {"numberOfClusters": 1}`)
	for _, slice := range w.stored {
		for _, d := range slice.Decisions {
			if d.Divided != (d.Workload.Name == "shop") {
				t.Errorf("divided: %v of %s", d.Divided, d.Workload.Name)
			}
		}
	}
	w.workloads = w.workloads[:2]

	// More than there are is waited for, by what comes later.
	say(`scheduling := {"numberOfClusters": 3, "minClusters": 3}`)
	w.workloads = append(w.workloads, testWorkload("late", 100))
	w.pass()
	if got := w.condition(v1alpha1.ScheduledCondition); !strings.Contains(got, "Deployment default/late: 2 of 2 clusters are feasible; at least 3 are asked for") {
		t.Error(got)
	}
	w.clusters = append(w.clusters, testCluster("c", "8"))
	w.pass()
	if got := strings.Count(w.where()["late"], ","); got != 2 {
		t.Errorf("it is on %s", w.where()["late"])
	}

	// What cannot be meant is refused, with the field, and the last policies stay in force.
	say(`scheduling := {"minCluster": 2}`)
	if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasSuffix(got, `default/cm/a.rego:2:1: shape_error: data.placement.scheduling cannot be used: minCluster: unknown field, did you mean minClusters?`) {
		t.Error(got)
	}
}
