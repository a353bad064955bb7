// Package workload says what is to be placed: who a workload is, and what it asks of each cluster that it runs on.
package workload

import (
	"github.com/kcp-placement/placement/engine/capacity"
)

// Reference identifies a workload within its workspace.
type Reference struct {
	APIVersion, Kind, Namespace, Name string
	// UID tells a workload from a later one of the same name.
	UID string
}

// String gives "Kind namespace/name".
func (r Reference) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Workload is what policies and the engine see of a Deployment, StatefulSet, Job or any other object with a pod
// template. It is not changed once it is made.
type Workload struct {
	Reference
	Labels, Annotations map[string]string
	// Replicas that run on each cluster that is chosen.
	Replicas int64
	// Requests of all replicas together: what one cluster must have free.
	Requests capacity.Resources
}

// Replica is what one of the replicas asks for, and one node must have free; rounded up.
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
