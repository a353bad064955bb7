package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WorkloadPlacement says where the workloads of its namespace that it selects may run.
//
// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=placement,shortName=wp;wlp
// +kubebuilder:printcolumn:name="Strategy",type=string,JSONPath=`.spec.strategy`
// +kubebuilder:printcolumn:name="Workloads",type=integer,JSONPath=`.status.workloads`,description="Workloads that belong to the placement"
// +kubebuilder:printcolumn:name="Placed",type=integer,JSONPath=`.status.placed`,description="Workloads that have their clusters"
// +kubebuilder:printcolumn:name="Clusters",type=string,JSONPath=`.status.selectedClusters`,description="Clusters in use"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type WorkloadPlacement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec WorkloadPlacementSpec `json:"spec"`
	// +optional
	Status WorkloadPlacementStatus `json:"status,omitempty"`
}

// WorkloadPlacementSpec says which workloads, and where they may run.
//
// +kubebuilder:validation:XValidation:rule="!has(self.numberOfClusters) || self.strategy == 'Spread' || self.numberOfClusters == 1",message="numberOfClusters above 1 needs strategy Spread"
type WorkloadPlacementSpec struct {
	// workloadSelector selects workloads of the placement's namespace.
	//
	// +required
	WorkloadSelector WorkloadSelector `json:"workloadSelector"`

	// locationSelector selects clusters by their location, given to it as the one label "location".
	//
	// +optional
	LocationSelector *metav1.LabelSelector `json:"locationSelector,omitempty"`

	// clusterSelector selects clusters by label and by name.
	//
	// +optional
	ClusterSelector *ClusterSelector `json:"clusterSelector,omitempty"`

	// capabilityRequirements are capabilities that a cluster must have available. Where one is not required, a
	// cluster that does not list it passes, while one that lists it as unavailable does not.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	CapabilityRequirements []CapabilityRequirement `json:"capabilityRequirements,omitempty"`

	// constraints are CEL expressions over cluster, capacity, workload and placement; a cluster where one is
	// not true is excluded.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Constraints []Constraint `json:"constraints,omitempty"`

	// tolerations let workloads onto clusters with matching taints.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// strategy goes from the ranking of the feasible clusters to the clusters of one workload:
	// RoundRobin gives successive workloads successive clusters, best first; Spread gives each workload the best
	// numberOfClusters; Affinity gives each the best one by affinity and location.
	//
	// +optional
	// +kubebuilder:default=Spread
	Strategy Strategy `json:"strategy,omitempty"`

	// priority orders workloads that wait for room: those of a placement with a higher priority are placed first, and
	// among equals the older. Nothing that is placed makes room for another.
	//
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// numberOfClusters is how many distinct clusters Spread gives each workload; 3 if left out.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	NumberOfClusters *int32 `json:"numberOfClusters,omitempty"`
}

// Strategy goes from a ranking of clusters to the clusters of one workload.
//
// +kubebuilder:validation:Enum=RoundRobin;Spread;Affinity
type Strategy string

// The strategies.
const (
	// StrategyRoundRobin rotates the successive workloads of a placement over the feasible clusters, best first.
	StrategyRoundRobin Strategy = "RoundRobin"
	// StrategySpread gives a workload the best numberOfClusters clusters.
	StrategySpread Strategy = "Spread"
	// StrategyAffinity gives a workload the best cluster by the affinity and location factors.
	StrategyAffinity Strategy = "Affinity"
)

// DefaultNumberOfClusters is what Spread uses where numberOfClusters is left out.
const DefaultNumberOfClusters = 3

// WorkloadSelector selects workloads; both parts must match.
type WorkloadSelector struct {
	// workloadTypes are the kinds of workload; all kinds that the controller watches if left out.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	WorkloadTypes []WorkloadType `json:"workloadTypes,omitempty"`

	// labelSelector selects workloads by label; all if left out.
	//
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

// WorkloadType is a kind of workload.
type WorkloadType struct {
	// apiVersion, for example "apps/v1".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	APIVersion string `json:"apiVersion"`

	// kind, for example "Deployment".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	Kind string `json:"kind"`
}

// ClusterSelector selects clusters; both parts must match.
type ClusterSelector struct {
	// labelSelector selects clusters by the labels of their registrations; all if left out.
	//
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// clusterNames selects clusters by name; all if empty.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	ClusterNames []string `json:"clusterNames,omitempty"`
}

// CapabilityRequirement asks for a capability.
type CapabilityRequirement struct {
	// type names the capability.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Type string `json:"type"`

	// required excludes clusters that do not list the capability.
	//
	// +optional
	Required bool `json:"required,omitempty"`
}

// Constraint is a condition that a cluster must meet.
type Constraint struct {
	// name identifies the constraint in reasons.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// expression is CEL and gives a bool.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression"`

	// message tells people why a cluster that fails was excluded.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// WorkloadPlacementStatus is how placing goes.
type WorkloadPlacementStatus struct {
	// conditions: ConstraintsValid, PoliciesReady, Scheduled, and Ready, which sums them up.
	//
	// +optional
	Conditions conditionsv1alpha1.Conditions `json:"conditions,omitempty"`

	// selectedClusters are the clusters in use, by name.
	//
	// +optional
	// +listType=atomic
	SelectedClusters []string `json:"selectedClusters,omitempty"`

	// workloads is how many workloads belong to the placement.
	//
	// +optional
	Workloads int32 `json:"workloads"`

	// placed is how many of them have their clusters.
	//
	// +optional
	Placed int32 `json:"placed"`

	// observedGeneration is the generation of the spec that this status is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// GetConditions returns the conditions; with SetConditions it serves kcp's condition helpers.
func (p *WorkloadPlacement) GetConditions() conditionsv1alpha1.Conditions { return p.Status.Conditions }

// SetConditions replaces the conditions.
func (p *WorkloadPlacement) SetConditions(conditions conditionsv1alpha1.Conditions) {
	p.Status.Conditions = conditions
}

// WorkloadPlacementList is a list of WorkloadPlacements.
//
// +kubebuilder:object:root=true
type WorkloadPlacementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []WorkloadPlacement `json:"items"`
}
