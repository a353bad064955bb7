// Package snapshot holds the fleet of a workspace as it stands at one generation: what every cluster is and what it
// has free, computed once when it changes and not when it is asked for.
package snapshot

import (
	"math"
	"math/bits"
	"slices"
	"strings"

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

// ReadyCondition is the type of the condition that decides whether a cluster is given workloads.
const ReadyCondition = "Ready"

// Row is one cluster of a snapshot with all that is derived from it. It is not changed once it is made: while the
// pointer is the same, so is everything that can be said of the cluster.
type Row struct {
	*Cluster
	// Reserved is what has been promised to workloads.
	Reserved capacity.Resources
	// Free = Allocatable - Allocated - Reserved; negative where a cluster has shrunk below its promises.
	Free capacity.Resources
	// Utilization = (Allocated + Reserved) / Allocatable in percent, truncated. Where nothing is allocatable it is 0
	// if nothing is in use, otherwise 100.
	Utilization capacity.Resources
	// HealthScore is 100 where Ready is True, 50 where it is False, 0 where it is not known.
	HealthScore int64
	// PerformanceScore is by the mean utilization of CPU and memory: below 50 % 100, below 80 % 70, below 95 % 40,
	// else 10.
	PerformanceScore int64
}

// NewRow derives the row of a cluster on which so much is reserved.
func NewRow(c *Cluster, reserved capacity.Resources) *Row {
	used := c.Allocated.Add(reserved)
	r := &Row{
		Cluster:     c,
		Reserved:    reserved,
		Free:        c.Allocatable.Sub(used),
		Utilization: used.Combine(c.Allocatable, percent),
	}
	switch ready, _ := c.Condition(ReadyCondition); ready.Status {
	case "True":
		r.HealthScore = 100
	case "False":
		r.HealthScore = 50
	}
	switch mean := (r.Utilization.CPU + r.Utilization.Memory) / 2; {
	case mean < 50:
		r.PerformanceScore = 100
	case mean < 80:
		r.PerformanceScore = 70
	case mean < 95:
		r.PerformanceScore = 40
	default:
		r.PerformanceScore = 10
	}
	return r
}

// percent is used / allocatable, truncated; where nothing is allocatable it is 0 if nothing is in use, otherwise 100.
func percent(used, allocatable int64) int64 {
	switch {
	case used <= 0:
		return 0
	case allocatable <= 0:
		return 100
	}
	hi, lo := bits.Mul64(uint64(used), 100)
	if hi >= uint64(allocatable) {
		return math.MaxInt64
	}
	quotient, _ := bits.Div64(hi, lo, uint64(allocatable))
	return int64(min(quotient, math.MaxInt64))
}

// Snapshot is a fleet at one generation. It is not changed once it is made: readers need no lock.
type Snapshot struct {
	// Generation grows with every change.
	Generation int64
	// Rows by name.
	Rows []*Row
}

// Row returns the row of a cluster, nil where there is none.
func (s *Snapshot) Row(name string) *Row {
	if i, found := s.find(name); found {
		return s.Rows[i]
	}
	return nil
}

// With returns the next snapshot, in which the rows replace those of the same names or join the fleet.
func (s *Snapshot) With(rows ...*Row) *Snapshot {
	next := &Snapshot{Generation: s.Generation + 1, Rows: slices.Clone(s.Rows)}
	for _, row := range rows {
		if i, found := next.find(row.Name); found {
			next.Rows[i] = row
		} else {
			next.Rows = slices.Insert(next.Rows, i, row)
		}
	}
	return next
}

// Without returns the next snapshot, in which a cluster is gone.
func (s *Snapshot) Without(name string) *Snapshot {
	i, found := s.find(name)
	if !found {
		return s
	}
	return &Snapshot{Generation: s.Generation + 1, Rows: slices.Delete(slices.Clone(s.Rows), i, i+1)}
}

func (s *Snapshot) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.Rows, name, func(r *Row, name string) int { return strings.Compare(r.Name, name) })
}
