// Package snapshot holds the fleet of a workspace as it stands at one generation: what every cluster is and what it
// has free, computed once when it changes and not when it is asked for.
package snapshot

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Cluster is what is known of one physical cluster. It is not changed once it is made.
type Cluster struct {
	Name     string
	Location string
	Labels   map[string]string
	// Capabilities by type.
	Capabilities map[string]Capability
	Taints       []corev1.Taint
	// Conditions by type; Ready decides whether the cluster is given workloads.
	Conditions map[string]Condition
	// Allocatable is what the cluster has in all, Allocated what it reports as requested.
	Allocatable, Allocated capacity.Resources
	// Invalid tells, where it is not empty, why the registration cannot be used; such a cluster is never chosen.
	Invalid string
}

// Capability is one thing that a cluster can do.
type Capability struct {
	Available  bool
	Attributes map[string]string
}

// Condition is one condition of a cluster.
type Condition struct {
	// Status is "True", "False" or "Unknown".
	Status          string
	Reason, Message string
}

// Row is one cluster of a snapshot with all that is derived from it. It is not changed once it is made: while the
// pointer is the same, so is everything that can be said of the cluster.
type Row struct {
	*Cluster
	// Reserved is what has been promised to workloads.
	Reserved capacity.Resources
	// Free = Allocatable - Allocated - Reserved; negative where a cluster has shrunk below its promises.
	Free capacity.Resources
	// HealthScore and PerformanceScore are the factors of that name, 0..100.
	HealthScore, PerformanceScore int64
}
