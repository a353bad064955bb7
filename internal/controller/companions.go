package controller

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// companionKind is a kind of object that accompanies workloads.
type companionKind struct {
	schema.GroupVersionResource
	kind string
	// fields is the field selector of the watch.
	fields string
}

// companionKinds are watched where workloads are delivered, each on its own.
var companionKinds = []companionKind{
	{corev1.SchemeGroupVersion.WithResource("configmaps"), "ConfigMap", "metadata.name!=kube-root-ca.crt"},
	{corev1.SchemeGroupVersion.WithResource("secrets"), "Secret", "type!=" + string(corev1.SecretTypeServiceAccountToken)},
	{corev1.SchemeGroupVersion.WithResource("serviceaccounts"), "ServiceAccount", ""},
	{corev1.SchemeGroupVersion.WithResource("services"), "Service", ""},
	{corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims"), "PersistentVolumeClaim", ""},
	{schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}, "HorizontalPodAutoscaler", ""},
	{schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}, "PodDisruptionBudget", ""},
}

// companionResource returns the resource through which an object is watched, and whether it is watched.
func companionResource(m v1alpha1.ManifestReference) (schema.GroupVersionResource, bool) {
	return companionResourceOf(schema.FromAPIVersionAndKind(m.APIVersion, m.Kind).GroupKind())
}

func companionResourceOf(kind schema.GroupKind) (schema.GroupVersionResource, bool) {
	i := slices.IndexFunc(companionKinds, func(c companionKind) bool { return c.Group == kind.Group && c.kind == kind.Kind })
	if i < 0 {
		return schema.GroupVersionResource{}, false
	}
	return companionKinds[i].GroupVersionResource, true
}

// newCompanionWatch watches one kind of object that accompanies workloads.
func newCompanionWatch(e *endpoint, c companionKind) *resourceWatch {
	w := &resourceWatch{resource: c.GroupVersionResource, fields: c.fields}
	return w.over(e, e.enqueue(e.deliverable), total(withoutBookkeeping))
}

// withoutBookkeeping strips the record of who wrote an object, which can be half of it.
func withoutBookkeeping(content any) (any, error) {
	if u, ok := content.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
		if annotations := u.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
			delete(annotations, corev1.LastAppliedConfigAnnotation)
			u.SetAnnotations(annotations)
		}
	}
	return content, nil
}
