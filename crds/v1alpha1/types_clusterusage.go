package v1alpha1

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MaxWorkloadsPerUsage is how many workloads one ClusterUsage lists at most.
const MaxWorkloadsPerUsage = 10_000

// ClusterUsage says what the pods of a cluster request, workload by workload. It has the name of the cluster's
// ClusterRegistration, and the cluster's agent writes it. Everything in it is of one moment, so that capacity that is
// reserved for a workload and capacity that its pods request are never counted twice, nor left out. Where there is none, the
// registration's status.allocated is used, and no workload is known to be among it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=placement,path=clusterusages,shortName=clusage
// +kubebuilder:printcolumn:name="CPU",type=string,JSONPath=`.allocatable.cpu`,description="Allocatable CPU"
// +kubebuilder:printcolumn:name="Memory",type=string,JSONPath=`.allocatable.memory`,description="Allocatable memory"
// +kubebuilder:printcolumn:name="Used-CPU",type=string,JSONPath=`.allocated.cpu`,description="CPU that pods request"
// +kubebuilder:printcolumn:name="Used-Memory",type=string,JSONPath=`.allocated.memory`,description="Memory that pods request"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterUsage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// clusterUID identifies the physical cluster that this is about. While it differs from status.clusterUID of the
	// registration, the two are of different clusters, and nothing is placed there.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	ClusterUID types.UID `json:"clusterUID,omitempty"`

	// allocatable is what the registration's status.allocatable was at this moment. Of the two the lesser counts, since they
	// are written, and arrive, one after the other. Left out, there is nothing to place on.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`

	// allocated is what all pods of the cluster request, those of the workloads listed below included.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Allocated corev1.ResourceList `json:"allocated,omitempty"`

	// workloads that have pods on the cluster, with what these request. A pod belongs to the workload whose UID is the value
	// of its label tmc.kcp.io/workload-uid.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	Workloads []WorkloadUsage `json:"workloads,omitempty"`

	// omittedWorkloads is how many workloads have pods on the cluster and no room in the list. While it is not 0, no
	// reservation on the cluster expires.
	//
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	OmittedWorkloads int32 `json:"omittedWorkloads,omitempty"`
}

// WorkloadUsage is what the pods of one workload request.
type WorkloadUsage struct {
	// uid of the workload, in its workspace.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	UID types.UID `json:"uid"`

	// requests of its pods in all.
	//
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=256
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// UsageVersion is the value of AnnotationUsage for a usage as it is.
func UsageVersion(u *ClusterUsage) string { return fmt.Sprintf("%s/%d", u.UID, u.Generation) }

// UsageAtLeast reports whether a usage is the one that a value of AnnotationUsage names, or a later one.
func UsageAtLeast(u *ClusterUsage, version string) bool {
	uid, generation, _ := strings.Cut(version, "/")
	n, err := strconv.ParseInt(generation, 10, 64)
	return err == nil && string(u.UID) == uid && u.Generation >= n
}

// ClusterUsageList is a list of ClusterUsages.
//
// +kubebuilder:object:root=true
type ClusterUsageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []ClusterUsage `json:"items"`
}
