// Package stability says when a workload that may stay where it runs may move for a gain: rules, windows of time, budgets, and what
// follows from the history of its decisions. It has no clock of its own.
package stability

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// Defaults, which the schema has, too.
const (
	DefaultMinGain  = 10
	DefaultAfter    = 5 * time.Minute
	DefaultCooldown = time.Hour
	DefaultMoves    = 5
	DefaultInterval = time.Hour
)

// returnFactor is for how many cool-downs a workload does not return to a cluster that it has left in one of its last moves, and
// lastMoves how many of these count.
const (
	returnFactor = 10
	lastMoves    = 2
)

// Rules are a compiled v1alpha1.Stability. They are immutable.
type Rules struct {
	// MinGain is in points of the total score, After for how long there has to be a gain, Cooldown how long what has moved stays.
	MinGain         int64
	After, Cooldown time.Duration
	// Limits are when workloads move for a gain, and how many.
	Limits
	// Pinned says that no workload does.
	Pinned bool

	kinds []v1alpha1.WorkloadType
}

// Limits are when workloads move for a gain, and how many do. The zero value limits nothing.
type Limits struct {
	Budget  Budget
	Windows Windows
}

// Budget bounds moves within an interval; the zero value bounds nothing.
type Budget struct {
	Moves    int
	Interval time.Duration
}

// Compile compiles what a placement says; nil where its workloads do not move for a gain. It names every field that is invalid.
func Compile(path *field.Path, s *v1alpha1.Stability) (*Rules, field.ErrorList) {
	if s == nil {
		return nil, nil
	}
	r, all := &Rules{MinGain: int64(s.MinGain), kinds: s.Pinned}, problems{}
	switch {
	case s.Moves != "" && s.Moves != v1alpha1.MovesNever && s.Moves != v1alpha1.MovesForGain:
		all.add(field.NotSupported(path.Child("moves"), s.Moves, []v1alpha1.MovesType{v1alpha1.MovesNever, v1alpha1.MovesForGain}))
	case s.MinGain == 0:
		r.MinGain = DefaultMinGain
	case s.MinGain < 0 || s.MinGain > 100:
		all.add(field.Invalid(path.Child("minGain"), s.MinGain, "must be from 1 to 100"))
	}
	r.After = all.duration(path.Child("after"), s.After, DefaultAfter, 0)
	r.Cooldown = all.duration(path.Child("cooldown"), s.Cooldown, DefaultCooldown, time.Second)
	var errs field.ErrorList
	r.Limits, errs = CompileLimits(path, s.Budget, s.Windows)
	if errs = append(all.errs, errs...); s.Moves != v1alpha1.MovesForGain || len(errs) > 0 {
		r = nil
	}
	return r, errs
}

// CompileLimits compiles a budget and windows. It names every field that is invalid.
func CompileLimits(path *field.Path, budget v1alpha1.MoveBudget, windows []v1alpha1.MoveWindow) (l Limits, errs field.ErrorList) {
	all := problems{}
	l.Budget = Budget{int(budget.Moves), all.duration(path.Child("budget", "interval"), budget.Interval, DefaultInterval, time.Second)}
	switch {
	case budget.Moves == 0:
		l.Budget.Moves = DefaultMoves
	case budget.Moves < 0:
		all.add(field.Invalid(path.Child("budget", "moves"), budget.Moves, "must be at least 1"))
	}
	l.Windows, errs = compileWindows(path.Child("windows"), windows)
	return l, append(all.errs, errs...)
}

type problems struct{ errs field.ErrorList }

func (p *problems) add(err *field.Error) { p.errs = append(p.errs, err) }

// maxDuration keeps sums and multiples of durations from overflowing.
const maxDuration = 366 * 24 * time.Hour

func (p *problems) duration(path *field.Path, d *metav1.Duration, otherwise, least time.Duration) time.Duration {
	switch {
	case d == nil:
		return otherwise
	case d.Duration < least || d.Duration > maxDuration:
		p.add(field.Invalid(path, d.Duration.String(), fmt.Sprintf("must be from %s to %s", least, maxDuration)))
	}
	return d.Duration
}

// Pins reports whether a workload never moves for a gain, and why.
func (r *Rules) Pins(w *workload.Workload) (why string, pinned bool) {
	switch {
	case w.Annotations[v1alpha1.AnnotationPinned] == "true":
		return "annotation " + v1alpha1.AnnotationPinned + " pins it", true
	case slices.Contains(r.kinds, v1alpha1.WorkloadType{APIVersion: w.APIVersion, Kind: w.Kind}):
		return "its kind is pinned by spec.stability.pinned", true
	case r.Pinned:
		return "the policies pin it", true
	}
	return "", false
}

// CoolsUntil is until when a workload that has moved stays; the zero time where it has not.
func (r *Rules) CoolsUntil(history []v1alpha1.DecisionChange) (until time.Time) {
	for moved := range moves(history) {
		return moved.At.Add(r.Cooldown)
	}
	return until
}

// Bars are the clusters to which a workload does not return now: it has left them in one of its last moves, and not long ago. So no
// third move undoes the first. They are fewer from some time on.
func (r *Rules) Bars(history []v1alpha1.DecisionChange, now time.Time) (clusters []string, until time.Time) {
	n := 0
	for moved := range moves(history) {
		ends := moved.At.Add(returnFactor * r.Cooldown)
		if n++; n > lastMoves || !now.Before(ends) {
			break
		}
		clusters, until = append(clusters, moved.From...), ends
	}
	return clusters, until
}

// moves yields the changes by which a workload left a cluster, the last one first.
func moves(history []v1alpha1.DecisionChange) func(yield func(*v1alpha1.DecisionChange) bool) {
	return func(yield func(*v1alpha1.DecisionChange) bool) {
		for i := range history {
			if len(history[i].From) > 0 && !yield(&history[i]) {
				return
			}
		}
	}
}

// Spent counts moves for a gain. The zero value has none.
type Spent struct{ at []time.Time }

// Add counts a move.
func (s *Spent) Add(at time.Time) {
	i, _ := slices.BinarySearchFunc(s.at, at, time.Time.Compare)
	s.at = slices.Insert(s.at, i, at)
}

// Merge counts the moves that are known of elsewhere, each once.
func (s *Spent) Merge(o *Spent) {
	var all []time.Time
	for mine, theirs := s.at, o.at; len(mine)+len(theirs) > 0; {
		switch {
		case len(theirs) == 0 || len(mine) > 0 && mine[0].Before(theirs[0]):
			all, mine = append(all, mine[0]), mine[1:]
		case len(mine) == 0 || theirs[0].Before(mine[0]):
			all, theirs = append(all, theirs[0]), theirs[1:]
		default:
			all, mine, theirs = append(all, mine[0]), mine[1:], theirs[1:]
		}
	}
	s.at = all
}

// Next is when limits let another workload move: now, or later; the zero time where that is never. A move at a time that is yet to
// come counts as if it were now, so that a clock that is set back prolongs no interval for long.
func (s *Spent) Next(l *Limits, now time.Time) time.Time {
	next := now
	if b := l.Budget; b.Moves > 0 {
		s.at = slices.DeleteFunc(s.at, func(at time.Time) bool { return !now.Before(at.Add(b.Interval)) })
		for i := range s.at {
			if s.at[i].After(now.Add(time.Second)) { // what is written is in whole seconds
				s.at[i] = now
			}
		}
		if excess := len(s.at) - b.Moves; excess >= 0 {
			next = s.at[excess].Add(b.Interval)
		}
	}
	if open, opens := l.Windows.Open(next); !open {
		return opens
	}
	return next
}
