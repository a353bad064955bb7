package controller

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// TestTransformNeverFails: an object that cannot be read, or would take minutes to, is there by its name alone: an error
// would stop the informer, and with it all workspaces.
func TestTransformNeverFails(t *testing.T) {
	for _, status := range []any{
		map[string]any{"allocatable": map[string]any{"cpu": "1e99999999"}},
		map[string]any{"allocatable": map[string]any{"cpu": "nonsense"}},
		"nonsense",
	} {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "tmc.kcp.io/v1alpha1", "kind": "ClusterRegistration",
			"metadata": map[string]any{"name": "a", "annotations": map[string]any{"kcp.io/cluster": "w"}},
			"spec":     map[string]any{"location": "eu"}, "status": status,
		}}
		object, err := transform(clusterResource)(u)
		if err != nil {
			t.Fatal(err)
		}
		r, ok := object.(*v1alpha1.ClusterRegistration)
		if !ok || r.Name != "a" || r.Spec.Location != "eu" || len(r.Status.Allocatable) > 0 || r.Status.Conditions[0].Reason != "Unreadable" {
			t.Errorf("%v: %+v", status, object)
		}
	}
}
