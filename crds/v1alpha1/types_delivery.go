package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Delivery says how the workloads of a placement are brought to their clusters, by agents that deliver.
type Delivery struct {
	// whenUnselected is what becomes of what runs once no placement selects its workload any more, because the placement is deleted
	// or changed. Keep leaves it as it is, until the workload is deleted or placed again; Remove removes it.
	//
	// +optional
	// +kubebuilder:default=Keep
	WhenUnselected UnselectedAction `json:"whenUnselected,omitempty"`

	// move says in which order a workload leaves a cluster and comes to another.
	//
	// +optional
	Move Move `json:"move,omitzero"`

	// overrides change what is delivered to some clusters. They are carried out in their order.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Overrides []Override `json:"overrides,omitempty"`
}

// UnselectedAction says what becomes of a workload that no placement selects any more.
//
// +kubebuilder:validation:Enum=Keep;Remove
type UnselectedAction string

// What becomes of workloads that no placement selects.
const (
	KeepUnselected   UnselectedAction = "Keep"
	RemoveUnselected UnselectedAction = "Remove"
)

// Move says how workloads move between clusters.
type Move struct {
	// type is MakeBeforeBreak, where the old copy goes once all new ones are ready, or BreakBeforeMake, where the new ones are made
	// once the old one is gone. Left out, StatefulSets break before they make, and other kinds make before they break. A workload's
	// annotation tmc.kcp.io/move says otherwise.
	//
	// +optional
	Type MoveType `json:"type,omitempty"`

	// timeout is how long an old copy waits for new ones after the decision, before it goes all the same.
	//
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="must be from 0s to 24h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// MoveType names an order.
//
// +kubebuilder:validation:Enum=MakeBeforeBreak;BreakBeforeMake
type MoveType string

// The orders of moves.
const (
	MakeBeforeBreak MoveType = "MakeBeforeBreak"
	BreakBeforeMake MoveType = "BreakBeforeMake"
)

// Override changes what is delivered to the clusters that it selects.
type Override struct {
	// locationSelector selects clusters as that of the placement does. Left out, every location passes.
	//
	// +optional
	LocationSelector *metav1.LabelSelector `json:"locationSelector,omitempty"`

	// clusterSelector selects clusters as that of the placement does. Left out, every cluster passes.
	//
	// +optional
	ClusterSelector *ClusterSelector `json:"clusterSelector,omitempty"`

	// imageRegistry takes the place of the registry of every image of pod templates, for example registry.eu.example.com/mirror. An
	// image without one is of docker.io.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([a-zA-Z0-9.:/_-]*[a-zA-Z0-9])?$`
	ImageRegistry string `json:"imageRegistry,omitempty"`

	// storageClassName of the PersistentVolumeClaims, the volumeClaimTemplates and the ephemeral volumes.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	StorageClassName string `json:"storageClassName,omitempty"`

	// labels are added to every object and to pod templates. They must not be those that a selector reads, of the workload or of what
	// goes with it.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 317 && size(self[key]) <= 63)",message="values may have at most 63 characters"
	Labels map[string]string `json:"labels,omitempty"`

	// annotations are added to every object and to pod templates.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 317 && size(self[key]) <= 4096)",message="values may have at most 4096 characters"
	Annotations map[string]string `json:"annotations,omitempty"`

	// containers adds arguments and environment variables to containers of pod templates.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Containers []ContainerOverride `json:"containers,omitempty"`

	// patches are JSON patches (RFC 6902), carried out after all that is above.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Patches []ManifestPatch `json:"patches,omitempty"`
}

// ContainerOverride adds to one container.
type ContainerOverride struct {
	// name of the container or init container.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// args are appended to those of the container.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=4096
	Args []string `json:"args,omitempty"`

	// env is added to that of the container, in place of variables of the same name.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Env []EnvironmentVariable `json:"env,omitempty"`
}

// EnvironmentVariable is a variable with a value.
type EnvironmentVariable struct {
	// name of the variable.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// value of the variable.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`
}

// ManifestPatch is a JSON patch of some objects.
type ManifestPatch struct {
	// kind of the objects that are patched. Left out, it is the workload.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`

	// name of the object of that kind. Left out, all that go with the workload are patched.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// operations of the patch. They must not change what identifies the object, how many replicas there are, or what pods request:
	// that is decided. Of metadata they may change labels and annotations. A placement may have 256 operations.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Operations []PatchOperation `json:"operations"`
}

// PatchOperation is one operation of a JSON patch.
type PatchOperation struct {
	// op is what happens at the path: add puts a value there, before others in a list; replace changes one that has to be there; remove
	// takes it away. A patch that does not apply leaves the workload undelivered, and its condition says why.
	//
	// +required
	// +kubebuilder:validation:Enum=add;remove;replace
	Op string `json:"op"`

	// path is a JSON pointer, for example /spec/template/spec/priorityClassName.
	//
	// +required
	// +kubebuilder:validation:Pattern=`^(/[^/]*)+$`
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path"`

	// value to add, or to put in the place of the one that is there.
	//
	// +optional
	Value *apiextensionsv1.JSON `json:"value,omitempty"`
}

// ClusterDelivery says how a workload fares on a cluster that it is delivered to.
type ClusterDelivery struct {
	// health of the workload there, in the terms of kstatus.
	//
	// +required
	Health Health `json:"health"`

	// message is the first thing that is wrong, or what is being waited for.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// LeavingCluster is a cluster that a workload leaves.
type LeavingCluster struct {
	// name of the ClusterRegistration.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// reserved is what stays set aside there until the workload is gone.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Reserved corev1.ResourceList `json:"reserved,omitempty"`

	// since is when the decision was made that the workload leaves.
	//
	// +required
	Since metav1.Time `json:"since"`
}

// AgentDelivery is how the agent of a cluster delivers. The cluster's owner sets it with flags of the agent.
type AgentDelivery struct {
	// namespaceTemplate is how the namespaces of the cluster are named, for example {workspace}-{namespace}.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	NamespaceTemplate string `json:"namespaceTemplate,omitempty"`

	// podSecurity is the Pod Security Standard that those namespaces enforce.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	PodSecurity string `json:"podSecurity,omitempty"`

	// kinds of objects that are applied. Others are refused.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Kinds []WorkloadType `json:"kinds,omitempty"`
}
