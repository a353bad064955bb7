package lint

import (
	"maps"
	"slices"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Fleet is the names and properties of the clusters of a workspace. It is immutable.
type Fleet struct {
	// Clusters by name. If there are none, nothing is reported about names that the fleet does not have.
	Clusters []*snapshot.Cluster
	// Names, Locations, Capabilities (types), TaintKeys, Resources and Scores (names) are those of any cluster, sorted.
	Names, Locations, Capabilities, TaintKeys, Resources, Scores []string
	// LabelKeys are those of any cluster, sorted; Labels their values.
	LabelKeys []string
	Labels    map[string][]string
	// Attributes are those of any capability.
	Attributes map[string][]string
	// NodeLabels are the labels that nodes are reported to have, with their values; NodeLabelKeys are the keys, sorted.
	NodeLabels    map[string][]string
	NodeLabelKeys []string
	// rows are the clusters with nothing in use.
	rows []*snapshot.Row
}

// NewFleet returns the fleet of clusters.
func NewFleet(clusters []*snapshot.Cluster) *Fleet {
	f := &Fleet{Clusters: clusters, Labels: map[string][]string{}, NodeLabels: map[string][]string{}, Attributes: map[string][]string{}}
	resources := func(list capacity.Resources) {
		for name := range list.Each {
			f.Resources = append(f.Resources, name)
		}
	}
	for _, c := range clusters {
		f.rows = append(f.rows, snapshot.NewRow(c, capacity.Resources{}))
		f.Names, f.Locations = append(f.Names, c.Name), append(f.Locations, c.Location)
		for _, capability := range c.Capabilities {
			f.Capabilities = append(f.Capabilities, capability.Type)
			for key, value := range capability.Attributes {
				f.Attributes[key] = append(f.Attributes[key], value)
			}
		}
		for _, taint := range c.Taints {
			f.TaintKeys = append(f.TaintKeys, taint.Key)
		}
		for _, score := range c.Scores {
			f.Scores = append(f.Scores, score.Name)
		}
		for key, value := range c.Labels {
			f.Labels[key] = append(f.Labels[key], value)
		}
		if c.Nodes != nil {
			for _, group := range c.Nodes.Groups {
				for key, value := range group.Labels {
					f.NodeLabels[key] = append(f.NodeLabels[key], value)
				}
			}
		}
		resources(c.Allocatable)
		resources(c.Allocated)
	}
	for _, names := range []*[]string{&f.Names, &f.Locations, &f.Capabilities, &f.TaintKeys, &f.Resources, &f.Scores} {
		*names = unique(*names)
	}
	for _, values := range []map[string][]string{f.Labels, f.NodeLabels, f.Attributes} {
		for key := range values {
			values[key] = unique(values[key])
		}
	}
	f.LabelKeys, f.NodeLabelKeys = slices.Sorted(maps.Keys(f.Labels)), slices.Sorted(maps.Keys(f.NodeLabels))
	return f
}

// Known reports whether anything is known of the fleet.
func (f *Fleet) Known() bool { return len(f.Clusters) > 0 }

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
