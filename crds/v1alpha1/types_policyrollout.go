package v1alpha1

import (
	"hash/fnv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PolicyRollout brings the shadow policies of a workspace, the candidate, into force for a share of its placements, then for more.
type PolicyRollout struct {
	// steps are taken one after the other; after the last one the candidate decides for all placements. It decides what is decided
	// from then on: what runs stays where it may stay.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="self.map(step, step.percent).isSorted()",message="percent must not fall from one step to the next"
	Steps []PolicyRolloutStep `json:"steps"`

	// limits return all placements to the policies in force when one of them is exceeded. A candidate that fails for a workload, or
	// costs too much, does so in any case.
	//
	// +optional
	Limits *PolicyRolloutLimits `json:"limits,omitempty"`
}

// PolicyRolloutStep is a share of the placements, and for how long it is watched.
type PolicyRolloutStep struct {
	// percent of the placements that the candidate decides for. Which ones follows from their UIDs, so a placement that is among
	// them stays so.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent"`

	// pause is how long the step lasts before the next one is taken, for example 30m.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=63
	Pause metav1.Duration `json:"pause"`
}

// PolicyRolloutLimits say when a rollout has gone wrong.
type PolicyRolloutLimits struct {
	// waiting is by how many the waiting workloads of the workspace may rise above those that waited when the rollout began: a
	// number, or a percentage of the workloads of the workspace, such as "5%". Left out, they may rise.
	//
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 && self <= 1000000 : self.matches('^(100|[1-9]?[0-9])%$')",message="must be from 0 to 1000000, or a percentage such as 5%"
	Waiting *intstr.IntOrString `json:"waiting,omitempty"`

	// moves is how many workloads may lose a cluster, of placements that the candidate decides for, from the beginning of the rollout
	// on. Left out, any number may.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Moves *int32 `json:"moves,omitempty"`
}

// PolicyRolloutPhase says how far a rollout is.
//
// +kubebuilder:validation:Enum=Pending;Progressing;Complete;RolledBack
type PolicyRolloutPhase string

// The phases of a rollout.
const (
	// RolloutPending: there is no candidate, it is on trial, or it is refused.
	RolloutPending PolicyRolloutPhase = "Pending"
	// RolloutProgressing: the candidate decides for a share of the placements.
	RolloutProgressing PolicyRolloutPhase = "Progressing"
	// RolloutComplete: it decides for all of them.
	RolloutComplete PolicyRolloutPhase = "Complete"
	// RolloutRolledBack: it has exceeded a limit or failed, and decides for none until its text changes.
	RolloutRolledBack PolicyRolloutPhase = "RolledBack"
)

// PolicyRolloutStatus says how far a rollout is. It is what a controller goes on from after a restart.
type PolicyRolloutStatus struct {
	// digest identifies the candidate. One with another text starts anew.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Digest string `json:"digest,omitempty"`

	// phase is Pending, Progressing, Complete or RolledBack.
	//
	// +optional
	Phase PolicyRolloutPhase `json:"phase,omitempty"`

	// step is the number of the step, beginning at 1.
	//
	// +optional
	Step int32 `json:"step,omitempty"`

	// percent of the placements that the candidate decides for.
	//
	// +optional
	Percent int32 `json:"percent,omitempty"`

	// since is when the step, or the phase, began.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// placements is how many placements these are.
	//
	// +optional
	Placements int32 `json:"placements,omitempty"`

	// waitingBefore is how many workloads waited when the rollout began.
	//
	// +optional
	WaitingBefore int32 `json:"waitingBefore,omitempty"`

	// moves is how many workloads have lost a cluster since then, of placements that the candidate decides for.
	//
	// +optional
	Moves int32 `json:"moves,omitempty"`

	// message says why the rollout is where it is, and what is to be done.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32768
	Message string `json:"message,omitempty"`
}

// Includes reports whether the candidate decides for a placement. Invariant: one that is included at a percentage is at every larger one.
func (s *PolicyRolloutStatus) Includes(placement types.UID) bool {
	if s == nil {
		return false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(placement))
	return int32(h.Sum64()%100) < s.Percent
}
