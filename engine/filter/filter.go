// Package filter finds the feasible clusters. A cluster passes a chain of stages, each a file named after it; a rejection
// is explained together with the change that would admit the cluster.
package filter

import (
	"time"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Stage names a step of the filter.
type Stage string

// chain is the stages in the order in which clusters pass them. A new stage is a file and a line here.
var chain = []struct {
	stage
	name  Stage
	reads reads
}{
	{registration{}, Registration, facts},
	{ready{}, Ready, facts},
	{unschedulable{}, Unschedulable, facts},
	{location{}, Location, facts},
	{clusterSelector{}, ClusterSelector, facts},
	{taint{}, Taint, facts},
	{capability{}, Capability, facts},
	{nodeGroups{}, Nodes, facts},
	{constraints{}, Constraint, planned},
	{room{}, Capacity, planned},
	{quota{}, Quota, planned},
	{terms{}, Policy, planned},
}

// reads is what the answers of a stage depend on, and thereby when a ranking asks it.
type reads int

const (
	// everything: asked for every change of a cluster.
	everything reads = iota
	// facts of the cluster and the placement alone: asked when these change.
	facts
	// planned: a ranking evaluates the Class itself, which has the same answers in a faster form.
	planned
)

// ReadsFacts reports whether a stage reads only facts of a cluster: how full it is makes no difference.
func (s Stage) ReadsFacts() bool {
	for i := range chain {
		if chain[i].name == s {
			return chain[i].reads == facts
		}
	}
	return false
}

// stage is one step of the filter. It has no state: everything that it needs is in the query.
type stage interface {
	// violations reports everything that a cluster violates, as long as report returns true, and returns whether it always did.
	violations(q *query, report func(Violation) bool) bool
	// message states what was wanted and what was observed.
	message(q *query, v Violation) string
	// obstacles returns a violation part by part, each with the smallest change that would remove it.
	obstacles(q *query, v Violation) []Obstacle
}

// query asks the stages about one cluster.
type query struct {
	*Class
	row *snapshot.Row
	// running: the workload already runs there. How full the cluster is does not count then, nor that its Ready condition
	// is not known: what runs there may well be fine.
	running bool
	// now is the time; if it is not known, no toleration runs out.
	now time.Time
}

// Violation is why a cluster is not feasible; it is put into words only on request.
type Violation struct {
	Stage Stage
	// index of what is violated, among the placement's constraints or capability requirements, the cluster's taints or
	// the policies' terms.
	index int
	// resource of which there is too little: in the whole cluster, or on any one node.
	resource string
	onNode   bool
	// Evicts: what runs there has to leave, even if there is no other place for it.
	Evicts bool
}

// Violations reports what a cluster violates in the chain, in order, as long as report returns true.
func (c *Class) Violations(row *snapshot.Row, running bool, now time.Time, report func(Violation) bool) {
	q := query{c.On(row), row, running, now}
	for i := range chain {
		s := &chain[i]
		if !s.violations(&q, func(v Violation) bool { v.Stage = s.name; return report(v) }) {
			return
		}
	}
}

// First returns the first violation of a cluster, nil if it is feasible.
func (c *Class) First(row *snapshot.Row, running bool, now time.Time) (first *Violation) {
	c.Violations(row, running, now, func(v Violation) bool {
		first = &v
		return false
	})
	return first
}

// Admits reports whether a cluster passes all stages that read only its facts and the placement, as long as
// tolerations last: see HasEnded.
func (c *Class) Admits(row *snapshot.Row) bool { return passes(c, row, facts) }

// PassesOthers reports whether a cluster passes the stages that Admits does not ask and that are not planned in the Class.
func (c *Class) PassesOthers(row *snapshot.Row) bool { return passes(c, row, everything) }

// HasOthers reports whether there are such stages.
var HasOthers = func() bool {
	for i := range chain {
		if chain[i].reads == everything {
			return true
		}
	}
	return false
}()

func passes(c *Class, row *snapshot.Row, r reads) bool {
	q := query{Class: c, row: row}
	for i := range chain {
		if chain[i].reads == r && !chain[i].violations(&q, func(Violation) bool { return false }) {
			return false
		}
	}
	return true
}

// Stages returns the names of the stages in the order in which clusters pass them.
func Stages() []Stage {
	names := make([]Stage, len(chain))
	for i := range chain {
		names[i] = chain[i].name
	}
	return names
}

func stageOf(name Stage) stage {
	for i := range chain {
		if chain[i].name == name {
			return chain[i].stage
		}
	}
	return nil
}

// variables returns what CEL sees of the class and a cluster.
func (q *query) variables() *constraint.Variables {
	return &constraint.Variables{Row: q.row, Workload: q.Workload, Placement: q.Placement.Placement}
}
