package lint

import "github.com/kcp-placement/placement/crds/v1alpha1"

// preemptionInVain reports a placement that asks for preemption though no placement has a lower priority; a placement without a priority
// has 0.
func preemptionInVain(p *v1alpha1.WorkloadPlacement, w *Workspace, report *report) {
	if !p.Preempts() || p.Spec.Priority > 0 {
		return
	}
	for _, o := range w.Placements {
		if o.Spec.Priority < p.Spec.Priority {
			return
		}
	}
	report.at(spec.Child("preemption", "policy"), "no WorkloadPlacement has a priority below %d, so nobody makes room: give this one a higher priority", p.Spec.Priority)
}
