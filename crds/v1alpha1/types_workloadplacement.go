package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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
// +kubebuilder:printcolumn:name="Delivered",type=integer,JSONPath=`.status.delivered`,description="Workloads that are ready on all of their clusters"
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
// +kubebuilder:validation:XValidation:rule="!(self.strategy.type in ['RoundRobin', 'Affinity']) || !has(self.numberOfClusters) || (type(self.numberOfClusters) == int ? self.numberOfClusters <= 1 : self.numberOfClusters != 'All')",message="numberOfClusters above 1 needs strategy Spread, BinPack or Weighted"
// +kubebuilder:validation:XValidation:rule="!(self.strategy.type in ['RoundRobin', 'Affinity']) || !has(self.replicaScheduling) || self.replicaScheduling.type != 'Divided'",message="dividing replicas needs strategy Spread, BinPack or Weighted"
// +kubebuilder:validation:XValidation:rule="!has(self.minClusters) || self.minClusters > 1000 || self.minClusters <= (!has(self.numberOfClusters) ? (self.strategy.type in ['RoundRobin', 'Affinity'] ? 1 : 3) : type(self.numberOfClusters) == int && self.numberOfClusters >= 1 ? self.numberOfClusters : 1000)",message="minClusters must not be above numberOfClusters"
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
	// how long they stay on a cluster whose Ready condition is False. The operators Gt and Lt tolerate taints whose values are
	// integers above, or below, the toleration's.
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
	// among equals the oldest. Nothing is evicted to make room, unless preemption says so.
	//
	// +optional
	// +kubebuilder:default=0
	Priority int32 `json:"priority,omitempty"`

	// preemption says whether a workload that waits for room may take the place of others of lower priority. Left out, it may not.
	//
	// +optional
	// +kubebuilder:default={}
	Preemption Preemption `json:"preemption,omitzero"`

	// headroom asks for spare capacity, such that the workloads of the placement survive the loss of a cluster or of a domain of
	// clusters. Condition HeadroomAvailable says whether they would.
	//
	// +optional
	Headroom *Headroom `json:"headroom,omitempty"`

	// numberOfClusters is how many clusters each workload gets, or All for every cluster that passes: 3 if left out, fewer where
	// fewer pass. RoundRobin and Affinity give each workload one cluster.
	//
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000 : self == 'All'",message="must be from 1 to 1000, or All"
	NumberOfClusters *intstr.IntOrString `json:"numberOfClusters,omitempty"`

	// minClusters is how many clusters a workload gets at least: it rather waits than get fewer. What runs on fewer, since it
	// had to leave others, stays there.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MinClusters int32 `json:"minClusters,omitempty"`

	// spreadConstraints say how clusters are spread over domains, such as locations, as topologySpreadConstraints of a pod do for
	// nodes. All of them have to hold at once. They count when a cluster is added; none makes a workload leave one.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	SpreadConstraints []SpreadConstraint `json:"spreadConstraints,omitempty"`

	// replicaScheduling says whether each cluster gets all replicas of a workload or a share of them.
	//
	// +optional
	ReplicaScheduling *ReplicaScheduling `json:"replicaScheduling,omitempty"`

	// workloadAffinity attracts workloads to domains where other workloads are, or keeps them away from there.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	WorkloadAffinity []WorkloadAffinityTerm `json:"workloadAffinity,omitempty"`

	// fallback lists groups of clusters in order of preference: a workload is placed by the first one that has a place for it,
	// and stays in that group. Each narrows what the rest of the spec allows.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	Fallback []ClusterGroup `json:"fallback,omitempty"`

	// suspend has nothing decided on the workloads of the placement: none is placed, moved or withdrawn while it is true. Workloads
	// that are deleted still free what they hold, and what is decided is still delivered. Condition Suspended says what would be
	// decided. The PlacementConfig suspends all placements of the workspace.
	//
	// +optional
	// +kubebuilder:default=false
	Suspend bool `json:"suspend,omitempty"`

	// stability says when workloads that may stay where they run move all the same, for a better score. Left out, none does.
	//
	// +optional
	Stability *Stability `json:"stability,omitempty"`

	// delivery says how workloads are brought to their clusters, by agents that deliver. No decision depends on it.
	//
	// +optional
	// +kubebuilder:default={}
	Delivery Delivery `json:"delivery,omitzero"`
}

