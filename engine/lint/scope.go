package lint

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// scope is a part of a placement that selects clusters: the spec, a fallback group, or an entry of weights.
type scope struct {
	path         *field.Path
	locations    *metav1.LabelSelector
	clusters     *v1alpha1.ClusterSelector
	capabilities []v1alpha1.CapabilityRequirement
}

// scopes returns the scopes of a placement, the spec first.
func scopes(p *v1alpha1.WorkloadPlacement) []scope {
	all := []scope{{spec, p.Spec.LocationSelector, p.Spec.ClusterSelector, p.Spec.CapabilityRequirements}}
	for i := range p.Spec.Fallback {
		all = append(all, groupScope(p, i))
	}
	if r := p.Spec.ReplicaScheduling; r != nil {
		for i := range r.Weights {
			all = append(all, weightScope(r, i))
		}
	}
	return all
}

func groupScope(p *v1alpha1.WorkloadPlacement, i int) scope {
	g := &p.Spec.Fallback[i]
	return scope{spec.Child("fallback").Index(i), g.LocationSelector, g.ClusterSelector, g.CapabilityRequirements}
}

func weightScope(r *v1alpha1.ReplicaScheduling, i int) scope {
	return scope{spec.Child("replicaScheduling", "weights").Index(i), r.Weights[i].LocationSelector, r.Weights[i].ClusterSelector, nil}
}

func (s *scope) locationRequirements() []requirement {
	return requirements(s.path.Child("locationSelector"), s.locations)
}

func (s *scope) clusterRequirements() []requirement {
	if s.clusters == nil {
		return nil
	}
	return requirements(s.path.Child("clusterSelector", "labelSelector"), s.clusters.LabelSelector)
}

func (s *scope) names() []string {
	if s.clusters == nil {
		return nil
	}
	return s.clusters.ClusterNames
}

// selects returns the clusters whose properties match a scope; all if a selector is invalid.
func (s *scope) selects(fleet *Fleet) []*snapshot.Cluster {
	var of *metav1.LabelSelector
	if s.clusters != nil {
		of = s.clusters.LabelSelector
	}
	locations, err := placement.CompileLabels(nil, s.locations)
	clusters, alsoErr := placement.CompileLabels(nil, of)
	if err != nil || alsoErr != nil {
		return fleet.Clusters
	}
	names := s.names()
	var passing []*snapshot.Cluster
	for _, c := range fleet.Clusters {
		offers := !slices.ContainsFunc(s.capabilities, func(r v1alpha1.CapabilityRequirement) bool {
			_, listed := c.Capability(r.Type)
			return r.Required && !listed
		})
		if offers && (len(names) == 0 || slices.Contains(names, c.Name)) &&
			locations.Matches(labels.Set{locationLabel: c.Location}) && clusters.Matches(labels.Set(c.Labels)) {
			passing = append(passing, c)
		}
	}
	return passing
}

// passing returns the clusters whose properties match the spec, and scopes within it.
func passing(p *v1alpha1.WorkloadPlacement, fleet *Fleet, within ...scope) []*snapshot.Cluster {
	all := scopes(p)[0].selects(fleet)
	for _, s := range within {
		of := s.selects(fleet)
		all = slices.DeleteFunc(slices.Clone(all), func(c *snapshot.Cluster) bool { return !slices.Contains(of, c) })
	}
	return all
}
