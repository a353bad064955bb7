package controller

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// onlyOn is policies that require a cluster.
func onlyOn(cluster string) string {
	return fmt.Sprintf(`package placement.affinity
terms contains {"match": {"clusterNames": [%q]}, "factor": "affinity", "required": true, "reason": "only there"}`, cluster)
}

// endless costs more than one evaluation may for workloads whose label says so.
const endless = `package placement.scoring
default weights := {"health": 1}
ten := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
weights := {"health": 2} if {
	input.workload.labels.weight == "endless"
	every a in ten { every b in ten { every c in ten { every d in ten { every e in ten { every f in ten { a + b + c + d + e + f >= 0 } } } } } }
}`

// shadowMap is a ConfigMap of the shadow policies beside others.
func shadowMap(rego string, others ...*corev1.ConfigMap) []*corev1.ConfigMap {
	shadow := policyMap(rego)[0]
	shadow.Name, shadow.UID = "shadow", "shadow"
	shadow.Labels[v1alpha1.LabelPolicySet] = v1alpha1.PolicySetShadow
	return append([]*corev1.ConfigMap{shadow}, others...)
}

// shadowed are the results that the metric counts.
func (w *world) shadowed() string {
	var counts []string
	for _, result := range []shadowResult{differsNot, otherClusters, wouldWait, wouldNotWait, shadowFailed, shadowSkipped} {
		if n := testutil.ToFloat64(w.workspace.metrics.shadow.WithLabelValues(string(result))); n > 0 {
			counts = append(counts, fmt.Sprintf("%s %v", result, n))
		}
	}
	return strings.Join(counts, ", ")
}

// TestShadowPolicies: each decision that is made is made again by the shadow policies, which is counted and changes none. They never
// enter the set in force. Cluster a has room for all but one workload, b for all.
func TestShadowPolicies(t *testing.T) {
	const refused = `{"status":"error","error":{"code":"invalid_parameter","message":"the shadow policies are not evaluated","errors":[`
	for _, test := range []struct{ name, inForce, shadow, want, placed, says string }{
		{"the same", onlyOn("a"), onlyOn("a") + "\n", "same 3", "a,a,none", `{"status":"ok","shadow":"`},
		{"other clusters", onlyOn("a"), onlyOn("b"), "other_clusters 2, would_not_wait 1", "a,a,none", `{"status":"ok","shadow":"`},
		{"more would wait", onlyOn("b"), onlyOn("a"), "other_clusters 2, would_wait 1", "b,b,b", `{"status":"ok","shadow":"`},
		{"fewer would wait", onlyOn("none"), onlyOn("b"), "would_not_wait 3", "none,none,none", `{"status":"ok","shadow":"`},
		{"it fails for a workload that comes later", onlyOn("a"), strictPolicy, "other_clusters 1, would_not_wait 1, failed 1", "a,a,none", `{"status":"ok","shadow":"`},
		{"it does not compile", onlyOn("a"), "package placement.scoring\nweights := {", "", "a,a,none", refused + `{"code":"rego_parse_error"`},
		{"it is in no package of ours", onlyOn("a"), "package other", "", "a,a,none", refused + `{"code":"scope_error"`},
		{"nothing is in force but the built-in policies", "", onlyOn("a"), "other_clusters 2, would_wait 1", "b,b,b", `{"status":"ok","shadow":"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "90")}
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
			var inForce []*corev1.ConfigMap
			if test.inForce != "" {
				inForce = policyMap(test.inForce)
			}
			w.configMaps = shadowMap(test.shadow, inForce...)
			w.pass()
			third := labelled("third", "5")
			third.workload.Requests.CPU = 9000
			for _, o := range []*workloadObject{labelled("first", "5"), labelled("second", "none"), third} {
				w.workloads = append(w.workloads, o)
				w.pass()
			}
			var placed []string
			for _, o := range w.workloads {
				placed = append(placed, cmp.Or(w.where()[o.Name], "none"))
			}
			if got := strings.Join(placed, ","); got != test.placed {
				t.Errorf("placed on %s, want %s", got, test.placed)
			}
			if got := w.shadowed(); got != test.want {
				t.Errorf("counted %s, want %s", got, test.want)
			}
			if got := w.policyStatus(); !strings.HasPrefix(got, test.says) {
				t.Errorf("the ConfigMap says %s", got)
			}
			if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasPrefix(got, "True") {
				t.Errorf("condition %s", got)
			}
			w.show()
			w.elapse(2 * countsEvery)
			w.writes = nil
			w.restart()
			w.pass()
			if len(w.writes) > 0 {
				t.Errorf("a restart wrote %v", w.writes)
			}
		})
	}
}

// TestHostileShadowPolicies: shadow policies that cost too much do so once, whether for a workload that there is or for one that comes
// later, and are not evaluated any more until they are changed. All decisions are made meanwhile.
func TestHostileShadowPolicies(t *testing.T) {
	for _, first := range []string{"endless", "5"} {
		t.Run("the first workload is "+first, func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
			w.configMaps = shadowMap(endless, policyMap(soundPolicy)...)
			for i := range 8 {
				w.workloads = append(w.workloads, labelled(fmt.Sprint("w", i), first))
				first = "endless"
				w.pass()
			}
			if n := len(w.where()); n != 8 {
				t.Errorf("%d are placed", n)
			}
			if got := w.policyStatus(); !strings.Contains(got, "limit_error") {
				t.Errorf("the ConfigMap says %s", got)
			}
			if n := len(w.eventsOf("PoliciesRefused")); n != 1 {
				t.Errorf("%d events", n)
			}
			w.configMaps = shadowMap(soundPolicy, w.configMaps[1:]...)
			w.pass()
			if got := w.policyStatus(); !strings.HasPrefix(got, `{"status":"ok","shadow":`) {
				t.Errorf("changed, the ConfigMap says %s", got)
			}
		})
	}
}

// TestPoliciesOfNoSet: a label with another value, such as a typo, takes the policies out of force as well, and says so.
func TestPoliciesOfNoSet(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4"), testCluster("b", "9")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = shadowMap(onlyOn("a"))
	w.configMaps[0].Labels[v1alpha1.LabelPolicySet] = "shadwo"
	w.workloads = []*workloadObject{testWorkload("w", 10)}
	w.pass()
	w.expect(map[string]string{"w": "b"})
	if got := w.policyStatus(); !strings.Contains(got, `the label tmc.kcp.io/policy-set is \"shadwo\": it must be \"shadow\"`) {
		t.Errorf("the ConfigMap says %s", got)
	}
}
