package placement

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/constraint"
)

// compileGroups compiles each fallback group as a placement of its own: the spec, narrowed by the group.
func compileGroups(object *v1alpha1.WorkloadPlacement, constraints *constraint.Compiler, strategies Strategies) (groups []*Placement, errs field.ErrorList) {
	path := field.NewPath("spec", "fallback")
	names := map[string]bool{}
	for i := range object.Spec.Fallback {
		g, at := &object.Spec.Fallback[i], path.Index(i)
		if g.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "decisions name the group that a workload stands in"))
		}
		if names[g.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), g.Name))
		}
		names[g.Name] = true
		if g.ReturnAfter != nil && g.ReturnAfter.Duration <= 0 {
			errs = append(errs, field.Invalid(at.Child("returnAfter"), g.ReturnAfter.Duration.String(), "must be positive"))
		}
		if found := validateGroup(object, g, at, constraints, strategies); len(found) > 0 {
			errs = append(errs, found...)
			continue
		}
		if len(errs) > 0 {
			continue
		}
		narrowed, err := narrow(object, g, at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p, found := compileSpec(narrowed, constraints, strategies)
		groups, errs = append(groups, p), append(errs, found...)
	}
	return groups, errs
}

// EachConstraint yields the constraints of a placement and those of its fallback groups, each with its path.
func EachConstraint(object *v1alpha1.WorkloadPlacement) iter.Seq2[*field.Path, *v1alpha1.Constraint] {
	return func(yield func(*field.Path, *v1alpha1.Constraint) bool) {
		each := func(path *field.Path, constraints []v1alpha1.Constraint) bool {
			for i := range constraints {
				if !yield(path.Child("constraints").Index(i), &constraints[i]) {
					return false
				}
			}
			return true
		}
		spec := field.NewPath("spec")
		if !each(spec, object.Spec.Constraints) {
			return
		}
		for i := range object.Spec.Fallback {
			if !each(spec.Child("fallback").Index(i), object.Spec.Fallback[i].Constraints) {
				return
			}
		}
	}
}

// GroupNamed returns the placement that a fallback group makes of this one; the placement itself for "" if it has no groups, nil
// if there is no such group.
func (p *Placement) GroupNamed(name string) *Placement {
	if len(p.Groups) == 0 && name == "" {
		return p
	}
	for _, g := range p.Groups {
		if g.Group == name {
			return g
		}
	}
	return nil
}

// validateGroup validates a group on its own, at its own path.
func validateGroup(object *v1alpha1.WorkloadPlacement, g *v1alpha1.ClusterGroup, path *field.Path, constraints *constraint.Compiler, strategies Strategies) (errs field.ErrorList) {
	alone := object.DeepCopy()
	alone.Spec = v1alpha1.WorkloadPlacementSpec{
		LocationSelector: g.LocationSelector, ClusterSelector: g.ClusterSelector, CapabilityRequirements: g.CapabilityRequirements,
		Constraints: g.Constraints, Tolerations: g.Tolerations,
	}
	_, errs = compileSpec(alone, constraints, strategies)
	for _, err := range errs {
		err.Field = path.String() + err.Field[len("spec"):]
	}
	return errs
}

// narrow returns a placement narrowed by a group: the restrictions of both apply.
func narrow(object *v1alpha1.WorkloadPlacement, g *v1alpha1.ClusterGroup, path *field.Path) (*v1alpha1.WorkloadPlacement, *field.Error) {
	narrowed := object.DeepCopy()
	spec := &narrowed.Spec
	spec.Fallback = nil
	spec.LocationSelector = both(spec.LocationSelector, g.LocationSelector)
	if c := g.ClusterSelector; c != nil {
		if spec.ClusterSelector == nil {
			spec.ClusterSelector = &v1alpha1.ClusterSelector{}
		}
		s := spec.ClusterSelector
		s.LabelSelector = both(s.LabelSelector, c.LabelSelector)
		switch {
		case len(s.ClusterNames) == 0:
			s.ClusterNames = c.ClusterNames
		case len(c.ClusterNames) > 0:
			s.ClusterNames = slices.DeleteFunc(s.ClusterNames, func(name string) bool { return !slices.Contains(c.ClusterNames, name) })
			if len(s.ClusterNames) == 0 {
				return nil, field.Invalid(path.Child("clusterSelector", "clusterNames"), c.ClusterNames, "none of them is in spec.clusterSelector.clusterNames")
			}
		}
	}
	for _, r := range g.CapabilityRequirements {
		if at := slices.IndexFunc(spec.CapabilityRequirements, func(o v1alpha1.CapabilityRequirement) bool { return o.Type == r.Type }); at >= 0 {
			spec.CapabilityRequirements[at].Required = spec.CapabilityRequirements[at].Required || r.Required
		} else {
			spec.CapabilityRequirements = append(spec.CapabilityRequirements, r)
		}
	}
	for i, c := range g.Constraints {
		if slices.ContainsFunc(spec.Constraints, func(o v1alpha1.Constraint) bool { return o.Name == c.Name }) {
			return nil, field.Invalid(path.Child("constraints").Index(i).Child("name"), c.Name, fmt.Sprintf("spec.constraints has one of this name, which counts in group %s, too", g.Name))
		}
		spec.Constraints = append(spec.Constraints, c)
	}
	spec.Tolerations = append(spec.Tolerations, g.Tolerations...)
	return narrowed, nil
}

// both returns a selector for what two selectors both select; nil selects everything.
func both(a, b *metav1.LabelSelector) *metav1.LabelSelector {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	all := &metav1.LabelSelector{MatchExpressions: slices.Concat(a.MatchExpressions, b.MatchExpressions)}
	for _, s := range []*metav1.LabelSelector{a, b} {
		for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
			all.MatchExpressions = append(all.MatchExpressions, metav1.LabelSelectorRequirement{
				Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{s.MatchLabels[key]},
			})
		}
	}
	return all
}
