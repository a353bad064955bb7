package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// refusal is an error that is reported to the owner of an object.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// objects returns the client for the objects of an action.
func (a *Applier) objects(do action) dynamic.ResourceInterface {
	if do.id.namespace == "" {
		return a.cluster.Resource(do.resource)
	}
	return a.cluster.Resource(do.resource).Namespace(do.id.namespace)
}

// put applies a wanted object to the cluster, and returns the result. Fields that others own and that are not wanted otherwise
// stay as they are.
func (a *Applier) put(ctx context.Context, do action) (*live, error) {
	d := do.wanted
	objects := a.objects(do)
	force := do.live != nil
	if do.live == nil {
		existing, err := objects.Get(ctx, d.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case a.isOwn(existing) || d.manifest.TakeOver || isDefaultAccount(d.id):
			do.live, force = liveOf(existing), true
			do.scaled = do.scaled || do.live.scaled
		default:
			return nil, foreign(d)
		}
	}
	object, err := a.object(d)
	if err != nil {
		return nil, err
	}
	if do.scaled && do.live != nil {
		unstructured.RemoveNestedField(object.Object, "spec", "replicas")
		if do.live.ownsReplicas {
			if err := a.handOver(ctx, objects, object, do.live.replicas); err != nil {
				return nil, err
			}
		}
	}
	if do.live != nil {
		object.SetUID(do.live.uid) // an object that has taken its name meanwhile may be someone else's
	}
	applied, err := patch(ctx, objects, object, fieldManager, force)
	if err != nil {
		return nil, err
	}
	return liveOf(applied), nil
}

// handOver gives spec.replicas to another field manager before this one stops setting it: a field without a manager is reset.
func (a *Applier) handOver(ctx context.Context, objects dynamic.ResourceInterface, object *unstructured.Unstructured, replicas int64) error {
	only := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas}}}
	only.SetGroupVersionKind(object.GroupVersionKind())
	only.SetName(object.GetName())
	only.SetNamespace(object.GetNamespace())
	_, err := patch(ctx, objects, only, replicaManager, false)
	if apierrors.IsConflict(err) {
		return nil // it was scaled just now, and has a manager
	}
	return err
}

func patch(ctx context.Context, objects dynamic.ResourceInterface, object *unstructured.Unstructured, manager string, force bool) (*unstructured.Unstructured, error) {
	content, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return objects.Patch(ctx, object.GetName(), types.ApplyPatchType, content, metav1.PatchOptions{FieldManager: manager, Force: ptr.To(force)})
}

// object returns what is applied: the manifest in its namespace of the cluster, with the marks of its owner.
func (a *Applier) object(d *wanted) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	if d.GroupKind == namespaceKind {
		object.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"})
		object.SetName(d.name)
		object.SetLabels(d.labels)
	} else if err := object.UnmarshalJSON(d.manifest.Object.Raw); err != nil {
		return nil, &refusal{fmt.Sprintf("the manifest cannot be read: %v", err)}
	}
	if _, isMap := object.Object["metadata"].(map[string]any); !isMap {
		return nil, &refusal{"the manifest has no metadata"}
	}
	object.SetNamespace(d.namespace)
	// Fields that only servers may set, and those that would tie the object to others that the cluster does not have.
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields", "ownerReferences", "finalizers"} {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
	delete(object.Object, "status")
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[v1alpha1.AnnotationNamespace] = d.reference.Namespace
	annotations[v1alpha1.AnnotationRevision] = d.manifest.Revision
	if d.GroupKind != namespaceKind {
		annotations[v1alpha1.AnnotationWork] = d.work.name
	}
	if d.manifest.WorkloadUID != "" {
		annotations[v1alpha1.LabelWorkloadUID] = string(d.manifest.WorkloadUID)
	}
	object.SetAnnotations(annotations)
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for key, value := range a.ownLabels() {
		labels[key] = value
	}
	object.SetLabels(labels)
	return object, nil
}

// isDefaultAccount: a controller of the cluster creates it in every namespace, and pods that name no other use it.
func isDefaultAccount(key id) bool {
	return key.Group == "" && key.Kind == "ServiceAccount" && key.name == "default"
}

