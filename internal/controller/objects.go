package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
)

// The resources that the controller watches in every workspace, beside the workload kinds.
var (
	clusterResource   = v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations")
	placementResource = v1alpha1.SchemeGroupVersion.WithResource("workloadplacements")
	decisionResource  = v1alpha1.SchemeGroupVersion.WithResource("placementdecisions")
	configMapResource = corev1.SchemeGroupVersion.WithResource("configmaps")
)

// workloadObject is a workload as it is kept in an informer's store: read once when it changes, and without the parts
// that placing does not look at.
type workloadObject struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	workload *workload.Workload
	end      workload.End
	// err tells why the object cannot be read.
	err error
}

// DeepCopyObject implements runtime.Object. The parts are never changed, so the copy shares them.
func (w *workloadObject) DeepCopyObject() runtime.Object {
	shared := *w
	return &shared
}

// GetObjectKind implements runtime.Object.
func (w *workloadObject) GetObjectKind() schema.ObjectKind { return &w.TypeMeta }

// transform returns the informer's transformation from what the API delivers to what is kept.
func transform(resource schema.GroupVersionResource) cache.TransformFunc {
	switch resource {
	case clusterResource:
		return typed[v1alpha1.ClusterRegistration]
	case placementResource:
		return typed[v1alpha1.WorkloadPlacement]
	case decisionResource:
		return typed[v1alpha1.PlacementDecision]
	case configMapResource:
		return typed[corev1.ConfigMap]
	default:
		return toWorkload
	}
}

func typed[T any](object any) (any, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	u.SetManagedFields(nil)
	result, err := read[T](u)
	if err == nil {
		return result, nil
	}
	// An error from here would keep the informer from ever listing: one workspace's object would stop all of them. What
	// quantities are read from is there without them: no workloads are placed on such a cluster, and such a decision
	// is listed from the server before anything else is decided in its workspace. A server lets pass nothing of the
	// other kinds that cannot be read.
	bare := map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "metadata": u.Object["metadata"]}
	switch u.GetKind() {
	case "ClusterRegistration":
		bare["spec"] = u.Object["spec"]
		bare["status"] = map[string]any{"conditions": []any{map[string]any{
			"type": v1alpha1.ReadyCondition, "status": "False", "reason": unreadable, "message": err.Error(), "lastTransitionTime": nil,
		}}}
	case "PlacementDecision":
		bare["placementName"] = u.Object["placementName"]
	default:
		return nil, err
	}
	klog.Background().Error(err, "An object is taken without what cannot be read")
	return read[T](&unstructured.Unstructured{Object: bare})
}

// unreadable is the reason of Ready of a registration that is taken without its status.
const unreadable = "Unreadable"

func read[T any](u *unstructured.Unstructured) (*T, error) {
	if err := capacity.CheckQuantities(u.Object); err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	result := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, result); err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return result, nil
}

func toWorkload(object any) (any, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	w := &workloadObject{
		TypeMeta: metav1.TypeMeta{APIVersion: u.GetAPIVersion(), Kind: u.GetKind()},
		ObjectMeta: metav1.ObjectMeta{
			Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
			CreationTimestamp: u.GetCreationTimestamp(), DeletionTimestamp: u.GetDeletionTimestamp(),
			Labels: u.GetLabels(), Annotations: u.GetAnnotations(),
		},
	}
	w.workload, w.err = workload.FromObject(u)
	w.end = workload.EndOf(u)
	return w, nil
}

func toUnstructured(object runtime.Object, kind string) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind(kind))
	return u, nil
}
