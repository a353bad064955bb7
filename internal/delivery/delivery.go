// Package delivery brings what is decided to clusters: it keeps their Works, which agents apply, and turns what agents report into
// the status of the workloads.
//
// The placing pass defines by an Assignment where each workload belongs. What runs where is read from the Works alone, so nothing
// is kept in memory that a restart could lose.
package delivery

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// Source is a workload as its owner has written it. It is immutable: a changed workload has a new Source.
type Source struct {
	workload.Reference
	// Generation is that of the object, ResourceVersion the one that it was read at.
	Generation      int64
	ResourceVersion string
	Labels          map[string]string
	Annotations     map[string]string
	Finalizers      []string
	// Deleting is set once the object has a deletion timestamp.
	Deleting bool
	// Manifest is the object as JSON, without its status and what servers add. Status is its status as JSON.
	Manifest, Status []byte
}

// State is what the placing pass knows of where a workload belongs.
type State int

// The states of workloads.
const (
	// Unknown: it is not known where the workload belongs, or whether it still exists. What runs stays as it is.
	Unknown State = iota
	// Decided: a durable decision defines where it belongs.
	Decided
	// Waiting: a placement selects it, and no cluster has been found for it. What runs is removed.
	Waiting
	// Unselected: no placement selects it. What runs is kept or removed, as its last placement specified.
	Unselected
)

// Assignment defines where a workload belongs.
type Assignment struct {
	*Source
	State State
	// Placement is what the workload belongs to; nil unless it is Decided or Waiting.
	Placement *v1alpha1.WorkloadPlacement
	// Targets are its clusters if Decided, ordered by name; Divided is set if they share the replicas. DecidedAt is the time of the
	// decision.
	Targets   []Target
	Divided   bool
	DecidedAt time.Time
	// Leaving are the clusters that the workload leaves according to the durable decision.
	Leaving []string
}

// Round is what a placing pass hands over: where every workload belongs. A workload without an assignment is gone.
type Round struct {
	Clusters []Cluster
	// Assignments are immutable: a changed assignment is a new one.
	Assignments []*Assignment
}

// Target is what a cluster is to run of a workload.
type Target struct {
	Cluster  string
	Replicas int32
}

// Cluster is a cluster that workloads may be delivered to.
type Cluster struct {
	Name, Location string
	Labels         map[string]string
	// Delivers is set if the cluster's agent delivers. Silent is set while the agent has not been heard from for too long, Lost once
	// the cluster counts as lost.
	Delivers, Silent, Lost bool
	// Agent is how the agent delivers.
	Agent v1alpha1.AgentDelivery
	UID   types.UID
}

// Problem is why something of a workload is not delivered, worded for its owner.
type Problem struct {
	// Cluster is the one concerned; empty if all clusters of the workload are.
	Cluster string
	// Reason is the reason of condition Delivered.
	Reason  string
	Message string
}
