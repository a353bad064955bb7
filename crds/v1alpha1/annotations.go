package v1alpha1

// Annotations and labels.
const (
	// AnnotationPreferredCluster on a workload raises the affinity score of the cluster that it names.
	AnnotationPreferredCluster = "tmc.kcp.io/preferred-cluster"
	// AnnotationAvoidCluster on a workload lowers the affinity score of the cluster that it names.
	AnnotationAvoidCluster = "tmc.kcp.io/avoid-cluster"
	// AnnotationPreferredLocation on a workload raises the location score of clusters there.
	AnnotationPreferredLocation = "tmc.kcp.io/preferred-location"
	// AnnotationPlacement on a workload that several placements select names the one that it belongs to.
	AnnotationPlacement = "tmc.kcp.io/placement"

	// AnnotationPinned with the value "true" on a workload has it never move for a gain, nor give way to one of higher priority.
	AnnotationPinned = "tmc.kcp.io/pinned"

	// AnnotationDisruptions with the value DisruptionsUnlimited on a WorkloadPlacement lets all of its workloads that have to
	// leave a cluster do so at once, whatever the controller's disruption budget.
	AnnotationDisruptions = "tmc.kcp.io/disruptions"
	// DisruptionsUnlimited is the value of AnnotationDisruptions.
	DisruptionsUnlimited = "unlimited"

	// TaintNotReady is the key of the taint, of effect NoExecute, as which a cluster counts whose Ready condition is False. A
	// toleration of it says for how many seconds, or without tolerationSeconds that for ever, workloads stay there.
	TaintNotReady = "tmc.kcp.io/not-ready"

	// LabelWorkloadUID on a pod in a physical cluster is the UID that its workload has in its workspace. Agents count pods
	// by it. Whoever brings a workload to its clusters sets it in the pod template, as delivery does.
	LabelWorkloadUID = "tmc.kcp.io/workload-uid"

	// AnnotationWave on a workload, or on an object that goes with one, is an integer: agents apply objects of a wave once those of
	// all lower waves in the same namespace are ready: a Job once it has succeeded. Without it the wave is 0.
	AnnotationWave = "tmc.kcp.io/wave"
	// AnnotationMove on a workload is the MoveType for it.
	AnnotationMove = "tmc.kcp.io/move"
	// AnnotationTakeOver with the value "true", on a workload or on an object that goes with one, lets agents take over an object of
	// this name in the cluster that they have not made.
	AnnotationTakeOver = "tmc.kcp.io/take-over"
	// LabelDeliverWith on a ConfigMap, a Secret or another object that is delivered is the name of a workload of its namespace that
	// it goes with, though the workload's pods do not refer to it.
	LabelDeliverWith = "tmc.kcp.io/deliver-with"
	// FinalizerDelivery on a workload keeps it until its copies are gone from the clusters.
	FinalizerDelivery = "tmc.kcp.io/delivery"

	// LabelWorkspace and LabelCluster on an object in a physical cluster say that the agent of this registration, in this logical
	// cluster, has made it and removes it.
	LabelWorkspace = "tmc.kcp.io/workspace"
	LabelCluster   = "tmc.kcp.io/cluster"
	// AnnotationNamespace on such an object is the namespace that it has in its workspace.
	AnnotationNamespace = "tmc.kcp.io/namespace"
	// AnnotationRevision on such an object is the revision of the manifest that was applied, AnnotationWork the name of its Work.
	AnnotationRevision = "tmc.kcp.io/revision"
	AnnotationWork     = "tmc.kcp.io/work"

	// LabelCost on a ClusterRegistration is what the cluster costs, a decimal number in a unit that is the same for all clusters of
	// the workspace, such as the price of an hour. The factor cost of policies compares clusters by it.
	LabelCost = "tmc.kcp.io/cost"

	// LabelPlacement on a PlacementDecision is the name of the placement whose decisions it contains.
	LabelPlacement = "tmc.kcp.io/placement"
	// DecisionNamespace is where the PlacementDecisions of other workspaces are that share the clusters of a workspace.
	DecisionNamespace = "placement-decisions"
	// AnnotationSlice and AnnotationPlacementUID on these are the name that the PlacementDecision has in its own workspace, and the UID
	// of its placement.
	AnnotationSlice        = "tmc.kcp.io/slice"
	AnnotationPlacementUID = "tmc.kcp.io/placement-uid"
	// AnnotationCopyOf on a PlacementDecision says that it is a copy for reading, and names the logical cluster of the workspace where what
	// counts is kept.
	AnnotationCopyOf = "tmc.kcp.io/copy-of"

	// LabelPolicy with the value PolicyRego marks a ConfigMap with Rego modules, as in kube-mgmt.
	LabelPolicy = "openpolicyagent.org/policy"
	// PolicyRego is the value of LabelPolicy.
	PolicyRego = "rego"
	// LabelPolicySet with the value PolicySetShadow on such a ConfigMap takes its modules out of the policies in force: those of all
	// ConfigMaps with it are a set of their own, which is evaluated beside the one in force and decides nothing, but as the
	// policyRollout of the PlacementConfig says.
	LabelPolicySet = "tmc.kcp.io/policy-set"
	// PolicySetShadow is the value of LabelPolicySet.
	PolicySetShadow = "shadow"
	// AnnotationPolicyStatus on such a ConfigMap is the outcome of loading it, in kube-mgmt's shape: {"status":"ok"} or
	// {"status":"error","error":{"code":...,"message":...,"errors":[...]}}.
	AnnotationPolicyStatus = "openpolicyagent.org/policy-status"
)

