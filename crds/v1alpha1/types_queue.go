package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxQueued is how many waiting workloads the status of a placement lists at most.
const MaxQueued = 10

// MaxBlockers is how many objects are told that keep a workload waiting.
const MaxBlockers = 8

// QueuedWorkload is a workload that waits for clusters, or for room for some of its replicas.
type QueuedWorkload struct {
	// workload that waits.
	//
	// +required
	Workload WorkloadReference `json:"workload"`

	// position in the queue of the workspace, by priority and age; the workload at 1 is the next.
	//
	// +required
	Position int32 `json:"position"`

	// since is when it began to wait.
	//
	// +required
	Since metav1.Time `json:"since"`

	// waitingReplicas is how many of its replicas wait, where it is placed in part.
	//
	// +optional
	WaitingReplicas int32 `json:"waitingReplicas,omitempty"`

	// reason in a word: NoFeasibleCluster; ReplicasWaiting, where it is placed in part; Preempted, where it has made room for a workload
	// of higher priority; Nominated, where others make room for it; NotDecided, where it, its placement or a policy is wrong.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	Reason string `json:"reason"`

	// blockedBy are the objects that keep it from the cluster that is nearest to having a place for it.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	BlockedBy []QueueBlocker `json:"blockedBy,omitempty"`

	// nominatedClusters are clusters where others make room for it. Nobody else gets that room.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=253
	NominatedClusters []string `json:"nominatedClusters,omitempty"`

	// estimate of when there is room for it, by how fast room has been freed lately; absent where too little is known.
	//
	// +optional
	Estimate *QueueEstimate `json:"estimate,omitempty"`

	// wouldFit is a cluster that would have a place for it, if it were registered; absent where none is known.
	//
	// +optional
	WouldFit *SuggestedRegistration `json:"wouldFit,omitempty"`
}

// QueueBlocker is an object that keeps a workload waiting.
type QueueBlocker struct {
	// kind of the object: ClusterRegistration, WorkloadPlacement, ConfigMap, or that of a workload.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// namespace of the object; empty for a ClusterRegistration.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// name of the object; empty where it is one of several that message tells.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// field of the object that says so, for example "spec.constraints[near-db]".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Field string `json:"field,omitempty"`

	// message is what would have to change.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// QueueEstimate is when a workload may get its place, and how that is known.
type QueueEstimate struct {
	// at is when, to the minute.
	//
	// +required
	At metav1.Time `json:"at"`

	// because is what it rests on, for example "cpu: 12 asked for by 3 workloads up to this one, 8 freed an hour in the last hour".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Because string `json:"because,omitempty"`
}

// SuggestedRegistration is a cluster that would have a place for a workload.
type SuggestedRegistration struct {
	// name of the registration, where the placement lists the names of its clusters; otherwise any will do.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// location of the cluster; empty where any will do.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Location string `json:"location,omitempty"`

	// labels of its registration.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 317 && size(self[key]) <= 63)",message="values may have at most 63 characters"
	Labels map[string]string `json:"labels,omitempty"`

	// capabilities that it has.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Capabilities []Capability `json:"capabilities,omitempty"`

	// taints that it may have, since the placement tolerates them.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Taints []corev1.Taint `json:"taints,omitempty"`

	// allocatable is how large it is at least.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`
}
