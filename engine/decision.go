package engine

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/internal/ranking"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Request asks where one workload may run.
type Request struct {
	// Workspace whose clusters and policies count.
	Workspace logicalcluster.Name
	// Placement that the workload belongs to, from Engine.CompilePlacement.
	Placement *placement.Placement
	Workload  *workload.Workload
	// Current is what the workload runs on: of each Choice only Name, Replicas, Left, Runs, and Part count. Empty for a workload that
	// has no clusters, or is to be placed as if it had none.
	Current []Choice
	// Unassigned is set if some parts of what the workload has to complete belong to no cluster: see Choice.Part.
	Unassigned bool
	// Group is the fallback group of the workload, from its decision. Return names a better group that it is to return to,
	// if that has a place for it.
	Group, Return string
	// Leave are clusters of Current that the workload should leave, and why. Like any cluster that it should leave, it leaves one
	// only for another place.
	Leave []Verdict
	// Into, unless it is nil, are the only clusters that may be added, or get more replicas.
	Into []string
	// MinGain, from 1 to 100, makes the workload leave clusters only for a gain: each cluster that is added, or gets more replicas,
	// scores at least that many points more than each one that it leaves. Everything else comes first: if anything else would
	// change, it leaves none. With 0 any place will do.
	MinGain int64
	// Shadow makes the shadow policies of the workspace decide in place of those in force; if there are none, those in force decide.
	Shadow bool
	// Now is the current time, by which tolerations of taints, and the delay for a cluster that is not ready, expire. At
	// the zero time nothing has expired.
	Now time.Time
	// Priority of the placement, and Since, when the workload began to wait, zero if it has just arrived. They count where workspaces
	// share clusters: see Engine.SetLine.
	Priority int32
	Since    time.Time
	// Instead are held reservations of others that the workload takes the place of: they do not count against it, and are released
	// in the same step in which it gets clusters.
	Instead []Held
	// Hold keeps what the workload gives up reserved, from the step in which it gets its new clusters: see Decision.GivenUp.
	Hold bool

	// gone is what else does not count besides what the workload itself holds.
	gone *gone
	// alone ignores the turns of others: the request is hypothetical.
	alone bool
	// withheld are the clusters where others come first: none of them may be added, or get more.
	withheld []string
	// strict counts replicas that move to other clusters also where they were, until they are gone. It is set once the quotas have
	// refused a plan made without it, since amounts are rounded then.
	strict bool
}

func (r *Request) owner() capacity.Owner { return ownerOf(r.Workload.Reference) }

// ownerOf returns the key of a workload in the ledger. It leaves out the UID: of two workloads with one name only one exists.
func ownerOf(ref workload.Reference) capacity.Owner {
	return capacity.Owner{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}

// group returns the key in the ledger of all claims of the placement.
func (r *Request) group() types.NamespacedName { return r.Placement.NamespacedName() }

// Decision is where a workload runs, and why there.
type Decision struct {
	Workload workload.Reference
	// Clusters that were chosen, best first; empty if no cluster is feasible.
	Clusters []Choice
	// Asked is how many clusters the placement asks for.
	Asked int
	// Group is the fallback group by which the clusters were chosen.
	Group string
	// Waiting is how many replicas no cluster has room for, if replicas are divided.
	Waiting int64
	// Left are the clusters of Request.Current that the workload leaves. Retained are the clusters of Clusters that it
	// should leave, but for which there is no better place: what was reserved there stays reserved. Each has a Rejection.
	Left, Retained []Verdict
	// GivenUp holds what the workload had beyond what it has now, if the request asks for Hold.
	//
	// Invariant: what is given up is never free before ReleaseHeld, not even for a moment: others decide on shared clusters meanwhile.
	GivenUp []Held
	// Weights and Terms are the result of the policies.
	Weights scoring.Weights
	Terms   []scoring.Term
	// PolicyDigest identifies the Rego policies that made the decision.
	PolicyDigest string
	// InputsDigest identifies everything that the decision depends on except the clusters.
	InputsDigest string
	// Generation of the snapshot that was decided on.
	Generation int64
	// Revision of the workspace at that time: see Engine.Revision.
	Revision int64
	// Cached reports whether the ranking came from the cache, brought up to date.
	Cached bool

	changes bool
	plan    *plan
	// quota is what the quotas of sets left for the clusters that were added; nil if that was enough for any choice.
	quota *budget
	// grants are the grants through which the workspace sees the clusters; nil if these are its own.
	grants *grants
	class  *ranking.Class
	// snapshot that was decided on, and holding, what the workload itself held then, which does not count.
	snapshot snapshot.Snapshot
	holding  holding
	now      time.Time
	// withheld are the withheld clusters of the request.
	withheld []string
}

// Choice is one chosen cluster.
type Choice struct {
	Name     string `json:"name"`
	Replicas int64  `json:"replicas"`
	// Score is the total, 0..100.
	Score int64 `json:"score"`
	// Reason is the total as a word: Excellent, Good, Fair or Poor.
	Reason string `json:"reason"`
	// Reserved there for the workload.
	Reserved capacity.Resources `json:"-"`
	// Expired is set if the reservation has expired: nothing is reserved there any more.
	Expired bool `json:"-"`
	// Left is how many pods may still run there at most, however many replicas the cluster has; nil if that is not bounded. The
	// others have ended and request nothing any more.
	Left *int64 `json:"-"`
	// Runs is what the workload may still request there although it now asks for less: that much of what is reserved for it stays reserved.
	Runs capacity.Resources `json:"-"`
	// Part is set if replicas are divided and the cluster has its own part of what the workload has to complete, for example the
	// completions of a Job's copy. While it has the part, no other cluster can get it.
	Part bool `json:"-"`
}
