package snapshot

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
)

// maxMessage bounds a condition's message, in bytes: it is quoted in reasons.
const maxMessage = 2000

// FromRegistration converts a ClusterRegistration and the ClusterUsage of the same name, nil if there is none. Anything that
// cannot be used makes the cluster Invalid, with a reason that names the field.
func FromRegistration(r *v1alpha1.ClusterRegistration, usage *v1alpha1.ClusterUsage) *Cluster {
	c := &Cluster{
		Name:          r.Name,
		Location:      r.Spec.Location,
		Labels:        r.Labels,
		Capabilities:  make([]Capability, 0, len(r.Spec.Capabilities)),
		Taints:        r.Spec.Taints,
		Unschedulable: r.Spec.Unschedulable,
		Draining:      r.Spec.Drain != nil,
		Conditions:    make([]Condition, 0, len(r.Status.Conditions)),
		Nodes:         nodes.FromStatus(&r.Status),
	}
	for _, capability := range r.Spec.Capabilities {
		c.Capabilities = append(c.Capabilities, Capability{
			Type: capability.Type, Available: capability.Available, Attributes: capability.Attributes,
		})
	}
	for _, condition := range r.Status.Conditions {
		if condition.Type == ReadyCondition && condition.Status == corev1.ConditionFalse {
			c.NotReadySince = condition.LastTransitionTime.Time
		}
		message := strings.Join(strings.Fields(condition.Message), " ") // one line, as in reasons
		if len(message) > maxMessage {
			message = strings.ToValidUTF8(message[:maxMessage], "") + "..."
		}
		c.Conditions = append(c.Conditions, Condition{
			Type: string(condition.Type), Status: string(condition.Status), Reason: condition.Reason, Message: message,
		})
	}
	if err := c.readCapacity(&r.Status, usage); err != nil {
		c.Invalid = err.Error()
	}
	return c
}

// readCapacity reads what the cluster has from the status of its registration, and what its pods request from its usage or,
// where there is none, from the status.
//
// Invariant: free capacity <= the free capacity of the report that usage is from, whichever report the status is from. The
// two are written one after the other and may be seen in any order, so both have what is allocatable, and the lower value
// counts.
func (c *Cluster) readCapacity(s *v1alpha1.ClusterRegistrationStatus, usage *v1alpha1.ClusterUsage) (err error) {
	if c.Allocatable, err = capacity.FromResourceList(s.Allocatable); err != nil {
		return fmt.Errorf("status.allocatable.%w", err)
	}
	if s.Nodes != nil {
		if c.UsableNodes = int64(s.Nodes.Usable); c.UsableNodes < 0 {
			return fmt.Errorf("status.nodes.usable: %d is negative", c.UsableNodes)
		}
	}
	if s.LargestFree != nil {
		largest, err := capacity.FromResourceList(s.LargestFree)
		if err != nil {
			return fmt.Errorf("status.largestFree.%w", err)
		}
		c.LargestFree = &largest
	}
	if usage == nil {
		if c.Allocated, err = capacity.FromResourceList(s.Allocated); err != nil {
			return fmt.Errorf("status.allocated.%w", err)
		}
		return nil
	}
	if usage.ClusterUID != s.ClusterUID {
		return fmt.Errorf("ClusterUsage: clusterUID: %q is not the cluster of the registration, %q", usage.ClusterUID, s.ClusterUID)
	}
	allocatable, err := capacity.FromResourceList(usage.Allocatable)
	if err != nil {
		return fmt.Errorf("ClusterUsage: allocatable.%w", err)
	}
	c.Allocatable = c.Allocatable.Min(allocatable)
	if err := c.readUsage(usage); err != nil {
		return fmt.Errorf("ClusterUsage: %w", err)
	}
	return nil
}

func (c *Cluster) readUsage(usage *v1alpha1.ClusterUsage) (err error) {
	if c.Allocated, err = capacity.FromResourceList(usage.Allocated); err != nil {
		return fmt.Errorf("allocated.%w", err)
	}
	c.Counted = make(map[string]capacity.Resources, len(usage.Workloads))
	var sum capacity.Resources
	for i, w := range usage.Workloads {
		requests, err := capacity.FromResourceList(w.Requests)
		if err != nil {
			return fmt.Errorf("workloads[%d].requests.%w", i, err)
		}
		uid := string(w.UID)
		c.Counted[uid] = c.Counted[uid].Add(requests)
		sum = sum.Add(requests)
	}
	// Each amount is rounded up on its own, so the sum may exceed allocated by one for each.
	rounded := func(allocated, _ int64) int64 { return allocated + int64(len(usage.Workloads)) }
	if name, more := c.Allocated.Combine(sum, rounded).Lacking(sum); more {
		return fmt.Errorf("workloads: request %s %s in all, more than allocated, %s",
			capacity.Format(name, sum.Get(name), true), name, capacity.Format(name, c.Allocated.Get(name), false))
	}
	return nil
}
