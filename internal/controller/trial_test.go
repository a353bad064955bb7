package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func policyMap(rego string) []*corev1.ConfigMap {
	return []*corev1.ConfigMap{{
		ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default", UID: "cm", Labels: map[string]string{v1alpha1.LabelPolicy: v1alpha1.PolicyRego}},
		Data:       map[string]string{"a.rego": rego},
	}}
}

const (
	soundPolicy = "package placement.scoring\nweights := {\"health\": 1}"
	// strictPolicy fails for workloads whose label says no number.
	strictPolicy = "package placement.scoring\ndefault weights := {\"health\": 1}\nweights := {\"health\": to_number(input.workload.labels.weight)}"
)

func labelled(name, weight string) *workloadObject {
	o := testWorkload(name, 10)
	o.workload.Labels = map[string]string{"weight": weight}
	return o
}

func (w *world) policyStatus() string {
	return w.configMaps[0].Annotations[v1alpha1.AnnotationPolicyStatus]
}

// TestPoliciesOnTrial: policies that fail for a workload that there is do not come into force, and say for which. The last good
// ones stay, for all workloads. One for which policies in force fail waits alone, before and after a restart.
func TestPoliciesOnTrial(t *testing.T) {
	const failure = `default/cm/a.rego:3:23: eval_builtin_error: to_number: strconv.ParseFloat: parsing "none": invalid syntax (for Deployment default/bad)`
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = policyMap(soundPolicy)
	w.workloads = []*workloadObject{labelled("good", "5")}
	w.pass()
	good := w.workspace.engine.PolicyDigest("ws")

	w.workloads = append(w.workloads, labelled("bad", "none"))
	w.configMaps = policyMap(strictPolicy)
	w.takeEvents()
	for range 3 {
		w.pass()
	}
	if w.workspace.engine.PolicyDigest("ws") != good {
		t.Error("the policies have come into force")
	}
	w.expect(map[string]string{"good": "a", "bad": "a"})
	if got := w.condition(v1alpha1.PoliciesReadyCondition); got != "False PolicyError: the last good policies stay in force: "+failure {
		t.Error(got)
	}
	if got := w.policyStatus(); !strings.Contains(got, "for Deployment default/bad") || !strings.Contains(got, `"row":3,"col":23`) {
		t.Error(got)
	}
	events := w.takeEvents()
	if n := strings.Count(events, "PoliciesRefused: the policies do not come into force; the last good ones stay: "+failure); n != 1 {
		t.Errorf("%d events", n)
	}
	if n := strings.Count(events, "p: PoliciesRefused: the last good policies stay in force: "+failure); n != 1 {
		t.Errorf("%d events of the placement in %s", n, events)
	}

	// After a restart there are no last good ones. These were never in force: nothing is decided by them.
	w.restart()
	w.workloads = append(w.workloads, labelled("new", "5"))
	w.pass()
	w.expect(map[string]string{"good": "a", "bad": "a"})
	if got := w.condition(v1alpha1.PoliciesReadyCondition); got != "False PolicyError: nothing is decided until the policies are sound: "+failure {
		t.Error(got)
	}

	// Once no workload is in their way they come into force.
	w.workloads[1].workload.Labels = map[string]string{"weight": "7"}
	w.pass()
	w.expect(map[string]string{"good": "a", "bad": "a", "new": "a"})
	if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasPrefix(got, "True") {
		t.Error(got)
	}
	// What comes later and fails waits alone.
	w.workloads = append(w.workloads, labelled("later", "none"))
	for range 2 {
		w.pass()
		w.workloads = append(w.workloads, labelled(fmt.Sprint("after-", len(w.workloads)), "5"))
		w.pass()
		w.restart()
	}
	w.expect(map[string]string{"good": "a", "bad": "a", "new": "a", "after-4": "a", "after-5": "a"})
}

