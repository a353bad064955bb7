package render

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// stripped returns a copy of an object as its owner wrote it: without status, and without what servers and tools add. Of its
// metadata it keeps name, namespace, and the labels and annotations that have a meaning outside the workspace.
func stripped(object *unstructured.Unstructured) *unstructured.Unstructured {
	content := maps.Clone(object.Object)
	delete(content, "status")
	metadata := map[string]any{"name": object.GetName()}
	if namespace := object.GetNamespace(); namespace != "" {
		metadata["namespace"] = namespace
	}
	for field, all := range map[string]map[string]string{"labels": object.GetLabels(), "annotations": object.GetAnnotations()} {
		kept := map[string]any{}
		for key, value := range all {
			if !ofWorkspace(key) {
				kept[key] = value
			}
		}
		if len(kept) > 0 {
			metadata[field] = kept
		}
	}
	content["metadata"] = metadata
	copied := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(content)}
	if strip := assigned[copied.GroupVersionKind().GroupKind()]; strip != nil {
		strip(copied.Object, object.GetAnnotations())
	}
	return copied
}

// bookkeeping are the annotations that tools and controllers write.
var bookkeeping = map[string]bool{
	corev1.LastAppliedConfigAnnotation:              true,
	"deployment.kubernetes.io/revision":             true,
	"deprecated.daemonset.template.generation":      true,
	"batch.kubernetes.io/job-tracking":              true,
	boundByController:                               true,
	"pv.kubernetes.io/bind-completed":               true,
	"volume.kubernetes.io/storage-provisioner":      true,
	"volume.beta.kubernetes.io/storage-provisioner": true,
	"volume.kubernetes.io/selected-node":            true,
	"volume.kubernetes.io/storage-resizer":          true,
}

const boundByController = "pv.kubernetes.io/bound-by-controller"

// ofWorkspace reports whether a label or annotation means nothing in a cluster: those of kcp and of placement, and bookkeeping.
func ofWorkspace(key string) bool {
	return bookkeeping[key] || ofKcp(key)
}

// ofKcp reports whether a key is in the domain kcp.io.
func ofKcp(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	return domain != key && (domain == "kcp.io" || strings.HasSuffix(domain, ".kcp.io"))
}

// assigned removes what servers assign, by kind. If an owner may have written the same field, another field that only a server writes
// shows whether a server has assigned it.
var assigned = map[schema.GroupKind]func(object map[string]any, annotations map[string]string){
	{Kind: "Service"}:               stripService,
	{Kind: "PersistentVolumeClaim"}: stripPersistentVolumeClaim,
	{Kind: "ServiceAccount"}:        func(object map[string]any, _ map[string]string) { delete(object, "secrets") },
	{Group: "batch", Kind: "Job"}:   stripJob,
}

// stripService: only a server assigns an address, or writes clusterIPs. If it has, it has also assigned the node ports and the IP
// families. A headless Service stays headless.
func stripService(object map[string]any, _ map[string]string) {
	spec, _ := object["spec"].(map[string]any)
	ip, _ := spec["clusterIP"].(string)
	headless := ip == corev1.ClusterIPNone
	if _, allocated := spec["clusterIPs"]; !allocated && (ip == "" || headless) {
		return
	}
	for _, field := range []string{"clusterIPs", "healthCheckNodePort", "ipFamilies"} {
		delete(spec, field)
	}
	if !headless {
		delete(spec, "clusterIP")
	}
	ports, _ := spec["ports"].([]any)
	for _, port := range ports {
		if port, ok := port.(map[string]any); ok {
			delete(port, "nodePort")
		}
	}
}

// stripPersistentVolumeClaim: an annotation records whether a controller has chosen the volume. A volume that the owner names stays.
func stripPersistentVolumeClaim(object map[string]any, annotations map[string]string) {
	if spec, ok := object["spec"].(map[string]any); ok && annotations[boundByController] != "" {
		delete(spec, "volumeName")
	}
}

// jobLabels are the labels by which a Job selects its pods.
var jobLabels = []string{"batch.kubernetes.io/controller-uid", "controller-uid", "batch.kubernetes.io/job-name", "job-name"}

// stripJob: the selector is set by the server unless the Job says otherwise.
func stripJob(object map[string]any, _ map[string]string) {
	spec, ok := object["spec"].(map[string]any)
	if manual, _ := spec["manualSelector"].(bool); !ok || manual {
		return
	}
	delete(spec, "selector")
	labels, _, _ := unstructured.NestedFieldNoCopy(spec, "template", "metadata", "labels")
	if labels, ok := labels.(map[string]any); ok {
		for _, key := range jobLabels {
			delete(labels, key)
		}
	}
}
