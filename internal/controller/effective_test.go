package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"

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
		for _, c := range w.workspace.effects.conditions {
			return c
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
