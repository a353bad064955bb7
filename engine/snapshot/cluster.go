package snapshot

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/engine/capacity"
)

// Cluster is what is known of one physical cluster. It is not changed once it is made.
type Cluster struct {
	Name     string
	Location string
	Labels   map[string]string
	// Capabilities, one of a type.
	Capabilities []Capability
	Taints       []corev1.Taint
	// Conditions, one of a type; Ready decides whether the cluster is given workloads.
	Conditions []Condition
	// Allocatable is what the cluster has in all, Allocated what it reports as requested.
	Allocatable, Allocated capacity.Resources
	// Counted is what of Allocated is requested by the pods of workloads, by their UIDs.
	Counted map[string]capacity.Resources
	// LargestFree is the most of each resource that is free on any one node; nil where that is not known.
	LargestFree *capacity.Resources
	// Invalid tells, where it is not empty, why the registration cannot be used; such a cluster is never chosen.
	Invalid string
}

// Capability is one thing that a cluster can do.
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

// Capability returns the capability of a type; listed is false where the cluster does not list it.
func (c *Cluster) Capability(kind string) (capability Capability, listed bool) {
	for i := range c.Capabilities {
		if c.Capabilities[i].Type == kind {
			return c.Capabilities[i], true
		}
	}
	return Capability{}, false
}

// Condition returns the condition of a type; known is false where the cluster has none.
func (c *Cluster) Condition(kind string) (condition Condition, known bool) {
	for i := range c.Conditions {
		if c.Conditions[i].Type == kind {
			return c.Conditions[i], true
		}
	}
	return Condition{}, false
}

// Ready tells whether the cluster's Ready condition is True.
func (c *Cluster) Ready() bool {
	ready, _ := c.Condition(ReadyCondition)
	return ready.Status == "True"
}

// NotReady tells whether it is known that the cluster is not Ready.
func (c *Cluster) NotReady() bool {
	ready, _ := c.Condition(ReadyCondition)
	return ready.Status == "False"
}

// sameCapacity tells whether two clusters have the same, and report the same as used.
func sameCapacity(a, b *Cluster) bool {
	return a.Allocatable.Same(b.Allocatable) && a.Allocated.Same(b.Allocated) &&
		(a.LargestFree == b.LargestFree || a.LargestFree != nil && b.LargestFree != nil && a.LargestFree.Same(*b.LargestFree))
}

// ReadyCondition is the type of the condition that decides whether a cluster is given workloads.
const ReadyCondition = "Ready"

// sameFacts tells whether two clusters differ at most in what they have and report as used.
func sameFacts(a, b *Cluster) bool {
	return a == b || a.Name == b.Name && a.Location == b.Location && a.Invalid == b.Invalid &&
		maps.Equal(a.Labels, b.Labels) &&
		slices.EqualFunc(a.Capabilities, b.Capabilities, func(a, b Capability) bool {
			return a.Type == b.Type && a.Available == b.Available && maps.Equal(a.Attributes, b.Attributes)
		}) &&
		slices.EqualFunc(a.Taints, b.Taints, func(a, b corev1.Taint) bool {
			return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
		}) &&
		slices.Equal(a.Conditions, b.Conditions)
}
