package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// The slices of a workspace on shared clusters are kept in one namespace of the workspace that has the clusters. In memory they appear
// next to their placements.
//
// Invariant: promises on shared clusters are read only from there. Nothing that a team writes in its own workspace changes them.

// keptName is the name under which a slice is kept. The end of a name that is too long is replaced by a hash.
func keptName(workspace logicalcluster.Name, slice types.NamespacedName) string {
	const most = 253
	name := workspace.String() + "." + slice.Namespace + "." + slice.Name
	if len(name) > most {
		sum := sha256.Sum256([]byte(name))
		name = strings.TrimRight(name[:most-17], "-.") + "-" + hex.EncodeToString(sum[:8])
	}
	return name
}

// keep converts a slice of a workspace to its kept form.
func keep(workspace logicalcluster.Name, slice *v1alpha1.PlacementDecision) *v1alpha1.PlacementDecision {
	kept := *slice
	kept.Source = &v1alpha1.DecisionSource{Workspace: workspace.String(), Namespace: slice.Namespace}
	kept.Namespace, kept.Name = v1alpha1.DecisionNamespace, keptName(workspace, namespacedName(slice))
	// The placement is in another workspace: because of a reference to it, the slice would be garbage-collected.
	kept.OwnerReferences, kept.Annotations = nil, maps.Clone(slice.Annotations)
	kept.Labels = maps.Clone(slice.Labels)
	metav1.SetMetaDataLabel(&kept.ObjectMeta, v1alpha1.LabelWorkspace, workspace.String())
	metav1.SetMetaDataAnnotation(&kept.ObjectMeta, v1alpha1.AnnotationSlice, slice.Name)
	if owner := metav1.GetControllerOf(slice); owner != nil {
		metav1.SetMetaDataAnnotation(&kept.ObjectMeta, v1alpha1.AnnotationPlacementUID, string(owner.UID))
	}
	return &kept
}

// nameOfKept returns the workspace of a kept slice, and its name there. ok is false for a slice that no controller has written.
func nameOfKept(kept *v1alpha1.PlacementDecision) (workspace logicalcluster.Name, slice types.NamespacedName, ok bool) {
	if kept.Source == nil {
		return "", slice, false
	}
	workspace = logicalcluster.Name(kept.Source.Workspace)
	slice = types.NamespacedName{Namespace: kept.Source.Namespace, Name: kept.Annotations[v1alpha1.AnnotationSlice]}
	return workspace, slice, kept.Namespace == v1alpha1.DecisionNamespace && kept.Name == keptName(workspace, slice) && kept.Labels[v1alpha1.LabelWorkspace] == workspace.String()
}

// fromKept returns the workspace of a kept slice, and the slice as it appears there.
func fromKept(kept *v1alpha1.PlacementDecision) (workspace logicalcluster.Name, slice *v1alpha1.PlacementDecision, ok bool) {
	workspace, name, ok := nameOfKept(kept)
	if !ok {
		return workspace, nil, false
	}
	back := *kept
	back.Namespace, back.Name, back.Source, back.OwnerReferences = name.Namespace, name.Name, nil, nil
	if uid := kept.Annotations[v1alpha1.AnnotationPlacementUID]; uid != "" {
		back.OwnerReferences = ownerReferences(&v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: kept.PlacementName, UID: types.UID(uid)}})
	}
	return workspace, &back, true
}

// keepWork converts a Work of a workspace to its kept form, in the namespace of the cluster whose agent it is for.
func keepWork(workspace logicalcluster.Name, work *v1alpha1.Work) *v1alpha1.Work {
	kept := *work
	kept.Name, kept.Spec.Workspace, kept.Labels = keptWorkName(workspace, work.Name), workspace.String(), maps.Clone(work.Labels)
	metav1.SetMetaDataLabel(&kept.ObjectMeta, v1alpha1.LabelWorkspace, workspace.String())
	return &kept
}

func keptWorkName(workspace logicalcluster.Name, work string) string {
	return workspace.String() + "." + work
}

// workFromKept returns a kept Work as it appears in its workspace, false for one that no controller has written for that workspace.
func workFromKept(workspace logicalcluster.Name, kept *v1alpha1.Work) (*v1alpha1.Work, bool) {
	name, ok := strings.CutPrefix(kept.Name, keptWorkName(workspace, ""))
	if !ok || kept.Spec.Workspace != workspace.String() || kept.Labels[v1alpha1.LabelWorkspace] != workspace.String() {
		return nil, false
	}
	work := *kept
	work.Name, work.Spec.Workspace = name, ""
	return &work, true
}

// worksOf returns the Works of a workspace as they appear there. An empty name means the workspace that keeps them all.
func worksOf(workspace logicalcluster.Name, all []*v1alpha1.Work) (works []*v1alpha1.Work) {
	for _, w := range all {
		if workspace != "" {
			w, _ = workFromKept(workspace, w)
		} else if w.Spec.Workspace != "" {
			w = nil
		}
		if w != nil {
			works = append(works, w)
		}
	}
	return works
}

// splitKept separates the slices of a workspace itself from those that it keeps for others.
func splitKept(all []*v1alpha1.PlacementDecision) (own, kept []*v1alpha1.PlacementDecision) {
	for _, d := range all {
		if d.Source == nil {
			own = append(own, d)
		} else {
			kept = append(kept, d)
		}
	}
	return own, kept
}

// keptFor returns the slices that are kept for a workspace, as they appear there.
func keptFor(workspace logicalcluster.Name, all []*v1alpha1.PlacementDecision) (slices []*v1alpha1.PlacementDecision) {
	for _, d := range all {
		if of, slice, ok := fromKept(d); ok && of == workspace {
			slices = append(slices, slice)
		}
	}
	return slices
}
