package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Defaults and bounds of weights.
const (
	defaultWeight  = 20
	defaultMaxSkew = 1

	maxCount        = 1000
	maxSpreadWeight = 100
)

// Spread is a compiled spread constraint.
type Spread struct {
	Key                 snapshot.TopologyKey
	MaxSkew, MinDomains int
	// Required: the constraint has to hold. Otherwise each cluster by which a domain exceeds MaxSkew costs Weight points of the score.
	Required bool
	Weight   int64
	// Workloads: the workloads of the placement are counted, instead of the clusters of one workload.
	Workloads bool
}

func (p *Placement) compileSpread(path *field.Path, constraints []v1alpha1.SpreadConstraint) (errs field.ErrorList) {
	for i, c := range constraints {
		at := path.Index(i)
		s := Spread{
			Key: snapshot.TopologyKey(c.TopologyKey), MaxSkew: int(cmp.Or(c.MaxSkew, defaultMaxSkew)), MinDomains: int(c.MinDomains),
			Weight: int64(cmp.Or(c.Weight, defaultWeight)), Workloads: c.Scope == v1alpha1.SpreadWorkloads,
		}
		errs = append(errs, validateTopologyKey(at.Child("topologyKey"), c.TopologyKey)...)
		switch c.WhenUnsatisfiable {
		case "", corev1.DoNotSchedule:
			s.Required = true
		case corev1.ScheduleAnyway:
			if c.MinDomains != 0 {
				errs = append(errs, field.Invalid(at.Child("minDomains"), c.MinDomains, "counts only where whenUnsatisfiable is DoNotSchedule"))
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, []corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}))
		}
		if c.Scope != "" && c.Scope != v1alpha1.SpreadClusters && !s.Workloads {
			errs = append(errs, field.NotSupported(at.Child("scope"), c.Scope, []v1alpha1.SpreadScope{v1alpha1.SpreadClusters, v1alpha1.SpreadWorkloads}))
		}
		for _, b := range []struct {
			name    string
			n, most int64
		}{{"maxSkew", int64(s.MaxSkew), maxCount}, {"minDomains", int64(s.MinDomains), maxCount}, {"weight", s.Weight, maxSpreadWeight}} {
			if b.n < 0 || b.n > b.most {
				errs = append(errs, field.Invalid(at.Child(b.name), b.n, fmt.Sprintf("must be from 1 to %d", b.most)))
			}
		}
		if slices.ContainsFunc(p.Spread, func(o Spread) bool {
			return o.Key == s.Key && o.Required == s.Required && o.Workloads == s.Workloads
		}) {
			errs = append(errs, field.Duplicate(at, fmt.Sprintf("%s, %s", c.TopologyKey, cmp.Or(c.WhenUnsatisfiable, corev1.DoNotSchedule))))
		}
		p.Spread = append(p.Spread, s)
	}
	return errs
}

// validateTopologyKey checks that clusters can have a value for a topology key.
func validateTopologyKey(path *field.Path, key string) (errs field.ErrorList) {
	if key == "" {
		return field.ErrorList{field.Required(path, "name what clusters are divided by: location, cluster, capability:<type>/<attribute> or a label")}
	}
	if rest, is := strings.CutPrefix(key, v1alpha1.TopologyKeyCapability); is {
		if capability, attribute, both := strings.Cut(rest, "/"); !both || capability == "" || attribute == "" {
			errs = append(errs, field.Invalid(path, key, "must have the form capability:<type>/<attribute>"))
		}
		return errs
	}
	for _, message := range validation.IsQualifiedName(key) {
		errs = append(errs, field.Invalid(path, key, message))
	}
	return errs
}
