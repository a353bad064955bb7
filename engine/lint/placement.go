package lint

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/internal/spelling"
)

// placements are the checks of placements.
var placements = []check[*v1alpha1.WorkloadPlacement]{
	{Error, "contradiction", contradictorySelectors},
	{Warning, "location_key", locationKeys},
	{Warning, "unknown_kind", workloadTypes},
	{Warning, "unknown_cluster", clusterNames},
	{Warning, "unknown_location", locations},
	{Warning, "unknown_label", clusterLabels},
	{Warning, "unknown_capability", capabilities},
	{Warning, "unknown_value", mentions},
	{Warning, "unit", limits},
	{Warning, "never_holds", neverHolds},
	{Error, "never_true", neverTrue},
	{Warning, "always_true", alwaysTrue},
	{Warning, "no_cluster", noCluster},
	{Warning, "too_many_clusters", numberOfClusters},
	{Warning, "toleration", tolerations},
	{Warning, "annotation", placementAnnotations},
}

// Placement returns what a placement says in vain.
func (w *Workspace) Placement(p *v1alpha1.WorkloadPlacement) []Finding {
	return run(placements, "WorkloadPlacement "+p.Namespace+"/"+p.Name, p, w)
}

// locationLabel is the only label that a locationSelector selects by.
const locationLabel = "location"

var spec = field.NewPath("spec")

func workloadDemands(p *v1alpha1.WorkloadPlacement) []demand {
	return demands(spec.Child("workloadSelector", "labelSelector"), p.Spec.WorkloadSelector.LabelSelector)
}

func locationDemands(p *v1alpha1.WorkloadPlacement) []demand {
	return demands(spec.Child("locationSelector"), p.Spec.LocationSelector)
}

func clusterDemands(p *v1alpha1.WorkloadPlacement) []demand {
	if p.Spec.ClusterSelector == nil {
		return nil
	}
	return demands(spec.Child("clusterSelector", "labelSelector"), p.Spec.ClusterSelector.LabelSelector)
}

func namesOf(p *v1alpha1.WorkloadPlacement) []string {
	if p.Spec.ClusterSelector == nil {
		return nil
	}
	return p.Spec.ClusterSelector.ClusterNames
}

func contradictorySelectors(p *v1alpha1.WorkloadPlacement, _ *Workspace, report *report) {
	contradictions(workloadDemands(p), report)
	contradictions(locationDemands(p), report)
	contradictions(clusterDemands(p), report)
}

func locationKeys(p *v1alpha1.WorkloadPlacement, _ *Workspace, report *report) {
	for _, d := range locationDemands(p) {
		if d.key != locationLabel {
			effect := "matches no cluster"
			if d.excludes() {
				effect = "excludes no cluster"
			}
			report.at(d.path, "%s: the only key here is %s, the spec.location of registrations; labels are selected by clusterSelector.labelSelector", effect, locationLabel)
		}
	}
}

func workloadTypes(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for i, t := range p.Spec.WorkloadSelector.WorkloadTypes {
		if _, err := w.Kinds.Find(t.APIVersion, t.Kind); err != nil {
			report.at(spec.Child("workloadSelector", "workloadTypes").Index(i), "selects nothing: %v", err)
		}
	}
}

func clusterNames(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for i, name := range namesOf(p) {
		if w.Fleet.Known() && !slices.Contains(w.Fleet.Names, name) {
			report.at(spec.Child("clusterSelector", "clusterNames").Index(i), "there is no cluster %s in the fleet%s", name, spelling.DidYouMean(name, w.Fleet.Names))
		}
	}
}

func locations(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	if w.Fleet.Known() {
		all := slices.DeleteFunc(locationDemands(p), func(d demand) bool { return d.key != locationLabel })
		unknown(all, "the", nil, map[string][]string{locationLabel: w.Fleet.Locations}, report)
	}
}

func clusterLabels(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	if w.Fleet.Known() {
		unknown(clusterDemands(p), "the label", w.Fleet.LabelKeys, w.Fleet.Labels, report)
	}
}

func capabilities(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for i, c := range p.Spec.CapabilityRequirements {
		if w.Fleet.Known() && !slices.Contains(w.Fleet.Capabilities, c.Type) {
			report.at(spec.Child("capabilityRequirements").Index(i).Child("type"), "no cluster of the fleet lists the capability %s%s",
				c.Type, spelling.DidYouMean(c.Type, w.Fleet.Capabilities))
		}
	}
}

func tolerations(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for i, t := range p.Spec.Tolerations {
		// To tolerate what is not there yet is prudent, so only what is likely misspelt is reported.
		if near := spelling.Typo(t.Key, slices.Concat(w.Fleet.TaintKeys, []string{v1alpha1.TaintNotReady})); near != "" {
			report.at(spec.Child("tolerations").Index(i).Child("key"), "no cluster of the fleet has a taint %s, did you mean %s?", t.Key, near)
		}
	}
}

func numberOfClusters(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	n, at := p.Spec.NumberOfClusters, spec.Child("numberOfClusters")
	if n == nil || n.StrVal == v1alpha1.AllClusters {
		return
	}
	asked := n.IntValue()
	names := len(namesOf(p))
	switch passing := len(selected(p, w.Fleet)); {
	case names > 0 && asked > names:
		report.at(at, "%d clusters are asked for, and clusterSelector.clusterNames has %d", asked, names)
	case w.Fleet.Known() && asked > len(w.Fleet.Clusters):
		report.at(at, "%d clusters are asked for, and the fleet has %d", asked, len(w.Fleet.Clusters))
	case passing > 0 && asked > passing:
		report.at(at, "%d clusters are asked for, and the selectors and capabilityRequirements leave %d of the fleet's %d", asked, passing, len(w.Fleet.Clusters))
	}
}

// noCluster reports selectors of which each matches a cluster, and all together none.
func noCluster(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	if w.Fleet.Known() && len(report.findings) == 0 && len(selected(p, w.Fleet)) == 0 {
		report.at(spec, "no cluster of the fleet passes the selectors and capabilityRequirements")
	}
}

// selected returns the clusters that pass what a placement says about what they are; all where a selector is invalid.
func selected(p *v1alpha1.WorkloadPlacement, fleet *Fleet) []*snapshot.Cluster {
	locations, clusters := labels.Everything(), labels.Everything()
	var err, alsoErr error
	if p.Spec.LocationSelector != nil {
		locations, err = metav1.LabelSelectorAsSelector(p.Spec.LocationSelector)
	}
	if s := p.Spec.ClusterSelector; s != nil && s.LabelSelector != nil {
		clusters, alsoErr = metav1.LabelSelectorAsSelector(s.LabelSelector)
	}
	if err != nil || alsoErr != nil {
		return fleet.Clusters
	}
	names := namesOf(p)
	var passing []*snapshot.Cluster
	for _, c := range fleet.Clusters {
		offers := !slices.ContainsFunc(p.Spec.CapabilityRequirements, func(r v1alpha1.CapabilityRequirement) bool {
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
