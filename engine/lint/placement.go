package lint

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
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
	{Warning, "topology_key", topologyKeys},
	{Warning, "topology_key", affinityKeys},
	{Warning, "topology_key", headroomKey},
	{Error, "contradiction", contradictoryAffinity},
	{Warning, "no_workload", affinityToNothing},
	{Error, "contradiction", tooFewClusters},
	{Warning, "spread", spreadInVain},
	{Error, "weights", noWeight},
	{Warning, "weights", weights},
	{Warning, "replicas", replicas},
	{Warning, "bin_pack", binPack},
	{Warning, "fallback", groupTooSmall},
	{Warning, "fallback", fallback},
	{Error, "circle", circles},
	{Warning, "toleration", tolerations},
	{Warning, "preemption", preemptionInVain},
	{Warning, "annotation", placementAnnotations},
}

// Placement returns findings about parts of a placement that have no effect.
func (w *Workspace) Placement(p *v1alpha1.WorkloadPlacement) []Finding {
	return run(placements, objectOf(p), p, w)
}

func objectOf(p *v1alpha1.WorkloadPlacement) string {
	return "WorkloadPlacement " + p.Namespace + "/" + p.Name
}

// locationLabel is the only label that a locationSelector selects by.
const locationLabel = "location"

var spec = field.NewPath("spec")

func workloadRequirements(p *v1alpha1.WorkloadPlacement) []requirement {
	return requirements(spec.Child("workloadSelector", "labelSelector"), p.Spec.WorkloadSelector.LabelSelector)
}

func contradictorySelectors(p *v1alpha1.WorkloadPlacement, _ *Workspace, report *report) {
	contradictions(workloadRequirements(p), report)
	all := scopes(p)
	contradictions(all[0].locationRequirements(), report)
	contradictions(all[0].clusterRequirements(), report)
	if len(report.findings) > 0 {
		return
	}
	for _, s := range all[1:] { // each narrows what the spec selects
		contradictions(slices.Concat(all[0].locationRequirements(), s.locationRequirements()), report)
		contradictions(slices.Concat(all[0].clusterRequirements(), s.clusterRequirements()), report)
	}
}

func locationKeys(p *v1alpha1.WorkloadPlacement, _ *Workspace, report *report) {
	for _, s := range scopes(p) {
		for _, d := range s.locationRequirements() {
			if d.key == locationLabel {
				continue
			}
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
	for _, s := range scopes(p) {
		for i, name := range s.names() {
			if w.Fleet.Known() && !slices.Contains(w.Fleet.Names, name) {
				report.at(s.path.Child("clusterSelector", "clusterNames").Index(i), "there is no cluster %s in the fleet%s", name, spelling.DidYouMean(name, w.Fleet.Names))
			}
		}
	}
}

func locations(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for _, s := range scopes(p) {
		if w.Fleet.Known() {
			all := slices.DeleteFunc(s.locationRequirements(), func(d requirement) bool { return d.key != locationLabel })
			unknown(all, "the", nil, map[string][]string{locationLabel: w.Fleet.Locations}, report)
		}
	}
}

func clusterLabels(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for _, s := range scopes(p) {
		if w.Fleet.Known() {
			unknown(s.clusterRequirements(), "the label", w.Fleet.LabelKeys, w.Fleet.Labels, report)
		}
	}
}

func capabilities(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for _, s := range scopes(p) {
		for i, c := range s.capabilities {
			if w.Fleet.Known() && !slices.Contains(w.Fleet.Capabilities, c.Type) {
				report.at(s.path.Child("capabilityRequirements").Index(i).Child("type"), "no cluster of the fleet lists the capability %s%s",
					c.Type, spelling.DidYouMean(c.Type, w.Fleet.Capabilities))
			}
		}
	}
}

func tolerations(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	within := func(path *field.Path, tolerations []corev1.Toleration) {
		for i, t := range tolerations {
			// Tolerating something that does not exist yet is prudent, so only likely misspellings are reported.
			if near := spelling.Typo(t.Key, slices.Concat(w.Fleet.TaintKeys, []string{v1alpha1.TaintNotReady})); near != "" {
				report.at(path.Child("tolerations").Index(i).Child("key"), "no cluster of the fleet has a taint %s, did you mean %s?", t.Key, near)
			}
		}
	}
	within(spec, p.Spec.Tolerations)
	for i := range p.Spec.Fallback {
		within(groupScope(p, i).path, p.Spec.Fallback[i].Tolerations)
	}
}

func numberOfClusters(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	n, at := p.Spec.NumberOfClusters, spec.Child("numberOfClusters")
	if n == nil || n.StrVal == v1alpha1.AllClusters {
		return
	}
	asked := n.IntValue()
	names := len(scopes(p)[0].names())
	switch passing := len(scopes(p)[0].selects(w.Fleet)); {
	case names > 0 && asked > names:
		report.at(at, "%d clusters are asked for, and clusterSelector.clusterNames has %d", asked, names)
	case w.Fleet.Known() && asked > len(w.Fleet.Clusters):
		report.at(at, "%d clusters are asked for, and the fleet has %d", asked, len(w.Fleet.Clusters))
	case passing > 0 && asked > passing:
		report.at(at, "%d clusters are asked for, and the selectors and capabilityRequirements leave %d of the fleet's %d", asked, passing, len(w.Fleet.Clusters))
	}
}

// noCluster reports selectors that each match a cluster, but no cluster all together.
func noCluster(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	if w.Fleet.Known() && len(report.findings) == 0 && len(scopes(p)[0].selects(w.Fleet)) == 0 {
		report.at(spec, "no cluster of the fleet passes the selectors and capabilityRequirements")
	}
}
