// Package workload has what is placed: the identity of a workload, and what it requests on each cluster that it runs on.
package workload

import (
	"cmp"
	"math"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/internal/int128"
)

// Reference identifies a workload within its workspace.
type Reference struct {
	APIVersion, Kind, Namespace, Name string
	// UID distinguishes a workload from a later one of the same name.
	UID string
}

// String returns "Kind namespace/name".
func (r Reference) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Workload is what policies and the engine see of a Deployment, a Job, a RayCluster or any other object of a kind in the Table. It
// is immutable.
type Workload struct {
	Reference
	Labels, Annotations map[string]string
	// Replicas is the number of pods on each cluster that is chosen; on each node, where PerNode is set.
	Replicas int64
	// Requests of all pods together, which one cluster must have free.
	Requests capacity.Resources
	// PerNode is set for a workload with Replicas on each node of a cluster that its pods can run on, as a DaemonSet has: what it asks
	// for differs by cluster, see On.
	PerNode bool
	// Divisible is set where the replicas are all of one kind, and clusters can have a share of them.
	Divisible bool
	// Pod is the most of each resource that any one pod requests; zero if they request the same.
	Pod capacity.Resources
	// Nodes is what its pods ask of the nodes that they run on; nil if nothing.
	Nodes *nodes.Wishes
	// End is why the workload is not decided on, Controller the object that controls it, such as "CronJob nightly". Policies
	// cannot read them, and Decide does not.
	End        End
	Controller string
	// Unended is the workload before any of its pods have ended; nil where none has.
	Unended *Workload
}

// Whole is the workload before any of its pods have ended: a Job with all of its completions. So begins each copy, whatever those
// that there are have done.
func (w *Workload) Whole() *Workload { return cmp.Or(w.Unended, w) }

// On is the workload on a cluster where its pods run on so many nodes, of which so many are part of what the cluster has: itself, unless
// it is PerNode. More than capacity.MaxAmount counts as one more, which no cluster has.
func (w *Workload) On(running, usable int64) *Workload {
	if !w.PerNode {
		return w
	}
	on := *w
	on.PerNode = false
	on.Replicas = times(w.Replicas, running, math.MaxInt32)
	on.Requests = w.Requests.Combine(capacity.Resources{}, func(amount, _ int64) int64 {
		return times(amount, usable, capacity.MaxAmount+1)
	})
	return &on
}

// Share is the part of a Divisible workload that is n of its replicas, rounded up: fewer replicas never request more. More than
// capacity.MaxAmount counts as one more. The workload has at least one replica.
func (w *Workload) Share(n int64) *Workload {
	if n == w.Replicas {
		return w
	}
	share, all := *w, w.Replicas
	share.Replicas = n
	share.Requests = w.Requests.Combine(capacity.Resources{}, func(amount, _ int64) int64 {
		part, rest := int128.MulDiv(amount, n, all)
		if part > capacity.MaxAmount {
			return capacity.MaxAmount + 1
		}
		return part + min(1, rest)
	})
	return &share
}

// times is a * n, at most a limit; neither is negative.
func times(a, n, limit int64) int64 {
	if n > 0 && a > limit/n {
		return limit
	}
	return a * n
}

// Replica is what the largest pod requests, which one node must have free; rounded up.
func (w *Workload) Replica() capacity.Resources {
	if !w.Pod.IsZero() {
		return w.Pod
	}
	all, n := w.Requests, max(1, w.Replicas)
	all.Storage = 0 // volumes are not of a node
	return all.Combine(capacity.Resources{}, func(all, _ int64) int64 { return all/n + min(1, all%n) })
}

// Placement is what policies see of the WorkloadPlacement that a workload belongs to.
type Placement struct {
	Name, Namespace string
	Labels          map[string]string
}
