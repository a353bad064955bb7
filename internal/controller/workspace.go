package controller

import (
	"context"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// cacheView is a workspace as the informers show it. It must not be modified.
type cacheView struct {
	visibility
	clusters []*v1alpha1.ClusterRegistration
	// usages are keyed by cluster name, heard the heartbeats of clusters that have one by the UID of the registration.
	usages map[string]*v1alpha1.ClusterUsage
	heard  map[types.UID]heartbeat
	scores []*v1alpha1.ClusterScore
	// config is the PlacementConfig; nil if there is none.
	config     *v1alpha1.PlacementConfig
	placements []*v1alpha1.WorkloadPlacement
	decisions  []*v1alpha1.PlacementDecision
	// kept are the slices that the workspace keeps for others; copies are copies of the slices that are kept for it elsewhere.
	kept, copies []*v1alpha1.PlacementDecision
	// grants are its grants on the clusters of another workspace, if it uses these.
	grants []engine.Grant
	plans  []*v1alpha1.RebalancePlan
	// sets share the clusters of this workspace; setBindings let it use those of others.
	sets        []*v1alpha1.ClusterSet
	setBindings []*v1alpha1.ClusterSetBinding
	configMaps  []*corev1.ConfigMap
	// workloads are the shown ones, unless live has them.
	workloads []*workloadObject
	live      *liveWorkloads
	// works are what clusters are to run, if workloads are delivered; keptWorks are those that the workspace keeps for others.
	works, keptWorks []*v1alpha1.Work
	// limitRanges are complete if limitRangesRead is set.
	limitRanges     []*corev1.LimitRange
	limitRangesRead bool
	// unreadable are the fields that cannot be read, by UID of the object. The readable parts are in the lists above.
	unreadable map[types.UID]decode.Problems
}

// workspace reconciles one logical cluster. Passes over it do not overlap: what changes during one is left to the next, so
// that decisions accumulate while slices are being written.
type workspace struct {
	name     logicalcluster.Name
	engine   *engine.Engine
	policies *policy.Compiler
	// table has the kinds of workload.
	table   *workload.Table
	metrics *metrics
	now     func() time.Time
	// ask is Engine.Decide.
	ask func(context.Context, engine.Request) (*engine.Decision, error)
	actions
	limits
	// fleet is the clusters of the workspace itself; host is the fleet of another workspace that it uses instead, nil if none. own are the
	// actions in the workspace itself, wherever its decisions are kept.
	fleet, host *fleet
	own         actions
	// registrations are as last shown or written. listedKept are the slices of other workspaces as last listed, until the fleet is
	// open.
	registrations []*v1alpha1.ClusterRegistration
	listedKept    map[logicalcluster.Name][]*v1alpha1.PlacementDecision
	// grants are those that the engine has for clusters of another workspace, once shared.
	grants []engine.Grant
	shared bool
	// orphans are the workspaces that something is kept for though they do not use the clusters.
	orphans map[logicalcluster.Name]*orphan
	// fleetMarks and fleetRevision are the state of the fleet when guests were last woken.
	fleetMarks    map[string]fleetMark
	fleetRevision int64
	// copied are the copies of slices that are kept elsewhere.
	copied map[types.NamespacedName]*copied
	// publishing is how many workspaces are writing decisions, including this one. yielding is since when statuses and events
	// have waited for them.
	publishing *atomic.Int64
	yielding   time.Time

	// store is nil until the durable decisions have been read, and stale after a write has failed: then they are read
	// again, so that memory and durable state cannot drift apart.
	store *store
	stale bool
	// deleted are slices that the informer still shows, writeFailures those that could not be written, slicing the limits of slices.
	deleted       map[types.UID]bool
	writeFailures map[types.NamespacedName]*writeFailure
	slicing       sliceLimits
	// clusters by name and compiled placements belong to the objects of the last pass. scoreFaults are why ClusterScores have no effect,
	// by UID.
	clusters    map[string]clusterState
	scoreFaults map[types.UID]string
	// facts identifies everything that policies and placements can refer to in the clusters.
	facts              uint64
	compiledPlacements map[types.NamespacedName]*placementState
	effects            effects
	// policyErr is why the policies as written are not in force, inForce whether any are.
	policyErr error
	inForce   bool
	// trial evaluates policies that are not in force yet; linted are the findings in those in force. refused are the statuses of
	// ConfigMaps with errors, by UID.
	trial   *policy.Trial
	shadow  shadow
	rollout *v1alpha1.PolicyRolloutStatus
	// policiesShown are the ConfigMaps with policies in the last pass.
	policiesShown []*corev1.ConfigMap
	linted        linted
	refused       map[types.UID]string
	// related is what the engine's knowledge of affinity between workloads is based on; the zero value after a failure.
	related affinityBasis
	// policyMaps are the ConfigMaps with policies that were last shown; nil before any could be.
	policyMaps map[types.NamespacedName]types.UID
	claims     boundClaims
	deliveries
	defaults requestDefaults
	// gone are objects that are not shown and that the server does not have, though decisions depend on them.
	gone map[notShown]bool
	// replaced are workloads, by UID, that others on the server have replaced; outdated is why it is not known whether a shown workload has
	// replaced another or was replaced by it. readFailures are why other objects are not known to be gone, by resource.
	replaced     map[types.UID]workloadKey
	outdated     map[workloadKey]*writeFailure
	readFailures map[schema.GroupVersionResource]*writeFailure
	// counted are the resources that cannot be read, as counted in the metric.
	counted map[schema.GroupResource]*hidden
	// restUntil is when a workspace that was too slow is tried again, tooSlow why it rests.
	restUntil time.Time
	tooSlow   error
	// quarantine is why the policies are no longer evaluated.
	quarantine error
	// heldReservations hold what workloads have given up until that is durable, and where they are delivered until they are gone.
	heldReservations map[workloadKey][]heldReservation
	// suggestions are the registrations of clusters that would have room for waiting workloads, by the digest of their inputs; suggestAt is
	// when to look for the next one. freed is what was given up lately, watchedSince since when that is recorded.
	suggestions             map[string]*suggestion
	suggestAt, watchedSince time.Time
	freed                   []freed
	// nominations are the workloads for which others make room.
	nominations map[workloadKey]*nomination
	// reports are the registrations that we have written, counting when the clusters that count workloads were last heard from.
	// unseen is since when no heartbeat has been seen of clusters that have an agent.
	reports       map[types.UID]reported
	counting      map[string]time.Time
	unseen        map[types.UID]time.Time
	overcommitted int
	// drains is the progress of each cluster's drain, by name; loss how much of the fleet has fallen silent at once.
	drains map[string]*v1alpha1.ClusterDrainStatus
	loss   loss
	// headroom checks what the loss of domains would do.
	headroom foresight
	// missed is since when this process has known clusters to be silent.
	missed map[types.UID]time.Time
	// index holds the workloads; waited is how many of them wait, as counted in the metric.
	index  *index
	waited int
	gains  gains
	// rebalancing has the RebalancePlans.
	rebalancing rebalancing
	// brake paces disruptions. moved counts, by UID, those of placements whose workloads have had to wait their turn since.
	brake disruption.Brake
	// slowed paces the workloads of lost clusters while too many clusters are lost.
	slowed disruption.Brake
	moved  map[types.UID]int
	// config is the PlacementConfig. suspendedPlacements and wouldBe are what the metrics count of suspended placements.
	config              placementConfig
	suspendedPlacements int
	wouldBe             map[withheld]int
	// statuses and Placed events of placements, by UID.
	statuses map[types.UID]writtenStatus
	placed   map[types.UID]*placedEvents
	// fleets are those of all workspaces, nil if there are no others; sharing are the statuses about them.
	fleets  *fleets
	sharing sharingStatuses
	// loaded is set after the first full pass.
	loaded bool
}

func newWorkspace(name logicalcluster.Name, e *engine.Engine, policies *policy.Compiler, m *metrics, l limits, a actions) *workspace {
	return &workspace{
		fleet: newFleet(name, a), own: a, copied: map[types.NamespacedName]*copied{}, orphans: map[logicalcluster.Name]*orphan{},
		name: name, engine: e, policies: policies, table: workload.Kinds(), metrics: m, now: time.Now, ask: e.Decide, limits: l, actions: a, index: newIndex(), nominations: map[workloadKey]*nomination{}, suggestions: map[string]*suggestion{}, deliveries: newDeliveries(),
		readFailures: map[schema.GroupVersionResource]*writeFailure{}, replaced: map[types.UID]workloadKey{}, brake: disruption.Brake{Budget: l.disruptions}, slowed: disruption.Brake{Budget: l.disruptions.Slowed(slowedBy)},
		placed: map[types.UID]*placedEvents{}, reports: map[types.UID]reported{}, slicing: defaultLimits, publishing: new(atomic.Int64),
	}
}

// limits of passes, and of the patience with clusters.
type limits struct {
	// batchSize is how many decisions a pass makes before it publishes them, batchTimeout how long that may take.
	batchSize    int
	batchTimeout time.Duration
	// grace is how long a cluster may be silent before its Ready condition becomes Unknown; 0 means forever.
	grace time.Duration
	// failoverAfter is how long it may be silent before it counts as lost; 0 means forever.
	failoverAfter time.Duration
	// reservationTimeout is how long a cluster may go without counting a workload that is placed there; 0 means forever.
	reservationTimeout time.Duration
	// disruptions is how many workloads of a workspace may lose a cluster within an interval.
	disruptions disruption.Budget
	// unhealthyThreshold is the share of clusters at which failover is slowed if that many are silent at once; 0 means never.
	unhealthyThreshold float64
	// suspend suspends decisions in all workspaces.
	suspend bool
}

// limits returns the limits for the workspaces of a controller.
func (c *Config) limits() limits {
	return limits{
		batchSize: c.BatchSize, batchTimeout: c.BatchTimeout, grace: c.HeartbeatGracePeriod, failoverAfter: c.FailoverAfter,
		reservationTimeout: c.ReservationTimeout, disruptions: c.Disruptions, unhealthyThreshold: c.UnhealthyFleetThreshold, suspend: c.Suspend,
	}
}

// actions are the side effects of reconciling, as functions so that it can be tested without an API server.
type actions struct {
	listDecisions func(context.Context) ([]*v1alpha1.PlacementDecision, error)
	// listKept lists the slices that are kept for another workspace.
	listKept func(context.Context, logicalcluster.Name) ([]*v1alpha1.PlacementDecision, error)
	// writeDecision creates an object without a resource version, and updates one that has it.
	writeDecision  func(context.Context, *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error)
	deleteDecision func(context.Context, *v1alpha1.PlacementDecision) error
	makeNamespace  func(context.Context, string) error
	writeStatus    func(context.Context, *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error)
	// writePlan writes the status of a RebalancePlan.
	writePlan func(context.Context, *v1alpha1.RebalancePlan) (*v1alpha1.RebalancePlan, error)
	// writeSet, writeSetBinding and writeConfig write statuses.
	writeSet        func(context.Context, *v1alpha1.ClusterSet) (*v1alpha1.ClusterSet, error)
	writeSetBinding func(context.Context, *v1alpha1.ClusterSetBinding) (*v1alpha1.ClusterSetBinding, error)
	writeConfig     func(context.Context, *v1alpha1.PlacementConfig) (*v1alpha1.PlacementConfig, error)
	// writeConditions writes the conditions and the drain of a registration. It fails with a conflict if the registration has changed.
	writeConditions func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error)
	// liveUIDs returns the UIDs of the named objects of a resource that the server has, or of all watched ones if names is nil. It fails
	// if the resource cannot be read.
	liveUIDs func(ctx context.Context, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error)
	// stillBound reports whether the server has the same version of a binding.
	stillBound func(context.Context, *apisv1alpha2.APIBinding) (bool, error)
	// readHeartbeat reads the Lease of a cluster from the server; found is false if it cannot be seen there.
	readHeartbeat func(ctx context.Context, cluster string) (beat heartbeat, found bool, err error)
	annotate      func(ctx context.Context, configMap *corev1.ConfigMap, key, value string) error
	event         func(about runtime.Object, kind, reason, message string)
}