// Strategy says how the clusters of a workload are chosen from those that pass. It is a union: type says which member
// applies, and strategies with parameters add members of their own.
//
// +union
type Strategy struct {
	// type is the strategy.
	// Spread gives each workload the best clusters, as many as numberOfClusters.
	// BinPack gives each workload the fullest clusters that it fits on, as many as numberOfClusters, so that others stay free.
	// Weighted draws the clusters of each workload at random, in proportion to their scores, from the workload's UID.
	// RoundRobin gives each workload one cluster, the best of those that hold the fewest workloads of the placement.
	// Affinity gives each workload the one cluster with the highest scores for affinity and location.
	//
	// +unionDiscriminator
	// +required
	Type StrategyType `json:"type"`
}

// StrategyType names a strategy.
//
// +kubebuilder:validation:Enum=Affinity;BinPack;RoundRobin;Spread;Weighted
type StrategyType string

// The strategies.
const (
	// StrategyRoundRobin gives successive workloads of a placement successive clusters, best first.
	StrategyRoundRobin StrategyType = "RoundRobin"
	// StrategySpread gives a workload the best numberOfClusters clusters.
	StrategySpread StrategyType = "Spread"
	// StrategyAffinity gives a workload the best cluster by the affinity and location factors.
	StrategyAffinity StrategyType = "Affinity"
	// StrategyBinPack gives a workload the fullest numberOfClusters clusters that it fits on.
	StrategyBinPack StrategyType = "BinPack"
	// StrategyWeighted draws numberOfClusters clusters in proportion to their scores.
	StrategyWeighted StrategyType = "Weighted"
)

// StrategyTypes are all of them.
var StrategyTypes = []StrategyType{StrategyAffinity, StrategyBinPack, StrategyRoundRobin, StrategySpread, StrategyWeighted}

// AllClusters is the value of numberOfClusters for every cluster that passes.
const AllClusters = "All"

// MaxClusters is how many clusters one workload has at most.
const MaxClusters = 1000

// SpreadConstraint says how evenly clusters are spread over the domains of a topology key.
type SpreadConstraint struct {
	// topologyKey divides clusters into domains, one for each of its values: location for the location of the registration,
	// cluster for its name, capability:<type>/<attribute> for an attribute of a capability, or the key of a label, such as
	// topology.kubernetes.io/zone. A cluster without it is in no domain: where the constraint has to hold, nothing is placed
	// there.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	TopologyKey string `json:"topologyKey"`

	// maxSkew is by how much a domain that gets a cluster may exceed the domain with the fewest, of those that have a cluster
	// that passes the filter, however full, and whose weight, where replicas are divided by that, is not 0.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxSkew int32 `json:"maxSkew,omitempty"`

	// minDomains is how many domains there have to be. While there are fewer, the one with the fewest counts as empty, so that
	// no domain gets more than maxSkew.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MinDomains int32 `json:"minDomains,omitempty"`

	// whenUnsatisfiable is DoNotSchedule where the constraint has to hold, ScheduleAnyway where it weighs.
	//
	// +optional
	// +kubebuilder:default=DoNotSchedule
	// +kubebuilder:validation:Enum=DoNotSchedule;ScheduleAnyway
	WhenUnsatisfiable corev1.UnsatisfiableConstraintAction `json:"whenUnsatisfiable,omitempty"`

	// scope is what is counted. Clusters counts the clusters of one workload. Workloads counts the workloads of the placement,
	// each on every one of its clusters.
	//
	// +optional
	// +kubebuilder:default=Clusters
	Scope SpreadScope `json:"scope,omitempty"`

	// weight is how many points of the score each cluster costs by which a domain exceeds maxSkew, with ScheduleAnyway.
	//
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight,omitempty"`
}

