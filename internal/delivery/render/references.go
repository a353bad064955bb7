package render

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// The kinds that workloads refer to, or that refer to workloads.
var (
	configMapKind      = schema.GroupKind{Kind: "ConfigMap"}
	secretKind         = schema.GroupKind{Kind: "Secret"}
	serviceAccountKind = schema.GroupKind{Kind: "ServiceAccount"}
	claimKind          = schema.GroupKind{Kind: "PersistentVolumeClaim"}
	serviceKind        = schema.GroupKind{Kind: "Service"}
	autoscalerKind     = schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}
	budgetKind         = schema.GroupKind{Group: "policy", Kind: "PodDisruptionBudget"}
	statefulSetKind    = schema.GroupKind{Group: "apps", Kind: "StatefulSet"}
)

// CompanionKinds are the kinds of objects that accompany workloads without having the label.
var CompanionKinds = []schema.GroupKind{configMapKind, secretKind, serviceAccountKind, claimKind, serviceKind, autoscalerKind, budgetKind}

const defaultServiceAccount = "default"

// key identifies an object of a workspace, whatever its version.
type key struct {
	schema.GroupKind
	namespace, name string
}

func keyOf(object *unstructured.Unstructured) key {
	return key{object.GroupVersionKind().GroupKind(), object.GetNamespace(), object.GetName()}
}

// Reference is an object that a workload refers to and that is not delivered.
type Reference struct {
	schema.GroupKind
	Namespace, Name string
	// Field refers to it; it is a field of the workload or, if it says so, of another object.
	Field string
	// Why is the reason that it is not delivered, as in "is not there".
	Why string
}

// String returns a message: spec.template.spec.volumes[0].secret.secretName refers to Secret shop/db, which is not there.
func (r Reference) String() string {
	return fmt.Sprintf("%s refers to %s %s/%s, which %s", r.Field, r.Kind, r.Namespace, r.Name, r.Why)
}

// reference is a field that names an object of the same namespace.
type reference struct {
	schema.GroupKind
	name, field string
	optional    bool
}

// Needs is what a workload refers to, and what others select it by. It is immutable, and valid for as long as the object is unchanged.
type Needs struct {
	of         key
	references []reference
	// pods are the labels of the pods of each template.
	pods []labels.Set
}

// NeedsOf reads a workload.
func NeedsOf(kinds *workload.Table, object *unstructured.Unstructured) (*Needs, error) {
	n := &Needs{of: keyOf(object)}
	templates, err := kinds.PodTemplates(object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", describe(object), err)
	}
	for _, template := range templates {
		// What cannot be read here is rejected by the API server of the cluster.
		spec, _ := decode.To[corev1.PodSpec](template.Content["spec"])
		podReferences(&spec, func(kind schema.GroupKind, name, field string, optional bool) {
			if name != "" {
				n.references = append(n.references, reference{kind, name, template.Child("spec." + field), optional})
			}
		})
		podLabels, _, _ := unstructured.NestedStringMap(template.Content, "metadata", "labels")
		n.pods = append(n.pods, podLabels)
	}
	if n.of.GroupKind == statefulSetKind {
		if name, _, _ := unstructured.NestedString(object.Object, "spec", "serviceName"); name != "" {
			n.references = append(n.references, reference{serviceKind, name, "spec.serviceName", true})
		}
	}
	return n, nil
}

