package filter

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Rejection is a violation in words.
type Rejection struct {
	Stage Stage
	// Constraint is the name of the violated constraint, where Stage is Constraint.
	Constraint string
	// Message says what was wanted and what was observed.
	Message string
}

// Obstacle is one of all the reasons for which a cluster is not feasible.
type Obstacle struct {
	Rejection
	// Expression is the part of the constraint that does not hold, where Stage is Constraint, and Observed what it reads.
	Expression string
	Observed   []constraint.Observation
	// Remedy is the smallest change that would remove the obstacle, in words: "2 more cpu free", "label tier=gold".
	Remedy string
}

// Reject puts a violation of a cluster into words.
func (c *Class) Reject(row *snapshot.Row, v *Violation) *Rejection {
	r := &Rejection{Stage: v.Stage, Message: stageOf(v.Stage).message(&query{Class: c.On(row), row: row}, *v)}
	if v.Stage == Constraint {
		r.Constraint = c.Placement.Constraints[v.index].Name
	}
	return r
}

// Obstacles returns all that keeps a cluster from being feasible, with what would remove it.
func (c *Class) Obstacles(row *snapshot.Row, now time.Time) (obstacles []Obstacle) {
	c = c.On(row)
	c.Violations(row, false, now, func(v Violation) bool {
		rejection := c.Reject(row, &v)
		for _, o := range stageOf(v.Stage).obstacles(&query{Class: c, row: row}, v) {
			o.Rejection = *rejection
			obstacles = append(obstacles, o)
		}
		return true
	})
	return obstacles
}

// Remedies returns the remedies of obstacles, each once.
func Remedies(obstacles []Obstacle) (remedies []string) {
	for _, o := range obstacles {
		if !slices.Contains(remedies, o.Remedy) {
			remedies = append(remedies, o.Remedy)
		}
	}
	return remedies
}

// needs is one obstacle, which several changes together remove.
func needs(changes ...string) []Obstacle { return []Obstacle{{Remedy: strings.Join(changes, " and ")}} }

// unmet says what a set of labels lacks to be selected; prefix stands before each key.
func unmet(selector labels.Selector, set labels.Set, prefix string) (lacking []string) {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return []string{"a selector that selects anything"}
	}
	for _, r := range requirements {
		if r.Matches(set) {
			continue
		}
		subject := prefix + r.Key()
		values := slices.Sorted(slices.Values(r.ValuesUnsorted()))
		switch op := r.Operator(); op {
		case selection.Exists:
			lacking = append(lacking, subject)
		case selection.DoesNotExist:
			lacking = append(lacking, "no "+subject)
		case selection.NotIn, selection.NotEquals:
			lacking = append(lacking, subject+" none of "+strings.Join(values, ", "))
		case selection.In, selection.Equals, selection.DoubleEquals:
			if len(values) == 1 {
				lacking = append(lacking, subject+"="+values[0])
			} else {
				lacking = append(lacking, subject+" one of "+strings.Join(values, ", "))
			}
		default:
			lacking = append(lacking, r.String())
		}
	}
	return lacking
}
