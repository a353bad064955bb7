package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Stability says when a workload that may stay where it runs moves all the same, since it would be better off elsewhere.
type Stability struct {
	// moves is Never, or ForGain: a workload moves where another cluster scores so much more than one that it runs on. It leaves one
	// cluster at a time.
	//
	// +optional
	// +kubebuilder:default=Never
	Moves MovesType `json:"moves,omitempty"`

	// minGain is by how many points of the total score the other cluster has to be better.
	//
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MinGain int32 `json:"minGain,omitempty"`

	// after is for how long without a break there has to be the gain. After a restart of the controller that time begins anew.
	//
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	After *metav1.Duration `json:"after,omitempty"`

	// cooldown is how long a workload that has left a cluster, for whatever reason, moves for no gain. For ten times as long it does
	// not return to a cluster that it has left in one of its last two moves.
	//
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	Cooldown *metav1.Duration `json:"cooldown,omitempty"`

	// budget is how many workloads of the placement move for a gain within an interval; others wait for the next. The disruption budget of
	// the workspace counts besides.
	//
	// +optional
	// +kubebuilder:default={}
	Budget MoveBudget `json:"budget,omitzero"`

	// windows are the only times at which workloads move for a gain; at any time if left out.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Windows []MoveWindow `json:"windows,omitempty"`

	// pinned are kinds whose workloads never move for a gain. One workload alone is pinned by its annotation tmc.kcp.io/pinned: "true".
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Pinned []WorkloadType `json:"pinned,omitempty"`
}

// MovesType says for what workloads move that may stay where they are.
//
// +kubebuilder:validation:Enum=Never;ForGain
type MovesType string

// What workloads move for.
const (
	MovesNever   MovesType = "Never"
	MovesForGain MovesType = "ForGain"
)

// MoveBudget bounds moves.
type MoveBudget struct {
	// moves within an interval, whenever it begins.
	//
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	Moves int32 `json:"moves,omitempty"`

	// interval that moves are counted in.
	//
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// MoveLimits are when workloads move, and how many of them.
type MoveLimits struct {
	// budget is how many workloads move within an interval.
	//
	// +optional
	// +kubebuilder:default={}
	Budget MoveBudget `json:"budget,omitzero"`

	// windows are the only times at which workloads move; at any time if left out.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Windows []MoveWindow `json:"windows,omitempty"`
}

// MoveWindow is a time that comes again.
type MoveWindow struct {
	// schedule is when the window opens, in the five fields of cron: minute, hour, day of the month, month, day of the week. For
	// example "0 2 * * 1-5".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Schedule string `json:"schedule"`

	// timeZone of the schedule by its name in the time zone database, for example "Europe/Berlin"; UTC if left out.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`

	// duration is how long the window is open, at most a week.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	Duration metav1.Duration `json:"duration"`
}

// MaxChanges is how many changes the history of a decision has, MaxChangedClusters how many clusters of each it names.
const (
	MaxChanges         = 5
	MaxChangedClusters = 10
)

// DecisionChange is a change of the clusters of a workload.
type DecisionChange struct {
	// at is when it was decided.
	//
	// +required
	At metav1.Time `json:"at"`

	// from are the clusters that the workload left.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=253
	From []string `json:"from,omitempty"`

	// to are the clusters that it got.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=253
	To []string `json:"to,omitempty"`

	// reason in a word: Placed, ClustersAdded, Scaled, Rescheduled, Evicted, Failover, Returned, Gain, Rebalanced, Drained or Preempted.
	//
	// +required
	// +kubebuilder:validation:MaxLength=64
	Reason ChangeReason `json:"reason"`

	// message says why, for people.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`
}

// ChangeReason is why the clusters of a workload changed, in a word.
type ChangeReason string

// Why clusters change.
const (
	// ChangePlaced is the first decision.
	ChangePlaced ChangeReason = "Placed"
	// ChangeAdded gives clusters and takes none.
	ChangeAdded ChangeReason = "ClustersAdded"
	// ChangeScaled takes clusters since fewer, or fewer replicas, are asked for.
	ChangeScaled ChangeReason = "Scaled"
	// ChangeRescheduled leaves a cluster where the workload should not be any more, for a better one.
	ChangeRescheduled ChangeReason = "Rescheduled"
	// ChangeEvicted leaves one where it may not be any more.
	ChangeEvicted ChangeReason = "Evicted"
	// ChangeFailover leaves one that is lost or gone.
	ChangeFailover ChangeReason = "Failover"
	// ChangeReturned goes back to a better fallback group.
	ChangeReturned ChangeReason = "Returned"
	// ChangeGain is for a better score.
	ChangeGain ChangeReason = "Gain"
	// ChangeRebalanced carries out a plan.
	ChangeRebalanced ChangeReason = "Rebalanced"
	// ChangeDrained leaves a cluster that is drained.
	ChangeDrained ChangeReason = "Drained"
	// ChangePreempted gives way to a workload of higher priority.
	ChangePreempted ChangeReason = "Preempted"
)
