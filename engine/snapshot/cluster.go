package snapshot

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/engine/workload"
)

// Cluster is what is known about one physical cluster. It is immutable.
type Cluster struct {
	Name     string
	Location string
	Labels   map[string]string
	// Capabilities, one of each type.
	Capabilities []Capability
	Taints       []corev1.Taint
	// Unschedulable: nothing new is placed here, and what runs here stays as it is. Draining: in addition, what runs here leaves for another
	// place.
	Unschedulable, Draining bool
	// Withdrawn: the cluster is no longer granted to the workspace, which still has something here. That leaves as if the cluster were
	// drained.
	Withdrawn bool
	// NotReadySince is when Ready became False, if it is False; the zero time means long ago.
	NotReadySince time.Time
	// Conditions, one of each type; only a cluster whose Ready is True is given workloads.
	Conditions []Condition
	// Scores from outside, ordered by name, one for each name, as ScoresOf returns them.
	Scores []Score
	// Allocatable is all that the cluster has, Allocated what it reports as requested.
	Allocatable, Allocated capacity.Resources
	// Counted is the part of Allocated that the pods of each workload request, by the workload's UID.
	Counted map[string]capacity.Resources
	// LargestFree is the most of each resource that is free on any one node; nil if unknown.
	LargestFree *capacity.Resources
	// UsableNodes is the number of nodes that can take pods; 0 if unknown. It counts for workloads with a pod on each node, unless Nodes
	// records on which nodes these run.
	UsableNodes int64
	// Nodes is what is known of the cluster's nodes; nil if nothing is.
	Nodes *nodes.Summary
	// Invalid is why the registration cannot be used, empty if it can. Such a cluster is not chosen; what runs there stays.
	Invalid string
}

// Capability is a capability of a cluster.
type Capability struct {
	Type       string
	Available  bool
	Attributes map[string]string
}

// Condition is one condition of a cluster.
type Condition struct {
	Type string
	// Status is "True", "False" or "Unknown".
	Status          string
	Reason, Message string
}

// Capability returns the capability of a type; listed is false if the cluster does not list it.
func (c *Cluster) Capability(kind string) (capability Capability, listed bool) {
	for i := range c.Capabilities {
		if c.Capabilities[i].Type == kind {
			return c.Capabilities[i], true
		}
	}
	return Capability{}, false
}

// Condition returns the condition of a type; known is false if the cluster has none.
func (c *Cluster) Condition(kind string) (condition Condition, known bool) {
	for i := range c.Conditions {
		if c.Conditions[i].Type == kind {
			return c.Conditions[i], true
		}
	}
	return Condition{}, false
}

// NodesFor returns on how many nodes of the cluster the pods of a PerNode workload run, and how many of these nodes are part of what
// the cluster has; 0 if unknown.
func (c *Cluster) NodesFor(w *workload.Workload) (running, usable int64) {
	if running, usable, known := c.Nodes.Count(w.Nodes); known {
		return running, usable
	}
	return c.UsableNodes, c.UsableNodes
}

// On returns the workload as it is on this cluster: itself, unless it is PerNode.
func (c *Cluster) On(w *workload.Workload) *workload.Workload {
	if !w.PerNode {
		return w
	}
	return w.On(c.NodesFor(w))
}

// Ready reports whether the cluster's Ready condition is True.
func (c *Cluster) Ready() bool {
	ready, _ := c.Condition(ReadyCondition)
	return ready.Status == "True"
}

// NotReady reports whether the cluster's Ready condition is False, rather than unknown.
func (c *Cluster) NotReady() bool {
	ready, _ := c.Condition(ReadyCondition)
	return ready.Status == "False"
}

// Lost reports whether the cluster is considered lost because it has been silent for too long.
func (c *Cluster) Lost() bool {
	ready, _ := c.Condition(ReadyCondition)
	return ready.Status == "False" && ready.Reason == v1alpha1.ClusterLostReason
}

// Cordoned reports whether nothing new is placed on the cluster, whether or not it is drained.
func (c *Cluster) Cordoned() bool { return c.Unschedulable || c.Leaving() }

// Leaving reports whether what runs on the cluster leaves it for another place.
func (c *Cluster) Leaving() bool { return c.Draining || c.Withdrawn }

// sameCapacity reports whether two clusters have the same capacity and report the same use.
func sameCapacity(a, b *Cluster) bool {
	return a == b || a.Allocatable.Same(b.Allocatable) && a.Allocated.Same(b.Allocated) && a.UsableNodes == b.UsableNodes &&
		(a.LargestFree == b.LargestFree || a.LargestFree != nil && b.LargestFree != nil && a.LargestFree.Same(*b.LargestFree)) &&
		maps.EqualFunc(a.Counted, b.Counted, capacity.Resources.Same)
}

// ReadyCondition is the type of the condition that makes a cluster eligible for workloads.
const ReadyCondition = "Ready"

// sameFacts reports whether two clusters differ at most in capacity.
func sameFacts(a, b *Cluster) bool {
	return a == b || a.Name == b.Name && a.Location == b.Location && a.Invalid == b.Invalid && a.Unschedulable == b.Unschedulable && a.Draining == b.Draining && a.Withdrawn == b.Withdrawn && a.NotReadySince.Equal(b.NotReadySince) &&
		maps.Equal(a.Labels, b.Labels) &&
		slices.EqualFunc(a.Capabilities, b.Capabilities, func(a, b Capability) bool {
			return a.Type == b.Type && a.Available == b.Available && maps.Equal(a.Attributes, b.Attributes)
		}) &&
		slices.EqualFunc(a.Taints, b.Taints, func(a, b corev1.Taint) bool {
			return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect && a.TimeAdded.Equal(b.TimeAdded)
		}) &&
		slices.Equal(a.Conditions, b.Conditions) && a.Nodes.Equal(b.Nodes) &&
		slices.EqualFunc(a.Scores, b.Scores, func(a, b Score) bool {
			return a.Name == b.Name && a.Value == b.Value && a.From == b.From && a.Expired.Equal(b.Expired)
		})
}