// podReferences calls add with each field of a pod that names an object of its namespace. A test compares the fields with those of
// Kubernetes' type.
func podReferences(spec *corev1.PodSpec, add func(kind schema.GroupKind, name, field string, optional bool)) {
	for i := range spec.Volumes {
		at := fmt.Sprintf("volumes[%d].", i)
		volumeReferences(&spec.Volumes[i].VolumeSource, func(kind schema.GroupKind, name, field string, optional bool) {
			add(kind, name, at+field, optional)
		})
	}
	containerReferences("initContainers", spec.InitContainers, add)
	containerReferences("containers", spec.Containers, add)
	ephemeral := make([]corev1.Container, len(spec.EphemeralContainers))
	for i := range spec.EphemeralContainers {
		ephemeral[i] = corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
	containerReferences("ephemeralContainers", ephemeral, add)
	for i, s := range spec.ImagePullSecrets {
		add(secretKind, s.Name, fmt.Sprintf("imagePullSecrets[%d].name", i), false)
	}
	switch {
	case spec.ServiceAccountName != "":
		add(serviceAccountKind, spec.ServiceAccountName, "serviceAccountName", spec.ServiceAccountName == defaultServiceAccount)
	case spec.DeprecatedServiceAccount != "":
		add(serviceAccountKind, spec.DeprecatedServiceAccount, "serviceAccount", spec.DeprecatedServiceAccount == defaultServiceAccount)
	default:
		add(serviceAccountKind, defaultServiceAccount, "serviceAccountName", true)
	}
}

func volumeReferences(v *corev1.VolumeSource, add func(kind schema.GroupKind, name, field string, optional bool)) {
	local := func(r *corev1.LocalObjectReference, field string) {
		if r != nil {
			add(secretKind, r.Name, field+".name", false)
		}
	}
	if v.ConfigMap != nil {
		add(configMapKind, v.ConfigMap.Name, "configMap.name", isTrue(v.ConfigMap.Optional))
	}
	if v.Secret != nil {
		add(secretKind, v.Secret.SecretName, "secret.secretName", isTrue(v.Secret.Optional))
	}
	if v.PersistentVolumeClaim != nil {
		add(claimKind, v.PersistentVolumeClaim.ClaimName, "persistentVolumeClaim.claimName", false)
	}
	if v.Projected != nil {
		for i, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(configMapKind, s.ConfigMap.Name, fmt.Sprintf("projected.sources[%d].configMap.name", i), isTrue(s.ConfigMap.Optional))
			}
			if s.Secret != nil {
				add(secretKind, s.Secret.Name, fmt.Sprintf("projected.sources[%d].secret.name", i), isTrue(s.Secret.Optional))
			}
		}
	}
	if v.CSI != nil {
		local(v.CSI.NodePublishSecretRef, "csi.nodePublishSecretRef")
	}
	if v.AzureFile != nil {
		add(secretKind, v.AzureFile.SecretName, "azureFile.secretName", false)
	}
	if v.CephFS != nil {
		local(v.CephFS.SecretRef, "cephfs.secretRef")
	}
	if v.Cinder != nil {
		local(v.Cinder.SecretRef, "cinder.secretRef")
	}
	if v.FlexVolume != nil {
		local(v.FlexVolume.SecretRef, "flexVolume.secretRef")
	}
	if v.ISCSI != nil {
		local(v.ISCSI.SecretRef, "iscsi.secretRef")
	}
	if v.RBD != nil {
		local(v.RBD.SecretRef, "rbd.secretRef")
	}
	if v.ScaleIO != nil {
		local(v.ScaleIO.SecretRef, "scaleIO.secretRef")
	}
	if v.StorageOS != nil {
		local(v.StorageOS.SecretRef, "storageos.secretRef")
	}
}

func containerReferences(field string, containers []corev1.Container, add func(kind schema.GroupKind, name, field string, optional bool)) {
	for i := range containers {
		for j, from := range containers[i].EnvFrom {
			at := fmt.Sprintf("%s[%d].envFrom[%d].", field, i, j)
			if r := from.ConfigMapRef; r != nil {
				add(configMapKind, r.Name, at+"configMapRef.name", isTrue(r.Optional))
			}
			if r := from.SecretRef; r != nil {
				add(secretKind, r.Name, at+"secretRef.name", isTrue(r.Optional))
			}
		}
		for j, env := range containers[i].Env {
			if env.ValueFrom == nil {
				continue
			}
			at := fmt.Sprintf("%s[%d].env[%d].valueFrom.", field, i, j)
			if r := env.ValueFrom.ConfigMapKeyRef; r != nil {
				add(configMapKind, r.Name, at+"configMapKeyRef.name", isTrue(r.Optional))
			}
			if r := env.ValueFrom.SecretKeyRef; r != nil {
				add(secretKind, r.Name, at+"secretKeyRef.name", isTrue(r.Optional))
			}
		}
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

// targetOf returns what an autoscaler scales.
func targetOf(object *unstructured.Unstructured) (key, bool) {
	if object.GroupVersionKind().GroupKind() != autoscalerKind {
		return key{}, false
	}
	content, _, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "scaleTargetRef")
	target, _ := decode.To[autoscalingv2.CrossVersionObjectReference](content)
	gv, err := schema.ParseGroupVersion(target.APIVersion)
	if err != nil || target.Kind == "" || target.Name == "" {
		return key{}, false
	}
	return key{gv.WithKind(target.Kind).GroupKind(), object.GetNamespace(), target.Name}, true
}
