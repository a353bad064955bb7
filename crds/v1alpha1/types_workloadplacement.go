package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WorkloadPlacement says which clusters the workloads of its namespace may run on, and how many of them each workload gets.
// The controller records where they run in PlacementDecisions.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=placement,shortName=wplace;wp
// +kubebuilder:printcolumn:name="Strategy",type=string,JSONPath=`.spec.strategy.type`
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

	// spec says which workloads are placed, and where they may run.
	//
	// +required
	Spec WorkloadPlacementSpec `json:"spec"`

	// status says how many workloads are placed and why others are not. The controller writes it.
	//
	// +optional
	Status WorkloadPlacementStatus `json:"status,omitempty"`
}

// WorkloadPlacementSpec says which workloads are placed, and where they may run. A cluster must pass every selector,
// requirement and constraint here.
//
// +kubebuilder:validation:XValidation:rule="!has(self.numberOfClusters) || self.numberOfClusters == 1 || self.strategy.type == 'Spread'",message="numberOfClusters above 1 needs strategy Spread"
type WorkloadPlacementSpec struct {
	// workloadSelector selects workloads in the namespace of the placement. Write {} to select all of them. A workload that
	// several placements select belongs to the oldest, unless its annotation tmc.kcp.io/placement names another.
	//
	// +required
	WorkloadSelector WorkloadSelector `json:"workloadSelector"`

	// locationSelector selects clusters by spec.location of their registration, as the value of the label "location". For
	// example {matchExpressions: [{key: location, operator: In, values: [eu-west, eu-central]}]}. Left out, every location
	// passes.
	//
	// +optional
	LocationSelector *metav1.LabelSelector `json:"locationSelector,omitempty"`

	// clusterSelector selects clusters by the labels and the names of their registrations. Left out, every cluster passes.
	//
	// +optional
	ClusterSelector *ClusterSelector `json:"clusterSelector,omitempty"`

	// capabilityRequirements lists capabilities that a cluster must offer.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	CapabilityRequirements []CapabilityRequirement `json:"capabilityRequirements,omitempty"`

	// constraints are CEL expressions that must hold for a cluster and a workload. An expression that does not compile makes
	// condition ConstraintsValid False, and nothing new is placed; one that fails to evaluate excludes that cluster.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Constraints []Constraint `json:"constraints,omitempty"`

	// tolerations let workloads onto clusters with matching taints, as those of pods do for nodes. With tolerationSeconds, which
	// needs effect NoExecute, workloads leave that long after the taint's timeAdded. A toleration of tmc.kcp.io/not-ready says
	// how long they stay on a cluster whose Ready condition is False.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// strategy says how clusters are chosen from those that pass.
	//
	// +optional
	// +kubebuilder:default={type: "Spread"}
	Strategy Strategy `json:"strategy,omitzero"`

	// priority orders workloads that wait for room: those of the placement with the highest priority are placed first, and
	// among equals the oldest. Nothing is evicted to make room.
	//
	// +optional
	// +kubebuilder:default=0
	Priority int32 `json:"priority,omitempty"`

	// numberOfClusters is how many clusters each workload gets with strategy Spread: 3 if left out, fewer where fewer pass.
	// The other strategies give each workload one cluster.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	NumberOfClusters *int32 `json:"numberOfClusters,omitempty"`
}

// Strategy says how the clusters of a workload are chosen from those that pass. It is a union: type says which member
// applies, and strategies with parameters add members of their own.
//
// +union
type Strategy struct {
	// type is the strategy.
	// Spread gives each workload the best clusters, as many as numberOfClusters.
	// RoundRobin gives each workload one cluster, the best of those that hold the fewest workloads of the placement.
	// Affinity gives each workload the one cluster with the highest scores for affinity and location.
	//
	// +unionDiscriminator
	// +required
	Type StrategyType `json:"type"`
}

// StrategyType names a strategy.
//
// +kubebuilder:validation:Enum=Affinity;RoundRobin;Spread
type StrategyType string

