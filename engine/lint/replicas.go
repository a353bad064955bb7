package lint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// division returns how a placement divides replicas, nil if it does not.
func division(p *v1alpha1.WorkloadPlacement) *v1alpha1.ReplicaScheduling {
	if r := p.Spec.ReplicaScheduling; r != nil && r.Type == v1alpha1.ReplicasDivided {
		return r
	}
	return nil
}

// noWeight reports weights if no cluster has any of them.
func noWeight(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	r, all := division(p), passing(p, w.Fleet)
	if r == nil || len(r.Weights) == 0 || len(all) == 0 {
		return
	}
	if !slices.ContainsFunc(all, func(c *snapshot.Cluster) bool { return weightOf(r, c, w.Fleet) > 0 }) {
		report.at(spec.Child("replicaScheduling", "weights"), "none of the %d clusters that pass has a weight above 0, so that nothing is placed: an entry {weight: 1} at the end is for all others", len(all))
	}
}

func matches(o *v1alpha1.ClusterWeight, c *snapshot.Cluster, fleet *Fleet) bool {
	s := scope{locations: o.LocationSelector, clusters: o.ClusterSelector}
	return slices.Contains(s.selects(fleet), c)
}

// weights reports entries that give no cluster its weight.
func weights(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	r, left := division(p), passing(p, w.Fleet)
	if r == nil || len(left) == 0 {
		return
	}
	for i := range r.Weights {
		s := weightScope(r, i)
		of := passing(p, w.Fleet, s)
		first := slices.DeleteFunc(slices.Clone(of), func(c *snapshot.Cluster) bool { return !slices.Contains(left, c) })
		switch {
		case len(of) == 0:
			report.at(s.path, "matches no cluster that passes the selectors and capabilityRequirements")
		case len(first) == 0:
			report.at(s.path, "an entry before it matches each of its clusters, and the first one counts: move it up")
		}
		left = slices.DeleteFunc(slices.Clone(left), func(c *snapshot.Cluster) bool { return slices.Contains(of, c) })
	}
}

// selectedBy returns the given workloads that a placement selects.
func (w *Workspace) selectedBy(p *v1alpha1.WorkloadPlacement) (all []*workload.Workload) {
	selector, err := placement.CompileSelector(p)
	if err != nil {
		return nil
	}
	for _, o := range w.Workloads {
		if selector.Selects(o) && (w.of == nil || w.of == o) {
			all = append(all, o)
		}
	}
	return all
}

// replicas reports workloads whose replicas cannot be divided as the placement asks.
func replicas(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	r, all := division(p), w.selectedBy(p)
	if r == nil || len(all) == 0 {
		return
	}
	at := spec.Child("replicaScheduling")
	if !slices.ContainsFunc(all, func(o *workload.Workload) bool { return o.Divisible }) {
		report.at(at.Child("type"), "divides nothing: %s has a pod on each node, or pods of several kinds, and each cluster gets all of them", all[0])
		return
	}
	asked, least := int64(clustersAsked(p)), int64(cmp.Or(p.Spec.MinClusters, 1))
	if w.Fleet.Known() {
		asked = min(asked, int64(len(passing(p, w.Fleet))))
	}
	for _, o := range all {
		if !o.Divisible || o.Replicas < 1 {
			continue
		}
		each := min(int64(cmp.Or(r.MinPerCluster, 1)), o.Replicas)
		if most := o.Replicas / each; most < least {
			report.at(spec.Child("minClusters"), "%s has %d replicas, of which a cluster gets %d at least: on %d clusters at most, so that it waits", o, o.Replicas, each, most)
			return
		}
		if most := asked * int64(r.MaxPerCluster); r.MaxPerCluster > 0 && most < o.Replicas {
			effect := "so that it waits"
			if r.Partial {
				effect = "so that the others wait"
			}
			report.at(at.Child("maxPerCluster"), "%d clusters with %d replicas each have room for %d of the %d of %s, %s", asked, r.MaxPerCluster, most, o.Replicas, o, effect)
			return
		}
	}
	room(p, r, all, w, report)
}

// room reports workloads whose replicas do not fit on the clusters, however empty they are.
func room(p *v1alpha1.WorkloadPlacement, r *v1alpha1.ReplicaScheduling, all []*workload.Workload, w *Workspace, report *report) {
	for _, o := range all {
		if !o.Divisible || o.Replicas < 1 {
			continue
		}
		var best int64
		limited := false // by numberOfClusters
		for _, reach := range reaches(p, w) {
			if most, number := mostReplicas(p, r, o, reach.clusters, w.Fleet); most >= best {
				best, limited = most, number == clustersAsked(p) && number < len(reach.clusters)
			}
		}
		if best == 0 || best >= o.Replicas { // if no cluster has room for one share, that is reported for the workload
			continue
		}
		effect := "so that the others wait"
		if !r.Partial {
			effect = "so that it waits: partial: true places these"
		}
		if limited {
			effect = fmt.Sprintf("as long as numberOfClusters is %d, %s", clustersAsked(p), effect)
		}
		report.at(spec.Child("replicaScheduling"), "even if all clusters are empty there is room for %d of the %d replicas of %s, %s", best, o.Replicas, o, effect)
		return
	}
}

// mostReplicas returns how many replicas of a workload the largest clusters take, using as many clusters as it gets, and how many these are.
func mostReplicas(p *v1alpha1.WorkloadPlacement, r *v1alpha1.ReplicaScheduling, o *workload.Workload, clusters []*snapshot.Cluster, fleet *Fleet) (most int64, number int) {
	one, least := o.Share(1), min(int64(cmp.Or(r.MinPerCluster, 1)), o.Replicas)
	var rooms []int64
	for _, c := range clusters {
		takes := o.Replicas
		if r.MaxPerCluster > 0 {
			takes = min(takes, int64(r.MaxPerCluster))
		}
		for name, amount := range one.Requests.Each {
			if amount > 0 && !c.Allocatable.IsZero() { // otherwise it has not reported yet
				takes = min(takes, c.Allocatable.Get(name)/amount)
			}
		}
		if takes >= least && (len(r.Weights) == 0 || weightOf(r, c, fleet) > 0) {
			rooms = append(rooms, takes)
		}
	}
	slices.Sort(rooms)
	slices.Reverse(rooms)
	rooms = rooms[:min(len(rooms), clustersAsked(p))]
	for _, takes := range rooms {
		most += takes
	}
	return most, len(rooms)
}

// weightOf returns the weight of the first entry that matches a cluster.
func weightOf(r *v1alpha1.ReplicaScheduling, c *snapshot.Cluster, fleet *Fleet) int32 {
	if first := slices.IndexFunc(r.Weights, func(o v1alpha1.ClusterWeight) bool { return matches(&o, c, fleet) }); first >= 0 {
		return r.Weights[first].Weight
	}
	return 0
}

// binPack reports workloads that cannot be packed because they request nothing.
func binPack(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	if p.Spec.Strategy.Type != v1alpha1.StrategyBinPack {
		return
	}
	for _, o := range w.selectedBy(p) {
		if o.Replicas > 0 && o.Requests.IsZero() {
			report.at(spec.Child("strategy", "type"), "BinPack fills the fullest cluster that has room, and %s requests nothing: all clusters are alike for it", o)
			return
		}
	}
}
