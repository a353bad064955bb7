package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/delivery"
	"github.com/kcp-placement/placement/internal/panics"
)

// The resources that the controller watches besides the workload kinds.
var (
	bindingResource    = apisv1alpha2.SchemeGroupVersion.WithResource("apibindings")
	clusterResource    = v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations")
	usageResource      = v1alpha1.SchemeGroupVersion.WithResource("clusterusages")
	scoreResource      = v1alpha1.SchemeGroupVersion.WithResource("clusterscores")
	configResource     = v1alpha1.SchemeGroupVersion.WithResource("placementconfigs")
	placementResource  = v1alpha1.SchemeGroupVersion.WithResource("workloadplacements")
	planResource       = v1alpha1.SchemeGroupVersion.WithResource("rebalanceplans")
	setResource        = v1alpha1.SchemeGroupVersion.WithResource("clustersets")
	setBindingResource = v1alpha1.SchemeGroupVersion.WithResource("clustersetbindings")
	decisionResource   = v1alpha1.SchemeGroupVersion.WithResource("placementdecisions")
	configMapResource  = corev1.SchemeGroupVersion.WithResource("configmaps")
	// limitRangeResource is served by an APIExport, as the workload kinds are: kcp has no LimitRanges of its own.
	limitRangeResource = corev1.SchemeGroupVersion.WithResource("limitranges")
	namespaceResource  = corev1.SchemeGroupVersion.WithResource("namespaces")
	leaseResource      = coordinationv1.SchemeGroupVersion.WithResource("leases")
	workResource       = v1alpha1.SchemeGroupVersion.WithResource("works")
)

// workloadObject is a workload as the informer stores it: converted once when it changes, without what placing does not need.
type workloadObject struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	workload *workload.Workload
	end      workload.End
	// err is why the object cannot be read.
	err error
	// read is the object that the workload is counted from, and defaultRequest what LimitRanges add, if that makes a difference.
	read           *workload.Object
	defaultRequest corev1.ResourceList
	// source is what is delivered; nil if nothing is.
	source *delivery.Source
}

// DeepCopyObject implements runtime.Object. The copy shares the parts, which are immutable.
func (w *workloadObject) DeepCopyObject() runtime.Object {
	shared := *w
	return &shared
}

// GetObjectKind implements runtime.Object.
func (w *workloadObject) GetObjectKind() schema.ObjectKind { return &w.TypeMeta }

// transforms are the informers' transform functions for objects that are not workloads.
var transforms = map[schema.GroupVersionResource]cache.TransformFunc{
	bindingResource:    toBinding,
	clusterResource:    typed[v1alpha1.ClusterRegistration],
	usageResource:      typed[v1alpha1.ClusterUsage],
	scoreResource:      typed[v1alpha1.ClusterScore],
	configResource:     typed[v1alpha1.PlacementConfig],
	placementResource:  typed[v1alpha1.WorkloadPlacement],
	decisionResource:   typed[v1alpha1.PlacementDecision],
	planResource:       typed[v1alpha1.RebalancePlan],
	setResource:        typed[v1alpha1.ClusterSet],
	setBindingResource: typed[v1alpha1.ClusterSetBinding],
	configMapResource:  typed[corev1.ConfigMap],
	workResource:       typed[v1alpha1.Work],
	limitRangeResource: typed[corev1.LimitRange],
	leaseResource:      typed[coordinationv1.Lease],
}

// transform returns the informer's transform function, from what the API delivers to what is stored.
//
// Invariant: it never fails, whatever an object contains. An error would keep the informer of all tenants from syncing, and a panic would
// end the process each time that the object is shown.
func transform(resource schema.GroupVersionResource, table *workload.Table, deliver bool) cache.TransformFunc {
	if f := transforms[resource]; f != nil {
		return total(f)
	}
	return total(func(content any) (any, error) { return toWorkload(table, deliver, content) })
}

// total returns a transformation that keeps a tombstone in place of an object over which another one panics.
func total(f cache.TransformFunc) cache.TransformFunc {
	return func(content any) (kept any, err error) {
		u, ok := content.(*unstructured.Unstructured)
		if !ok {
			return content, nil
		}
		if panicked := panics.Recovered(func() { kept, err = f(u) }); panicked != nil {
			panics.Log(klog.Background(), panicked, "An object cannot be read", "kind", u.GetKind(), "object", klog.KObj(u), "workspace", logicalcluster.From(u))
			return tombstone(f, u, fmt.Errorf("the controller fails on it: %w", panicked)), nil
		}
		return kept, err
	}
}

// tombstone is kept in place of an object that cannot be read: what its metadata come to, and why. Where not even these can be read it is
// of a type that nothing looks for, as if the object were not shown.
func tombstone(f cache.TransformFunc, u *unstructured.Unstructured, why error) any {
	var kept any
	_ = panics.Recovered(func() {
		kept, _ = f(&unstructured.Unstructured{Object: map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "metadata": u.Object["metadata"]}})
	})
	unreadable := decode.Problems{{Message: why.Error()}}
	switch o := unwrap(kept).(type) {
	case *workloadObject:
		if o.read, o.err = nil, why; o.source != nil {
			o.source.Manifest = nil // what runs stays as it is
		}
		return o
	case metav1.Object:
		return &partial{o, unreadable}
	default:
		return &partial{&metav1.ObjectMeta{
			Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
			Annotations: map[string]string{logicalcluster.AnnotationKey: logicalcluster.From(u).String()},
		}, unreadable}
	}
}

