package filter

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/internal/remedy"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Rejection is a violation in words.
type Rejection struct {
	Stage Stage
	// Constraint is the name of the violated constraint, if Stage is Constraint.
	Constraint string
	// Message states what was wanted and what was observed.
	Message string
}

// String returns for example "Constraint gold: not true: ...".
func (r *Rejection) String() string {
	if r.Constraint != "" {
		return fmt.Sprintf("%s %s: %s", r.Stage, r.Constraint, r.Message)
	}
	return fmt.Sprintf("%s: %s", r.Stage, r.Message)
}

// Obstacle is one of all the reasons why a cluster is not feasible.
type Obstacle struct {
	Rejection
	// Expression is the part of the constraint that does not hold, if Stage is Constraint, Span its location in the constraint's
	// expression, and Observed what it reads.
	Expression string
	Span       constraint.Span
	Observed   []constraint.Observation
	// Remedy is the smallest change that removes the obstacle, in words: "2 more cpu free", "label tier=gold or label
	// tier=silver". The remedies of all obstacles of a cluster together admit it: they are tried together.
	Remedy string
	// options are the alternatives in Remedy, index that of the violation.
	options []remedy.Option
	index   int
}

// NewObstacle returns the obstacle that a stage after the chain reports, with its remedy in words.
func NewObstacle(r Rejection, remedyText string) Obstacle {
	return Obstacle{Rejection: r, Remedy: remedyText, options: []remedy.Option{{remedy.Words(remedyText)}}}
}

// Reject puts a violation of a cluster into words.
func (c *Class) Reject(row *snapshot.Row, v *Violation) *Rejection {
	r := &Rejection{Stage: v.Stage, Message: stageOf(v.Stage).message(&query{Class: c.On(row), row: row}, *v)}
	if v.Stage == Constraint {
		r.Constraint = c.Placement.Constraints[v.index].Name
	}
	return r
}

// Obstacles returns everything that keeps a cluster from being feasible, with the remedies.
func (c *Class) Obstacles(row *snapshot.Row, now time.Time) []Obstacle {
	all := obstacles(c.obstacles(row, now))
	c.reconcile(row, now, all)
	for i := range all {
		all[i].Remedy = remedy.Any(all[i].options)
	}
	return all
}

func (c *Class) obstacles(row *snapshot.Row, now time.Time) (all []Obstacle) {
	c = c.On(row)
	c.Violations(row, false, now, func(v Violation) bool {
		rejection := c.Reject(row, &v)
		for _, o := range stageOf(v.Stage).obstacles(&query{Class: c, row: row}, v) {
			o.Rejection, o.index = *rejection, v.index
			all = append(all, o)
		}
		return true
	})
	return all
}

// obstacles are all obstacles of one cluster.
type obstacles []Obstacle

// maxTries bounds how many combinations of remedies are tried, and how often one is adjusted.
const maxTries = 16

// reconcile chooses remedies that together admit the cluster. If no combination does, it asks for more room where a constraint still
// needs it, and reports if no change of the cluster meets all conditions.
func (c *Class) reconcile(row *snapshot.Row, now time.Time, all obstacles) {
	if !slices.ContainsFunc(all, func(o Obstacle) bool { return o.tried() }) {
		return
	}
	if len(all) == 1 {
		o := &all[0]
		admit := slices.DeleteFunc(slices.Clone(o.options), func(option remedy.Option) bool {
			return !c.admits(row, now, all, option)
		})
		if len(admit) > 0 {
			o.options = admit
			return
		}
	}
	for choice := range min(all.choices(), maxTries) {
		if chosen := all.choose(choice); c.admits(row, now, all, changesOf(chosen)) {
			copy(all, chosen)
			return
		}
	}
	copy(all, all.choose(0))
	for range maxTries {
		changes := changesOf(all)
		left := c.left(row, now, all, changes)
		if len(left) == 0 {
			return
		}
		for _, l := range left {
			if !all.raise(changes, l) {
				c.blame(row, now, all, l)
			}
		}
	}
}

// choices returns the number of combinations of one option per obstacle, at most maxTries.
func (all obstacles) choices() int {
	n := 1
	for i := range all {
		n = min(n*len(all[i].options), maxTries)
	}
	return n
}

// choose takes one option of each obstacle.
func (all obstacles) choose(choice int) obstacles {
	chosen := slices.Clone(all)
	for i, o := range all {
		n := choice % len(o.options)
		chosen[i].options = o.options[n : n+1]
		choice /= len(o.options)
	}
	return chosen
}

// admits reports whether changes leave no violation, ignoring obstacles whose remedies cannot be tried.
func (c *Class) admits(row *snapshot.Row, now time.Time, all obstacles, changes []remedy.Change) (admits bool) {
	admits = true
	c.Violations(remedy.Try(row, changes), false, now, func(v Violation) bool {
		admits = slices.ContainsFunc(all, func(o Obstacle) bool { return !o.tried() && o.Stage == v.Stage && o.index == v.index })
		return admits
	})
	return admits
}

