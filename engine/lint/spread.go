package lint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/internal/spread"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/spelling"
)

// clustersAsked returns how many clusters a workload gets at most.
func clustersAsked(p *v1alpha1.WorkloadPlacement) int {
	n := p.Spec.NumberOfClusters
	switch {
	case p.Spec.Strategy.Type == v1alpha1.StrategyRoundRobin || p.Spec.Strategy.Type == v1alpha1.StrategyAffinity:
		return 1
	case n == nil:
		return v1alpha1.DefaultNumberOfClusters
	case n.StrVal == v1alpha1.AllClusters:
		return v1alpha1.MaxClusters
	}
	return n.IntValue()
}

// topologyKeys reports keys for which no cluster has a value.
func topologyKeys(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for i, c := range p.Spec.SpreadConstraints {
		key := snapshot.TopologyKey(c.TopologyKey)
		if !w.Fleet.Known() || len(domains(key, w.Fleet.Clusters)) > 0 {
			continue
		}
		effect := "nothing can be placed"
		if c.WhenUnsatisfiable == corev1.ScheduleAnyway {
			effect = "each cluster costs the same"
		}
		report.at(spec.Child("spreadConstraints").Index(i).Child("topologyKey"), "no cluster of the fleet has %s, so that %s%s", c.TopologyKey, effect,
			spelling.DidYouMean(c.TopologyKey, w.Fleet.topologyKeys()))
	}
}

// headroomKey reports a key that does not divide the clusters into domains that could be lost.
func headroomKey(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	asked := p.Spec.Headroom
	if asked == nil || !w.Fleet.Known() || len(domains(snapshot.TopologyKey(asked.Survive.TopologyKey), w.Fleet.Clusters)) > 0 {
		return
	}
	key := asked.Survive.TopologyKey
	report.at(spec.Child("headroom", "survive", "topologyKey"), "no cluster of the fleet has %s, so that nothing is checked%s", key, spelling.DidYouMean(key, w.Fleet.topologyKeys()))
}

// topologyKeys returns the keys for which some cluster has a value.
func (f *Fleet) topologyKeys() []string {
	keys := map[string]bool{v1alpha1.TopologyKeyLocation: true, v1alpha1.TopologyKeyCluster: true}
	for _, c := range f.Clusters {
		for _, capability := range c.Capabilities {
			for attribute := range capability.Attributes {
				keys[v1alpha1.TopologyKeyCapability+capability.Type+"/"+attribute] = true
			}
		}
	}
	return slices.Concat(f.LabelKeys, slices.Sorted(maps.Keys(keys)))
}

// domains returns the number of clusters in each domain of a key.
func domains(key snapshot.TopologyKey, clusters []*snapshot.Cluster) map[string]int {
	all := map[string]int{}
	for _, c := range clusters {
		if domain, found := key.Domain(c); found {
			all[domain]++
		}
	}
	return all
}

// reach is a set of clusters that a workload can be placed on: those of the spec, or of one fallback group.
type reach struct {
	scope
	// group is the name of the group, empty for the spec.
	group    string
	clusters []*snapshot.Cluster
}

// reaches returns the sets of clusters, on one of which a workload is placed. With Overflow there is one set, of all groups together.
func reaches(p *v1alpha1.WorkloadPlacement, w *Workspace) (all []reach) {
	if len(p.Spec.Fallback) == 0 {
		return []reach{{scope: scopes(p)[0], clusters: passing(p, w.Fleet)}}
	}
	for i := range p.Spec.Fallback {
		s := groupScope(p, i)
		all = append(all, reach{s, p.Spec.Fallback[i].Name, passing(p, w.Fleet, s)})
	}
	if r := division(p); r != nil && r.Division == v1alpha1.DivideOverflow {
		together := reach{scope: scopes(p)[0]}
		for _, c := range w.Fleet.Clusters {
			if slices.ContainsFunc(all, func(r reach) bool { return slices.Contains(r.clusters, c) }) {
				together.clusters = append(together.clusters, c)
			}
		}
		return []reach{together}
	}
	return all
}

// most returns how many of the clusters a workload can be placed on, in an empty fleet, and whether spread constraints limit that.
func (r *reach) most(p *v1alpha1.WorkloadPlacement, least, asked int, fleet *Fleet) (most int, spread bool) {
	if most = len(r.clusters); most < least || len(p.Spec.SpreadConstraints) == 0 {
		return most, false
	}
	return mostSpread(p, r.clusters, asked, fleet), true
}

// tooFewClusters reports that workloads always wait because minClusters exceeds the clusters that pass, or that satisfy the spread
// constraints.
func tooFewClusters(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	least, asked := int(cmp.Or(p.Spec.MinClusters, 1)), clustersAsked(p)
	if asked < least || report.has(spec.Child("spreadConstraints")) {
		return // reported separately
	}
	var best reach
	most, spread, all := 0, false, reaches(p, w)
	for _, r := range all {
		n, s := r.most(p, least, asked, w.Fleet)
		if n >= least {
			return
		}
		if len(r.clusters) > 0 && (n > most || best.clusters == nil) {
			best, most, spread = r, n, s
		}
	}
	if len(best.clusters) == 0 {
		return // reported separately
	}
	in := "that pass"
	if best.group != "" {
		in = "in fallback group " + best.group
	}
	switch {
	case !spread && best.group == "":
		report.at(spec.Child("minClusters"), "every workload waits for %d clusters, and %d of the fleet's %d pass the selectors and capabilityRequirements", least, most, len(w.Fleet.Clusters))
	case !spread:
		report.at(spec.Child("minClusters"), "every workload waits for %d clusters, and no fallback group has more than the %d of %s", least, most, best.group)
	default:
		start := "no cluster keeps"
		if most > 0 {
			start = fmt.Sprintf("at most %d of the %d clusters %s keep", most, len(best.clusters), in)
		}
		report.at(spec.Child("spreadConstraints"), "%s all constraints at once, and minClusters is %d: every workload waits. Raise maxSkew, lower minDomains or minClusters, or write whenUnsatisfiable: ScheduleAnyway", start, least)
	}
}

