// Package placement compiles WorkloadPlacements: selectors, tolerations and CEL constraints are validated and made ready
// for deciding once, when the object changes.
package placement

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/internal/toleration"
	"github.com/kcp-placement/placement/engine/stability"
	"github.com/kcp-placement/placement/engine/workload"
)

// Placement is a compiled WorkloadPlacement. It is immutable.
type Placement struct {
	workload.Placement
	Selector

	// Locations selects by {"location": <the cluster's>}, Clusters by the cluster's labels.
	Locations, Clusters labels.Selector
	// ClusterNames are the only clusters allowed; all if empty.
	ClusterNames []string
	Tolerations  []corev1.Toleration
	// TolerationsEnd reports whether any of Tolerations is limited in time.
	TolerationsEnd bool
	// NotReadyDelay is how long workloads stay on a cluster that is not ready, unless a toleration says otherwise.
	NotReadyDelay time.Duration
	Capabilities  []v1alpha1.CapabilityRequirement
	Constraints   []Constraint
	Strategy      v1alpha1.StrategyType
	// NumberOfClusters is how many clusters each workload gets at most, MinClusters how many it gets at least if any.
	NumberOfClusters, MinClusters int
	// AllClusters: every cluster that passes the filter is wanted, and none counts as missing.
	AllClusters bool
	Spread      []Spread
	// Division of replicas; nil if each cluster gets all of them.
	Division *Division
	// Affinity to other workloads: the terms of the placement, then those of policies. Repulsions are those that keep others out.
	Affinity   []Affinity
	Repulsions []Repulsion
	// Groups are the fallback groups in order, each as a placement of its own; none if there is no fallback. In such a placement, Group is
	// the name of the group and ReturnAfter its returnAfter, 0 if nothing returns.
	Groups      []*Placement
	Group       string
	ReturnAfter time.Duration
	// Stability is when workloads move for a gain; nil if they do not. No decision depends on it.
	Stability *stability.Rules

	// ByPolicies are the fields that policies have set, Overruled fields of policies that do not apply, each with the reason.
	ByPolicies, Overruled []string
	scheduling            *Scheduling

	// Reads is what the constraints read of workloads, FactReads what is read by those of their conjuncts that read no capacity.
	Reads, FactReads workload.Reads
	// Digest identifies the spec, everything else in the object that policies can read, and the version of the CEL environment.
	Digest string

	says says
}

// Constraint is a compiled CEL constraint.
type Constraint struct {
	v1alpha1.Constraint
	Program *constraint.Program
}

// NamespacedName returns the placement's name.
func (p *Placement) NamespacedName() types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// ReadsFacts reports whether a conjunct reads only facts of a cluster, and no capacity.
func ReadsFacts(c *constraint.Conjunct) bool { return len(c.Comparisons()) == 0 && !c.Reads().Capacity }

// FactConjuncts yields the conjuncts of the constraints that read no capacity.
func (p *Placement) FactConjuncts(yield func(*constraint.Conjunct) bool) {
	for i := range p.Constraints {
		for _, conjunct := range p.Constraints[i].Program.Conjuncts() {
			if ReadsFacts(conjunct) && !yield(conjunct) {
				return
			}
		}
	}
}

// Strategies returns how many clusters a strategy gives a workload at most if numberOfClusters is asked for, and
// all strategies that exist; clusters is 0 for an unknown strategy.
type Strategies func(strategy v1alpha1.StrategyType, numberOfClusters int) (clusters int, all []v1alpha1.StrategyType)

// Plans reports whether the clusters of a workload are chosen together, and not just one by one from the ranking.
func (p *Placement) Plans() bool {
	return p.MinClusters > 1 || p.AllClusters || len(p.Spread) > 0 || p.Division != nil || len(p.Affinity) > 0 || len(p.Groups) > 0
}

// Compile validates and compiles a placement. The error is an aggregate of a field.ErrorList that names every invalid
// field.
func Compile(object *v1alpha1.WorkloadPlacement, constraints *constraint.Compiler, strategies Strategies) (*Placement, error) {
	p, errs := compileSpec(object, constraints, strategies)
	groups, more := compileGroups(object, constraints, strategies)
	rules, wrong := stability.Compile(field.NewPath("spec", "stability"), object.Spec.Stability)
	if errs = slices.Concat(errs, more, wrong); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	p.Stability = rules
	for i, group := range groups {
		p.Reads, p.FactReads = p.Reads.Union(group.Reads), p.FactReads.Union(group.FactReads)
		p.TolerationsEnd = p.TolerationsEnd || group.TolerationsEnd
		group.Group, group.Affinity, group.Repulsions = object.Spec.Fallback[i].Name, p.Affinity, p.Repulsions
		group.Digest += " " + group.Group // groups with equal specs differ by their names
		if after := object.Spec.Fallback[i].ReturnAfter; after != nil {
			group.ReturnAfter = after.Duration
		}
	}
	p.Groups = groups
	return p, nil
}