// object is a pointer to an API type.
type object[T any] interface {
	*T
	metav1.Object
}

// partial is stored instead of an object that cannot be read in full: the readable part, and the fields that cannot be read.
type partial struct {
	metav1.Object
	unreadable decode.Problems
}

// typed decodes an object. Anything else passes unchanged, as cache.DeletedFinalStateUnknown does.
func typed[T any, P object[T]](content any) (any, error) {
	u, ok := content.(*unstructured.Unstructured)
	if !ok {
		return content, nil
	}
	u.SetManagedFields(nil)
	result, problems := decode.To[T](u.Object)
	if len(problems) == 0 {
		return P(&result), nil
	}
	return &partial{P(&result), problems}, nil
}

// unwrap returns a stored object, or its readable part.
func unwrap(kept any) any {
	if p, ok := kept.(*partial); ok {
		return p.Object
	}
	return kept
}

// as converts stored objects to their type, and records the fields that cannot be read by UID.
func as[T metav1.Object](kept []any, unreadable map[types.UID]decode.Problems) []T {
	typed := make([]T, 0, len(kept))
	for _, k := range kept {
		object, ok := unwrap(k).(T)
		if !ok {
			continue
		}
		if p, ok := k.(*partial); ok {
			unreadable[object.GetUID()] = p.unreadable
		}
		typed = append(typed, object)
	}
	return typed
}

// written decodes the API server's answer to a write. Anything unreadable in it is reported once the informer shows it.
func written[T any](u *unstructured.Unstructured) *T {
	result, _ := decode.To[T](u.Object)
	return &result
}

// storedDecisions decodes a slice decision by decision. A decision that cannot be read is left out, and so made anew, while the others
// remain; Count still records how many are stored.
func storedDecisions(ctx context.Context, u *unstructured.Unstructured) *v1alpha1.PlacementDecision {
	rest := maps.Clone(u.Object)
	delete(rest, "decisions")
	result, problems := decode.To[v1alpha1.PlacementDecision](rest)
	decisions, _ := u.Object["decisions"].([]any)
	for i, value := range decisions {
		decision, more := decode.At[v1alpha1.WorkloadDecision](fmt.Sprintf("decisions[%d]", i), value)
		if problems = append(problems, more...); len(more) == 0 {
			result.Decisions = append(result.Decisions, decision)
		}
	}
	if len(problems) > 0 {
		klog.FromContext(ctx).Error(problems, "A stored decision cannot be read and is made anew", "slice", klog.KRef(u.GetNamespace(), u.GetName()))
	}
	return &result
}

// toBinding reduces the managed fields of a binding to the time of the last write.
func toBinding(content any) (any, error) {
	u, ok := content.(*unstructured.Unstructured)
	if !ok {
		return content, nil
	}
	var last metav1.ManagedFieldsEntry
	for _, written := range u.GetManagedFields() {
		if last.Time.Before(written.Time) {
			last.Time = written.Time
		}
	}
	kept, err := typed[apisv1alpha2.APIBinding](u)
	if binding, ok := unwrap(kept).(*apisv1alpha2.APIBinding); ok {
		binding.ManagedFields = []metav1.ManagedFieldsEntry{last}
	}
	return kept, err
}

func toWorkload(table *workload.Table, deliver bool, content any) (any, error) {
	u, ok := content.(*unstructured.Unstructured)
	if !ok {
		return content, nil
	}
	w := &workloadObject{
		TypeMeta: metav1.TypeMeta{APIVersion: u.GetAPIVersion(), Kind: u.GetKind()},
		ObjectMeta: metav1.ObjectMeta{
			Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
			CreationTimestamp: u.GetCreationTimestamp(), DeletionTimestamp: u.GetDeletionTimestamp(),
			Labels: u.GetLabels(), Annotations: u.GetAnnotations(),
		},
	}
	w.read = table.Read(u)
	w.workload, w.err = w.read.Count(nil)
	w.end = w.workload.End
	if deliver {
		w.source = toSource(w.workload.Reference, u)
	}
	return w, nil
}

// toSource stores a workload as JSON, which takes a fraction of the memory. It stores nothing of an object that cannot be encoded;
// no server sends one.
func toSource(reference workload.Reference, u *unstructured.Unstructured) *delivery.Source {
	s := &delivery.Source{
		Reference: reference, Generation: u.GetGeneration(), ResourceVersion: u.GetResourceVersion(), Labels: u.GetLabels(),
		Annotations: u.GetAnnotations(), Finalizers: u.GetFinalizers(), Deleting: u.GetDeletionTimestamp() != nil,
	}
	manifest := maps.Clone(u.Object)
	delete(manifest, "status")
	if metadata, ok := u.Object["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		// These change with every status write, which would make the manifest look different.
		for _, field := range []string{"managedFields", "resourceVersion", "finalizers"} {
			delete(metadata, field)
		}
		manifest["metadata"] = metadata
	}
	s.Manifest, _ = json.Marshal(manifest)
	if status, found := u.Object["status"]; found {
		s.Status, _ = json.Marshal(status)
	}
	return s
}

// replacement returns the value of a JSON merge patch that replaces an object of the API by another one, nil for none: what Go leaves out
// where it is empty is null, since a merge patch leaves alone what it does not name. Its fields have to be lists or values without fields.
func replacement[T any](object *T) (any, error) {
	if object == nil {
		return nil, nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if _, there := content[name]; !there {
			content[name] = nil
		}
	}
	return content, nil
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
