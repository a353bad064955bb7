package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestEffective: what a placement says in vain stands in its condition, which follows the placement and the fleet, is bounded, and
// does not make it unready. An unchanged world is not looked at again.
func TestEffective(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("paris", "8")}
	spec := func(names ...string) v1alpha1.WorkloadPlacementSpec {
		return v1alpha1.WorkloadPlacementSpec{ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: names}}
	}
	update := func(spec v1alpha1.WorkloadPlacementSpec) {
		p := testPlacement(spec)
		p.ResourceVersion = w.next()
		w.placements = []*v1alpha1.WorkloadPlacement{p}
	}
	expect := func(want string) {
		t.Helper()
		w.sleep(time.Minute)
		w.pass()
		if got := w.condition(v1alpha1.EffectiveCondition); got != want {
			t.Errorf("Effective is %q, want %q", got, want)
		}
	}
	update(spec("paris"))
	expect("True")

	update(spec("paris", "pariss"))
	expect("False WithoutEffect: spec.clusterSelector.clusterNames[1]: there is no cluster pariss in the fleet, did you mean paris?")
	if ready := w.condition(v1alpha1.ReadyCondition); ready != "True" {
		t.Errorf("Ready is %s", ready)
	}

	one := func() *conditionsv1alpha1.Condition {
		for _, e := range w.workspace.effects.of {
			return e.condition
		}
		return nil
	}
	before, writes := one(), len(w.writes)
	w.pass()
	if after := one(); before == nil || after != before || len(w.writes) != writes {
		t.Errorf("nothing has changed, and it is looked at again: %p, %p, %v", before, after, w.writes[writes:])
	}

	w.clusters = append(w.clusters, testCluster("pariss", "8"))
	expect("True")

	update(spec("paris"))
	w.placements[0].Annotations = map[string]string{"tmc.kcp.io/disruption": "unlimited"}
	expect("False WithoutEffect: metadata.annotations[tmc.kcp.io/disruption]: no such annotation is read, did you mean tmc.kcp.io/disruptions?")
	update(spec("paris"))
	expect("True")

	invalid := spec("paris")
	invalid.Constraints = []v1alpha1.Constraint{{Name: "c", Expression: "cluster.nmae"}}
	update(invalid)
	expect("Unknown InvalidSpec: The placement is not valid: see ConstraintsValid")

	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("%s-%d", strings.Repeat("x", 200), i))
	}
	update(spec(many...))
	w.pass()
	if got := w.condition(v1alpha1.EffectiveCondition); len(got) > maxMessage+100 || !strings.HasSuffix(got, "and 997 more") {
		t.Errorf("Effective is of %d bytes: %s", len(got), got)
	}
}

// TestEffectiveRegistration: what a registration says in vain stands in its condition, which comes when something is, and is written
// when it turns. Ready stays the agent's.
func TestEffectiveRegistration(t *testing.T) {
	w := newWorld(t)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	effective := func() string {
		c := conditions.Get(w.clusters[0], v1alpha1.EffectiveCondition)
		if c == nil {
			return "none"
		}
		return strings.Trim(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), " :")
	}
	const vain = `False WithoutEffect: spec.taints[0].effect: "NoScheduel" is no effect: until that is mended, the taint keeps workloads out as NoSchedule does, did you mean NoSchedule?`
	for _, step := range []struct {
		effect  corev1.TaintEffect
		want    string
		written bool
	}{
		{corev1.TaintEffectNoSchedule, "none", false},
		{"NoScheduel", vain, true},
		{"NoScheduel", vain, false},
		{corev1.TaintEffectNoSchedule, "True", true},
	} {
		w.sleep(countsEvery)
		w.reports("a", "4", nil)
		w.clusters[0].Spec.Taints = []corev1.Taint{{Key: "k", Effect: step.effect}}
		w.writes = nil
		w.pass()
		if got := effective(); got != step.want {
			t.Errorf("%s: %s, want %s", step.effect, got, step.want)
		}
		if written := slices.Contains(w.writes, "conditions of a"); written != step.written {
			t.Errorf("%s: written %v", step.effect, w.writes)
		}
		if got := w.clusterCondition("a", v1alpha1.ReadyCondition); got != "True" {
			t.Errorf("Ready %s", got)
		}
	}
}

// TestEffectiveAsPoliciesSchedule: what a placement says in vain as policies schedule its workloads stands in its condition, too, once for
// all workloads that they schedule alike, follows the policies, and is not looked for again where nothing has changed.
func TestEffectiveAsPoliciesSchedule(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("paris", "8"), testCluster("dublin", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"paris"}}})}
	w.workloads = []*workloadObject{testWorkload("a", 100), testWorkload("b", 100)}
	say := func(rego, want string) {
		t.Helper()
		w.configMaps = schedulingMap(rego)
		w.sleep(time.Minute)
		w.pass()
		if got := w.condition(v1alpha1.EffectiveCondition); got != want {
			t.Errorf("Effective is %q, want %q", got, want)
		}
	}
	say(`minClusters := 1`, "True")
	say(`minClusters := 2 if input.workload.name != "x"`, "False WithoutEffect: scheduling.minClusters: every workload waits for 2 clusters, "+
		"and 1 of the fleet's 2 pass the selectors and capabilityRequirements (as the policies schedule Deployment default/a)")
	before, writes := w.workspace.effects.of[w.placements[0].UID].scheduled, len(w.writes)
	w.pass()
	if after := w.workspace.effects.of[w.placements[0].UID].scheduled; before == nil || after != before || len(w.writes) != writes {
		t.Errorf("nothing has changed, and it is looked at again: %p, %p, %v", before, after, w.writes[writes:])
	}
	w.restart()
	w.pass()
	if len(w.writes) != writes {
		t.Errorf("nothing has changed over a restart, and it is written: %v", w.writes[writes:])
	}
	say(`spreadConstraints := [{"topologyKey": "teir"}]`, "False WithoutEffect: default/cm/a.rego:2:1: scheduling.spreadConstraints[0].topologyKey: "+
		"no cluster of the fleet has teir, so that nothing can be placed")
	say(`minClusters := 1`, "True")
}
