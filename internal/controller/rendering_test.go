package controller

import (
	"encoding/json"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery"
)

// TestRendering: clusters get the replicas that the decision says, also where policies and not the placement divide them, and of a
// workload that has been scaled since; numbers and the generation are those that the owner wrote.
func TestRendering(t *testing.T) {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "web", "namespace": "shop", "uid": "u", "generation": int64(7)},
		"spec": map[string]any{"replicas": int64(500), "template": map[string]any{"spec": map[string]any{
			"activeDeadlineSeconds": int64(1<<53 + 1),
		}}},
	}}
	source := toSource(workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u"}, object)
	for _, divided := range []bool{true, false} {
		a := &delivery.Assignment{Source: source, State: delivery.Decided, Placement: testPlacement(v1alpha1.WorkloadPlacementSpec{}), Divided: divided}
		rendered := newRendering(workload.Kinds()).render(a, []delivery.Share{
			{Cluster: &delivery.Cluster{Name: "a"}, Replicas: 3}, {Cluster: &delivery.Cluster{Name: "b"}, Replicas: 2},
		})
		for i, want := range []int64{3, 2} {
			m := rendered[i].Workload
			if m == nil {
				t.Fatalf("%v", rendered[i].Problems)
			}
			var got struct {
				Spec struct {
					Replicas int64
					Template struct {
						Spec struct{ ActiveDeadlineSeconds int64 }
					}
				}
			}
			if err := json.Unmarshal(m.Object.Raw, &got); err != nil {
				t.Fatal(err)
			}
			if got.Spec.Replicas != want || m.Generation != 7 || got.Spec.Template.Spec.ActiveDeadlineSeconds != 1<<53+1 {
				t.Errorf("divided %v: generation %d, %s", divided, m.Generation, m.Object.Raw)
			}
		}
	}
}

// TestRenderedOnce: what is rendered is good for as long as it is made of the same, whatever becomes of a placement's status.
func TestRenderedOnce(t *testing.T) {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web", "namespace": "shop", "uid": "u"},
		"spec": map[string]any{"template": map[string]any{}},
	}}
	source := toSource(workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u"}, object)
	p := testPlacement(v1alpha1.WorkloadPlacementSpec{Delivery: v1alpha1.Delivery{Overrides: []v1alpha1.Override{{Labels: map[string]string{"a": "b"}}}}})
	r := newRendering(workload.Kinds())
	made := func(p *v1alpha1.WorkloadPlacement) *v1alpha1.Manifest {
		t.Helper()
		rendered := r.render(&delivery.Assignment{Source: source, Placement: p}, []delivery.Share{{Cluster: &delivery.Cluster{Name: "a"}}})
		if rendered[0].Workload == nil {
			t.Fatal(rendered[0].Problems)
		}
		r.forget()
		return rendered[0].Workload
	}
	first, written := made(p), p.DeepCopy()
	written.Status.ObservedGeneration++
	if made(written) != first {
		t.Error("a write of status has it rendered again")
	}
	changed := written.DeepCopy()
	changed.Spec.Delivery.Overrides[0].Labels["a"] = "c"
	if made(changed).Revision == first.Revision {
		t.Error("a change of an override is not seen")
	}
}

// TestNamespacesAreForgotten: of a namespace that has no workloads any more, nothing is remembered.
func TestNamespacesAreForgotten(t *testing.T) {
	r := newRendering(workload.Kinds())
	secrets := companionKinds[1].GroupVersionResource
	var all []any
	for i := range 1000 {
		all = append(all, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "s", "namespace": fmt.Sprint("team-", i)},
		}})
	}
	r.show(secrets, all)
	r.forget()
	r.show(secrets, nil)
	r.forget()
	if n := len(r.versions); n > 0 {
		t.Errorf("%d namespaces are remembered", n)
	}
}
