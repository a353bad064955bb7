package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterDrain empties a cluster.
type ClusterDrain struct {
	// deadline is until when workloads leave at the pace of the disruption budget. From then on, all that have another place leave at
	// once; what has none stays all the same. Without a deadline the pace is kept for as long as it takes.
	//
	// +optional
	Deadline *metav1.Time `json:"deadline,omitempty"`
}

// ClusterDrainStatus is how far the drain of a cluster has come.
type ClusterDrainStatus struct {
	// remaining is how many workloads are still placed on the cluster, apart from those that have finished or are suspended.
	Remaining int32 `json:"remaining"`

	// leaving is how many workloads are placed elsewhere, and keep a copy on the cluster until the new place has one that is ready.
	//
	// +optional
	Leaving int32 `json:"leaving,omitempty"`

	// workloads are the first of those that remain, in the order in which they leave, and why they are still there.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Workloads []DrainedWorkload `json:"workloads,omitempty"`
}

// MaxDrainedWorkloads is how many workloads the status of a drain names.
const MaxDrainedWorkloads = 20

// DrainedWorkload is a workload that remains on a cluster that is drained.
type DrainedWorkload struct {
	// workload is what remains.
	Workload WorkloadReference `json:"workload"`

	// workspace is the logical cluster of the workload, where it is of another workspace that shares the cluster.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Workspace string `json:"workspace,omitempty"`

	// namespace of the workload.
	//
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// reason is Paced where the workload waits for its turn, NoBetterPlace where no other cluster can take it, NotSeen where it cannot be seen,
	// NotDecided where message says why it cannot be decided on, the reason of condition Suspended where its placement is suspended, and Due
	// where it is decided on next.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason,omitempty"`

	// message says why the workload is still there, and what would help.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}
