// Package workload has what is placed: the identity of a workload, and what it requests on each cluster that it runs on.
package workload

import (
	"math"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Reference identifies a workload within its workspace.
type Reference struct {
	APIVersion, Kind, Namespace, Name string
	// UID distinguishes a workload from a later one of the same name.
	UID string
}

// String returns "Kind namespace/name".
func (r Reference) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Workload is what policies and the engine see of a Deployment, StatefulSet, Job or any other object with a pod template. It is
// immutable.
type Workload struct {
	Reference
	Labels, Annotations map[string]string
	// Replicas on each cluster that is chosen; those on each node, where PerNode is set.
	Replicas int64
	// Requests of all replicas together, which one cluster must have free.
	Requests capacity.Resources
	// PerNode is set for a workload with Replicas on each usable node of a cluster, as a DaemonSet has: what it asks for differs
	// by cluster, see On.
	PerNode bool
}

// On is the workload on a cluster of so many usable nodes: itself, unless it is PerNode. More than capacity.MaxAmount counts as
// one more, which no cluster has.
func (w *Workload) On(nodes int64) *Workload {
	if !w.PerNode {
		return w
	}
	on := *w
	on.PerNode = false
	on.Replicas = times(w.Replicas, nodes, math.MaxInt32)
	on.Requests = w.Requests.Combine(capacity.Resources{}, func(amount, _ int64) int64 {
		return times(amount, nodes, capacity.MaxAmount+1)
	})
	return &on
}

// times is a * n, at most a limit; neither is negative.
func times(a, n, limit int64) int64 {
	if n > 0 && a > limit/n {
		return limit
	}
	return a * n
}

// Replica is what one replica requests, which one node must have free; rounded up.
func (w *Workload) Replica() capacity.Resources {
	n := w.Replicas
	if n <= 1 {
		return w.Requests
	}
	return w.Requests.Combine(capacity.Resources{}, func(all, _ int64) int64 { return all/n + min(1, all%n) })
}

// Placement is what policies see of the WorkloadPlacement that a workload belongs to.
type Placement struct {
	Name, Namespace string
	Labels          map[string]string
}
