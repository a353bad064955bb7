package lint

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

var (
	metadataLabels      = field.NewPath("metadata", "labels")
	metadataAnnotations = field.NewPath("metadata", "annotations")
)

// isMisspelt reports whether the key of an annotation is meant for us, and is not one of those that are read.
func isMisspelt(key string, read []string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return !slices.Contains(read, key) && (prefix == v1alpha1.SchemeGroupVersion.Group || spelling.Typo(key, read) != "")
}

// workloadAnnotations reports annotations of a workload that name something that does not exist, are misspelt, or belong elsewhere.
func workloadAnnotations(o Workload, w *Workspace, report *report) {
	for _, key := range slices.Sorted(maps.Keys(o.GetAnnotations())) {
		value, at := o.GetAnnotations()[key], metadataAnnotations.Key(key)
		unknownName := func(what string, names []string) {
			if len(names) > 0 && !slices.Contains(names, value) {
				report.at(at, "there is no %s %s%s", what, value, spelling.DidYouMean(value, names))
			}
		}
		switch key {
		case v1alpha1.AnnotationPreferredCluster, v1alpha1.AnnotationAvoidCluster:
			unknownName("cluster of the name", w.Fleet.Names)
		case v1alpha1.AnnotationPreferredLocation:
			unknownName("cluster of the fleet in", w.Fleet.Locations)
		case v1alpha1.AnnotationPlacement:
			unknownName("placement in the namespace of the name", w.placementsIn(o.GetNamespace()))
		default:
			if isMisspelt(key, v1alpha1.WorkloadAnnotations) && !w.policiesRead(key) {
				if values := v1alpha1.PlacementAnnotations[key]; values != nil {
					report.name(at, "is read from WorkloadPlacements: write it there")
				} else {
					report.name(at, "no such annotation is read%s", didYouMeanOr(key, v1alpha1.WorkloadAnnotations))
				}
			}
		}
	}
	ofWorkload := func(at *field.Path, entries map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			if key == v1alpha1.LabelDeliverWith {
				report.name(at.Key(key), "is read from what goes with workloads, such as ConfigMaps: a %s is placed by itself", o.GetKind())
			} else if key != v1alpha1.LabelWorkloadUID && (slices.Contains(v1alpha1.WorkloadAnnotations, key) || isMisspelt(key, v1alpha1.WorkloadAnnotations)) {
				report.name(at.Key(key), "is read from the annotations of the %s itself: write it under metadata.annotations", o.GetKind())
			}
		}
	}
	labels, _, _ := unstructured.NestedMap(o.Object, "metadata", "labels")
	ofWorkload(metadataLabels, labels)
	for _, t := range templates(o) {
		if t.path == "" { // a Pod
			continue
		}
		inner, _, _ := unstructured.NestedMap(t.content, "metadata", "annotations")
		ofWorkload(field.NewPath(t.path).Child("metadata", "annotations"), inner)
	}
}

// deliveryAnnotations reports annotations about delivery that are invalid, so that the workload is not delivered.
func deliveryAnnotations(o Workload, _ *Workspace, report *report) {
	annotations := o.GetAnnotations()
	check := func(key string, err error) {
		if err != nil {
			report.at(metadataAnnotations.Key(key), "%v", err)
		}
	}
	_, err := v1alpha1.MoveOf(annotations)
	check(v1alpha1.AnnotationMove, err)
	_, err = v1alpha1.TakeOverOf(annotations)
	check(v1alpha1.AnnotationTakeOver, err)
	_, err = v1alpha1.WaveOf(annotations)
	check(v1alpha1.AnnotationWave, err)
}

// policiesRead reports whether the policies read an annotation, or read all of them and its key resembles none of ours.
func (w *Workspace) policiesRead(key string) bool {
	return slices.Contains(w.Policies.Annotations, key) || w.Policies.Fields&workload.Annotations != 0 && spelling.Nearest(key, v1alpha1.WorkloadAnnotations) == ""
}

// placementAnnotations reports annotations of a placement that are misspelt, have a meaningless value, or belong elsewhere.
func placementAnnotations(p *v1alpha1.WorkloadPlacement, _ *Workspace, report *report) {
	read := slices.Sorted(maps.Keys(v1alpha1.PlacementAnnotations))
	for _, key := range slices.Sorted(maps.Keys(p.Annotations)) {
		value, at := p.Annotations[key], metadataAnnotations.Key(key)
		switch values := v1alpha1.PlacementAnnotations[key]; {
		case slices.Contains(values, value):
		case values != nil:
			report.at(at, "has no effect with the value %q%s", value, didYouMeanOr(value, values))
		case slices.Contains(v1alpha1.WorkloadAnnotations, key):
			report.name(at, "is read from workloads: write it there")
		case isMisspelt(key, read):
			report.name(at, "no such annotation is read%s", didYouMeanOr(key, read))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		if slices.Contains(read, key) || spelling.Typo(key, read) != "" {
			report.name(metadataLabels.Key(key), "is read from the annotations: write it under metadata.annotations")
		}
	}
}

// registrationAnnotations reports annotations that are read from other objects, or from none.
func registrationAnnotations(r *v1alpha1.ClusterRegistration, _ *Workspace, report *report) {
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		if key == v1alpha1.LabelCost {
			report.name(metadataAnnotations.Key(key), "is read from the labels of a ClusterRegistration: write it under metadata.labels")
		} else if isMisspelt(key, nil) {
			report.name(metadataAnnotations.Key(key), "no annotation of a ClusterRegistration is read: clusters are told apart by spec.location, labels, spec.capabilities and spec.taints")
		}
	}
}
