package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/selection"
	"github.com/kcp-placement/placement/engine/workload"
)

// Selector is which workloads a placement covers. The zero value covers none.
type Selector struct {
	placement types.NamespacedName
	types     []v1alpha1.WorkloadType
	labels    labels.Selector
}

// CompileSelector compiles the workload selector of a placement, whatever else may be wrong with the placement.
func CompileSelector(placement *v1alpha1.WorkloadPlacement) (Selector, *field.Error) {
	s := placement.Spec.WorkloadSelector
	compiled, err := selectorOf(field.NewPath("spec", "workloadSelector", "labelSelector"), s.LabelSelector)
	if err != nil {
		return Selector{}, err
	}
	name := types.NamespacedName{Namespace: placement.Namespace, Name: placement.Name}
	return Selector{placement: name, types: s.WorkloadTypes, labels: compiled}, nil
}

// Selects tells whether the selector covers the workload. A workload that several placements select belongs to one
// of them, see Owner.
func (s Selector) Selects(w *workload.Workload) bool {
	return s.labels != nil && s.placement.Namespace == w.Namespace &&
		(len(s.types) == 0 || slices.Contains(s.types, v1alpha1.WorkloadType{APIVersion: w.APIVersion, Kind: w.Kind})) &&
		s.labels.Matches(labels.Set(w.Labels))
}

// Owner finds the placement that a workload belongs to among selectors in the order of their placements' age: the one
// that the workload's annotation tmc.kcp.io/placement names, otherwise the oldest of those that select it. It returns
// their indices: owner is -1 where none selects it, others are those that select it in vain.
func Owner(selectors []Selector, w *workload.Workload) (owner int, others []int) {
	owner = -1
	wish := w.Annotations[v1alpha1.AnnotationPlacement]
	for i := range selectors {
		switch {
		case !selectors[i].Selects(w):
		case owner < 0:
			owner = i
		case wish != "" && selectors[i].placement.Name == wish && selectors[owner].placement.Name != wish:
			owner, others = i, append(others, owner)
		default:
			others = append(others, i)
		}
	}
	return owner, others
}

// ByAge orders objects by creation time, then by namespace and name: the order in which placements own workloads.
func ByAge(a, b metav1.Object) int {
	return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
		strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}

// Turn says when a workload is decided on, among those of its workspace.
type Turn struct {
	// Priority of the placement that the workload belongs to.
	Priority         int32
	Workload         metav1.Object
	Kind, APIVersion string
}

// Compare orders turns: a higher priority first, then the older workload, then by namespace, name, kind and version.
func (t Turn) Compare(o Turn) int {
	return cmp.Or(cmp.Compare(o.Priority, t.Priority), ByAge(t.Workload, o.Workload),
		strings.Compare(t.Kind, o.Kind), strings.Compare(t.APIVersion, o.APIVersion))
}

// selectorOf compiles a label selector; one that is left out selects all.
func selectorOf(path *field.Path, s *metav1.LabelSelector) (labels.Selector, *field.Error) {
	if s == nil {
		return labels.Everything(), nil
	}
	compiled, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, field.Invalid(path, field.OmitValueType{}, err.Error())
	}
	return compiled, nil
}

// Placement is a WorkloadPlacement made ready for deciding. It is not changed once it is made.
type Placement struct {
	workload.Placement
	Selector

	locations    labels.Selector
	clusters     labels.Selector
	clusterNames []string
	tolerations  []corev1.Toleration
	capabilities []v1alpha1.CapabilityRequirement
	constraints  []compiledConstraint
	strategy     selection.Strategy

	// facts are the parts of the constraints that do not look at capacity, conditions those that do.
	facts, conditions []*constraint.Conjunct
	// reads is what the constraints look at of workloads, factsRead what facts do.
	reads, factsRead workload.Reads
	// view is how workloads were last looked at.
	view atomic.Pointer[view]
	// digest identifies the spec, what else policies can read, and the version of CEL's environment.
	digest string
}

type compiledConstraint struct {
	v1alpha1.Constraint
	program *constraint.Program
}

// NamespacedName returns the placement's name.
func (p *Placement) NamespacedName() types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// NumberOfClusters is how many clusters each workload is to have.
func (p *Placement) NumberOfClusters() int { return p.strategy.Number }