func (a *Applier) isOwn(object metav1.Object) bool {
	labels := object.GetLabels()
	for key, value := range a.ownLabels() {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func foreign(d *wanted) error {
	if d.GroupKind == namespaceKind {
		return &refusal{fmt.Sprintf("the namespace %s exists in the cluster and is not this agent's: the cluster's operator can hand it over by the labels %s and %s, "+
			"or delete it, or start the agent with another --namespace-template", d.name, v1alpha1.LabelWorkspace, v1alpha1.LabelCluster)}
	}
	return &refusal{fmt.Sprintf("%s %s exists in namespace %s of the cluster and is not delivered by this agent: delete it, rename yours, or annotate yours with %s: \"true\"",
		d.Kind, d.name, d.namespace, v1alpha1.AnnotationTakeOver)}
}

// remove deletes an object of this agent. The pods of workloads go first, so that none outlives its workload.
func (a *Applier) remove(ctx context.Context, do action) error {
	objects := a.objects(do)
	var uid types.UID
	if do.live != nil {
		uid = do.live.uid
	} else {
		existing, err := objects.Get(ctx, do.id.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && !a.isOwn(existing) {
			return nil
		}
		if err != nil {
			return err
		}
		uid = existing.GetUID()
	}
	if do.id.GroupKind == namespaceKind {
		if err := a.isEmpty(ctx, do.id.name); err != nil {
			return err
		}
	}
	propagation := metav1.DeletePropagationBackground
	if do.live != nil && do.live.workloadUID != "" {
		propagation = metav1.DeletePropagationForeground
	}
	err := objects.Delete(ctx, do.id.name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &propagation})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it is gone, and the name now belongs to another object
		return nil
	}
	return err
}

// isEmpty fails if a namespace contains anything that neither the agent nor the cluster itself has created.
func (a *Applier) isEmpty(ctx context.Context, namespace string) error {
	for _, resource := range a.served() {
		list, err := a.cluster.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: 100})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if o := &list.Items[i]; o.GetDeletionTimestamp() == nil && !comesWithNamespace(o) {
				return &refusal{fmt.Sprintf("namespace %s stays: %s %s is in it", namespace, o.GetKind(), o.GetName())}
			}
		}
		if list.GetContinue() != "" {
			return &refusal{fmt.Sprintf("namespace %s stays: there is more than can be listed in it", namespace)}
		}
	}
	return nil
}

// comesWithNamespace reports whether an object exists in every namespace.
func comesWithNamespace(object *unstructured.Unstructured) bool {
	switch object.GetKind() {
	case "ServiceAccount":
		return object.GetName() == "default"
	case "ConfigMap":
		return object.GetName() == "kube-root-ca.crt"
	case "Secret":
		kind, _, _ := unstructured.NestedString(object.Object, "type")
		return kind == "kubernetes.io/service-account-token"
	}
	return false
}

// warning returns the latest warning among the events about an object; empty if there is none, or none can be read.
func (a *Applier) warning(ctx context.Context, l *live) string {
	list, err := a.cluster.Resource(eventResource).Namespace(l.namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.uid": string(l.uid), "type": corev1.EventTypeWarning}.String(), Limit: 20,
	})
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Cannot read the events about a workload", "name", l.name, "err", err)
		return ""
	}
	var latest corev1.Event
	for i := range list.Items {
		event, _ := decode.To[corev1.Event](list.Items[i].Object)
		if i == 0 || latest.LastTimestamp.Before(&event.LastTimestamp) {
			latest = event
		}
	}
	return joined(latest.Reason, latest.Message)
}

var eventResource = schema.GroupVersionResource{Version: "v1", Resource: "events"}

// explain describes for the owner of an object why a request has failed; empty if the object is not the cause.
func explain(err error) string {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.text
	}
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) || isTransient(err) {
		return ""
	}
	text := "the cluster refuses it: " + status.Status().Message
	if strings.Contains(text, "field is immutable") || strings.Contains(text, "updates to statefulset spec for fields other than") {
		text += ". To change that, delete it in the workspace and create it again"
	}
	return text
}

// isTransient reports whether a request may well succeed if it is repeated soon.
func isTransient(err error) bool {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		var refused *refusal
		return !errors.As(err, &refused)
	}
	return apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsConflict(err) || apierrors.IsUnauthorized(err)
}
