package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// Selector selects the workloads of a placement. The zero value selects none.
type Selector struct {
	placement types.NamespacedName
	types     []v1alpha1.WorkloadType
	labels    labels.Selector
}

// CompileSelector compiles the workload selector alone, so that a placement keeps its workloads even if the rest of
// its spec is invalid.
func CompileSelector(object *v1alpha1.WorkloadPlacement) (Selector, *field.Error) {
	s := object.Spec.WorkloadSelector
	compiled, err := CompileLabels(field.NewPath("spec", "workloadSelector", "labelSelector"), s.LabelSelector)
	if err != nil {
		return Selector{}, err
	}
	name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	return Selector{placement: name, types: s.WorkloadTypes, labels: compiled}, nil
}

// Selects reports whether the selector matches the workload. A workload that several placements select belongs to one
// of them: see Owner.
func (s Selector) Selects(w *workload.Workload) bool {
	return s.labels != nil && s.placement.Namespace == w.Namespace &&
		(len(s.types) == 0 || slices.Contains(s.types, v1alpha1.WorkloadType{APIVersion: w.APIVersion, Kind: w.Kind})) &&
		s.labels.Matches(labels.Set(w.Labels))
}

// Owner returns the index of the placement that a workload belongs to, -1 if none selects it: the one named by the
// workload's annotation tmc.kcp.io/placement, otherwise the oldest that selects it. Others are the indices of the other
// placements that select it. The selectors are ordered by ByAge of their placements.
func Owner(selectors []Selector, w *workload.Workload) (owner int, others []int) {
	owner = -1
	named := w.Annotations[v1alpha1.AnnotationPlacement]
	for i := range selectors {
		switch {
		case !selectors[i].Selects(w):
		case owner < 0:
			owner = i
		case named != "" && selectors[i].placement.Name == named && selectors[owner].placement.Name != named:
			owner, others = i, append(others, owner)
		default:
			others = append(others, i)
		}
	}
	return owner, others
}

// ByAge orders objects by creation time, then by namespace and name.
func ByAge(a, b metav1.Object) int {
	return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
		strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}

// Turn is the position of a workload in the scheduling queue of its workspace.
type Turn struct {
	// Priority of the placement that the workload belongs to.
	Priority int32
	// Displaced is set for a workload that was on a cluster that is lost. Size is then how large it is: the largest share, over all
	// resources, of the other clusters' capacity that it asks for.
	Displaced        bool
	Size             float64
	Workload         metav1.Object
	Kind, APIVersion string
}

// Compare orders turns: higher priority first, then displaced workloads, the largest first, then the older workload, then by
// namespace, name, kind and version.
func (t Turn) Compare(o Turn) int {
	if t.Displaced != o.Displaced && t.Priority == o.Priority {
		return map[bool]int{true: -1, false: 1}[t.Displaced]
	}
	return cmp.Or(cmp.Compare(o.Priority, t.Priority), cmp.Compare(o.Size, t.Size), ByAge(t.Workload, o.Workload),
		strings.Compare(t.Kind, o.Kind), strings.Compare(t.APIVersion, o.APIVersion))
}

// Clusters selects clusters.
type Clusters struct {
	locations, labels labels.Selector
	names             []string
}

// CompileClusters compiles the fields locationSelector and clusterSelector of the object at a path. An omitted selector selects everything.
func CompileClusters(path *field.Path, location *metav1.LabelSelector, cluster *v1alpha1.ClusterSelector) (*Clusters, field.ErrorList) {
	var errs field.ErrorList
	c := &Clusters{labels: labels.Everything()}
	var err *field.Error
	if c.locations, err = CompileLabels(path.Child("locationSelector"), location); err != nil {
		errs = append(errs, err)
	}
	if cluster != nil {
		if c.labels, err = CompileLabels(path.Child("clusterSelector", "labelSelector"), cluster.LabelSelector); err != nil {
			errs = append(errs, err)
		}
		c.names = cluster.ClusterNames
	}
	return c, errs
}

// Select reports whether a cluster is selected.
func (c *Clusters) Select(name, location string, of map[string]string) bool {
	return c.labels.Matches(labels.Set(of)) && c.locations.Matches(labels.Set{v1alpha1.TopologyKeyLocation: location}) &&
		(len(c.names) == 0 || slices.Contains(c.names, name))
}

// MaxSelector limits the labels, expressions and values of a label selector together: it is matched with every workload, or cluster, and
// Kubernetes takes seconds to validate thousands of values.
const MaxSelector = 256

// CompileLabels compiles the label selector at a path; an omitted selector selects everything.
func CompileLabels(path *field.Path, s *metav1.LabelSelector) (labels.Selector, *field.Error) {
	if s == nil {
		return labels.Everything(), nil
	}
	size := len(s.MatchLabels) + len(s.MatchExpressions)
	for i := range s.MatchExpressions {
		size += len(s.MatchExpressions[i].Values)
	}
	if size > MaxSelector {
		return nil, field.Invalid(path, field.OmitValueType{}, fmt.Sprintf("it has %d labels, expressions and values, more than %d", size, MaxSelector))
	}
	compiled, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, field.Invalid(path, field.OmitValueType{}, err.Error())
	}
	return compiled, nil
}
