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
	// Current is what the workload runs on, with its name and replicas there, how many are Left and whether it has a Part; the rest of a
	// Choice does not count. Empty for a workload that has no clusters, or is to be placed as if it had none.
	Current []Choice
	// Unassigned is set where some parts of what the workload has to complete are no cluster's: see Choice.Part.
	Unassigned bool
	// Group is the fallback group that the workload is in, as its decision has it. Return names a better one that it is to
	// return to, if that has a place for it.
	Group, Return string
	// Leave are clusters of Current that the workload should leave, and why. It leaves one only for another place, as one that it
	// should leave for what the cluster is.
	Leave []Verdict
	// Into, unless it is nil, are the only clusters that may be added, or get more replicas.
	Into []string
	// MinGain has the workload leave clusters for a gain alone: what is added, or gets more replicas, scores at least so many points
	// above those that it leaves, 1 to 100. First comes all else: where anything else would change, it leaves none. 0: any place
	// will do.
	MinGain int64
	// Shadow has the shadow policies of the workspace decide, in place of those in force; those, where there are none.
	Shadow bool
	// Now ends what lasts for some time: tolerations of taints, and the delay for a cluster that is not ready. At the zero
	// time nothing has ended.
	Now time.Time
	// Priority is that of the placement, and Since when the workload began to wait, zero if it has only come: they count where workspaces
	// share clusters, see Engine.SetLine.
	Priority int32
	Since    time.Time
	// Instead are held reservations of others in whose place the workload is put: they do not count for it, and are released in the
	// step in which it gets clusters.
	Instead []Held
	// Hold has what the workload gives up be held from the step in which it gets what it is to have: see Decision.GivenUp.
	Hold bool

	// gone is what does not count beside what the workload itself holds.
	gone *gone
	// alone has nobody else come first anywhere: it is only asked what would be.
	alone bool
	// withheld are the clusters where others come first: none of them may be added, or get more.
	withheld []string
	// strict: replicas that go to other clusters count where they were, too, until they are gone. Otherwise amounts are rounded.
	strict bool
}

func (r *Request) owner() capacity.Owner { return ownerOf(r.Workload.Reference) }

// ownerOf is the key of a workload in the ledger. It leaves out the UID: of two workloads of one name only one exists.
func ownerOf(ref workload.Reference) capacity.Owner {
	return capacity.Owner{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}

// group is the key in the ledger of all claims of the placement.
func (r *Request) group() types.NamespacedName { return r.Placement.NamespacedName() }

// Decision is where a workload runs, and why there.
type Decision struct {
	Workload workload.Reference
	// Clusters that were chosen, best first; empty where no cluster is feasible.
	Clusters []Choice
	// Asked is how many clusters the placement asks for.
	Asked int
	// Group is the fallback group by which the clusters were chosen.
	Group string
	// Waiting is how many of the replicas, where they are divided, no cluster has room for.
	Waiting int64
	// Left are those of Request.Current that the workload leaves. Retained are those of Clusters that it should leave, for
	// which there is no better place: what was reserved there stays as it was. Each has a Rejection.
	Left, Retained []Verdict
	// GivenUp holds what the workload had beyond what it has now, where the request asks for that.
	//
	// Invariant: what is given up is free for nobody, not for a moment, before ReleaseHeld: others decide on shared clusters meanwhile.
	GivenUp []Held
	// Weights and Terms are what the policies said.
	Weights scoring.Weights
	Terms   []scoring.Term
	// PolicyDigest identifies the Rego policies that it was made by.
	PolicyDigest string
	// InputsDigest identifies all that the decision depends on but the clusters.
	InputsDigest string
	// Generation of the snapshot that was decided on.
	Generation int64
	// Revision is that of the workspace then, see Engine.Revision.
	Revision int64
	// Cached reports whether the ranking came from the cache, brought up to date.
	Cached bool

	changes bool
	plan    *plan
	// quota is what the quotas of sets left for the clusters that were added; nil where that was enough for any.
	quota *budget
	// grants are those by which the workspace sees the clusters; nil where these are its own.
	grants *grants
	class  *ranking.Class
	// snapshot that was decided on, and what the workload itself held then, which does not count.
	snapshot snapshot.Snapshot
	holding  holding
	now      time.Time
	// withheld are those of the request.
	withheld []string
}

// Choice is one chosen cluster.
type Choice struct {
	Name     string `json:"name"`
	Replicas int64  `json:"replicas"`
	// Score is the total, 0..100.
	Score int64 `json:"score"`
	// Reason is the total in a word: Excellent, Good, Fair or Poor.
	Reason string `json:"reason"`
	// Reserved there for the workload.
	Reserved capacity.Resources `json:"-"`
	// Expired says that the reservation has expired: nothing is reserved there any more.
	Expired bool `json:"-"`
	// Left is how many pods may still run there at most, however many replicas the cluster has; nil where that is not bounded. Others
	// have ended, and ask for nothing any more.
	Left *int64 `json:"-"`
	// Runs is what the workload may still request there, though it asks for less: as much of what is reserved for it stays so.
	Runs capacity.Resources `json:"-"`
	// Part is set where replicas are divided and the cluster has a part of its own of what the workload has to complete, as a Job's
	// copy has completions of its own, which cannot become others' while it has them.
	Part bool `json:"-"`
}
