package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of a ClusterSet.
const (
	MaxGrants      = 500
	MaxGrantWeight = 1_000_000
)

// ClusterSet shares clusters of its workspace with other workspaces. It is where the ClusterRegistrations are, and each grant lets
// one workspace place its workloads on the clusters of the set, up to a quota. The other side agrees with a ClusterSetBinding.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=placement,path=clustersets,shortName=clset
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.clusters`,description="Clusters of the set"
// +kubebuilder:printcolumn:name="Grants",type=integer,JSONPath=`.status.granted`,description="Grants of the set"
// +kubebuilder:printcolumn:name="Bound",type=integer,JSONPath=`.status.bound`,description="Grants that their workspace has bound"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Overcommitted",type=string,JSONPath=`.status.conditions[?(@.type=="Overcommitted")].status`,description="Whether quotas add up to more than the clusters have"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which clusters are shared, and with whom.
	//
	// +optional
	Spec ClusterSetSpec `json:"spec,omitempty"`

	// status says what has become of it. The controller writes it.
	//
	// +optional
	Status ClusterSetStatus `json:"status,omitempty"`
}

// ClusterSetSpec says which clusters are shared, and with whom.
type ClusterSetSpec struct {
	// clusterSelector selects the clusters of the set by the labels and the names of their registrations. Left out, the set is empty;
	// {} is every cluster of the workspace. What runs on a cluster that leaves the set stays until it has another place.
	//
	// +optional
	ClusterSelector *ClusterSelector `json:"clusterSelector,omitempty"`

	// grants say which workspaces may use the clusters, and how much of them. What runs in a workspace whose grant is taken away stays,
	// and nothing new is placed there.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=500
	Grants []ClusterSetGrant `json:"grants,omitempty"`
}

// ClusterSetGrant lets a workspace use the clusters of a set.
type ClusterSetGrant struct {
	// name of the grant, for people, messages and metrics.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// workspace that may use the clusters, once it has a ClusterSetBinding for the set.
	//
	// +required
	Workspace WorkspaceReference `json:"workspace"`

	// quota is the most that the workspace may have on all clusters of the set together, by resource. It is hard: not a millicore more
	// is promised. A resource that is left out is bounded only by what the clusters have.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, type(self[r]) == int ? self[r] >= 0 : !self[r].startsWith('-'))",message="amounts must not be negative"
	Quota corev1.ResourceList `json:"quota,omitempty"`

	// clusterQuota is the most that it may have on each of the clusters. It is as hard as quota.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, type(self[r]) == int ? self[r] >= 0 : !self[r].startsWith('-'))",message="amounts must not be negative"
	ClusterQuota corev1.ResourceList `json:"clusterQuota,omitempty"`

	// guaranteed is what the workspace has first call on. Others borrow of it what it does not use, as far as their borrowingLimit goes;
	// it gets that back as room becomes free, and by preemption where the placement of the borrower allows that.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, type(self[r]) == int ? self[r] >= 0 : !self[r].startsWith('-'))",message="amounts must not be negative"
	Guaranteed corev1.ResourceList `json:"guaranteed,omitempty"`

	// borrowingLimit is how much more than what it is guaranteed the workspace may have, by resource. A resource that is left out is
	// bounded by quota alone.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(r, type(self[r]) == int ? self[r] >= 0 : !self[r].startsWith('-'))",message="amounts must not be negative"
	BorrowingLimit corev1.ResourceList `json:"borrowingLimit,omitempty"`

	// weight of the workspace where several wait for the same room: one of weight 2 comes to twice the share of one of weight 1.
	//
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Weight int32 `json:"weight,omitempty"`
}

// WorkspaceReference names a workspace by its path or by its logical cluster.
//
// +kubebuilder:validation:XValidation:rule="has(self.path) != has(self.cluster)",message="exactly one of path and cluster must be set"
type WorkspaceReference struct {
	// path of the workspace from root, for example "root:teams:shop". A workspace that is deleted and made anew at the same path is
	// meant, too.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(:[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Path string `json:"path,omitempty"`

	// cluster is the name of the logical cluster, for example "2hv4xb9ywkdm3c1q". It is in spec.cluster of the Workspace, and means no
	// later workspace.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Cluster string `json:"cluster,omitempty"`
}

// String is the path or the logical cluster, whichever is set.
func (r WorkspaceReference) String() string {
	if r.Path != "" {
		return r.Path
	}
	return r.Cluster
}

// ClusterSetStatus says what has become of a ClusterSet.
type ClusterSetStatus struct {
	// observedGeneration is the generation of the set that the status is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the set: Ready once it can be read and has clusters, Bound while the workspaces of all grants use them, and Overcommitted
	// while the quotas, those of other sets with the same clusters included, add up to more than the clusters have.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []conditionsv1alpha1.Condition `json:"conditions,omitempty"`

	// clusters is how many clusters the set has.
	//
	// +optional
	Clusters int32 `json:"clusters"`

	// granted is how many grants the set has, bound how many of them their workspace has bound.
	//
	// +optional
	Granted int32 `json:"granted"`

	// bound is how many grants the workspaces have bound.
	//
	// +optional
	Bound int32 `json:"bound"`

	// grants are the accounts of the workspaces, in the order of the spec. A grant that was taken away stays as long as the workspace
	// has something on the clusters.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=1000
	Grants []ClusterSetGrantStatus `json:"grants,omitempty"`
}

// ClusterSetGrantStatus is the account of a workspace.
type ClusterSetGrantStatus struct {
	// name of the grant.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// path of the workspace, where it is known.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`

	// cluster is the logical cluster of the workspace, where it is known.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Cluster string `json:"cluster,omitempty"`

	// bound says whether the workspace uses the grant. If not, message says why.
	//
	// +optional
	Bound bool `json:"bound"`

	// message says why the workspace does not use the grant, and what to do.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// quota is the most that the workspace may have on all clusters of the set together, by the quota of the grant, or by what is guaranteed
	// and borrowingLimit together where that is less.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=128
	Quota corev1.ResourceList `json:"quota,omitempty"`

	// used is all that workloads of the workspace are promised on clusters of the set, whether they run already or not.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Used corev1.ResourceList `json:"used,omitempty"`

	// reserved is the part of used that the clusters do not count yet.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Reserved corev1.ResourceList `json:"reserved,omitempty"`

	// outside is what the workspace is promised on clusters that are in none of the sets that grant it any: they have left them, and what
	// runs there stays until it has another place. It is no part of used, and of several sets the first by name tells it.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Outside corev1.ResourceList `json:"outside,omitempty"`

	// dominantShare is the largest share, over all resources, that the workspace has of what the clusters of the set have, in
	// thousandths.
	//
	// +optional
	DominantShare int32 `json:"dominantShare"`

	// waiting is how many workloads of the workspace wait for a cluster.
	//
	// +optional
	Waiting int32 `json:"waiting"`
}

// ClusterSetList is a list of ClusterSets.
//
// +kubebuilder:object:root=true
type ClusterSetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ClusterSet `json:"items"`
}

// GetConditions implements conditions.Getter.
func (s *ClusterSet) GetConditions() conditionsv1alpha1.Conditions { return s.Status.Conditions }

// SetConditions implements conditions.Setter.
func (s *ClusterSet) SetConditions(conditions conditionsv1alpha1.Conditions) {
	s.Status.Conditions = conditions
}
