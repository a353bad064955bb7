package filter

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Tally counts the clusters of a fleet by the stage that rejects them, as long as tolerations last.
type Tally struct {
	Clusters, Feasible int
	// rejected is how many clusters each stage of the chain is the first to reject.
	rejected []int
	// later are the names of the stages after the chain that reject clusters, with their counts.
	later []string
}

// Later counts n feasible clusters as rejected by a stage after the chain.
func (t *Tally) Later(stage Stage, n int) {
	if n > 0 {
		t.Feasible -= n
		t.later = append(t.later, fmt.Sprintf("%d rejected by %s", n, stage))
	}
}

// add adds n to the count of a stage, by the index of the stage that rejects; len(chain) means none.
func (t *Tally) add(stage, n int) {
	if t.rejected == nil {
		t.rejected = make([]int, len(chain))
	}
	t.Clusters += n
	if stage == len(chain) {
		t.Feasible += n
	} else {
		t.rejected[stage] += n
	}
}

// String returns for example "0 of 3 clusters are feasible: 1 rejected by Ready, 2 rejected by Capacity".
func (t *Tally) String() string {
	if t.Clusters == 0 {
		return "no clusters are registered in this workspace, and no ClusterSetBinding gives it any"
	}
	var rejected []string
	for i, n := range t.rejected {
		if n > 0 {
			rejected = append(rejected, fmt.Sprintf("%d rejected by %s", n, chain[i].name))
		}
	}
	rejected = append(rejected, t.later...)
	line := fmt.Sprintf("%d of %d clusters are feasible", t.Feasible, t.Clusters)
	if len(rejected) > 0 {
		line += ": " + strings.Join(rejected, ", ")
	}
	return line
}

// Swap counts the current row of a cluster instead of the one counted before.
func (t *Tally) Swap(c *Class, counted, row *snapshot.Row, now time.Time) {
	t.add(c.rejectedBy(counted, time.Time{}), -1)
	t.add(c.rejectedBy(row, now), 1)
}

// rejectedBy returns the index of the stage that rejects a cluster; len(chain) if it is feasible.
func (c *Class) rejectedBy(row *snapshot.Row, now time.Time) int {
	q := query{Class: c.On(row), row: row, now: now}
	for i := range chain {
		if !chain[i].violations(&q, stop) {
			return i
		}
	}
	return len(chain)
}

func stop(Violation) bool { return false }

// tally is the Tally of a fleet and what it was counted from.
type tally struct {
	Tally
	generation, layout int64
	// stages are the stages that reject each cluster, by position.
	stages []uint8
}

// newTally counts all clusters.
func newTally(c *Class, s *snapshot.Snapshot) *tally {
	rows := s.Rows()
	t := &tally{generation: s.Generation, layout: s.Layout(), stages: make([]uint8, len(rows))}
	count := newCounter(c)
	for i, row := range rows {
		stage := count.rejectedBy(i, row)
		t.add(stage, 1)
		t.stages[i] = uint8(stage)
	}
	return t
}

// update recounts what has changed. It returns false if that is not known.
func (t *tally) update(c *Class, s *snapshot.Snapshot) bool {
	if t == nil || t.layout != s.Layout() {
		return false
	}
	changes, known := s.Since(t.generation)
	if !known {
		return false
	}
	count := newCounter(c)
	for _, change := range changes {
		stage := &t.stages[change.Position]
		t.add(int(*stage), -1)
		*stage = uint8(count.rejectedBy(change.Position, change.Row))
		t.add(int(*stage), 1)
	}
	t.generation = s.Generation
	return true
}

// lastTally is the latest one of a class.
type lastTally struct {
	sync.Mutex
	*tally
}

// Tally counts the clusters of a fleet. It keeps the last count and evaluates only clusters that have changed since: explaining
// to many workloads of a class why they wait costs hardly more than explaining it to one.
func (c *Class) Tally(s *snapshot.Snapshot) Tally {
	last := &c.lastTally
	last.Lock()
	defer last.Unlock()
	if !last.update(c, s) {
		t := newTally(c, s)
		if last.tally != nil && last.layout == t.layout && t.generation < last.generation {
			return t.Tally // an older decision asked
		}
		last.tally = t
	}
	t := last.Tally
	t.rejected = slices.Clone(t.rejected)
	return t
}

// Facts are the chain's answers about clusters based on their facts alone. The classes of a policy class share it.
type Facts struct {
	mu sync.Mutex
	// outcomes by position.
	outcomes []factOutcome
	// staying are the versions of the facts for which workloads may stay on each cluster, by position.
	staying []int64
}

// factOutcome is the index of the stage that rejects a cluster while its facts have this version.
type factOutcome struct {
	facts int64
	stage uint8
}

// counter evaluates the chain like rejectedBy, but facts only where the answer is not known yet.
type counter struct {
	query
	variables constraint.Variables
}

func newCounter(c *Class) *counter {
	return &counter{query{Class: c}, constraint.Variables{Workload: c.Workload, Placement: c.Placement.Placement}}
}

func (c *counter) rejectedBy(position int, row *snapshot.Row) int {
	if c.Workload.PerNode {
		return c.Class.rejectedBy(row, time.Time{}) // what is known of the facts is not of one class
	}
	c.row, c.variables.Row = row, row
	byFacts := c.rejectedByFacts(position)
	for i := range chain {
		switch {
		case i == byFacts:
			return i
		case chain[i].reads == facts:
		case chain[i].name == Constraint:
			if !c.hold(false) {
				return i
			}
		case !chain[i].violations(&c.query, stop):
			return i
		}
	}
	return len(chain)
}

func (c *counter) rejectedByFacts(position int) int {
	f := c.Facts
	f.mu.Lock()
	defer f.mu.Unlock()
	for position >= len(f.outcomes) {
		f.outcomes = append(f.outcomes, factOutcome{})
	}
	known := &f.outcomes[position]
	if version := c.row.Facts; known.facts != version {
		*known = factOutcome{version, uint8(len(chain))}
		for i := range chain {
			if chain[i].reads == facts && !chain[i].violations(&c.query, stop) || chain[i].name == Constraint && !c.hold(true) {
				known.stage = uint8(i)
				break
			}
		}
	}
	return int(known.stage)
}

// hold evaluates the conjuncts that read facts alone, or the others.
func (c *counter) hold(facts bool) bool {
	for _, conditions := range c.conditions() {
		for i := range conditions {
			if placement.ReadsFacts(conditions[i].Conjunct) == facts && !conditions[i].Holds(&c.variables) {
				return false
			}
		}
	}
	return true
}
