package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MaxDecisionsPerSlice is the largest number of workloads in one PlacementDecision.
const MaxDecisionsPerSlice = 100

// PlacementDecision is a slice of the decisions of one placement, as an EndpointSlice is a slice of a Service's endpoints.
// The slices of a placement, which the label tmc.kcp.io/placement selects, are the durable record of where its workloads run
// and of what is reserved for them. The controller alone writes them.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=placement,shortName=placedec;pd
// +kubebuilder:printcolumn:name="Placement",type=string,JSONPath=`.placementName`
// +kubebuilder:printcolumn:name="Workloads",type=integer,JSONPath=`.count`,description="Workloads whose decisions are in this slice"
// +kubebuilder:printcolumn:name="Where",type=string,JSONPath=`.summary`,description="Where the workloads are: each of a few, with its replicas where they are divided, or how many are on each cluster"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PlacementDecision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// placementName is the name of the WorkloadPlacement, in the same namespace, that the workloads belong to.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PlacementName string `json:"placementName"`

	// source is the workspace and the namespace of the placement, in a slice that is kept beside the ClusterRegistrations because the
	// placement is in another workspace, which shares the clusters. There is a copy of it beside the placement, for reading.
	//
	// +optional
	Source *DecisionSource `json:"source,omitempty"`

	// count is the number of decisions in the slice.
	//
	// +optional
	Count int32 `json:"count"`

	// summary of the decisions for people: the clusters of each of up to three workloads, or how many workloads are on each
	// cluster. Programs read decisions.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Summary string `json:"summary,omitempty"`

	// decisions of the slice, one for each workload, ordered by the workload's kind and name.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Decisions []WorkloadDecision `json:"decisions,omitempty"`
}

// DecisionSource is where a placement is.
type DecisionSource struct {
	// workspace is the logical cluster of the placement.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Workspace string `json:"workspace"`

	// namespace of the placement.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
}

// WorkloadDecision says where one workload runs.
type WorkloadDecision struct {
	// workload that was placed.
	//
	// +required
	Workload WorkloadReference `json:"workload"`

	// clusters that the workload runs on, best first.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Clusters []ClusterDecision `json:"clusters,omitempty"`

	// leaving are clusters that the workload leaves and that it is delivered to: what is set aside there stays so until it is gone.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Leaving []LeavingCluster `json:"leaving,omitempty"`

	// group of spec.fallback that the workload stands in.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Group string `json:"group,omitempty"`

	// divided is set where the clusters share the replicas. Otherwise each of them has all.
	//
	// +optional
	Divided bool `json:"divided,omitempty"`

	// waitingReplicas is how many replicas no cluster has, where the placement divides them and there is no room for all.
	//
	// +optional
	WaitingReplicas int32 `json:"waitingReplicas,omitempty"`

	// reserved is what is set aside for the workload on each of its clusters that has no amount of its own, until the cluster
	// itself counts its pods.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Reserved corev1.ResourceList `json:"reserved,omitempty"`

	// defaultRequest is what LimitRanges of the namespace add to each container that asks for none of a resource, if that is
	// a part of what the workload requests. The workload is counted with it for as long as LimitRanges cannot be read.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	DefaultRequest corev1.ResourceList `json:"defaultRequest,omitempty"`

	// policyDigest identifies the Rego policies that were in force when the decision was made.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	PolicyDigest string `json:"policyDigest,omitempty"`

	// inputsDigest identifies what the decision read of the workload and of its placement when it was made. Other inputs alone
	// do not place the workload anew, and do not change what is written here.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	InputsDigest string `json:"inputsDigest,omitempty"`

	// snapshotGeneration is the generation of the capacity snapshot that the decision was made on.
	//
	// +optional
	SnapshotGeneration int64 `json:"snapshotGeneration,omitempty"`

	// decidedAt is when the decision was made.
	//
	// +required
	DecidedAt metav1.Time `json:"decidedAt"`

	// history is how the clusters of the workload have changed, the last change first.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	History []DecisionChange `json:"history,omitempty"`
}

// WorkloadReference identifies a workload in the namespace of the PlacementDecision.
type WorkloadReference struct {
	// apiVersion of the workload, for example "apps/v1".
	//
	// +required
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion"`

	// kind of the workload, for example "Deployment".
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// name of the workload.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// uid of the workload. It distinguishes the workload from a later one of the same name.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	UID types.UID `json:"uid"`
}

// ClusterDecision is one cluster that a workload runs on.
type ClusterDecision struct {
	// name of the ClusterRegistration.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// replicas of the workload on this cluster.
	//
	// +optional
	Replicas int32 `json:"replicas"`

	// score of the cluster when it was chosen, from 0 to 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Score int32 `json:"score"`

	// reason is the score in a word: Excellent, Good, Fair or Poor.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Reason string `json:"reason,omitempty"`

	// reserved is what is set aside on this cluster in place of the decision's reserved, where its clusters differ: a
	// DaemonSet has a pod on each node, and a cluster may keep an earlier amount.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Reserved corev1.ResourceList `json:"reserved,omitempty"`

	// reservationExpiredAt is set when the reservation on this cluster is given up, because the cluster has not counted the
	// workload in time. The workload keeps the cluster; the field is cleared once the cluster counts all of it.
	//
	// +optional
	ReservationExpiredAt *metav1.Time `json:"reservationExpiredAt,omitempty"`

	// delivery says how the workload fares there; absent where the cluster's agent does not deliver.
	//
	// +optional
	Delivery *ClusterDelivery `json:"delivery,omitempty"`
}

// PlacementDecisionList is a list of PlacementDecisions.
//
// +kubebuilder:object:root=true
type PlacementDecisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []PlacementDecision `json:"items"`
}
