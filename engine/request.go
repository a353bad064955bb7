package engine

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/placement"
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

	// displaced is what else does not count besides what the workload itself holds.
	displaced *displaced
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

// leaves returns why the workload is to leave a cluster, nil if it is not.
func (r *Request) leaves(cluster string) *filter.Rejection {
	for i := range r.Leave {
		if r.Leave[i].Cluster == cluster {
			return r.Leave[i].Rejection
		}
	}
	return nil
}

// mayAdd reports whether a cluster may be added, or get more replicas.
func (r *Request) mayAdd(cluster string) bool {
	return (r.Into == nil || slices.Contains(r.Into, cluster)) && !r.withholds(cluster)
}

// mayAddAny reports whether any cluster may be added.
func (r *Request) mayAddAny() bool { return r.Into == nil && len(r.withheld) == 0 }

func (r *Request) runsOn(cluster string) bool {
	return slices.ContainsFunc(r.Current, func(c Choice) bool { return c.Name == cluster })
}

// withholds reports whether a workload may get nothing more on a cluster until others have had their turn there.
func (r *Request) withholds(cluster string) bool { return slices.Contains(r.withheld, cluster) }

// parts returns how many of the workload's clusters have their own part of what it has to complete.
func (r *Request) parts() (n int64) {
	for i := range r.Current {
		if r.Current[i].Part {
			n++
		}
	}
	return n
}

// asks returns what a workload asks for on a cluster where promised is promised to it, given that some of its pods have ended and others
// may still run.
func (c *Choice) asks(w *workload.Workload, promised capacity.Resources) *workload.Workload {
	requests := w.Requests
	if c.Left != nil && *c.Left < w.Replicas {
		requests = w.Share(max(0, *c.Left)).Requests
	}
	if !c.Runs.IsZero() {
		requests = requests.Max(c.Runs.Min(promised).WithoutNone())
	}
	if requests.Same(w.Requests) {
		return w
	}
	other := *w
	other.Requests = requests
	return &other
}
