package v1alpha1

import (
	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ClusterRegistration registers a physical cluster, so that workloads of its workspace can be placed there. An operator or
// the cluster's agent creates it and says in spec what the cluster is; the agent reports in status what it has.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=placement,shortName=clreg
// +kubebuilder:printcolumn:name="Location",type=string,JSONPath=`.spec.location`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes.usable`,description="Nodes that can take pods"
// +kubebuilder:printcolumn:name="CPU",type=string,JSONPath=`.status.allocatable.cpu`,description="Allocatable CPU"
// +kubebuilder:printcolumn:name="Memory",type=string,JSONPath=`.status.allocatable.memory`,description="Allocatable memory"
// +kubebuilder:printcolumn:name="Used-CPU",type=string,JSONPath=`.status.allocated.cpu`,description="CPU that the cluster itself reports as requested"
// +kubebuilder:printcolumn:name="Unschedulable",type=boolean,JSONPath=`.spec.unschedulable`,priority=1
// +kubebuilder:printcolumn:name="Remaining",type=integer,JSONPath=`.status.drain.remaining`,description="Workloads that a drain has not moved yet",priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterRegistration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what the cluster is. Together with the labels of the registration it is what placements select by.
	//
	// +required
	Spec ClusterRegistrationSpec `json:"spec"`

	// status says what the cluster has and whether it can be used. Its agent writes it.
	//
	// +optional
	Status ClusterRegistrationStatus `json:"status,omitempty"`
}

// ClusterRegistrationSpec says what a physical cluster is.
type ClusterRegistrationSpec struct {
	// location is where the cluster is, for example "eu-west-1". It must be a valid label value, since placements select it
	// as the label "location".
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
	Location string `json:"location"`

	// capabilities lists what the cluster offers beyond running pods, for example "gpu". Placements, constraints and policies
	// can ask for them.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	Capabilities []Capability `json:"capabilities,omitempty"`

	// clusterEndpoint is how to reach the API of the cluster, for people and for other tools: neither placing nor delivering uses
	// it.
	//
	// +optional
	ClusterEndpoint *ClusterEndpoint `json:"clusterEndpoint,omitempty"`

	// taints keep out workloads whose placement does not tolerate them, as those of nodes do for pods: NoSchedule lets nothing
	// new come, NoExecute has what runs there leave, too, and PreferNoSchedule lowers the cluster's affinity score. With
	// NoExecute, write timeAdded: tolerationSeconds begin then, otherwise when the controller first sees the taint.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Taints []corev1.Taint `json:"taints,omitempty"`

	// unschedulable cordons the cluster, as that of a node does: nothing new is placed there, and nothing there gets more replicas. What
	// is there stays.
	//
	// +optional
	Unschedulable bool `json:"unschedulable,omitempty"`

	// drain empties the cluster: nothing new is placed there, and what is there leaves, each workload once there is another place for it.
	// status.drain and condition Drained say how far that is. Without other places workloads stay. {} is a drain without a deadline.
	//
	// +optional
	Drain *ClusterDrain `json:"drain,omitempty"`

	// delivery is Agent where the workloads that are placed on the cluster are brought there by its agent, if that is started with
	// --deliver, or None where others do that.
	//
	// +optional
	// +kubebuilder:default=Agent
	Delivery DeliveryMode `json:"delivery,omitempty"`
}

// DeliveryMode says who brings workloads to a cluster.
//
// +kubebuilder:validation:Enum=Agent;None
type DeliveryMode string

// Who brings workloads to a cluster.
const (
	DeliveryByAgent DeliveryMode = "Agent"
	DeliveryNone    DeliveryMode = "None"
)

// Capability is something that a cluster offers.
type Capability struct {
	// type names the capability, for example "gpu" or "storage". A placement requires it by the same name in
	// capabilityRequirements[].type.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Type string `json:"type"`

	// available says whether the capability can be used now. While it is false, the cluster is excluded for every placement
	// that lists the capability.
	//
	// +optional
	// +kubebuilder:default=false
	Available bool `json:"available"`

	// attributes describe the capability for constraints and policies, for example {"model": "a100"}. Keys have at most 63
	// characters, values at most 256.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 63 && size(self[key]) <= 256)",message="keys may have at most 63 characters, values at most 256"
	Attributes map[string]string `json:"attributes,omitempty"`
}

// ClusterEndpoint is how to reach the API of a physical cluster.
type ClusterEndpoint struct {
	// serverURL is the https URL of the API server.
	//
	// +required
	// +kubebuilder:validation:Pattern=`^https://[^\s]+$`
	// +kubebuilder:validation:MaxLength=2048
	ServerURL string `json:"serverURL"`

	// caBundle is the PEM certificates that the API server's certificate is verified against. If it is empty, those of the
	// system are used.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=524288
	CABundle []byte `json:"caBundle,omitempty"`
}

