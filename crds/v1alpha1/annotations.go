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

	// LabelWorkloadUID on the pods of a workload, in its physical cluster, is the UID of the workload in its workspace:
	// by it the cluster's report tells which pods are whose. Whatever brings workloads to clusters has to set it in the
	// pod template.
	LabelWorkloadUID = "tmc.kcp.io/workload-uid"

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
	// PublishedCondition on a WorkloadPlacement: its decisions are durable, in its PlacementDecisions.
	PublishedCondition = "Published"
	// ReservationsHeldCondition on a WorkloadPlacement: nothing that was reserved for its workloads has been given up,
	// since all have shown up on their clusters or still have time to.
	ReservationsHeldCondition = "ReservationsHeld"
	// WithinCapacityCondition on a ClusterRegistration: what its pods request and what is promised is no more than the
	// cluster has.
	WithinCapacityCondition = "WithinCapacity"
	// WorkloadsCountedCondition on a ClusterRegistration: the report says of every pod that has the label
	// tmc.kcp.io/workload-uid which workload it counts for.
	WorkloadsCountedCondition = "WorkloadsCounted"
)

// Reasons of conditions that are looked at.
const (
	// HeartbeatMissedReason on Ready Unknown: the cluster has not reported for longer than the grace period.
	HeartbeatMissedReason = "HeartbeatMissed"
	// ClusterLostReason on Ready False: it has not reported for so long that it is taken for lost.
	ClusterLostReason = "ClusterLost"
)