// mostSpread returns how many clusters satisfy all required spread constraints.
func mostSpread(p *v1alpha1.WorkloadPlacement, clusters []*snapshot.Cluster, asked int, fleet *Fleet) int {
	r := division(p)
	clusters = slices.DeleteFunc(slices.Clone(clusters), func(c *snapshot.Cluster) bool {
		return outside(p, c) || r != nil && len(r.Weights) > 0 && weightOf(r, c, fleet) == 0
	})
	problem := &spread.Problem{Number: asked, Candidates: make([]spread.Candidate, len(clusters))}
	domains := make([][]int32, len(clusters))
	for _, c := range p.Spec.SpreadConstraints {
		if c.WhenUnsatisfiable == corev1.ScheduleAnyway {
			continue
		}
		key, ids := snapshot.TopologyKey(c.TopologyKey), map[string]int32{}
		of := spread.Constraint{MaxSkew: int(cmp.Or(c.MaxSkew, 1)), MinDomains: int(c.MinDomains)}
		for i, cluster := range clusters {
			at := int32(spread.None)
			if domain, found := key.Domain(cluster); found {
				id, known := ids[domain]
				if !known {
					id = int32(len(ids))
					ids[domain], of.Counts, of.Eligible = id, append(of.Counts, 0), append(of.Eligible, true)
				}
				at = id
			}
			domains[i] = append(domains[i], at)
		}
		problem.Constraints = append(problem.Constraints, of)
	}
	problem.SetGroups(domains)
	solution := spread.Choose(problem)
	if solution.Bounded {
		return asked // it may be possible
	}
	return len(solution.Chosen)
}

// outside reports whether a cluster is in no domain of some required spread constraint. Such a cluster is not counted.
func outside(p *v1alpha1.WorkloadPlacement, cluster *snapshot.Cluster) bool {
	return slices.ContainsFunc(p.Spec.SpreadConstraints, func(c v1alpha1.SpreadConstraint) bool {
		_, found := snapshot.TopologyKey(c.TopologyKey).Domain(cluster)
		return !found && c.WhenUnsatisfiable != corev1.ScheduleAnyway
	})
}

// defaultWeight is the default weight of spread constraints in the schema.
const defaultWeight = 20

// spreadInVain reports parts of spread constraints that have no effect, or more than may be intended.
func spreadInVain(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	asked, contradicts := clustersAsked(p), report.has(spec.Child("spreadConstraints"))
	for i, c := range p.Spec.SpreadConstraints {
		at, skew := spec.Child("spreadConstraints").Index(i), int(cmp.Or(c.MaxSkew, 1))
		ofOne := c.Scope != v1alpha1.SpreadWorkloads
		switch {
		case ofOne && c.TopologyKey == v1alpha1.TopologyKeyCluster:
			report.at(at, "keeps nothing even: a workload is on each cluster once; scope: Workloads counts the workloads of the placement")
		case ofOne && asked == 1:
			report.at(at, "keeps nothing even: each workload has one cluster; scope: Workloads counts the workloads of the placement")
		case ofOne && asked <= skew:
			report.at(at.Child("maxSkew"), "keeps nothing even: a workload has %d clusters at most, and a domain may exceed another by %d", asked, skew)
		}
		if c.WhenUnsatisfiable != corev1.ScheduleAnyway && c.Weight != 0 && c.Weight != defaultWeight {
			report.at(at.Child("weight"), "counts only where whenUnsatisfiable is ScheduleAnyway")
		}
		all := passing(p, w.Fleet)
		there := domains(snapshot.TopologyKey(c.TopologyKey), all)
		if !contradicts && len(there) > 0 && int(c.MinDomains) > len(there) {
			report.at(at.Child("minDomains"), "the clusters that pass are in %d domains of %s: until there are %d, none of them gets more than maxSkew (%d)", len(there), c.TopologyKey, c.MinDomains, skew)
		}
		if c.MinDomains < 2 && !report.has(at) && !slices.ContainsFunc(reaches(p, w), func(r reach) bool { return !oneDomain(c.TopologyKey, r.clusters) }) {
			report.at(at, "keeps nothing even: %s are in one domain of %s", clustersThat(p), c.TopologyKey)
		}
	}
	n := p.Spec.NumberOfClusters
	if all := passing(p, w.Fleet); n != nil && n.StrVal == "" && len(p.Spec.SpreadConstraints) > 0 && asked <= len(all) {
		if most := mostSpread(p, all, asked, w.Fleet); most < asked && most >= int(cmp.Or(p.Spec.MinClusters, 1)) {
			report.at(spec.Child("numberOfClusters"), "%d clusters are asked for, and at most %d of the %d that pass keep the spread constraints", asked, most, len(all))
		}
	}
}

// oneDomain reports whether all of the clusters are in the same domain.
func oneDomain(key string, clusters []*snapshot.Cluster) bool {
	there := domains(snapshot.TopologyKey(key), clusters)
	for _, n := range there {
		return n == len(clusters)
	}
	return false
}

func clustersThat(p *v1alpha1.WorkloadPlacement) string {
	if len(p.Spec.Fallback) > 0 {
		return "the clusters of each fallback group"
	}
	return "all clusters that pass"
}