// ClusterRegistrationStatus says what a cluster has and whether it can be used.
type ClusterRegistrationStatus struct {
	// conditions by type. Workloads are placed only on a cluster whose Ready is True: its agent sets it, and the controller
	// makes it Unknown, and later False, while the agent is silent. The agent also writes WorkloadsCounted and QuantitiesValid.
	// The controller makes Valid False where a field of the registration or its ClusterUsage cannot be used, WithinCapacity
	// where more is in use and promised than there is, HeartbeatSeen where it sees no heartbeat, Delivered where the agent has
	// not carried out all Works, Drained while a drain is not done, and Effective where the registration says something in vain, such as a taint with an effect that
	// is none.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=64
	Conditions []conditionsv1alpha1.Condition `json:"conditions,omitempty"`

	// allocatable is the total that the usable nodes of the cluster have for pods.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`

	// allocated is the total that the pods of the cluster request, those of placed workloads included. If there is a
	// ClusterUsage of the same name, its figures are used for placing instead of this one.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Allocated corev1.ResourceList `json:"allocated,omitempty"`

	// largestFree is, for each resource, the most that is free on any one node. A workload with a pod that asks for more is
	// not placed here, however much is free in all. Left out, only the sums count.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	LargestFree corev1.ResourceList `json:"largestFree,omitempty"`

	// nodes says how many nodes the cluster has.
	//
	// +optional
	Nodes *NodeCounts `json:"nodes,omitempty"`

	// nodeGroups says which labels and taints the nodes of the cluster have: nodes that agree in all that is told are one group.
	// A workload is placed here only if each of its pod templates has a group that its nodeSelector and its required node
	// affinity select, and whose taints it tolerates. Left out, none of these is looked at.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeGroups []NodeGroup `json:"nodeGroups,omitempty"`

	// omittedNodeGroups is how many groups have no room in nodeGroups. While there are any, no workload is kept away for
	// want of a group.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	OmittedNodeGroups int32 `json:"omittedNodeGroups,omitempty"`

	// omittedNodeLabels are the keys of labels that nodes have and nodeGroups does not tell, such as kubernetes.io/hostname.
	// "*" stands for every key that no group has. What a pod template asks of these keys is taken as met.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=317
	OmittedNodeLabels []string `json:"omittedNodeLabels,omitempty"`

	// agentDelivery is how the agent brings workloads to the cluster; absent where it does not.
	//
	// +optional
	AgentDelivery *AgentDelivery `json:"agentDelivery,omitempty"`

	// drain is how far the drain of the cluster has come; absent where it is not drained. The controller writes it.
	//
	// +optional
	Drain *ClusterDrainStatus `json:"drain,omitempty"`

	// clusterUID identifies the physical cluster that reports: the UID of its namespace kube-system. An agent does not write
	// to a registration that another cluster reports to.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	ClusterUID types.UID `json:"clusterUID,omitempty"`

	// lastHeartbeatTime is when the agent last wrote this status, by its own clock. That the agent is alive it says with a
	// Lease: the one with the name of the registration in namespace placement-agents.
	//
	// +optional
	LastHeartbeatTime *metav1.Time `json:"lastHeartbeatTime,omitempty"`
}

// NodeCounts says how many nodes a cluster has.
type NodeCounts struct {
	// total is the number of all nodes.
	Total int32 `json:"total"`

	// ready is the number of nodes whose Ready condition is True.
	Ready int32 `json:"ready"`

	// usable is the number of nodes that can take pods: ready, schedulable, and without a taint that keeps pods away.
	Usable int32 `json:"usable"`
}

// NodeGroup is the nodes of a cluster that agree in all labels and taints that are told. They are ready and not cordoned.
type NodeGroup struct {
	// count is how many nodes these are. A DaemonSet has a pod on each that its pods can run on, if every group has a count; 0 is
	// not known. What is free is not told by group.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Count int32 `json:"count,omitempty"`

	// labels that each of the nodes has.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=128
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 317 && size(self[key]) <= 63)",message="values may have at most 63 characters"
	Labels map[string]string `json:"labels,omitempty"`

	// taints that each of the nodes has, but for PreferNoSchedule and those of a passing state of the node.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Taints []corev1.Taint `json:"taints,omitempty"`
}

// Bounds of what is told of nodes.
const (
	MaxNodeGroups        = 64
	MaxNodeGroupLabels   = 128
	MaxNodeLabelKey      = 317
	MaxNodeLabelValue    = 63
	MaxNodeGroupTaints   = 32
	MaxOmittedNodeLabels = 64
	// AllNodeLabels in omittedNodeLabels is every key that no group has.
	AllNodeLabels = "*"
)

// Delivers says whether the controller writes Works for the cluster.
func (c *ClusterRegistration) Delivers() bool {
	return c.Status.AgentDelivery != nil && c.Spec.Delivery != DeliveryNone
}

// GetConditions implements the Getter of kcp's condition helpers.
func (c *ClusterRegistration) GetConditions() conditionsv1alpha1.Conditions {
	return c.Status.Conditions
}

// SetConditions implements the Setter of kcp's condition helpers.
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