// setLoaded counts the workspace once its first full pass has been made.
func (w *workspace) setLoaded() {
	if !w.loaded {
		w.loaded = true
		w.metrics.loaded.Inc()
	}
}

// retire removes a workspace that is gone from the metrics.
func (w *workspace) retire() {
	w.metrics.workspaces.Dec()
	if w.loaded {
		w.metrics.loaded.Dec()
	}
	w.metrics.waiting.Sub(float64(w.waited))
	w.metrics.overcommitted.Sub(float64(w.overcommitted))
	if w.policyErr != nil {
		w.metrics.policyErrs.Dec()
	}
	w.metrics.accounts.put(w.name, nil)
	w.countSuspended(nil)
	w.countHidden(nil)
	w.setQuarantine(nil)
	if w.loss.failover != failoverNormal {
		w.metrics.failover.WithLabelValues(string(w.loss.failover)).Dec()
	}
}

// countHidden counts the resources that the workspace does not let the controller read.
func (w *workspace) countHidden(hidden map[schema.GroupResource]*hidden) {
	for resource := range w.counted {
		w.metrics.hidden.WithLabelValues(resource.String()).Dec()
	}
	for resource := range hidden {
		w.metrics.hidden.WithLabelValues(resource.String()).Inc()
	}
	w.counted = hidden
}

func (w *workspace) setQuarantine(err error) {
	if (err == nil) != (w.quarantine == nil) {
		w.metrics.quarantined.Add(map[bool]float64{true: -1, false: 1}[err == nil])
	}
	w.quarantine = err
}
