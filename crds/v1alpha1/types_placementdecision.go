package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MaxDecisionsPerSlice is how many workloads one PlacementDecision holds at most.
const MaxDecisionsPerSlice = 100

// PlacementDecision is a slice of the decisions of one placement, the way EndpointSlices are slices of a
// Service's endpoints. The controller writes it; together the slices are the durable record of what is reserved.
//
// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=placement,shortName=pd;pldec
// +kubebuilder:printcolumn:name="Placement",type=string,JSONPath=`.placementName`
// +kubebuilder:printcolumn:name="Workloads",type=integer,JSONPath=`.count`,description="Workloads whose decisions are in this slice"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PlacementDecision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// placementName is the WorkloadPlacement, in the same namespace, whose decisions these are.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	PlacementName string `json:"placementName"`

	// count of decisions.
	//
	// +optional
	Count int32 `json:"count"`

	// decisions, one for each workload, by the workload's kind and name.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Decisions []WorkloadDecision `json:"decisions,omitempty"`
}

// WorkloadDecision is where one workload runs.
type WorkloadDecision struct {
	// workload is what was placed.
	//
	// +required
	Workload WorkloadReference `json:"workload"`

	// clusters is where, best first.
	//
	// +optional
	// +listType=atomic
	Clusters []ClusterDecision `json:"clusters,omitempty"`

	// reserved is what is set aside for the workload on each of its clusters.
	//
	// +optional
	Reserved corev1.ResourceList `json:"reserved,omitempty"`

	// policyDigest identifies the Rego policies in force when this was decided.
	//
	// +optional
	PolicyDigest string `json:"policyDigest,omitempty"`

	// inputsDigest identifies what of the workload and its placement the decision rests on; as long as it
	// is the same, so is the decision.
	//
	// +optional
	InputsDigest string `json:"inputsDigest,omitempty"`

	// snapshotGeneration is the generation of the capacity snapshot that this was decided on.
	//
	// +optional
	SnapshotGeneration int64 `json:"snapshotGeneration,omitempty"`

	// decidedAt is when.
	//
	// +required
	DecidedAt metav1.Time `json:"decidedAt"`
}

// WorkloadReference identifies one workload in the namespace of the PlacementDecision.
type WorkloadReference struct {
	// +required
	APIVersion string `json:"apiVersion"`
	// +required
	Kind string `json:"kind"`
	// +required
	Name string `json:"name"`
	// uid tells a workload from a later one of the same name.
	//
	// +required
	UID types.UID `json:"uid"`
}

// ClusterDecision is one cluster of a workload.
type ClusterDecision struct {
	// name of the ClusterRegistration.
	//
	// +required
	Name string `json:"name"`
	// replicas of the workload on this cluster.
	//
	// +optional
	Replicas int32 `json:"replicas"`
	// score of the cluster when it was chosen, 0 to 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Score int32 `json:"score"`
	// reason in a few words.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
	// reservationExpiredAt is when what was reserved here was given up, since the cluster had not reported the workload
	// in time. The decision stands, and the mark goes once the cluster reports the workload in full.
	//
	// +optional
	ReservationExpiredAt *metav1.Time `json:"reservationExpiredAt,omitempty"`
}

// PlacementDecisionList is a list of PlacementDecisions.
//
// +kubebuilder:object:root=true
type PlacementDecisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []PlacementDecision `json:"items"`
}
