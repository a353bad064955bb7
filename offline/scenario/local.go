package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Bounds on passes without progress, far beyond what any story needs.
const (
	maxPasses  = 1000
	maxWakeUps = 100_000
)

// local is a world in memory, whose clock jumps from one wake-up of the controller to the next.
type local struct {
	*controller.Local
	now time.Time
	// workspaces by name, including that of the story, and when the controller makes a pass over each though nothing changes; the zero time
	// if it does not.
	workspaces map[logicalcluster.Name]*controller.Local
	wake       map[logicalcluster.Name]time.Time
}

func newLocal(s *story) (*local, error) {
	l := &local{now: s.start, workspaces: map[logicalcluster.Name]*controller.Local{}, wake: map[logicalcluster.Name]time.Time{manifest.DefaultWorkspace: s.start}}
	var err error
	l.Local, err = controller.NewLocal(manifest.DefaultWorkspace, s.pace, workload.Kinds(), l.Now)
	l.workspaces[manifest.DefaultWorkspace] = l.Local
	return l, err
}

// in returns the workspace of an object.
func (l *local) in(o *unstructured.Unstructured) *controller.Local {
	name := workspaceOf(o)
	if l.workspaces[name] == nil {
		l.workspaces[name], l.wake[name] = l.Workspace(name), l.now
	}
	return l.workspaces[name]
}

// Put implements World.
func (l *local) Put(_ context.Context, o *unstructured.Unstructured) error { return l.in(o).Put(o) }

// Delete implements World.
func (l *local) Delete(_ context.Context, o *unstructured.Unstructured) error {
	return l.in(o).Delete(o)
}

// names returns the names of the workspaces, in order.
func (l *local) names() []logicalcluster.Name { return slices.Sorted(maps.Keys(l.workspaces)) }

// Objects implements World.
func (l *local) Objects(context.Context) (all []*unstructured.Unstructured, err error) {
	for _, name := range l.names() {
		for _, o := range l.workspaces[name].Objects() {
			if name != manifest.DefaultWorkspace && logicalcluster.From(o) != name {
				o = o.DeepCopy()
				setWorkspace(o, name)
			}
			all = append(all, o)
		}
	}
	return all, nil
}

// Events implements World.
func (l *local) Events() (all []controller.LocalEvent) {
	for _, name := range l.names() {
		for _, e := range l.workspaces[name].Events() {
			e.About = within(name, e.About)
			all = append(all, e)
		}
	}
	return all
}

// Restart implements World.
func (l *local) Restart(context.Context) error { return l.Local.Restart() }

// Now implements World.
func (l *local) Now() time.Time { return l.now }

// Patience implements World.
func (l *local) Patience() time.Duration { return 0 }

// Advance implements World. The controller does what is due now in any case.
func (l *local) Advance(ctx context.Context, until time.Time, beat, seen func() error) error {
	for range maxWakeUps {
		next := l.next()
		if next.IsZero() || next.After(until) {
			l.now = until
			return l.settle(ctx, beat, seen)
		}
		if next.After(l.now) {
			l.now = next
		}
		if err := l.settle(ctx, beat, seen); err != nil {
			return err
		}
	}
	return fmt.Errorf("the controller has woken up %d times and would go on", maxWakeUps)
}

// next returns when the controller wakes up next, the zero time if it does not.
func (l *local) next() (next time.Time) {
	for _, at := range l.wake {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// settle makes the controller run passes until none is due: one over each workspace, and more where something has changed.
func (l *local) settle(ctx context.Context, beat, seen func() error) error {
	if err := beat(); err != nil {
		return err
	}
	due := l.names()
	for range maxPasses * len(l.workspaces) {
		if len(due) == 0 {
			return context.Cause(ctx)
		}
		name := due[0]
		again, wake, err := l.workspaces[name].Pass(ctx)
		if err != nil {
			return err
		}
		if err := seen(); err != nil {
			return err
		}
		if due = due[1:]; again {
			due = append(due, name)
		} else {
			l.wake[name] = wake
		}
		if len(l.workspaces) > 1 { // a change in one workspace can affect others
			changed := l.Due()
			for _, name := range l.names() {
				if slices.Contains(changed, l.workspaces[name]) && !slices.Contains(due, name) {
					due = append(due, name)
				}
			}
		}
	}
	return fmt.Errorf("the controller has made %d passes over each workspace and would go on", maxPasses)
}
