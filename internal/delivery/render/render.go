// Package render determines what is delivered to a cluster for a workload: which objects accompany it, and the manifest of each. It does
// no I/O, and the same input gives the same bytes.
//
//	objects that are there --With--> what goes with a workload --Manifests--> what the cluster gets
package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// Request describes a workload to render for a cluster. Nothing in it is modified.
type Request struct {
	Kinds *workload.Table
	// Workload as its owner wrote it, and With, the objects that accompany it.
	Workload *unstructured.Unstructured
	With     []*unstructured.Unstructured
	// Changes are those of Overrides for the cluster; nil if there are none.
	Changes *Changes
	// Replicas are those decided for the cluster; nil if the workload has none. What the owner writes takes effect once it is decided.
	// Share is the cluster's share from Divide; nil if the cluster gets all replicas.
	Replicas *int32
	Share    Share
	// WhenUnselected is that of the placement.
	WhenUnselected v1alpha1.UnselectedAction
}

// Manifests returns the manifest of the workload and then those of its companions, in the order given. What cannot be delivered
// is left out, and the error has the reason.
func Manifests(r Request) ([]v1alpha1.Manifest, error) {
	var all []v1alpha1.Manifest
	var errs []error
	add := func(m v1alpha1.Manifest, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		all = append(all, m)
	}
	add(Workload(r))
	for _, object := range r.With[:min(len(r.With), MaxWith)] {
		add(Companion(object, r.Changes))
	}
	return all, errors.Join(errs...)
}

// Workload returns the manifest of the workload.
func Workload(r Request) (v1alpha1.Manifest, error) {
	m, err := r.workload()
	if err != nil {
		return v1alpha1.Manifest{}, fmt.Errorf("%s: %w", describe(r.Workload), err)
	}
	return m, nil
}

func (r Request) workload() (m v1alpha1.Manifest, err error) {
	if len(r.With) > MaxWith {
		return m, fmt.Errorf("more than %d objects go with it: have fewer of them labelled %s, or select its pods", MaxWith, v1alpha1.LabelDeliverWith)
	}
	object := stripped(r.Workload)
	if err := r.Changes.apply(changed{object, r.Kinds, r.With}); err != nil {
		return m, err
	}
	share, err := r.share()
	if err != nil {
		return m, err
	}
	if err := share.set(object); err != nil {
		return m, err
	}
	if err := setUID(object, r.Kinds, string(r.Workload.GetUID())); err != nil {
		return m, err
	}
	m.WorkloadUID, m.Generation, m.Replicas = r.Workload.GetUID(), r.Workload.GetGeneration(), r.Replicas
	m.WhenUnselected = r.WhenUnselected
	for _, other := range r.With {
		m.Scaled = m.Scaled || scales(other, r.Workload)
		m.Needs = append(m.Needs, v1alpha1.ManifestReference{
			APIVersion: other.GetAPIVersion(), Kind: other.GetKind(), Namespace: other.GetNamespace(), Name: other.GetName(),
		})
	}
	return m, finish(&m, r.Workload, object)
}

// Companion returns the manifest of an object that accompanies workloads.
func Companion(object *unstructured.Unstructured, changes *Changes) (m v1alpha1.Manifest, err error) {
	copied := stripped(object)
	if err = changes.apply(changed{Unstructured: copied}); err == nil {
		// Each namespace of a cluster has this ServiceAccount before anything is delivered there.
		m.TakeOver = isDefaultServiceAccount(object)
		err = finish(&m, object, copied)
	}
	if err != nil {
		return v1alpha1.Manifest{}, fmt.Errorf("%s: %w", describe(object), err)
	}
	return m, nil
}

// finish sets the rest of a manifest, from the annotations of the object as its owner wrote it, and as it is delivered.
func finish(m *v1alpha1.Manifest, written, delivered *unstructured.Unstructured) error {
	annotations := written.GetAnnotations()
	var err error
	if m.Wave, err = v1alpha1.WaveOf(annotations); err != nil {
		return fmt.Errorf("annotation %s: %w", v1alpha1.AnnotationWave, err)
	}
	takeOver, err := v1alpha1.TakeOverOf(annotations)
	if err != nil {
		return fmt.Errorf("annotation %s: %w", v1alpha1.AnnotationTakeOver, err)
	}
	m.TakeOver = m.TakeOver || takeOver
	content, err := json.Marshal(delivered.Object)
	if err != nil {
		return err
	}
	if len(content) > MaxObjectBytes {
		return TooLargeError(len(content))
	}
	m.Object = runtime.RawExtension{Raw: content}
	m.Revision, err = Revision(m)
	return err
}

// MaxObjectBytes is the largest size of an object that is delivered. Together with the rest of its manifest, it fits into a Work.
const MaxObjectBytes = v1alpha1.MaxWorkBytes - 4<<10

// TooLargeError is the size in bytes of a rendered object that is larger than MaxObjectBytes.
type TooLargeError int

// Error implements error.
func (e TooLargeError) Error() string {
	return fmt.Sprintf("it has %d KiB as it is delivered, more than %d KiB: make it smaller, or split it into several objects", (e+1023)>>10, MaxObjectBytes>>10)
}

// Revision returns the digest of a manifest, not including Needs and Since.
func Revision(m *v1alpha1.Manifest) (string, error) {
	digested := *m
	digested.Revision, digested.Since, digested.Needs = "", 0, nil
	content, err := json.Marshal(digested)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:16]), nil
}

// setUID labels the workload and its pod templates.
func setUID(object *unstructured.Unstructured, kinds *workload.Table, uid string) error {
	templates, err := kinds.PodTemplates(object)
	if err != nil {
		return err
	}
	for _, template := range templates {
		if err := setLabel(template.Content, v1alpha1.LabelWorkloadUID, uid); err != nil {
			return fmt.Errorf("%s: %w", template.Child("metadata.labels"), err)
		}
	}
	return setLabel(object.Object, v1alpha1.LabelWorkloadUID, uid)
}

func setLabel(object map[string]any, key, value string) error {
	return unstructured.SetNestedField(object, value, "metadata", "labels", key)
}

// scales reports whether an object is an autoscaler of the workload.
func scales(object, of *unstructured.Unstructured) bool {
	target, ok := targetOf(object)
	return ok && target == keyOf(of)
}

func isDefaultServiceAccount(object *unstructured.Unstructured) bool {
	return object.GroupVersionKind().GroupKind() == serviceAccountKind && object.GetName() == defaultServiceAccount
}

// describe returns a readable name of an object.
func describe(object *unstructured.Unstructured) string {
	return object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
}
