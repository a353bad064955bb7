// Package delivery brings what is decided to clusters: it keeps their Works, which agents apply, and makes what agents report of
// them the status of the workloads.
//
// The placing pass says by an Assignment where each workload belongs. What runs where is read from the Works alone, so nothing
// is remembered that a restart could lose.
package delivery

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// Source is a workload as its owner has written it. It is immutable: a workload that has changed has another Source.
type Source struct {
	workload.Reference
	// Generation of the object, and ResourceVersion that it was read at.
	Generation      int64
	ResourceVersion string
	Labels          map[string]string
	Annotations     map[string]string
	Finalizers      []string
	// Deleting is set once the object has a deletion timestamp.
	Deleting bool
	// Manifest is the object as JSON, without status and without what servers add. Status is its status as JSON.
	Manifest, Status []byte
}

// State is what the placing pass says of a workload.
type State int

// The states of workloads.
const (
	// Unknown: it is not known where the workload belongs, or whether it still exists. What runs stays as it is.
	Unknown State = iota
	// Decided: a durable decision says where it belongs.
	Decided
	// Waiting: a placement selects it, and no cluster is found for it. What runs is removed.
	Waiting
	// Unselected: no placement selects it. What runs is kept or removed, as its placement said.
	Unselected
)

// Assignment says where a workload belongs.
type Assignment struct {
	*Source
	State State
	// Placement that the workload belongs to; nil unless it is Decided or Waiting.
	Placement *v1alpha1.WorkloadPlacement
	// Targets are its clusters, where Decided, in the order of their names; Divided is set where they share the replicas. DecidedAt is
	// since when.
	Targets   []Target
	Divided   bool
	DecidedAt time.Time
	// Leaving are the clusters that the durable decision says the workload leaves.
	Leaving []string
}

// Round is what a placing pass hands over: where every workload belongs. A workload that it does not have is gone.
type Round struct {
	Clusters []Cluster
	// Assignments are not changed any more: one that says something else is another one.
	Assignments []*Assignment
}

// Target is what a cluster is to run of a workload.
type Target struct {
	Cluster  string
	Replicas int32
}

// Cluster is a cluster that may deliver.
type Cluster struct {
	Name, Location string
	Labels         map[string]string
	// Delivers is set where the cluster's agent delivers. Silent is set while the agent has not been heard of for too long, Lost once
	// the cluster is taken for lost.
	Delivers, Silent, Lost bool
	// Agent is how the agent delivers.
	Agent v1alpha1.AgentDelivery
	UID   types.UID
}

// Problem is why something of a workload is not delivered, in words that its owner understands.
type Problem struct {
	// Cluster that it is about; empty where it is about all clusters of the workload.
	Cluster string
	// Reason is that of condition Delivered.
	Reason  string
	Message string
}
