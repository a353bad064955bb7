package controller

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// silent is a Deployment whose pods ask for nothing by themselves.
func silent(t *testing.T, name string, replicas int64) *workloadObject {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name, "namespace": "default", "uid": name},
		"spec": map[string]any{"replicas": replicas, "template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "c"}}}}},
	}}
	object, err := toWorkload(workload.Kinds(), false, u)
	if err != nil {
		t.Fatal(err)
	}
	return object.(*workloadObject)
}

func limitRange(namespace, cpu string) *corev1.LimitRange {
	return &corev1.LimitRange{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "LimitRange"},
		ObjectMeta: metav1.ObjectMeta{Name: "defaults", Namespace: namespace},
		Spec:       corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}},
	}
}

// TestLimitRangesCount: what they add is counted as they change, a workload that runs keeps its place, and what was counted stays
// for as long as they cannot be seen.
func TestLimitRangesCount(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "8")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{silent(t, "w", 1)}
	there := map[types.NamespacedName]types.UID{{Namespace: "default", Name: "defaults"}: "1"}
	shows := func(ranges ...*corev1.LimitRange) func() {
		return func() { w.limitRanges, w.limitRangesRead = ranges, true }
	}
	withdrawn := func() { w.limitRanges, w.limitRangesRead = nil, false }
	for _, step := range []struct {
		name      string
		change    func()
		reserved  int64
		unwritten bool
	}{
		{"one says 2 cpu", shows(limitRange("default", "2")), 2000, false},
		{"nothing has changed", func() {}, 2000, true},
		{"it is another namespace's", shows(limitRange("default", "2"), limitRange("other", "5")), 2000, true},
		{"it says 3 cpu", shows(limitRange("default", "3")), 3000, false},
		{"it says more than there is", shows(limitRange("default", "100")), 3000, false},
		{"it says 3 cpu again", shows(limitRange("default", "3")), 3000, false},
		{"the claim is withdrawn", withdrawn, 3000, true},
		{"the controller starts anew", w.restart, 3000, true},
		{"it is scaled meanwhile", func() { w.workloads = []*workloadObject{silent(t, "w", 2)} }, 6000, false},
		{"and back", func() { w.workloads = []*workloadObject{silent(t, "w", 1)} }, 3000, false},
		{"the claim is accepted, and the LimitRange not shown yet", func() { shows()(); w.invisible = there }, 3000, true},
		{"it is not shown to a controller that has started anew", w.restart, 3000, true},
		{"it is shown", shows(limitRange("default", "3")), 3000, true},
		{"the watch falls short", shows(), 3000, true},
		{"the server does not answer", func() { w.lookErr = errors.New("down") }, 3000, true},
		{"it is deleted", func() { w.lookErr, w.invisible = nil, nil }, 0, false},
		{"one is made again", shows(limitRange("default", "1")), 1000, false},
		{"it is deleted while the claim is not accepted", withdrawn, 1000, true},
		{"which is seen once it is", shows(), 0, false},
	} {
		step.change()
		w.show()
		w.writes = nil
		for range 2 {
			w.sleep(time.Minute) // for what failed to be asked again
			w.pass()
			w.show()
		}
		w.expect(map[string]string{"w": "a"})
		if got := w.workspace.engine.Snapshot("ws").Row("a").Reserved.CPU; got != step.reserved {
			t.Errorf("%s: %d reserved, want %d", step.name, got, step.reserved)
		}
		if step.unwritten && slices.Contains(w.writes, "p-0 with 1") {
			t.Errorf("%s: written: %v", step.name, w.writes)
		}
		if got := w.condition(v1alpha1.WorkloadsVisibleCondition); got != "True" {
			t.Errorf("%s: WorkloadsVisible %s", step.name, got)
		}
	}
}

// TestAnOptionalClaim: the controller follows the LimitRanges of a workspace that accepts the claim on them. One that does not is
// placed by what its objects say, and everything is in order there.
func TestAnOptionalClaim(t *testing.T) {
	i := newInstallation(t)
	shard := newShop(t)
	shard.put("limitranges", "shop", limitRange("default", "2"))
	d := oneCPU("w")
	d.Spec.Replicas, d.Spec.Template.Spec.Containers[0].Resources = ptr.To[int32](1), corev1.ResourceRequirements{}
	shard.put("deployments", "shop", d)
	i.shows(shard)
	eventually(t, "w is placed by what it says", func() bool { return len(shard.stored("placementdecisions")) == 1 })
	if i.reserved() != 0 {
		t.Errorf("%d reserved", i.reserved())
	}
	shard.put("apibindings", "shop", testBinding("configmaps", "leases.coordination.k8s.io", "deployments.apps", "jobs.batch", "limitranges"))
	eventually(t, "w has what the LimitRange adds", func() bool { return i.reserved() == 2000 })
	shard.put("limitranges", "shop", limitRange("default", "3"))
	eventually(t, "a change is followed", func() bool { return i.reserved() == 3000 })
}
