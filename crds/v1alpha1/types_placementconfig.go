package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
)

// PlacementConfigName is the name of the one PlacementConfig of a workspace.
const PlacementConfigName = "cluster"

// PlacementConfig says how workloads are placed in its whole workspace, whatever their placement. There is at most one, of name
// "cluster"; where there is none, all of its fields are at their defaults.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=placement,path=placementconfigs,shortName=plconfig
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'cluster'",message="the one PlacementConfig of a workspace has the name cluster"
// +kubebuilder:printcolumn:name="Suspended",type=string,JSONPath=`.status.conditions[?(@.type=="Suspended")].status`,description="Whether nothing is decided in the workspace"
// +kubebuilder:printcolumn:name="Rollout",type=string,JSONPath=`.status.policyRollout.phase`,description="How far the rollout of the shadow policies is"
// +kubebuilder:printcolumn:name="Percent",type=integer,JSONPath=`.status.policyRollout.percent`,description="The share of the placements that they decide for"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PlacementConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says how workloads are placed in the workspace.
	//
	// +optional
	Spec PlacementConfigSpec `json:"spec,omitempty"`

	// status says what has become of it. The controller writes it.
	//
	// +optional
	Status PlacementConfigStatus `json:"status,omitempty"`
}

// PlacementConfigSpec says how workloads are placed in a workspace.
type PlacementConfigSpec struct {
	// suspend has nothing decided in the workspace: no workload is placed, moved or withdrawn while it is true. Workloads that are
	// deleted still free what they hold, and what is decided is still delivered. The condition Suspended of each placement says
	// what would be decided. One placement alone is suspended by its own spec.suspend.
	//
	// +optional
	// +kubebuilder:default=false
	Suspend bool `json:"suspend,omitempty"`

	// moves bounds how many workloads of all placements together move for a gain, and when, besides what stability of each placement
	// says. Left out, only that counts.
	//
	// +optional
	Moves *MoveLimits `json:"moves,omitempty"`

	// policyRollout brings the shadow policies of the workspace into force step by step. status.policyRollout says how far it is.
	// Left out, they decide nothing.
	//
	// +optional
	PolicyRollout *PolicyRollout `json:"policyRollout,omitempty"`
}

// PlacementConfigStatus says what has become of a PlacementConfig.
type PlacementConfigStatus struct {
	// conditions by type. Suspended says whether nothing is decided in the workspace.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	Conditions []conditionsv1alpha1.Condition `json:"conditions,omitempty"`

	// policyRollout is how far the rollout of the shadow policies is; absent where there is none.
	//
	// +optional
	PolicyRollout *PolicyRolloutStatus `json:"policyRollout,omitempty"`
}

// GetConditions implements conditions.Getter.
func (c *PlacementConfig) GetConditions() conditionsv1alpha1.Conditions { return c.Status.Conditions }

// SetConditions implements conditions.Setter.
func (c *PlacementConfig) SetConditions(to conditionsv1alpha1.Conditions) { c.Status.Conditions = to }

// PlacementConfigList is a list of PlacementConfigs.
//
// +kubebuilder:object:root=true
type PlacementConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []PlacementConfig `json:"items"`
}