// WorkloadAnnotations are the annotations that are read from workloads. Policies may read others.
var WorkloadAnnotations = []string{
	AnnotationPreferredCluster, AnnotationAvoidCluster, AnnotationPreferredLocation, AnnotationPlacement,
	AnnotationWave, AnnotationMove, AnnotationTakeOver, AnnotationPinned,
}

// PlacementAnnotations are the annotations that are read from WorkloadPlacements, with the values that mean something.
var PlacementAnnotations = map[string][]string{AnnotationDisruptions: {DisruptionsUnlimited}}

// DisruptsAtOnce reports whether the placement lifts the brake for its workloads.
func (p *WorkloadPlacement) DisruptsAtOnce() bool {
	return p.Annotations[AnnotationDisruptions] == DisruptionsUnlimited
}

// The heartbeat of a cluster is a Lease (coordination.k8s.io/v1) with the name of its registration. Its holderIdentity is the
// clusterUID of the physical cluster, and each renewal changes renewTime.
const (
	// AgentNamespace is the namespace of these Leases.
	AgentNamespace = "placement-agents"
	// LabelHeartbeat with the value "true" is on these Leases, so that the controller watches no others.
	LabelHeartbeat = "tmc.kcp.io/heartbeat"
	// AnnotationUsage on a Lease names the ClusterUsage that was current when the Lease was renewed, as UID/generation. It is
	// absent while the agent does not know what the pods of its cluster request.
	AnnotationUsage = "tmc.kcp.io/usage"
)

// Types of conditions.
const (
	// ReadyCondition sums up an object. On a ClusterRegistration: workloads may be placed there.
	ReadyCondition = "Ready"
	// ConstraintsValidCondition on a WorkloadPlacement: its selectors and CEL constraints compile.
	ConstraintsValidCondition = "ConstraintsValid"
	// EffectiveCondition on a WorkloadPlacement: nothing in it is in vain, such as a name that no cluster has, a selector that can
	// match nothing, or a constraint that is the same for all. It is no part of Ready. On a ClusterRegistration: nor is anything
	// there, such as a taint with an effect that is none. There it is absent until it turns False for the first time.
	EffectiveCondition = "Effective"
	// PoliciesReadyCondition on a WorkloadPlacement: the Rego policies of its workspace are in force.
	PoliciesReadyCondition = "PoliciesReady"
	// ScheduledCondition on a WorkloadPlacement: every workload that belongs to it has its clusters.
	ScheduledCondition = "Scheduled"
	// PublishedCondition on a WorkloadPlacement: its decisions are durable, in its PlacementDecisions.
	PublishedCondition = "Published"
	// ReservationsHeldCondition on a WorkloadPlacement: no reservation for its workloads has expired.
	ReservationsHeldCondition = "ReservationsHeld"
	// WorkloadsVisibleCondition on a WorkloadPlacement: the workspace lets the controller read all kinds of workloads that the
	// placement can select. While it is False, what is decided on those that cannot be seen stays as it is.
	WorkloadsVisibleCondition = "WorkloadsVisible"
	// DisruptionAllowedCondition on a WorkloadPlacement: no workload keeps a cluster only because others have left theirs
	// within the disruption budget. It is absent until it turns False for the first time.
	DisruptionAllowedCondition = "DisruptionAllowed"
	// SuspendedCondition on a WorkloadPlacement or the PlacementConfig: nothing is decided on its workloads. The message says what
	// would be. It is absent where nothing is suspended.
	SuspendedCondition = "Suspended"
	// HeadroomAvailableCondition on a WorkloadPlacement with spec.headroom: its workloads would have a place if any one domain were lost.
	// It is no part of Ready, and absent where nothing is asked for.
	HeadroomAvailableCondition = "HeadroomAvailable"
	// DrainedCondition on a ClusterRegistration with spec.drain: no workload is placed there any more. It is absent without a drain.
	DrainedCondition = "Drained"
	// WithinCapacityCondition on a ClusterRegistration: what its pods request and what is reserved is no more than the
	// cluster has. It is absent until it turns False for the first time.
	WithinCapacityCondition = "WithinCapacity"
	// ValidCondition on a ClusterRegistration: the registration and its ClusterUsage can be read and used in full. The
	// condition is absent until it turns False for the first time.
	ValidCondition = "Valid"
	// WorkloadsCountedCondition on a ClusterRegistration: its ClusterUsage lists every workload that has pods there.
	WorkloadsCountedCondition = "WorkloadsCounted"
	// DeliveredCondition on a WorkloadPlacement: every workload that is placed on clusters whose agents deliver is ready there. On a
	// ClusterRegistration: its agent has carried out all Works. It is no part of Ready, and absent where nothing is delivered.
	DeliveredCondition = "Delivered"
	// HeartbeatSeenCondition on a ClusterRegistration: the controller sees the Lease of its agent, so that it notices when
	// the agent falls silent. It is Unknown while the workspace does not show Leases, and absent until there is no Lease to be
	// seen for the first time.
	HeartbeatSeenCondition = "HeartbeatSeen"
)

