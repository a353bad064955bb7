// Package nodes represents what a cluster reports of its nodes and what pods ask of nodes, and matches the two.
package nodes

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Summary is what a cluster reports of its nodes. It is immutable.
type Summary struct {
	Groups []Group
	// OmittedLabels are the keys whose values are not reported; v1alpha1.AllNodeLabels stands for every key that no group has.
	OmittedLabels []string
	// Incomplete: there are more groups than these.
	Incomplete bool
}

// Group is a set of nodes that agree in everything that is reported of them.
type Group struct {
	Labels map[string]string
	Taints []corev1.Taint
	// Count is the number of these nodes; 0 if not reported.
	Count int64
}

// FromStatus returns what the status of a registration reports, nil if nothing; anything beyond its bounds is treated as not reported.
func FromStatus(s *v1alpha1.ClusterRegistrationStatus) *Summary {
	if len(s.NodeGroups) == 0 {
		return nil
	}
	groups := s.NodeGroups[:min(len(s.NodeGroups), v1alpha1.MaxNodeGroups)]
	all := &Summary{
		Groups: make([]Group, len(groups)), OmittedLabels: s.OmittedNodeLabels,
		Incomplete: s.OmittedNodeGroups != 0 || len(groups) < len(s.NodeGroups),
	}
	if len(all.OmittedLabels) > v1alpha1.MaxOmittedNodeLabels {
		all.OmittedLabels = []string{v1alpha1.AllNodeLabels}
	}
	for i, g := range groups {
		all.Groups[i] = Group{g.Labels, g.Taints, int64(max(0, g.Count))}
	}
	return all
}

// Equal reports whether two summaries are the same.
func (s *Summary) Equal(o *Summary) bool {
	if s == o || s == nil || o == nil {
		return s == o
	}
	return s.Incomplete == o.Incomplete && slices.Equal(s.OmittedLabels, o.OmittedLabels) &&
		slices.EqualFunc(s.Groups, o.Groups, func(a, b Group) bool {
			return a.Count == b.Count && maps.Equal(a.Labels, b.Labels) && slices.EqualFunc(a.Taints, b.Taints, func(a, b corev1.Taint) bool {
				return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
			})
		})
}

// Uncounted returns the summary without the numbers of nodes.
func (s *Summary) Uncounted() *Summary {
	if s == nil {
		return nil
	}
	of := *s
	of.Groups = slices.Clone(s.Groups)
	for i := range of.Groups {
		of.Groups[i].Count = 0
	}
	return &of
}

// Union merges the summaries of several clusters, for display.
func Union(all []*Summary) *Summary {
	u := &Summary{}
	for _, s := range all {
		u.Groups, u.OmittedLabels = append(u.Groups, s.Groups...), append(u.OmittedLabels, s.OmittedLabels...)
	}
	return u
}

// reports reports whether the values of a label are reported.
func (s *Summary) reports(key string) bool {
	return !slices.Contains(s.OmittedLabels, key) &&
		(!slices.Contains(s.OmittedLabels, v1alpha1.AllNodeLabels) || slices.ContainsFunc(s.Groups, func(g Group) bool {
			_, found := g.Labels[key]
			return found
		}))
}
