package v1alpha1

import corev1 "k8s.io/api/core/v1"

// Preemption says whether workloads that wait for room may take the place of others.
type Preemption struct {
	// policy is Never, or PreemptLowerPriority, as preemptionPolicy of a PriorityClass. With PreemptLowerPriority a workload that no
	// cluster has room for takes the place of workloads of its workspace whose placements have a lower priority: of as few and as
	// unimportant ones as possible, within the workspace's disruption budget, and never of one that is pinned. They lose the clusters
	// in question, and wait for others.
	//
	// +optional
	// +kubebuilder:default=Never
	// +kubebuilder:validation:Enum=Never;PreemptLowerPriority
	Policy corev1.PreemptionPolicy `json:"policy,omitempty"`

	// reclaimable lets workloads of the placement lose clusters that they share with other workspaces, so that one of these gets what it is
	// guaranteed and this workspace has borrowed: as few and as unimportant ones as possible, within the workspace's disruption budget,
	// and never one that is pinned. They wait for other places then. Left out, what runs is never given back; it goes only as it ends.
	//
	// +optional
	Reclaimable bool `json:"reclaimable,omitempty"`
}

// Preempts reports whether workloads of the placement may take the place of others.
func (p *WorkloadPlacement) Preempts() bool {
	return p.Spec.Preemption.Policy == corev1.PreemptLowerPriority
}

// IsPinned reports whether a workload with these annotations is never moved for the sake of others.
func IsPinned(annotations map[string]string) bool { return annotations[AnnotationPinned] == "true" }
