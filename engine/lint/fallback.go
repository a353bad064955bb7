package lint

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// fallback reports groups that no workload can ever fall back to.
func fallback(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	groups := p.Spec.Fallback
	if len(groups) == 1 {
		report.at(groupScope(p, 0).path, "there is no other group to fall back to: add one, or write into the spec what this one says")
	}
	defer returnsToLast(p, report)
	for i := range groups {
		s := groupScope(p, i)
		if report.has(s.path) {
			continue
		}
		of := passing(p, w.Fleet, s)
		if len(of) == 0 && len(passing(p, w.Fleet)) > 0 && len(s.selects(w.Fleet)) > 0 {
			report.at(s.path, "no cluster passes both the spec and this group: the group narrows what the spec selects")
			continue
		}
		for j := range i {
			if sameGroup(&groups[j], &groups[i]) {
				report.at(s.path, "says the same as group %s before it, so that nothing falls back to it", groups[j].Name)
				break
			}
			before := passing(p, w.Fleet, groupScope(p, j))
			within := len(of) > 0 && !slices.ContainsFunc(of, func(c *snapshot.Cluster) bool { return !slices.Contains(before, c) })
			if within && admitsAll(p, &groups[j], &groups[i]) {
				report.at(s.path, "each cluster that is in it is in group %s before it, too, so that nothing falls back to it", groups[j].Name)
				break
			}
		}
	}
}

// returnsToLast reports a returnAfter that has no effect.
func returnsToLast(p *v1alpha1.WorkloadPlacement, report *report) {
	if last := len(p.Spec.Fallback) - 1; last > 0 && p.Spec.Fallback[last].ReturnAfter != nil {
		report.at(groupScope(p, last).path.Child("returnAfter"), "nothing returns to the last group, since there is none after it")
	}
}

// groupTooSmall reports groups that place nothing while others do: minClusters exceeds the number of their clusters, or of those that
// satisfy the spread constraints.
func groupTooSmall(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	least, asked := int(cmp.Or(p.Spec.MinClusters, 1)), clustersAsked(p)
	if len(p.Spec.Fallback) == 0 || report.has(spec.Child("minClusters")) || report.has(spec.Child("spreadConstraints")) {
		return
	}
	for _, r := range reaches(p, w) {
		switch most, spread := r.most(p, least, asked, w.Fleet); {
		case most >= least || len(r.clusters) == 0 || report.has(r.path):
		case spread:
			report.at(r.path, "places nothing: at most %d of its %d clusters keep all spread constraints, and minClusters is %d", most, len(r.clusters), least)
		default:
			report.at(r.path, "places nothing: %d clusters are in it, and minClusters is %d", most, least)
		}
	}
}

// sameGroup reports whether two groups differ only in their names and in when workloads return.
func sameGroup(a, b *v1alpha1.ClusterGroup) bool {
	one, other := *a, *b
	one.Name, one.ReturnAfter = other.Name, other.ReturnAfter
	return equality.Semantic.DeepEqual(one, other)
}

// admitsAll reports whether a group with all the clusters of another has room whenever the other has. It may not, if clusters without room
// count as domains.
func admitsAll(p *v1alpha1.WorkloadPlacement, group, other *v1alpha1.ClusterGroup) bool {
	spreads := slices.ContainsFunc(p.Spec.SpreadConstraints, func(c v1alpha1.SpreadConstraint) bool { return c.WhenUnsatisfiable != corev1.ScheduleAnyway })
	return !spreads && !slices.ContainsFunc(group.Constraints, func(c v1alpha1.Constraint) bool {
		return !slices.ContainsFunc(other.Constraints, func(o v1alpha1.Constraint) bool { return o.Expression == c.Expression })
	}) && !slices.ContainsFunc(other.Tolerations, func(t corev1.Toleration) bool { return !slices.Contains(group.Tolerations, t) })
}
