package lint

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

func affinityPath(i int) *field.Path { return spec.Child("workloadAffinity").Index(i) }

// affinityKey returns the topology key of a term.
func affinityKey(t *v1alpha1.WorkloadAffinityTerm) string {
	return cmp.Or(t.TopologyKey, v1alpha1.TopologyKeyCluster)
}

// affinityKeys reports topology keys of terms for which no cluster has a value.
func affinityKeys(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for i := range p.Spec.WorkloadAffinity {
		t := &p.Spec.WorkloadAffinity[i]
		if !w.Fleet.Known() || len(domains(snapshot.TopologyKey(affinityKey(t)), w.Fleet.Clusters)) > 0 {
			continue
		}
		effect := "the term has no effect"
		if t.Required && t.Type == v1alpha1.WorkloadsAttract {
			effect = "nothing can be placed"
		}
		report.at(affinityPath(i).Child("topologyKey"), "no cluster of the fleet has %s, so that %s%s", t.TopologyKey, effect,
			spelling.DidYouMean(t.TopologyKey, w.Fleet.topologyKeys()))
	}
}

// contradictoryAffinity reports selectors of others that match nothing, and terms that ask for something and its opposite.
func contradictoryAffinity(p *v1alpha1.WorkloadPlacement, _ *Workspace, report *report) {
	terms := p.Spec.WorkloadAffinity
	for i := range terms {
		contradictions(requirements(affinityPath(i).Child("labelSelector"), terms[i].LabelSelector), report)
		one, err := placement.CompileOthers(affinityPath(i), &terms[i], p.Namespace)
		for j := range i {
			other, alsoErr := placement.CompileOthers(affinityPath(j), &terms[j], p.Namespace)
			if err == nil && alsoErr == nil && one.ID() == other.ID() && affinityKey(&terms[i]) == affinityKey(&terms[j]) &&
				terms[i].Type != terms[j].Type && terms[i].Required && terms[j].Required {
				report.at(affinityPath(i), "asks for the contrary of workloadAffinity[%d], and both are required: remove one of them", j)
			}
		}
	}
}

// affinityToNothing reports terms about workloads if none of the given workloads match.
func affinityToNothing(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	for i := range p.Spec.WorkloadAffinity {
		t := &p.Spec.WorkloadAffinity[i]
		others, err := placement.CompileOthers(affinityPath(i), t, p.Namespace)
		if err != nil || len(w.Workloads) == 0 || slices.ContainsFunc(w.Workloads, func(o *workload.Workload) bool { return others.Match(o.Namespace, o.Labels) }) {
			continue
		}
		effect := ""
		if t.Required && t.Type == v1alpha1.WorkloadsAttract {
			effect = ": nothing is placed before there is one"
		}
		report.at(affinityPath(i).Child("labelSelector"), "there are no %s%s", &others, effect)
	}
}

// circles reports placements whose workloads can never be placed, because they and others each ask for one of the others first.
func circles(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	if len(report.findings) > 0 || len(p.Spec.WorkloadAffinity) == 0 {
		return
	}
	if w.waits == nil {
		w.waits = w.waiting()
	}
	for i := range p.Spec.WorkloadAffinity {
		t := &p.Spec.WorkloadAffinity[i]
		others, err := placement.CompileOthers(affinityPath(i), t, p.Namespace)
		if err != nil || !t.Required || t.Type != v1alpha1.WorkloadsAttract {
			continue
		}
		var waits []string
		own := false
		for _, o := range w.Workloads {
			own = own || w.waits[o] == p
			if others.Match(o.Namespace, o.Labels) {
				if w.waits[o] == nil {
					own = false
					break // it can be placed first
				}
				waits = append(waits, o.String())
			}
		}
		if own && len(waits) > 0 {
			report.at(affinityPath(i), "its workloads wait for %s, which wait for others in turn, and none of them is ever the first: leave out required "+
				"in one of their terms, or have the labelSelector of one select its own workloads, too", strings.Join(waits[:min(len(waits), 3)], ", "))
		}
	}
}

// waiting returns the workloads that required attraction keeps from ever being placed, each with its placement.
func (w *Workspace) waiting() map[*workload.Workload]*v1alpha1.WorkloadPlacement {
	placements := slices.Clone(w.Placements)
	slices.SortFunc(placements, func(a, b *v1alpha1.WorkloadPlacement) int { return placement.ByAge(a, b) })
	selectors, terms := make([]placement.Selector, len(placements)), make([][]placement.Others, len(placements))
	for i, p := range placements {
		selectors[i], _ = placement.CompileSelector(p) // an invalid one selects nothing
		for j := range p.Spec.WorkloadAffinity {
			t := &p.Spec.WorkloadAffinity[j]
			if others, err := placement.CompileOthers(affinityPath(j), t, p.Namespace); err == nil && t.Required && t.Type == v1alpha1.WorkloadsAttract {
				terms[i] = append(terms[i], others)
			}
		}
	}
	waits, met := map[*workload.Workload]*v1alpha1.WorkloadPlacement{}, map[string]bool{}
	owners := map[*workload.Workload]int{}
	place := func(o *workload.Workload) {
		delete(waits, o)
		for i := range terms {
			for j := range terms[i] {
				if t := &terms[i][j]; !met[t.ID()] && t.Match(o.Namespace, o.Labels) {
					met[t.ID()] = true
				}
			}
		}
	}
	for _, o := range w.Workloads {
		owner, _ := placement.Owner(selectors, o)
		if owners[o] = owner; owner >= 0 && len(terms[owner]) > 0 {
			waits[o] = placements[owner]
		} else if owner >= 0 {
			place(o)
		}
	}
	for before := -1; before != len(waits); {
		before = len(waits)
		for o := range waits {
			if !slices.ContainsFunc(terms[owners[o]], func(t placement.Others) bool { return !met[t.ID()] && !t.Match(o.Namespace, o.Labels) }) {
				place(o)
			}
		}
	}
	return waits
}
