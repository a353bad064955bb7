package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Bounds of a Work. The API server takes no more than 1.5 MiB with an object's status.
const (
	// MaxWorkloadsPerWork is the largest number of workloads in one Work, MaxManifestsPerWork that of objects in all.
	MaxWorkloadsPerWork = 100
	MaxManifestsPerWork = 1000
	// MaxWorkBytes is the largest size of all manifests in one Work.
	MaxWorkBytes = 900 << 10
)

// Work is a slice of what is to run in one physical cluster. The Works of a cluster are in the namespace WorkNamespace of its
// registration; the controller writes spec, the agent of that cluster applies it and writes status, and neither writes the
// other. An object that has left spec is removed from the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=placement
// +kubebuilder:printcolumn:name="Workloads",type=integer,JSONPath=`.spec.workloads`,description="Workloads in this slice"
// +kubebuilder:printcolumn:name="Applied",type=string,JSONPath=`.status.applied`,description="Objects that the cluster has as they are here, of all"
// +kubebuilder:printcolumn:name="Wrong",type=integer,JSONPath=`.status.failed`,description="Objects with something wrong"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Work struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is to run in the cluster.
	//
	// +optional
	Spec WorkSpec `json:"spec,omitzero"`

	// status is what has become of it there. The agent writes it.
	//
	// +optional
	Status WorkStatus `json:"status,omitzero"`
}

// WorkSpec is what is to run in a cluster.
type WorkSpec struct {
	// workspace is the logical cluster that the objects are of, where that is another workspace, which shares the cluster. Agents put them
	// into namespaces of that workspace.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Workspace string `json:"workspace,omitempty"`

	// workloads is how many of the manifests are workloads that were placed.
	//
	// +optional
	Workloads int32 `json:"workloads,omitempty"`

	// manifests of the objects, each of which is in one Work of the cluster at most.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Manifests []Manifest `json:"manifests,omitempty"`

	// departed are workloads that have left manifests before the agent has said anything of them: it may have applied them all the same.
	// They are kept until it has carried out that they are to go. The agent does not read them.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Departed []DepartedWorkload `json:"departed,omitempty"`
}

// DepartedWorkload is a workload that has left the manifests of a Work.
type DepartedWorkload struct {
	ManifestReference `json:",inline"`

	// generation is the metadata.generation of the Work from which on it is without the workload.
	//
	// +required
	Generation int64 `json:"generation"`
}

// Manifest is one object as it is to be in the cluster.
type Manifest struct {
	// revision is a digest of all that is said here but needs and since. The agent repeats in status the one that the cluster has.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Revision string `json:"revision"`

	// since is the metadata.generation of the Work from which on the manifest has this revision. The agent repeats it in status: what
	// it says by an earlier one does not count, though the revision may be the same.
	//
	// +optional
	Since int64 `json:"since,omitempty"`

	// workloadUID is the UID that the object has in its workspace, if it is a workload that was placed.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	WorkloadUID types.UID `json:"workloadUID,omitempty"`

	// generation of the workload in its workspace that the manifest was made of.
	//
	// +optional
	Generation int64 `json:"generation,omitempty"`

	// replicas that were decided for this cluster, where the workload has replicas.
	//
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// needs are the objects of the workload's namespace that go with it. Each is in one of the cluster's Works for as long as a
	// workload there needs it. They are no part of the revision.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Needs []ManifestReference `json:"needs,omitempty"`

	// whenUnselected is what becomes of the workload here once no placement selects it, as its placement says.
	//
	// +optional
	WhenUnselected UnselectedAction `json:"whenUnselected,omitempty"`

	// wave says when the object is applied: once those of all lower waves are ready.
	//
	// +optional
	Wave int32 `json:"wave,omitempty"`

	// takeOver lets the agent take over an object of this name that it has not made.
	//
	// +optional
	TakeOver bool `json:"takeOver,omitempty"`

	// scaled is set where an autoscaler owns spec.replicas: the agent sets it when it creates the object, and leaves it then.
	//
	// +optional
	Scaled bool `json:"scaled,omitempty"`

	// object as its owner wrote it, without what servers add. Its namespace is the one in the workspace; the agent maps it to one
	// of the cluster.
	//
	// +required
	// +kubebuilder:validation:EmbeddedResource
	// +kubebuilder:pruning:PreserveUnknownFields
	Object runtime.RawExtension `json:"object"`
}