// TestALongTrial: a pass evaluates policies that are not in force for a while only, the next one goes on, and what is the same to
// them is evaluated once. Meanwhile decisions are made by those in force.
func TestALongTrial(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "400")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = policyMap(soundPolicy)
	w.pass()
	good := w.workspace.engine.PolicyDigest("ws")
	for i := range 60 {
		w.workloads = append(w.workloads, labelled(fmt.Sprint("w", i), fmt.Sprint(i/2+1)))
	}
	w.workspace.now = func() time.Time { // each look at the clock takes a tenth of the pass's share
		w.clock = w.clock.Add(trialWithin / 10)
		return w.clock
	}
	w.configMaps = policyMap(strictPolicy)
	passes := 0
	for ; w.workspace.engine.PolicyDigest("ws") == good; passes++ {
		if r := w.workspace.reconcile(t.Context(), w.cacheView); r.err() != nil || passes > 20 {
			t.Fatalf("%d passes: %+v", passes, r)
		}
	}
	if passes < 3 || passes > 5 {
		t.Errorf("it took %d passes", passes)
	}
	if len(w.where()) != 60 {
		t.Errorf("%d are placed", len(w.where()))
	}
}

// TestPolicyWarnings: what policies in force say in vain is told in the ConfigMap's status and the placements' condition, anew when
// labels of clusters change.
func TestPolicyWarnings(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = policyMap("package placement.affinity\nterms contains {\"match\": {\"labelSelector\": {\"matchLabels\": {\"tier\": \"gold\"}}}, \"factor\": \"affinity\", \"onMatch\": 5}\nterm := 1")
	w.configMaps[0].Data["notes"] = "package placement.x"
	w.pass()
	for _, want := range []string{
		`{"status":"ok","warnings":[`,
		`{"code":"not_loaded","message":"data[notes] is not loaded: the keys of policies end in .rego, did you mean notes.rego?"}`,
		`{"code":"term_matches_nothing","message":"a term names the label \"tier\", which no cluster of the fleet has","location":{"file":"default/cm/a.rego","row":2,"col":1}}`,
		`{"code":"unread_rule","message":"nothing reads placement.affinity.term, so it has no effect, did you mean terms?","location":{"file":"default/cm/a.rego","row":3,"col":1}}`,
	} {
		if got := w.policyStatus(); !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	const told = `default/cm/a.rego:2:1: a term names the label "tier", which no cluster of the fleet has`
	if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasPrefix(got, "True") || !strings.Contains(got, told) {
		t.Error(got)
	}
	if got := w.condition(v1alpha1.EffectiveCondition); !strings.HasPrefix(got, "False WithoutEffect: "+told) {
		t.Error(got)
	}
	changed := w.clusters[0].DeepCopy()
	changed.Labels = map[string]string{"tier": "gold"}
	changed.ResourceVersion = w.next()
	w.clusters = []*v1alpha1.ClusterRegistration{changed}
	w.sleep(countsEvery)
	w.pass()
	if got := w.policyStatus(); strings.Contains(got, "tier") {
		t.Error(got)
	}
	if got := w.condition(v1alpha1.PoliciesReadyCondition); strings.Contains(got, "tier") {
		t.Error(got)
	}
	if got := w.condition(v1alpha1.EffectiveCondition); strings.Contains(got, "tier") || !strings.HasPrefix(got, "False WithoutEffect: default/cm/a.rego:3:1: nothing reads") {
		t.Error(got)
	}
	w.writes = nil
	if w.pass(); len(w.writes) > 0 {
		t.Errorf("an unchanged workspace is written to: %v", w.writes)
	}
}

// TestRefusedPoliciesOfManyPlacements: a refusal is told in events of some of the placements, and not again after a restart.
func TestRefusedPoliciesOfManyPlacements(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	for i := range 3 * maxRefusedEvents {
		p := testPlacement(one)
		p.Name, p.UID = fmt.Sprint("p", i), types.UID(fmt.Sprint("p", i))
		w.placements = append(w.placements, p)
	}
	w.configMaps = policyMap("package placement.scoring\nweights := nonsense")
	for range 3 {
		w.pass()
		w.sleep(time.Minute)
	}
	if n := strings.Count(w.takeEvents(), "PoliciesRefused: nothing is decided until the policies are sound: "); n != maxRefusedEvents {
		t.Errorf("%d events", n)
	}
	w.restart()
	w.pass()
	if events := w.takeEvents(); events != "" {
		t.Error(events)
	}
}