// The strategies.
const (
	// StrategyRoundRobin gives successive workloads of a placement successive clusters, best first.
	StrategyRoundRobin StrategyType = "RoundRobin"
	// StrategySpread gives a workload the best numberOfClusters clusters.
	StrategySpread StrategyType = "Spread"
	// StrategyAffinity gives a workload the best cluster by the affinity and location factors.
	StrategyAffinity StrategyType = "Affinity"
)

// DefaultNumberOfClusters is what Spread uses where numberOfClusters is left out. The schema cannot say so, since other
// strategies use 1.
const DefaultNumberOfClusters = 3

// WorkloadSelector selects workloads. A workload must match both parts; {} selects every workload.
type WorkloadSelector struct {
	// workloadTypes are the kinds of workload to select. Left out, all kinds that the controller watches are selected.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	WorkloadTypes []WorkloadType `json:"workloadTypes,omitempty"`

	// labelSelector selects workloads by their labels. Left out, all labels match.
	//
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

// WorkloadType is a kind of workload.
type WorkloadType struct {
	// apiVersion of the kind, for example "apps/v1".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion"`

	// kind as objects spell it, for example "Deployment".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
}

// ClusterSelector selects clusters. A cluster must match both parts.
type ClusterSelector struct {
	// labelSelector selects clusters by the labels of their ClusterRegistrations. Left out, all labels match.
	//
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// clusterNames are names of ClusterRegistrations. Where any are given, no other cluster is used.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=253
	ClusterNames []string `json:"clusterNames,omitempty"`
}

// CapabilityRequirement asks for a capability of clusters.
type CapabilityRequirement struct {
	// type of the capability, as registrations list it, for example "gpu".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Type string `json:"type"`

	// required excludes clusters that do not list the capability. Whether or not it is set, a cluster that lists the
	// capability as unavailable is excluded.
	//
	// +optional
	// +kubebuilder:default=false
	Required bool `json:"required,omitempty"`
}

// Constraint is a CEL expression that must hold for a cluster and a workload.
type Constraint struct {
	// name identifies the constraint wherever a rejection is explained.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// expression is a CEL expression of type bool over the variables cluster, capacity, workload and placement, for example
	// "capacity.free.memory > 2 * workload.requests.memory". A cluster for which it is false is excluded.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression"`

	// message replaces the expression in every explanation of why a cluster is excluded.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// requiredDuringExecution makes workloads leave a cluster for which the expression has become false, even if there is no
	// other place for them. Left out, what runs there leaves only for a better place. What an expression says of capacity
	// never makes a workload leave, nor does one that cannot be evaluated.
	//
	// +optional
	// +kubebuilder:default=false
	RequiredDuringExecution bool `json:"requiredDuringExecution,omitempty"`
}

// MaxSelectedClusters is how many clusters the status of a placement lists at most.
const MaxSelectedClusters = 1000

// WorkloadPlacementStatus says how many workloads are placed, and why others are not.
type WorkloadPlacementStatus struct {
	// conditions by type: ConstraintsValid (selectors and constraints compile), PoliciesReady (the policies of the workspace as
	// written are in force), WorkloadsVisible (everything that the placement can select can be read), Scheduled (every workload
	// has its clusters, and none stands where it should not), DisruptionAllowed (no workload waits for its turn to leave a
	// cluster; only after some had to), Published (the decisions are durable), Effective (nothing in the spec is in vain, such as
	// a name that no cluster has), ReservationsHeld (no reservation has expired), and Ready, which sums up the first six: it is
	// True where they all are, and otherwise has the reason and message of the worst.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	Conditions []conditionsv1alpha1.Condition `json:"conditions,omitempty"`

	// selectedClusters are the clusters that workloads of the placement are on, by name; the first 1000 of more.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=253
	SelectedClusters []string `json:"selectedClusters,omitempty"`

	// workloads is how many workloads belong to the placement.
	//
	// +optional
	Workloads int32 `json:"workloads"`

	// placed is how many of them have their clusters.
	//
	// +optional
	Placed int32 `json:"placed"`

	// observedGeneration is the metadata.generation that this status describes.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// GetConditions implements the Getter of kcp's condition helpers.
func (p *WorkloadPlacement) GetConditions() conditionsv1alpha1.Conditions { return p.Status.Conditions }

// SetConditions implements the Setter of kcp's condition helpers.
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