// WorkStatus is what has become of a Work in its cluster.
type WorkStatus struct {
	// observedGeneration is the metadata.generation that has been carried out, as far as manifests do not say otherwise: objects
	// that it does not list are removed, but for those in removing.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// applied sums up how many objects the cluster has as they are in spec, for example "12/13".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Applied string `json:"applied,omitempty"`

	// failed is how many manifests have a message.
	//
	// +optional
	Failed int32 `json:"failed,omitempty"`

	// manifests says how workloads fare, and other objects with which something is wrong.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Manifests []ManifestStatus `json:"manifests,omitempty"`

	// removing are objects that have left spec and that the cluster still has.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Removing []ManifestReference `json:"removing,omitempty"`
}

// ManifestReference identifies an object by its name in the workspace.
type ManifestReference struct {
	// apiVersion of the object.
	//
	// +required
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion"`

	// kind of the object.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// namespace of the object in its workspace.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// name of the object.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// workloadUID is that of the manifest.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	WorkloadUID types.UID `json:"workloadUID,omitempty"`
}

// ManifestStatus says how one object fares in the cluster.
type ManifestStatus struct {
	ManifestReference `json:",inline"`

	// revision that the cluster has; empty while it has none.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Revision string `json:"revision,omitempty"`

	// since is that of the manifest that this is said of.
	//
	// +optional
	Since int64 `json:"since,omitempty"`

	// health is how the cluster's own controllers have got on with the revision, in the terms of kstatus.
	//
	// +optional
	Health Health `json:"health,omitempty"`

	// message is what is wrong, in a sentence, or what is being waited for.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// wrong is set where something is wrong, so that it takes somebody to mend it. Otherwise message is what is being waited for.
	//
	// +optional
	Wrong bool `json:"wrong,omitempty"`

	// counts of the workload's status.
	//
	// +optional
	Counts *WorkloadCounts `json:"counts,omitempty"`
}

// Health is the state of an object in the terms of kstatus (sigs.k8s.io/cli-utils).
//
// +kubebuilder:validation:Enum=Pending;InProgress;Current;Failed;Terminating
type Health string

// The states of objects.
const (
	// HealthPending: the revision is not applied yet, or could not be.
	HealthPending Health = "Pending"
	// HealthInProgress: it is applied, and controllers are at work.
	HealthInProgress Health = "InProgress"
	// HealthCurrent: it is as spec says, and ready.
	HealthCurrent Health = "Current"
	// HealthFailed: a controller has given up.
	HealthFailed Health = "Failed"
	// HealthTerminating: it is being deleted.
	HealthTerminating Health = "Terminating"
)

// WorkloadCounts are numbers of the pods of a workload, and the times of a Job.
type WorkloadCounts struct {
	// desired replicas: spec.replicas as the cluster has it, which an autoscaler there may have set; of a DaemonSet the nodes that
	// are to run a pod.
	//
	// +optional
	Desired int32 `json:"desired,omitempty"`

	// replicas that there are.
	//
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// updated replicas have the latest pod template.
	//
	// +optional
	Updated int32 `json:"updated,omitempty"`

	// ready replicas.
	//
	// +optional
	Ready int32 `json:"ready,omitempty"`

	// available replicas have been ready for as long as the workload asks.
	//
	// +optional
	Available int32 `json:"available,omitempty"`

	// active pods of a Job.
	//
	// +optional
	Active int32 `json:"active,omitempty"`

	// succeeded pods of a Job.
	//
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`

	// failed pods of a Job.
	//
	// +optional
	Failed int32 `json:"failed,omitempty"`

	// startTime of a Job.
	//
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime of a Job that has succeeded.
	//
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
}

// WorkNamespace is the namespace for the Works of a cluster: "cluster-" and the name of its registration, with a hash in place of
// what a namespace cannot have.
func WorkNamespace(registration string) string {
	namespace := "cluster-" + registration
	if len(validation.IsDNS1123Label(namespace)) == 0 {
		return namespace
	}
	sum := sha256.Sum256([]byte(registration))
	namespace = strings.ReplaceAll(namespace, ".", "-")
	return strings.TrimRight(namespace[:min(len(namespace), validation.DNS1123LabelMaxLength-9)], "-") + "-" + hex.EncodeToString(sum[:4])
}

// WorkList is a list of Works.
//
// +kubebuilder:object:root=true
type WorkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Work `json:"items"`
}