// SpreadScope says what a spread constraint counts.
//
// +kubebuilder:validation:Enum=Clusters;Workloads
type SpreadScope string

// The scopes of spread constraints.
const (
	SpreadClusters  SpreadScope = "Clusters"
	SpreadWorkloads SpreadScope = "Workloads"
)

// TopologyKeyLocation, TopologyKeyCluster and TopologyKeyCapability, which a capability and its attribute follow, are the topology
// keys that are no labels.
const (
	TopologyKeyLocation   = "location"
	TopologyKeyCluster    = "cluster"
	TopologyKeyCapability = "capability:"
)

// ReplicaScheduling says how many of a workload's replicas each of its clusters gets.
//
// +kubebuilder:validation:XValidation:rule="!has(self.maxPerCluster) || self.maxPerCluster < 1 || !has(self.minPerCluster) || self.minPerCluster <= self.maxPerCluster",message="minPerCluster must not be above maxPerCluster"
// +kubebuilder:validation:XValidation:rule="!has(self.weights) || has(self.division) && self.division == 'Weighted'",message="weights need division Weighted"
type ReplicaScheduling struct {
	// type is Duplicated where each cluster gets all replicas, Divided where each gets a share. Workloads with a pod on each node,
	// and those of several kinds of pods, are never divided.
	//
	// +optional
	// +kubebuilder:default=Duplicated
	Type ReplicaSchedulingType `json:"type,omitempty"`

	// division says how large the shares are, as far as the clusters have room.
	// Even makes them equal.
	// Weighted makes them proportional to weights.
	// FreeCapacity makes them proportional to how many replicas each cluster has room for.
	// Aggregated uses as few clusters as possible.
	// Overflow fills the clusters one by one, in order of the fallback groups and then of the ranking, and empties them in
	// reverse.
	// When a workload grows, no cluster loses replicas; when it shrinks, none gets any. Of clusters with an equal claim to a
	// replica, the better ranked one gets it.
	//
	// +optional
	// +kubebuilder:default=Even
	Division ReplicaDivision `json:"division,omitempty"`

	// weights of clusters for division Weighted: a cluster has the weight of the first entry that matches it, and gets nothing
	// where none does.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Weights []ClusterWeight `json:"weights,omitempty"`

	// minPerCluster is how many replicas a cluster gets at least, unless it gets none. A cluster without room for as many does
	// not pass the filter. Constraints and scores are about as many: workload.requests is what these request.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	MinPerCluster int32 `json:"minPerCluster,omitempty"`

	// maxPerCluster is how many replicas a cluster gets at most. Others go to other clusters, and wait where there are none.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxPerCluster int32 `json:"maxPerCluster,omitempty"`

	// partial places as many replicas as there is room for, and the others wait. Left out, a workload is placed as a whole or not
	// at all.
	//
	// +optional
	// +kubebuilder:default=false
	Partial bool `json:"partial,omitempty"`
}

// ReplicaSchedulingType says whether replicas are divided among clusters.
//
// +kubebuilder:validation:Enum=Duplicated;Divided
type ReplicaSchedulingType string

// The types of replica scheduling.
const (
	ReplicasDuplicated ReplicaSchedulingType = "Duplicated"
	ReplicasDivided    ReplicaSchedulingType = "Divided"
)

// ReplicaDivision says how large the shares of clusters are.
//
// +kubebuilder:validation:Enum=Even;Weighted;FreeCapacity;Aggregated;Overflow
type ReplicaDivision string

// The divisions.
const (
	DivideEven         ReplicaDivision = "Even"
	DivideWeighted     ReplicaDivision = "Weighted"
	DivideFreeCapacity ReplicaDivision = "FreeCapacity"
	DivideAggregated   ReplicaDivision = "Aggregated"
	DivideOverflow     ReplicaDivision = "Overflow"
)

