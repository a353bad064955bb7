// Package workload represents what is placed: the identity of a workload, and what it requests on each cluster that it runs on.
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
	// Replicas is the number of pods on each chosen cluster or, if PerNode is set, on each node.
	Replicas int64
	// Requests of all pods together, which one cluster must have free.
	Requests capacity.Resources
	// PerNode is set for a workload with Replicas on each node of a cluster that its pods can run on, like a DaemonSet: what it requests
	// differs by cluster, see On.
	PerNode bool
	// Divisible is set if all replicas are alike, so that clusters can get a share of them.
	Divisible bool
	// Pod is the largest request of any one pod, by resource; zero if they all request the same.
	Pod capacity.Resources
	// Nodes is what its pods ask of the nodes that they run on; nil if nothing.
	Nodes *nodes.Wishes
	// End is why the workload is not decided on, Controller the object that controls it, such as "CronJob nightly". Policies
	// cannot read them, and Decide does not.
	End        End
	Controller string
	// Unended is the workload before any of its pods ended; nil if none has.
	Unended *Workload
}

// Whole returns the workload before any of its pods ended: a Job with all of its completions. Each new copy starts like that, whatever
// existing copies have done.
func (w *Workload) Whole() *Workload { return cmp.Or(w.Unended, w) }

// On returns the workload on a cluster where its pods run on running nodes, usable of which are part of the cluster's capacity: itself,
// unless it is PerNode. An amount above capacity.MaxAmount becomes MaxAmount plus one, which no cluster has.
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

// Share returns the part of a Divisible workload for n of its replicas, rounded up, so that fewer replicas never request more. An amount
// above capacity.MaxAmount becomes MaxAmount plus one. The workload must have at least one replica.
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

// times returns a * n, capped at a limit; neither is negative.
func times(a, n, limit int64) int64 {
	if n > 0 && a > limit/n {
		return limit
	}
	return a * n
}

// Replica returns the request of the largest pod, rounded up, which one node must have free.
func (w *Workload) Replica() capacity.Resources {
	if !w.Pod.IsZero() {
		return w.Pod
	}
	all, n := w.Requests, max(1, w.Replicas)
	all.Storage = 0 // volumes do not belong to a node
	return all.Combine(capacity.Resources{}, func(all, _ int64) int64 { return all/n + min(1, all%n) })
}

// Placement is what policies see of the WorkloadPlacement that a workload belongs to.
type Placement struct {
	Name, Namespace string
	Labels          map[string]string
}