// MovesValidCondition of a PlacementConfig is False where its spec.moves is not valid: then nothing moves for a gain in the workspace.
// InvalidMovesReason is its reason.
const (
	MovesValidCondition = "MovesValid"
	InvalidMovesReason  = "InvalidMoves"
)

// Reasons of conditions.
const (
	// HeartbeatMissedReason on Ready Unknown: the agent has been silent for longer than the grace period.
	HeartbeatMissedReason = "HeartbeatMissed"
	// ClusterLostReason on Ready False: the agent has been silent for so long that the cluster is taken for lost.
	ClusterLostReason = "ClusterLost"
	// InvalidRegistrationReason on Valid False: a field cannot be read or used, and nothing more is placed on the cluster.
	InvalidRegistrationReason = "InvalidRegistration"
	// ClaimNotAcceptedReason on WorkloadsVisible and PoliciesReady False, and on HeartbeatSeen Unknown: the workspace's
	// APIBinding does not accept the permission claim that it takes to read them. The message has the command that accepts it.
	ClaimNotAcceptedReason = "ClaimNotAccepted"
	// ClaimNotAppliedReason, there too: the claim is accepted, and kcp has not applied it yet.
	ClaimNotAppliedReason = "ClaimNotApplied"
	// ClaimLimitedReason, there too: the claim is accepted with a selector, so that what is not seen may be there.
	ClaimLimitedReason = "ClaimLimited"
	// NotClaimedReason, there too: the APIExport does not claim the resource.
	NotClaimedReason = "NotClaimed"
	// KindNotWatchedReason on WorkloadsVisible False: the controller is not told to place a kind of which there are decisions.
	KindNotWatchedReason = "KindNotWatched"
	// NotConfirmedReason on WorkloadsVisible and PoliciesReady False: the watch does not show what it did, and the server does
	// not confirm that it is gone.
	NotConfirmedReason = "NotConfirmed"

	// PlacementSuspendedReason on Suspended True: spec.suspend of the placement is true.
	PlacementSuspendedReason = "PlacementSuspended"
	// WorkspaceSuspendedReason on Suspended True: spec.suspend of the PlacementConfig is true.
	WorkspaceSuspendedReason = "WorkspaceSuspended"
	// ControllerSuspendedReason on Suspended True: the controller is started with --suspend.
	ControllerSuspendedReason = "ControllerSuspended"

	// Reasons of condition Delivered. ClaimNotAcceptedReason is one, too.

	// InProgressReason on Delivered False: it is on its way, and nothing is wrong.
	InProgressReason = "InProgress"
	// NotAppliedReason on Delivered False: the cluster or its agent refuses an object, and the message says why.
	NotAppliedReason = "NotApplied"
	// FailedReason on Delivered False: a controller of the cluster has given up.
	FailedReason = "Failed"
	// UnhealthyReason on Delivered False: the cluster has it, and something keeps it from being ready or from staying as it is.
	UnhealthyReason = "Unhealthy"
	// ClusterSilentReason on Delivered Unknown: the agent of the cluster has not been heard of for too long.
	ClusterSilentReason = "ClusterSilent"
	// NotPlacedReason on Delivered False: no cluster is found for the workload.
	NotPlacedReason = "NotPlaced"
	// UnselectedReason on Delivered Unknown: no placement selects the workload, and what runs stays as it was.
	UnselectedReason = "Unselected"
	// DeliveredByOthersReason on Delivered Unknown: no agent of its clusters delivers.
	DeliveredByOthersReason = "DeliveredByOthers"
	// MissingReferenceReason on Delivered False: the workload refers to an object that is not there, such as a Secret.
	MissingReferenceReason = "MissingReference"
	// ConflictReason on Delivered False: another workload brings an object of the same name, and it is not the same.
	ConflictReason = "Conflict"
	// OverridesInvalidReason on Delivered False: an override of the placement cannot be carried out.
	OverridesInvalidReason = "OverridesInvalid"
	// TooLargeReason on Delivered False: the workload and what goes with it are larger than a Work.
	TooLargeReason = "TooLarge"
)
