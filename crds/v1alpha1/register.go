package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of all kinds here.
const GroupName = "tmc.kcp.io"

// SchemeGroupVersion is the group and version of all kinds here.
var SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

var (
	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	// AddToScheme registers the kinds of this package.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&ClusterRegistration{}, &ClusterRegistrationList{},
		&ClusterUsage{}, &ClusterUsageList{},
		&ClusterScore{}, &ClusterScoreList{},
		&PlacementConfig{}, &PlacementConfigList{},
		&WorkloadPlacement{}, &WorkloadPlacementList{},
		&PlacementDecision{}, &PlacementDecisionList{},
		&Work{}, &WorkList{},
		&RebalancePlan{}, &RebalancePlanList{},
		&ClusterSet{}, &ClusterSetList{},
		&ClusterSetBinding{}, &ClusterSetBindingList{},
	)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