// left returns the obstacles that remain after changes, except those whose remedies cannot be tried.
func (c *Class) left(row *snapshot.Row, now time.Time, all obstacles, changes []remedy.Change) []Obstacle {
	return slices.DeleteFunc(c.obstacles(remedy.Try(row, changes), now), func(l Obstacle) bool {
		return slices.ContainsFunc(all, func(o Obstacle) bool { return !o.tried() && o.about(l) })
	})
}

// tried reports whether a remedy can be tried.
func (o *Obstacle) tried() bool { return slices.ContainsFunc(o.options, remedy.Option.Tried) }

// about reports whether two obstacles concern the same condition.
func (o *Obstacle) about(other Obstacle) bool {
	return o.Stage == other.Stage && o.Constraint == other.Constraint && o.Expression == other.Expression && o.Span == other.Span
}

// raise increases the room that an obstacle asks for by what is still lacking after changes.
func (all obstacles) raise(changes []remedy.Change, left Obstacle) bool {
	i := slices.IndexFunc(all, func(o Obstacle) bool { return o.tried() && o.about(left) })
	if i < 0 || slices.ContainsFunc(left.options[0], func(c remedy.Change) bool { return c.More == nil }) {
		return false
	}
	more := slices.DeleteFunc(slices.Clone(all[i].options[0]), func(c remedy.Change) bool {
		return c.More == nil || slices.ContainsFunc(left.options[0], func(l remedy.Change) bool {
			return l.More.Resource == c.More.Resource && l.More.OnNode == c.More.OnNode
		})
	})
	for _, c := range left.options[0] {
		more = append(more, remedy.Add(changes, *c.More))
	}
	all[i].options = []remedy.Option{more}
	return true
}

// blame marks the obstacle whose remedy causes another one: no change of the cluster helps.
func (c *Class) blame(row *snapshot.Row, now time.Time, all obstacles, left Obstacle) {
	for i := range all {
		others := changesOf(slices.Concat(all[:i], all[i+1:]))
		stays := slices.ContainsFunc(c.obstacles(remedy.Try(row, others), now), left.about)
		if all[i].tried() && (!stays || all[i].about(left)) {
			no := remedy.Elsewhere("another placement or policy: no change of the cluster meets all that they ask for")
			all[i].options = []remedy.Option{{no}}
			return
		}
	}
}

// changesOf returns the changes in the first option of each obstacle.
func changesOf(all []Obstacle) (changes []remedy.Change) {
	for i := range all {
		changes = append(changes, all[i].options[0]...)
	}
	return changes
}

// Remedies returns the remedies of obstacles, each once, and only the largest of several that free more of the same resource.
func Remedies(obstacles []Obstacle) (remedies []string) {
	changes := changesOf(obstacles)
	for _, o := range obstacles {
		text := o.Remedy
		if len(o.options) == 1 {
			text = remedy.TextAmong(o.options[0], changes)
		}
		if text != "" && !slices.Contains(remedies, text) {
			remedies = append(remedies, text)
		}
	}
	return remedies
}

// needs returns one obstacle, which several changes together remove.
func needs(changes ...remedy.Change) []Obstacle {
	return []Obstacle{{options: []remedy.Option{changes}}}
}

// unmet returns what a set of labels lacks to be selected. to makes a change that gives a key a value, or removes it.
func unmet(selector labels.Selector, set labels.Set, to func(text, key, value string, away bool) remedy.Change) (lacking []remedy.Change) {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return []remedy.Change{remedy.Words("a selector that selects anything")}
	}
	for _, r := range requirements {
		if r.Matches(set) {
			continue
		}
		key, values := r.Key(), slices.Sorted(slices.Values(r.ValuesUnsorted()))
		switch op := r.Operator(); op {
		case selection.Exists:
			lacking = append(lacking, to(key, key, "", false))
		case selection.DoesNotExist:
			lacking = append(lacking, to("no "+key, key, "", true))
		case selection.NotIn, selection.NotEquals:
			lacking = append(lacking, to(key+" none of "+strings.Join(values, ", "), key, "other", false))
		case selection.In, selection.Equals, selection.DoubleEquals:
			text := key + "=" + values[0]
			if len(values) > 1 {
				text = key + " one of " + strings.Join(values, ", ")
			}
			lacking = append(lacking, to(text, key, values[0], false))
		default:
			lacking = append(lacking, remedy.Words(r.String()))
		}
	}
	return lacking
}

// toLabel changes a label of the cluster.
func toLabel(text, key, value string, away bool) remedy.Change {
	if away {
		return remedy.NoLabel("no label "+key, key)
	}
	return remedy.Label("label "+text, key, value)
}