// CompilePlacement validates and compiles a placement. The error is a field.ErrorList as an aggregate and names
// every field that is wrong.
func (e *Engine) CompilePlacement(placement *v1alpha1.WorkloadPlacement) (*Placement, error) {
	defer e.options.Metrics.time(stageCompile, e.options.Now)()
	spec := &placement.Spec
	path := field.NewPath("spec")
	var errs field.ErrorList
	p := &Placement{
		Placement:    workload.Placement{Name: placement.Name, Namespace: placement.Namespace, Labels: placement.Labels},
		tolerations:  spec.Tolerations,
		capabilities: spec.CapabilityRequirements,
	}

	selector := func(path *field.Path, s *metav1.LabelSelector) labels.Selector {
		compiled, err := selectorOf(path, s)
		if err != nil {
			errs = append(errs, err)
		}
		return compiled
	}
	var wrong *field.Error
	if p.Selector, wrong = CompileSelector(placement); wrong != nil {
		errs = append(errs, wrong)
	}
	p.locations = selector(path.Child("locationSelector"), spec.LocationSelector)
	p.clusters = labels.Everything()
	if spec.ClusterSelector != nil {
		p.clusters = selector(path.Child("clusterSelector", "labelSelector"), spec.ClusterSelector.LabelSelector)
		p.clusterNames = spec.ClusterSelector.ClusterNames
	}

	for i, c := range spec.Constraints {
		program, err := e.constraints.Compile(c.Expression)
		if err != nil {
			at := path.Child("constraints").Index(i).Child("expression")
			errs = append(errs, field.Invalid(at, c.Expression, fmt.Sprintf("constraint %q: %v", c.Name, err)))
			continue
		}
		p.constraints = append(p.constraints, compiledConstraint{c, program})
		p.reads = p.reads.Union(program.Reads().Workload)
		for _, conjunct := range program.Conjuncts() {
			if len(conjunct.Comparisons()) == 0 && !conjunct.Reads().Capacity {
				p.facts = append(p.facts, conjunct)
				p.factsRead = p.factsRead.Union(conjunct.Reads().Workload)
			} else {
				p.conditions = append(p.conditions, conjunct)
			}
		}
	}
	errs = append(errs, validateTolerations(path.Child("tolerations"), spec.Tolerations)...)

	number := v1alpha1.DefaultNumberOfClusters
	if spec.NumberOfClusters != nil {
		number = int(*spec.NumberOfClusters)
	}
	if number < 1 {
		errs = append(errs, field.Invalid(path.Child("numberOfClusters"), number, "must be at least 1"))
	}
	strategy := spec.Strategy
	if strategy == "" {
		strategy = v1alpha1.StrategySpread
	}
	var err error
	if p.strategy, err = selection.For(strategy, number); err != nil {
		errs = append(errs, field.NotSupported(path.Child("strategy"), strategy, []v1alpha1.Strategy{
			v1alpha1.StrategyRoundRobin, v1alpha1.StrategySpread, v1alpha1.StrategyAffinity,
		}))
	}

	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	judged := *spec
	judged.Priority = 0 // says when its workloads are decided, not how
	content, err := json.Marshal(struct {
		Environment     int
		Name, Namespace string
		Labels          map[string]string
		Spec            *v1alpha1.WorkloadPlacementSpec
	}{constraint.Version, p.Name, p.Namespace, p.Labels, &judged})
	if err != nil {
		return nil, fmt.Errorf("placement %s/%s: %w", p.Namespace, p.Name, err)
	}
	sum := sha256.Sum256(content)
	p.digest = hex.EncodeToString(sum[:])
	return p, nil
}

func validateTolerations(path *field.Path, tolerations []corev1.Toleration) (errs field.ErrorList) {
	for i, t := range tolerations {
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			if t.Key == "" {
				errs = append(errs, field.Invalid(path.Index(i).Child("operator"), t.Operator, "must be Exists where key is empty"))
			}
		case corev1.TolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(path.Index(i).Child("value"), t.Value, "must be empty where operator is Exists"))
			}
		default:
			errs = append(errs, field.NotSupported(path.Index(i).Child("operator"), t.Operator,
				[]corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
		}
		switch t.Effect {
		case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			errs = append(errs, field.NotSupported(path.Index(i).Child("effect"), t.Effect, []corev1.TaintEffect{
				corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute,
			}))
		}
	}
	return errs
}
