// Package v1alpha1 is the API of the placement engine, tmc.kcp.io/v1alpha1:
// ClusterRegistration says which physical clusters there are,
// WorkloadPlacement where workloads may go, and PlacementDecision where they went.
//
// +k8s:deepcopy-gen=package
// +kubebuilder:object:generate=true
// +groupName=tmc.kcp.io
package v1alpha1
