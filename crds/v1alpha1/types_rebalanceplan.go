package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Bounds of a RebalancePlan.
const (
	MaxRebalanceMoves = 1000
	MaxRebalanceWaves = 100
	// MaxRebalanceSkipped is how many skipped moves the status names. The waves count them all.
	MaxRebalanceSkipped = 50
)

// RebalancePlan is a list of moves that the controller carries out, one wave after another, within the disruption budget. `kubectl
// placement rebalance --apply` creates it. Of several plans in a workspace the oldest that is neither complete, halted nor suspended
// is carried out; the others wait. Deleting a plan stops it: what has moved stays where it is.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=placement,path=rebalanceplans,shortName=rbplan
// +kubebuilder:printcolumn:name="Aim",type=string,JSONPath=`.spec.aim`
// +kubebuilder:printcolumn:name="Wave",type=integer,JSONPath=`.status.wave`,description="The wave that is being carried out"
// +kubebuilder:printcolumn:name="Moved",type=integer,JSONPath=`.status.moved`,description="Moves that are done"
// +kubebuilder:printcolumn:name="Skipped",type=integer,JSONPath=`.status.skipped`,description="Moves that do not apply any more"
// +kubebuilder:printcolumn:name="Moves",type=integer,JSONPath=`.status.moves`,description="All moves of the plan"
// +kubebuilder:printcolumn:name="Complete",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].status`
// +kubebuilder:printcolumn:name="Halted",type=string,JSONPath=`.status.conditions[?(@.type=="Halted")].reason`,description="Why the plan is not carried on"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RebalancePlan struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what moves where.
	//
	// +required
	Spec RebalancePlanSpec `json:"spec"`

	// status says how far the plan is. The controller writes it.
	//
	// +optional
	Status RebalancePlanStatus `json:"status,omitempty"`
}

// RebalancePlanSpec says what moves where.
type RebalancePlanSpec struct {
	// aim is what the moves are for. Write it for people: nothing depends on it.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Aim string `json:"aim,omitempty"`

	// moves of the plan, which cannot be changed: a fleet that has changed needs another plan.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the moves of a plan cannot be changed: delete it, and create another one"
	Moves []RebalanceMove `json:"moves"`

	// suspend stops the plan before the next move, until it is false again. What has moved stays where it is.
	//
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// limits say when the plan halts by itself.
	//
	// +optional
	// +kubebuilder:default={}
	Limits RebalanceLimits `json:"limits,omitzero"`
}

// RebalanceMove takes what one workload has on a cluster to another one.
type RebalanceMove struct {
	// workload that moves.
	//
	// +required
	Workload NamespacedWorkloadReference `json:"workload"`

	// from is the cluster that the workload leaves.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	From string `json:"from"`

	// to is the cluster that it comes to. It comes there as any workload does: only where the placement and the policies let it, and
	// there is room.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	To string `json:"to"`

	// wave of the move, from 1. The moves of a wave begin once all of the waves before are done, or skipped.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Wave int32 `json:"wave"`
}

// NamespacedWorkloadReference identifies a workload in a workspace.
type NamespacedWorkloadReference struct {
	// namespace of the workload.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

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

	// uid of the workload. A later workload of the same name does not move. Left out, any of the name does.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	UID types.UID `json:"uid,omitempty"`
}

// RebalanceLimits say when a plan halts by itself.
type RebalanceLimits struct {
	// moveTimeout is how long a workload that has moved may take to be ready in its new place and gone from the old one, where agents
	// deliver. Then the plan halts. It is also how long a move waits for room before it is skipped.
	//
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be from 1s to 24h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	MoveTimeout *metav1.Duration `json:"moveTimeout,omitempty"`

	// moreWaiting is how many workloads more may wait for a cluster than when the plan began. With one more than that it halts.
	//
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MoreWaiting int32 `json:"moreWaiting"`
}

