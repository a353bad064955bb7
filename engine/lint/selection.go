package lint

import (
	"fmt"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/workload"
)

// Selection returns which placements select none of the given workloads, and which workloads no placement selects. It returns
// nothing if no workloads or no placements are given.
func (w *Workspace) Selection() (findings []Finding) {
	workloads := w.Workloads
	if len(workloads) == 0 || len(w.Placements) == 0 {
		return nil
	}
	placements := slices.Clone(w.Placements)
	slices.SortFunc(placements, func(a, b *v1alpha1.WorkloadPlacement) int { return placement.ByAge(a, b) })
	selectors := make([]placement.Selector, len(placements))
	for i, p := range placements {
		var err error
		if selectors[i], err = compiled(p); err != nil {
			return nil // it is not known what it selects
		}
	}
	owned := make([]int, len(placements))
	// lost counts the workloads that a placement selects and others own, owners names the last of these owners.
	lost, owners := make([]int, len(placements)), make([]string, len(placements))
	for _, o := range workloads {
		owner, others := placement.Owner(selectors, o)
		if owner < 0 {
			findings = append(findings, Finding{
				Severity: Warning, Code: "not_selected", Object: o.String(),
				Message: fmt.Sprintf("no WorkloadPlacement of namespace %s selects it, so it is not placed", o.Namespace),
			})
			continue
		}
		owned[owner]++
		for _, other := range others {
			lost[other]++
			owners[other] = placements[owner].Name
		}
	}
	for i, p := range placements {
		f := Finding{Severity: Warning, Code: "selects_nothing", Object: "WorkloadPlacement " + p.Namespace + "/" + p.Name, Field: "spec.workloadSelector"}
		inNamespace := slices.ContainsFunc(workloads, func(o *workload.Workload) bool { return o.Namespace == p.Namespace })
		switch {
		case owned[i] > 0:
			continue
		case lost[i] > 0:
			f.Code = "selected_twice"
			f.Message = fmt.Sprintf("all that it selects belongs to an older placement, or to one before it in the alphabet: %s. "+
				"The annotation %s of a workload names the one that it belongs to", owners[i], v1alpha1.AnnotationPlacement)
		case !inNamespace:
			f.Message = fmt.Sprintf("there is no workload in namespace %s, where placements select", p.Namespace)
		default:
			f.Message = fmt.Sprintf("selects no workload of namespace %s", p.Namespace)
		}
		findings = append(findings, f)
	}
	return findings
}

func compiled(p *v1alpha1.WorkloadPlacement) (placement.Selector, error) {
	s, err := placement.CompileSelector(p)
	if err != nil {
		return s, err
	}
	return s, nil
}
