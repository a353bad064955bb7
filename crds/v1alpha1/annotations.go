package v1alpha1

// What people write on workloads and ConfigMaps, and what the controller writes back.
const (
	// AnnotationPreferredCluster on a workload raises the affinity score of the cluster it names.
	AnnotationPreferredCluster = "tmc.kcp.io/preferred-cluster"
	// AnnotationAvoidCluster on a workload lowers the affinity score of the cluster it names.
	AnnotationAvoidCluster = "tmc.kcp.io/avoid-cluster"
	// AnnotationPreferredLocation on a workload raises the location score of clusters there.
	AnnotationPreferredLocation = "tmc.kcp.io/preferred-location"
	// AnnotationPlacement on a workload names, of several placements that select it, the one it belongs to.
	AnnotationPlacement = "tmc.kcp.io/placement"

	// LabelPlacement on a PlacementDecision names the placement whose decisions it holds.
	LabelPlacement = "tmc.kcp.io/placement"

	// LabelPolicy with the value PolicyRego marks a ConfigMap that holds Rego modules,
	// the convention of kube-mgmt.
	LabelPolicy = "openpolicyagent.org/policy"
	// PolicyRego is the value of LabelPolicy.
	PolicyRego = "rego"
	// AnnotationPolicyStatus on such a ConfigMap tells the outcome of loading it, in kube-mgmt's shape:
	// {"status":"ok"} or {"status":"error","error":{"code":...,"message":...,"errors":[...]}}.
	AnnotationPolicyStatus = "openpolicyagent.org/policy-status"
)

// Types of conditions.
const (
	// ReadyCondition summarises an object: on a ClusterRegistration, whether workloads may be placed there.
	ReadyCondition = "Ready"
	// ConstraintsValidCondition on a WorkloadPlacement: its selectors and CEL constraints compile.
	ConstraintsValidCondition = "ConstraintsValid"
	// PoliciesReadyCondition on a WorkloadPlacement: the Rego of its workspace is in force.
	PoliciesReadyCondition = "PoliciesReady"
	// ScheduledCondition on a WorkloadPlacement: every workload that belongs to it has its clusters.
	ScheduledCondition = "Scheduled"
)
