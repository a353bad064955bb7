package delivery

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// finalizers determines which workloads are to have the finalizer: those with copies on clusters whose agents deliver. A deleted workload
// loses it once nothing of it is left, ignoring clusters from which nothing can be removed: those that are lost or gone, or whose agents do
// not deliver. Once no agent delivers, all workloads lose it, so that a controller that does not deliver leaves none blocked.
func (p *planning) finalizers() {
	for _, a := range p.round.Assignments {
		here, has := p.copies.Of(types.UID(a.UID)), slices.Contains(a.Finalizers, v1alpha1.FinalizerDelivery)
		switch {
		case a.Deleting:
			if has && !p.mayHold(a, here) {
				p.result.Finalizers = append(p.result.Finalizers, Finalizer{a.Source, false})
			}
		case !has:
			if p.delivered(here) {
				p.result.Finalizers = append(p.result.Finalizers, Finalizer{a.Source, true})
			}
		case !p.delivered(here) && a.State != Unknown && !p.targeted(a) && !p.mayHold(a, here):
			p.result.Finalizers = append(p.result.Finalizers, Finalizer{a.Source, false})
		}
	}
	for uid, clusters := range p.left {
		if p.left[uid] = slices.DeleteFunc(clusters, func(cluster string) bool { return !p.holds(uid, cluster) }); len(p.left[uid]) == 0 {
			delete(p.left, uid)
		}
	}
	p.departures.Forget(func(uid types.UID, cluster string) bool { return p.asked[departure{uid, cluster}] })
}

// mayHold reports whether something of a workload may be left on a cluster from which it can be removed.
func (p *planning) mayHold(a *Assignment, here map[string]*Copy) bool {
	uid := types.UID(a.UID)
	clusters := append(append(clustersOf(here), a.Leaving...), p.left[uid]...)
	for _, t := range a.Targets {
		clusters = append(clusters, t.Cluster)
	}
	slices.Sort(clusters)
	held := false
	for _, cluster := range slices.Compact(clusters) {
		held = p.holds(uid, cluster) || held
	}
	return held
}

// delivered reports whether any cluster is to have a copy.
func (p *planning) delivered(here map[string]*Copy) bool {
	for cluster, copied := range here {
		if copied.Manifest != nil && p.clusters[cluster].Delivers {
			return true
		}
	}
	return false
}

// targeted reports whether the workload is to be delivered.
func (p *planning) targeted(a *Assignment) bool {
	return slices.ContainsFunc(a.Targets, func(t Target) bool {
		c := p.clusters[t.Cluster]
		return c != nil && c.Delivers
	})
}
