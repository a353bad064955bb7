package console

import (
	"maps"
	"math"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// fleet returns the clusters of a workspace.
func (v *view) fleet(w *manifest.Workspace) *Fleet {
	name := w.Name.String()
	f := &Fleet{Shown: v.shown(w), Clusters: []Cluster{}, Changes: []Event{}}
	placed, nearest := map[string]int{}, map[string]int{}
	for i := range v.statuses {
		if s := &v.statuses[i]; s.Workspace == name {
			for _, c := range s.Clusters {
				placed[c.Name]++
			}
		}
	}
	for i := range v.top.Queue {
		if q := &v.top.Queue[i]; q.Workspace == name {
			f.Summary.Waiting++
			for _, c := range append(slices.Clone(q.NominatedClusters), q.Nearest) {
				nearest[c]++
			}
		}
	}
	since := map[string]map[string]metav1.Time{}
	for _, c := range w.Clusters {
		since[c.Typed.Name] = map[string]metav1.Time{}
		for _, at := range c.Typed.Status.Conditions {
			since[c.Typed.Name][string(at.Type)] = at.LastTransitionTime
		}
	}
	for i := range v.top.Clusters {
		load := &v.top.Clusters[i]
		if load.Workspace != name {
			continue
		}
		c := newCluster(load, since[load.Name])
		c.Workloads, c.Waiting = placed[c.Name], nearest[c.Name]
		f.Clusters = append(f.Clusters, c)
		if f.Summary.Clusters++; load.Overcommitted() {
			f.Summary.Overcommitted++
		}
	}
	for _, h := range v.top.Headroom {
		if h.Workspace == name {
			f.Headroom = append(f.Headroom, h)
		}
	}
	for _, s := range v.top.Suspended {
		if s.Workspace == name {
			f.Suspended = append(f.Suspended, s)
		}
	}
	return f
}

// suspended returns what suspends a placement of a workspace; empty where nothing does.
func (v *view) suspended(workspace, namespace, placement string) string {
	for _, s := range v.top.Suspended {
		if s.Workspace == workspace && placement != "" && (len(s.Placements) == 0 || slices.Contains(s.Placements, namespace+"/"+placement)) {
			return s.By
		}
	}
	return ""
}

func newCluster(load *simulation.ClusterLoad, since map[string]metav1.Time) Cluster {
	row := load.Row
	c := Cluster{
		ClusterLoad: *load, Labels: row.Labels, Lost: row.Lost(),
		HealthScore: row.HealthScore, PerformanceScore: row.PerformanceScore, CostScore: row.CostScore, Headroom: 100,
	}
	for _, has := range row.Capabilities {
		c.Capabilities = append(c.Capabilities, Capability{has.Type, has.Available, has.Attributes})
	}
	for _, t := range row.Taints {
		c.Taints = append(c.Taints, Taint{t.Key, t.Value, string(t.Effect)})
	}
	for _, at := range row.Conditions {
		c.Conditions = append(c.Conditions, Condition{at.Type, at.Status, at.Reason, at.Message, since[at.Type]})
	}
	for _, resource := range slices.Sorted(maps.Keys(load.Free)) {
		free, all := load.Free[resource], load.Allocatable[resource]
		if free < 0 {
			c.OvercommittedResources = append(c.OvercommittedResources, resource)
		}
		if all > 0 {
			c.Headroom = min(c.Headroom, int64(math.Floor(100*float64(free)/float64(all))))
		}
	}
	return c
}