// compileSpec compiles a placement without its fallback groups.
func compileSpec(object *v1alpha1.WorkloadPlacement, constraints *constraint.Compiler, strategies Strategies) (*Placement, field.ErrorList) {
	spec, path := &object.Spec, field.NewPath("spec")
	p := &Placement{
		Placement:    workload.Placement{Name: object.Name, Namespace: object.Namespace, Labels: object.Labels},
		Clusters:     labels.Everything(),
		Tolerations:  spec.Tolerations,
		Capabilities: spec.CapabilityRequirements,

		TolerationsEnd: tolerationsEnd(spec.Tolerations),

		says: saysOf(spec),
	}
	var errs field.ErrorList
	check := func(err *field.Error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err *field.Error
	p.Selector, err = CompileSelector(object)
	check(err)
	p.Locations, err = CompileLabels(path.Child("locationSelector"), spec.LocationSelector)
	check(err)
	if spec.ClusterSelector != nil {
		p.Clusters, err = CompileLabels(path.Child("clusterSelector", "labelSelector"), spec.ClusterSelector.LabelSelector)
		check(err)
		p.ClusterNames = spec.ClusterSelector.ClusterNames
	}
	errs = append(errs, p.compileConstraints(path.Child("constraints"), spec.Constraints, constraints)...)
	errs = append(errs, toleration.Validate(path.Child("tolerations"), spec.Tolerations)...)
	errs = append(errs, p.setStrategy(path, spec, strategies)...)
	errs = append(errs, p.compileSpread(path.Child("spreadConstraints"), spec.SpreadConstraints)...)
	errs = append(errs, p.compileDivision(path.Child("replicaScheduling"), spec)...)
	if spec.Headroom != nil {
		errs = append(errs, validateTopologyKey(path.Child("headroom", "survive", "topologyKey"), spec.Headroom.Survive.TopologyKey)...)
	}
	errs = append(errs, p.compileAffinity(path.Child("workloadAffinity"), spec.WorkloadAffinity)...)
	p.repelBy("", p.Affinity)
	if len(errs) > 0 {
		return nil, errs
	}
	digest, failed := digest(object)
	if failed != nil {
		return nil, field.ErrorList{field.InternalError(path, failed)}
	}
	p.Digest = digest
	return p, nil
}

func (p *Placement) compileConstraints(path *field.Path, constraints []v1alpha1.Constraint, compiler *constraint.Compiler) (errs field.ErrorList) {
	for i, c := range constraints {
		program, err := compiler.Compile(c.Expression)
		if err != nil {
			errs = append(errs, field.Invalid(path.Index(i).Child("expression"), c.Expression, fmt.Sprintf("constraint %q: %v", c.Name, err)))
			continue
		}
		p.Constraints = append(p.Constraints, Constraint{c, program})
		p.Reads = p.Reads.Union(program.Reads().Workload)
		for _, conjunct := range program.Conjuncts() {
			if ReadsFacts(conjunct) {
				p.FactReads = p.FactReads.Union(conjunct.Reads().Workload)
			}
		}
	}
	return errs
}

func (p *Placement) setStrategy(path *field.Path, spec *v1alpha1.WorkloadPlacementSpec, strategies Strategies) (errs field.ErrorList) {
	number, every, err := numberOf(path.Child("numberOfClusters"), spec.NumberOfClusters)
	if err != nil {
		errs = append(errs, err)
	}
	p.Strategy = cmp.Or(spec.Strategy.Type, v1alpha1.StrategySpread)
	clusters, all := strategies(p.Strategy, number)
	if clusters == 0 {
		errs = append(errs, field.NotSupported(path.Child("strategy", "type"), p.Strategy, all))
	}
	p.NumberOfClusters, p.MinClusters, p.AllClusters = clusters, max(int(spec.MinClusters), 1), every && clusters > 1
	switch {
	case spec.MinClusters < 0:
		errs = append(errs, field.Invalid(path.Child("minClusters"), spec.MinClusters, "must be at least 1"))
	case err == nil && clusters > 0 && p.MinClusters > clusters:
		errs = append(errs, field.Invalid(path.Child("minClusters"), spec.MinClusters, fmt.Sprintf("is above the number of clusters, which is %d", clusters)))
	}
	return errs
}

// digest leaves out fields that affect only the order or the time of decisions.
func digest(object *v1alpha1.WorkloadPlacement) (string, error) {
	spec := object.Spec
	spec.Priority, spec.Suspend, spec.Stability = 0, false, nil
	content, err := json.Marshal(struct {
		Environment     int
		Name, Namespace string
		Labels          map[string]string
		Spec            *v1alpha1.WorkloadPlacementSpec
	}{constraint.Version, object.Name, object.Namespace, object.Labels, &spec})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}
