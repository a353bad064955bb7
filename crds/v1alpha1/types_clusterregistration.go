package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ClusterRegistration registers a physical cluster as a place for the workloads of its workspace.
//
// +genclient
// +genclient:nonNamespaced
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=placement,shortName=cr;clreg
// +kubebuilder:printcolumn:name="Location",type=string,JSONPath=`.spec.location`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes.usable`,description="Nodes that can take pods"
// +kubebuilder:printcolumn:name="CPU",type=string,JSONPath=`.status.allocatable.cpu`,description="Allocatable CPU"
// +kubebuilder:printcolumn:name="Memory",type=string,JSONPath=`.status.allocatable.memory`,description="Allocatable memory"
// +kubebuilder:printcolumn:name="Used-CPU",type=string,JSONPath=`.status.allocated.cpu`,description="CPU that the cluster itself reports as requested"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterRegistration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ClusterRegistrationSpec `json:"spec"`
	// +optional
	Status ClusterRegistrationStatus `json:"status,omitempty"`
}

// ClusterRegistrationSpec describes a physical cluster.
type ClusterRegistrationSpec struct {
	// location is where the cluster stands, for example "eu-west-1". Placements select it as the label "location".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
	Location string `json:"location"`

	// capabilities are what the cluster can do beyond running pods, for example "gpu".
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	Capabilities []Capability `json:"capabilities,omitempty"`

	// clusterEndpoint is how the cluster's own API is reached.
	//
	// +optional
	ClusterEndpoint *ClusterEndpoint `json:"clusterEndpoint,omitempty"`

	// taints keep away workloads whose placement does not tolerate them. NoSchedule and NoExecute exclude the
	// cluster; PreferNoSchedule is for policies to weigh.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Taints []corev1.Taint `json:"taints,omitempty"`
}

// Capability is one thing that a cluster can do.
type Capability struct {
	// type names the capability, for example "gpu" or "storage".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Type string `json:"type"`

	// available tells whether it can be used now.
	//
	// +optional
	Available bool `json:"available"`

	// attributes describe it further, for example {"model": "a100"}.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Attributes map[string]string `json:"attributes,omitempty"`
}

// ClusterEndpoint is how a physical cluster's API is reached.
type ClusterEndpoint struct {
	// serverURL is the https URL of the cluster's API server.
	//
	// +required
	// +kubebuilder:validation:Pattern=`^https://[^\s]+$`
	// +kubebuilder:validation:MaxLength=2048
	ServerURL string `json:"serverURL"`

	// caBundle is the PEM bundle that the server's certificate is checked against.
	//
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// ClusterRegistrationStatus is what is known of a cluster now.
type ClusterRegistrationStatus struct {
	// conditions of the cluster. Only a cluster whose Ready condition is True is given workloads.
	//
	// +optional
	Conditions conditionsv1alpha1.Conditions `json:"conditions,omitempty"`

	// allocatable is what the cluster has for workloads in all.
	//
	// +optional
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`

	// allocated is what the cluster itself reports as requested by its pods, those of workloads included.
	//
	// +optional
	Allocated corev1.ResourceList `json:"allocated,omitempty"`

	// largestFree is, for each resource, the most of it that is free on any one node. A workload one of whose pods asks
	// for more is not placed here, whatever is free in all. Where it is left out, nodes are not looked at.
	//
	// +optional
	LargestFree corev1.ResourceList `json:"largestFree,omitempty"`

	// nodes counts the nodes of the cluster.
	//
	// +optional
	Nodes *NodeCounts `json:"nodes,omitempty"`

	// workloads are those of which the cluster has pods, with what these request: a part of allocated. Pods tell whose
	// they are by the label tmc.kcp.io/workload-uid. What is counted here of a workload is not reserved a second time.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	Workloads []WorkloadUsage `json:"workloads,omitempty"`

	// clusterUID identifies the physical cluster that reports: it is the UID of its namespace kube-system.
	//
	// +optional
	ClusterUID types.UID `json:"clusterUID,omitempty"`

	// lastHeartbeatTime is when the cluster last reported, by its own clock.
	//
	// +optional
	LastHeartbeatTime *metav1.Time `json:"lastHeartbeatTime,omitempty"`
}

// NodeCounts counts the nodes of a cluster.
type NodeCounts struct {
	// total is all nodes.
	Total int32 `json:"total"`
	// ready is those whose Ready condition is True.
	Ready int32 `json:"ready"`
	// usable is those that allocatable is the sum of: ready, schedulable, and without a taint that keeps pods away.
	Usable int32 `json:"usable"`
}

// WorkloadUsage is what the pods of one workload request.
type WorkloadUsage struct {
	// uid of the workload, in its workspace.
	//
	// +required
	UID types.UID `json:"uid"`

	// requests of its pods in all.
	//
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// GetConditions returns the conditions; with SetConditions it serves kcp's condition helpers.
func (c *ClusterRegistration) GetConditions() conditionsv1alpha1.Conditions {
	return c.Status.Conditions
}

// SetConditions replaces the conditions.
func (c *ClusterRegistration) SetConditions(conditions conditionsv1alpha1.Conditions) {
	c.Status.Conditions = conditions
}

// ClusterRegistrationList is a list of ClusterRegistrations.
//
// +kubebuilder:object:root=true
type ClusterRegistrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ClusterRegistration `json:"items"`
}
