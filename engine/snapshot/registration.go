package snapshot

import (
	"fmt"
	"strings"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
)

// maxMessage bounds a condition's message, in bytes: it is quoted in reasons.
const maxMessage = 2000

// FromRegistration converts a ClusterRegistration. Quantities that cannot be used make the cluster Invalid, which names the
// field.
func FromRegistration(r *v1alpha1.ClusterRegistration) *Cluster {
	c := &Cluster{
		Name:         r.Name,
		Location:     r.Spec.Location,
		Labels:       r.Labels,
		Capabilities: make([]Capability, 0, len(r.Spec.Capabilities)),
		Taints:       r.Spec.Taints,
		Conditions:   make([]Condition, 0, len(r.Status.Conditions)),
	}
	for _, capability := range r.Spec.Capabilities {
		c.Capabilities = append(c.Capabilities, Capability{
			Type: capability.Type, Available: capability.Available, Attributes: capability.Attributes,
		})
	}
	for _, condition := range r.Status.Conditions {
		message := strings.Join(strings.Fields(condition.Message), " ") // of one line, since reasons are
		if len(message) > maxMessage {
			message = strings.ToValidUTF8(message[:maxMessage], "") + "..."
		}
		c.Conditions = append(c.Conditions, Condition{
			Type: string(condition.Type), Status: string(condition.Status), Reason: condition.Reason, Message: message,
		})
	}
	if err := c.readCapacity(&r.Status); err != nil {
		c.Invalid = "status." + err.Error()
	}
	return c
}

func (c *Cluster) readCapacity(s *v1alpha1.ClusterRegistrationStatus) (err error) {
	if c.Allocatable, err = capacity.FromResourceList(s.Allocatable); err != nil {
		return fmt.Errorf("allocatable.%w", err)
	}
	if c.Allocated, err = capacity.FromResourceList(s.Allocated); err != nil {
		return fmt.Errorf("allocated.%w", err)
	}
	if s.LargestFree != nil {
		largest, err := capacity.FromResourceList(s.LargestFree)
		if err != nil {
			return fmt.Errorf("largestFree.%w", err)
		}
		c.LargestFree = &largest
	}
	if len(s.Workloads) == 0 {
		return nil
	}
	c.Counted = make(map[string]capacity.Resources, len(s.Workloads))
	var sum capacity.Resources
	for i, w := range s.Workloads {
		requests, err := capacity.FromResourceList(w.Requests)
		if err != nil {
			return fmt.Errorf("workloads[%d].requests.%w", i, err)
		}
		uid := string(w.UID)
		c.Counted[uid] = c.Counted[uid].Add(requests)
		sum = sum.Add(requests)
	}
	// Each amount is rounded up by itself, so their sum may exceed allocated by one each.
	rounded := func(allocated, _ int64) int64 { return allocated + int64(len(s.Workloads)) }
	if name, more := c.Allocated.Combine(sum, rounded).Lacking(sum); more {
		return fmt.Errorf("workloads: request %s %s in all, more than status.allocated, %s",
			capacity.Format(name, sum.Get(name)), name, capacity.Format(name, c.Allocated.Get(name)))
	}
	return nil
}