// RebalancePlanStatus says how far a plan is.
type RebalancePlanStatus struct {
	// observedGeneration is the generation of the plan that the status is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the plan: Progressing while it is carried out, Complete once all of its moves are done or skipped, and Halted
	// once it has stopped by itself. A plan that is complete or halted is over: it can be deleted.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []conditionsv1alpha1.Condition `json:"conditions,omitempty"`

	// startedAt is when the plan began to be carried out.
	//
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// waitingBefore is how many workloads waited for a cluster then.
	//
	// +optional
	WaitingBefore int32 `json:"waitingBefore,omitempty"`

	// wave that is being carried out; 0 before the first.
	//
	// +optional
	Wave int32 `json:"wave,omitempty"`

	// moves is how many the plan has. moved of them are done, skipped ones do not apply any more.
	//
	// +optional
	Moves int32 `json:"moves"`

	// moved is how many moves are done: the decision is durable, and where agents deliver, the workload is ready in its new place and
	// gone from the old one.
	//
	// +optional
	Moved int32 `json:"moved"`

	// skipped is how many moves do not apply any more.
	//
	// +optional
	Skipped int32 `json:"skipped"`

	// waves that have begun, in their order.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Waves []RebalanceWave `json:"waves,omitempty"`

	// skippedMoves are the first of the moves that are skipped, and why.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=50
	SkippedMoves []SkippedMove `json:"skippedMoves,omitempty"`
}

// RebalanceWave is how far a wave is.
type RebalanceWave struct {
	// wave that this is about.
	//
	// +required
	Wave int32 `json:"wave"`

	// startedAt is when it began.
	//
	// +required
	StartedAt metav1.Time `json:"startedAt"`

	// finishedAt is when all of its moves were done or skipped.
	//
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`

	// moved is how many of its moves are done.
	//
	// +optional
	Moved int32 `json:"moved"`

	// skipped is how many of its moves do not apply any more.
	//
	// +optional
	Skipped int32 `json:"skipped"`
}

// SkippedMove is a move that does not apply any more.
type SkippedMove struct {
	RebalanceMove `json:",inline"`

	// reason why it is skipped, as one word.
	//
	// +required
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason"`

	// message says why it is skipped.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// RebalancePlanList is a list of RebalancePlans.
//
// +kubebuilder:object:root=true
type RebalancePlanList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []RebalancePlan `json:"items"`
}

// GetConditions implements conditions.Getter.
func (p *RebalancePlan) GetConditions() conditionsv1alpha1.Conditions { return p.Status.Conditions }

// SetConditions implements conditions.Setter.
func (p *RebalancePlan) SetConditions(conditions conditionsv1alpha1.Conditions) {
	p.Status.Conditions = conditions
}

// IsOver reports whether a plan is complete or halted: nothing more is moved by it.
func (p *RebalancePlan) IsOver() bool {
	for _, c := range p.Status.Conditions {
		if (c.Type == CompleteCondition || c.Type == HaltedCondition) && c.Status == "True" {
			return true
		}
	}
	return false
}

// Conditions of a RebalancePlan.
const (
	// ProgressingCondition on a RebalancePlan: it is being carried out.
	ProgressingCondition conditionsv1alpha1.ConditionType = "Progressing"
	// CompleteCondition on a RebalancePlan: all moves are done, or skipped.
	CompleteCondition conditionsv1alpha1.ConditionType = "Complete"
	// HaltedCondition on a RebalancePlan: it has stopped by itself, and is over.
	HaltedCondition conditionsv1alpha1.ConditionType = "Halted"
)

// Reasons of these conditions.
const (
	// CarriedOutReason on Progressing True: a wave is being carried out.
	CarriedOutReason = "CarriedOut"
	// WaitsForPlanReason on Progressing False: an older plan is carried out first.
	WaitsForPlanReason = "WaitsForPlan"
	// SuspendedReason on Progressing False: spec.suspend is set.
	SuspendedReason = "Suspended"
	// OverReason on Progressing False: the plan is complete or halted.
	OverReason = "Over"
	// MoreWorkloadsWaitReason on Halted: more workloads wait for a cluster than when the plan began.
	MoreWorkloadsWaitReason = "MoreWorkloadsWait"
	// MoveTimedOutReason on Halted: a workload that has moved is not ready in its new place, or not gone from the old one, in time.
	MoveTimedOutReason = "MoveTimedOut"
	// ClusterLostSinceReason on Halted: a cluster has been lost since the plan began.
	ClusterLostSinceReason = "ClusterLostSince"
	// InvalidPlanReason on Halted: the plan cannot be read.
	InvalidPlanReason = "InvalidPlan"
)