// ClusterWeight gives clusters a weight. A cluster must match both selectors.
type ClusterWeight struct {
	// clusterSelector selects clusters by labels and names. Left out, every cluster matches.
	//
	// +optional
	ClusterSelector *ClusterSelector `json:"clusterSelector,omitempty"`

	// locationSelector selects clusters by location, as that of the placement does. Left out, every location matches.
	//
	// +optional
	LocationSelector *metav1.LabelSelector `json:"locationSelector,omitempty"`

	// weight of these clusters, relative to the others; 0 keeps replicas away.
	//
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight int32 `json:"weight"`
}

// WorkloadAffinityTerm attracts workloads to the domains where others are, or repels them.
type WorkloadAffinityTerm struct {
	// type is Attract to be placed where the selected workloads are, Repel to be placed where they are not.
	//
	// +required
	Type WorkloadAffinityType `json:"type"`

	// labelSelector selects the other workloads by their labels; {} selects all. A workload is never its own other.
	//
	// +required
	LabelSelector *metav1.LabelSelector `json:"labelSelector"`

	// namespaces of the other workloads: that of the placement if left out. "*" is every namespace of the workspace.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`

	// topologyKey divides clusters into domains, as in spreadConstraints.
	//
	// +optional
	// +kubebuilder:default=cluster
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	TopologyKey string `json:"topologyKey,omitempty"`

	// required keeps a workload out of domains without one of the others, or, with Repel, out of those with one, and keeps the
	// others out of the domains where such a workload is. A workload that selects itself may be the first one. Left out, the term
	// weighs.
	//
	// +optional
	// +kubebuilder:default=false
	Required bool `json:"required,omitempty"`

	// weight is how many points of the score a term that is not required adds in domains with one of the others, or takes away
	// with Repel.
	//
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight,omitempty"`
}

// WorkloadAffinityType says whether a term attracts or repels.
//
// +kubebuilder:validation:Enum=Attract;Repel
type WorkloadAffinityType string

// The types of affinity between workloads.
const (
	WorkloadsAttract WorkloadAffinityType = "Attract"
	WorkloadsRepel   WorkloadAffinityType = "Repel"
)

// ClusterGroup is a group of clusters to fall back to. A cluster has to pass what is here beside the rest of the spec.
type ClusterGroup struct {
	// name of the group, which the decision says for each workload.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// locationSelector, clusterSelector, capabilityRequirements and constraints narrow those of the spec.
	//
	// +optional
	LocationSelector *metav1.LabelSelector `json:"locationSelector,omitempty"`

	// clusterSelector narrows that of the spec: a cluster has to be selected by both.
	//
	// +optional
	ClusterSelector *ClusterSelector `json:"clusterSelector,omitempty"`

	// capabilityRequirements are asked for beside those of the spec.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	CapabilityRequirements []CapabilityRequirement `json:"capabilityRequirements,omitempty"`

	// constraints have to hold beside those of the spec.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Constraints []Constraint `json:"constraints,omitempty"`

	// tolerations count in this group beside those of the spec.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// returnAfter has workloads that stand in a later group come back, at the pace of the disruption budget, once this group
	// has had a place for them for so long without a break. Left out, they stay where they are.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	ReturnAfter *metav1.Duration `json:"returnAfter,omitempty"`
}

// DefaultNumberOfClusters is what is used where numberOfClusters is left out. The schema cannot say so, since RoundRobin and
// Affinity use 1.
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
	// has its clusters and a place for all of its replicas, and none stands where it should not), DisruptionAllowed (no workload
	// waits for its turn to leave a cluster; only after some had to), Published (the decisions are durable), Effective (nothing in
	// the spec is in vain, such as a name that no cluster has), ReservationsHeld (no reservation has expired), Delivered (what is
	// placed on clusters whose agents deliver is ready there; only where anything is), Suspended (nothing is decided, and what would
	// be; only while it is so), and Ready, which sums up the first six: it
	// is True where they all are, and otherwise has the reason and message of the worst.
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

	// delivered is how many of them are ready on all of their clusters, of those whose agents deliver.
	//
	// +optional
	Delivered int32 `json:"delivered,omitempty"`

	// queue has the workloads that wait for clusters, or for room for some of their replicas, the next first; the first 10 of more.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Queue []QueuedWorkload `json:"queue,omitempty"`

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
