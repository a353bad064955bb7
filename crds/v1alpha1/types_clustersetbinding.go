package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxBindingClusters is how many clusters the status of a ClusterSetBinding names.
const MaxBindingClusters = 1000

// ClusterSetBinding has the placements of its workspace use the clusters of a ClusterSet, which is in the workspace of a platform
// team. The other side agrees with a grant of the set. A workspace that registers clusters of its own uses these alone.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=placement,path=clustersetbindings,shortName=clsetbinding
// +kubebuilder:printcolumn:name="Set",type=string,JSONPath=`.spec.clusterSet`
// +kubebuilder:printcolumn:name="Bound",type=string,JSONPath=`.status.conditions[?(@.type=="Bound")].status`,description="Whether the set grants its clusters to this workspace"
// +kubebuilder:printcolumn:name="Usable",type=string,JSONPath=`.status.conditions[?(@.type=="Usable")].status`,description="Whether placements use the clusters"
// +kubebuilder:printcolumn:name="Clusters",type=string,JSONPath=`.status.summary`,description="Clusters that are ready, of all in the set"
// +kubebuilder:printcolumn:name="CPU",type=string,JSONPath=`.status.used.cpu`,description="CPU that workloads of this workspace have"
// +kubebuilder:printcolumn:name="CPU-Quota",type=string,JSONPath=`.status.quota.cpu`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Usable")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterSetBinding struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec names the set.
	//
	// +required
	Spec ClusterSetBindingSpec `json:"spec"`

	// status says what has become of it. The controller writes it.
	//
	// +optional
	Status ClusterSetBindingStatus `json:"status,omitempty"`
}

// ClusterSetBindingSpec names a set.
type ClusterSetBindingSpec struct {
	// clusterSet is the name of the ClusterSet in the platform's workspace. Its clusters can be used once the set grants them to this
	// workspace, too.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClusterSet string `json:"clusterSet"`

	// workspace of the platform team, where the ClusterSet is.
	//
	// +required
	Workspace WorkspaceReference `json:"workspace"`
}

// ClusterSetBindingStatus says what has become of a ClusterSetBinding.
type ClusterSetBindingStatus struct {
	// observedGeneration is the generation of the binding that the status is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the binding: Bound while the set grants its clusters to this workspace, and Usable while placements use them.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []conditionsv1alpha1.Condition `json:"conditions,omitempty"`

	// summary is how many clusters are ready, of all in the set, for people.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Summary string `json:"summary,omitempty"`

	// quota is the most that workloads of this workspace may have on all clusters of the set, by the quota of the grant, or by what is
	// guaranteed and borrowingLimit together where that is less. A resource that is left out is bounded only by what is free.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=128
	Quota corev1.ResourceList `json:"quota,omitempty"`

	// used is what they have of it.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Used corev1.ResourceList `json:"used,omitempty"`

	// clusters of the set, by name, and what is free there for this workspace. `kubectl placement top` shows them as placements see them.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=1000
	Clusters []SharedCluster `json:"clusters,omitempty"`

	// omittedClusters is how many clusters of the set have no room in clusters.
	//
	// +optional
	OmittedClusters int32 `json:"omittedClusters,omitempty"`
}

// SharedCluster is a cluster as a workspace sees it that does not own it.
type SharedCluster struct {
	// name of the cluster, as placements and decisions name it.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// location of the cluster.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Location string `json:"location,omitempty"`

	// ready is whether the cluster can be placed on.
	//
	// +optional
	Ready bool `json:"ready"`

	// free is what workloads of this workspace can still have there: the least of what the cluster has free and of what the quota
	// leaves.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Free corev1.ResourceList `json:"free,omitempty"`
}

// ClusterSetBindingList is a list of ClusterSetBindings.
//
// +kubebuilder:object:root=true
type ClusterSetBindingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ClusterSetBinding `json:"items"`
}

// GetConditions implements conditions.Getter.
func (b *ClusterSetBinding) GetConditions() conditionsv1alpha1.Conditions { return b.Status.Conditions }

// SetConditions implements conditions.Setter.
func (b *ClusterSetBinding) SetConditions(conditions conditionsv1alpha1.Conditions) {
	b.Status.Conditions = conditions
}

// Conditions of ClusterSets and ClusterSetBindings, beside Ready.
const (
	// OvercommittedCondition on a ClusterSet: quotas add up to more than the clusters have. Reservations are exact all the same: who
	// comes first has the room.
	OvercommittedCondition conditionsv1alpha1.ConditionType = "Overcommitted"
	// BoundCondition on a ClusterSetBinding: the set grants its clusters to the workspace. On a ClusterSet: the workspaces of all grants
	// use them.
	BoundCondition conditionsv1alpha1.ConditionType = "Bound"
	// UsableCondition on a ClusterSetBinding: placements of the workspace use the clusters of the set.
	UsableCondition conditionsv1alpha1.ConditionType = "Usable"
)

// Reasons of these conditions, beside those of what is wrong with a field.
const (
	// GrantsNotBoundReason on Bound False of a ClusterSet: some workspaces do not use what they are granted.
	GrantsNotBoundReason = "GrantsNotBound"
	// WithinCapacityReason on Overcommitted False: the clusters have all that is granted.
	WithinCapacityReason = "WithinCapacity"
	// WorkspaceUnknownReason on Ready or Bound False: it is not known which workspace is at a path.
	WorkspaceUnknownReason = "WorkspaceUnknown"
	// NamespaceMissingReason on Ready False: there is no namespace in which decisions for other workspaces can be kept.
	NamespaceMissingReason = "NamespaceMissing"
	// NotBoundReason on Usable False: the set grants the workspace nothing.
	NotBoundReason = "NotBound"
	// FleetNotReadReason on Usable False: it is not known yet what is promised on the clusters.
	FleetNotReadReason = "FleetNotRead"
)
