// Package v1alpha1 is the API of the placement engine, tmc.kcp.io/v1alpha1. A ClusterRegistration describes a physical cluster
// and a ClusterUsage what its pods request, workload by workload; a ClusterScore gives it scores from outside. A
// WorkloadPlacement says where workloads may go, and PlacementDecisions where they have been placed. The PlacementConfig of a
// workspace is for all of its placements. A RebalancePlan moves some workloads, when somebody asks for it. A ClusterSet shares
// clusters with other workspaces, each of which has a ClusterSetBinding.
//
// +k8s:deepcopy-gen=package
// +kubebuilder:object:generate=true
// +groupName=tmc.kcp.io
package v1alpha1
