package filter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Constraint rejects clusters for which a CEL constraint of the placement is not true.
const Constraint Stage = "Constraint"

type constraints struct{}

// violations evaluates the conjuncts as a ranking does. Only facts can keep a workload from staying where it runs: conjuncts
// that read capacity are skipped then.
func (constraints) violations(q *query, report func(Violation) bool) bool {
	var variables *constraint.Variables
	for i, conditions := range q.conditions() {
		if variables == nil {
			variables = q.variables()
		}
		broken := slices.IndexFunc(conditions, func(c Condition) bool {
			return (!q.running || placement.ReadsFacts(c.Conjunct)) && !c.Holds(variables)
		})
		if broken < 0 {
			continue
		}
		// If a conjunct has no answer, it is not known that the workload may not run there.
		evicts := q.running && q.Placement.Constraints[i].RequiredDuringExecution && conditions[broken].Conjunct.Denies(variables)
		if !report(Violation{index: i, Evicts: evicts}) {
			return false
		}
	}
	return true
}

// message evaluates the whole expression, whose errors are the author's own.
func (constraints) message(q *query, v Violation) string {
	c, variables := &q.Placement.Constraints[v.index], q.variables()
	var parts, observed []string
	for _, cause := range c.Program.Explain(variables) {
		parts = append(parts, cause.Expression)
		for _, o := range cause.Observed {
			if value := o.Path + " = " + o.Value; !slices.Contains(observed, value) {
				observed = append(observed, value)
			}
		}
	}
	message := "not true: " + strings.Join(parts, " && ")
	if _, err := c.Program.Eval(variables); err != nil {
		message = fmt.Sprintf("cannot be evaluated: %v", err)
	} else if c.Message != "" {
		message = c.Message + ": " + message
	}
	if len(observed) > 0 {
		message += " (" + strings.Join(observed, ", ") + ")"
	}
	return message
}

func (constraints) obstacles(q *query, v Violation) (obstacles []Obstacle) {
	for _, cause := range q.Placement.Constraints[v.index].Program.Explain(q.variables()) {
		obstacles = append(obstacles, Obstacle{Expression: cause.Expression, Span: cause.Span, Observed: cause.Observed, options: cause.Remedies})
	}
	return obstacles
}

// Condition is a conjunct of a constraint for the workloads of one class. Its comparisons with capacity are numbers,
// compared in Go; the rest is CEL, which sees only which comparisons hold.
type Condition struct {
	Conjunct *constraint.Conjunct
	// intervals are the comparisons with what is free of CPU or memory, checks the others.
	intervals []resourceInterval
	checks    []check
}

// resourceInterval is a comparison that holds while the amount free of a resource is within the interval.
type resourceInterval struct {
	Interval
	resource int // snapshot.CPU or snapshot.Memory
	bit      uint
}

type check struct {
	constraint.BoundComparison
	bit uint
}

func newCondition(conjunct *constraint.Conjunct, w *workload.Workload) Condition {
	c := Condition{Conjunct: conjunct}
	for i, comparison := range conjunct.Comparisons() {
		b := comparison.Bind(w)
		switch resource, low, high, ok := b.Range(); {
		case ok && resource == constraint.FreeCPU:
			c.intervals = append(c.intervals, resourceInterval{Interval{low, high}, snapshot.CPU, 1 << i})
		case ok && resource == constraint.FreeMemory:
			c.intervals = append(c.intervals, resourceInterval{Interval{low, high}, snapshot.Memory, 1 << i})
		default:
			c.checks = append(c.checks, check{b, 1 << i})
		}
	}
	return c
}

// Holding compares what is free of CPU and memory: a bit is set for each comparison that holds. It is small enough to be
// inlined into the loop over all clusters.
func (c *Condition) Holding(free *[2]int64) (holding uint) {
	for i := range c.intervals {
		if s := &c.intervals[i]; s.Contains(free[s.resource]) {
			holding |= s.bit
		}
	}
	return holding
}

// HasChecks reports whether the condition has other comparisons, which Check makes.
func (c *Condition) HasChecks() bool { return len(c.checks) > 0 }

// Check adds the comparisons that Holding does not make. A bit of failing is set for each that has no outcome, which in CEL
// is an error.
func (c *Condition) Check(row *snapshot.Row, holding uint) (all, failing uint) {
	for _, k := range c.checks {
		switch holds, known := k.Outcome(row); {
		case !known:
			failing |= k.bit
		case holds:
			holding |= k.bit
		}
	}
	return holding, failing
}

// Holds evaluates the condition for one cluster. An error counts as not holding.
func (c *Condition) Holds(v *constraint.Variables) bool {
	figures := v.Row.Figures()
	holding, failing := c.Check(v.Row, c.Holding(&figures.Free))
	return c.Conjunct.Holds(v, holding, failing)
}
