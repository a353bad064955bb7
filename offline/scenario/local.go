package scenario

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Bounds of what a controller may do in vain, far beyond what it does in any story.
const (
	maxPasses  = 1000
	maxWakeUps = 100_000
)

// local is a world in memory, whose clock goes from one time at which the controller wakes up to the next.
type local struct {
	*controller.Local
	now time.Time
	// wake is when the controller makes a pass though nothing changes, the zero time if it does not.
	wake time.Time
}

func newLocal(s *story) (*local, error) {
	l := &local{now: s.start, wake: s.start}
	var err error
	l.Local, err = controller.NewLocal(manifest.DefaultWorkspace, s.pace, workload.Kinds(), l.Now)
	return l, err
}

// Put implements World.
func (l *local) Put(_ context.Context, o *unstructured.Unstructured) error { return l.Local.Put(o) }

// Delete implements World.
func (l *local) Delete(_ context.Context, o *unstructured.Unstructured) error {
	return l.Local.Delete(o)
}

// Objects implements World.
func (l *local) Objects(context.Context) ([]*unstructured.Unstructured, error) {
	return l.Local.Objects(), nil
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
		if l.wake.IsZero() || l.wake.After(until) {
			l.now = until
			return l.settle(ctx, beat, seen)
		}
		if l.wake.After(l.now) {
			l.now = l.wake
		}
		if err := l.settle(ctx, beat, seen); err != nil {
			return err
		}
	}
	return fmt.Errorf("the controller has woken up %d times and would go on", maxWakeUps)
}

// settle has the controller make passes until none is due.
func (l *local) settle(ctx context.Context, beat, seen func() error) error {
	if err := beat(); err != nil {
		return err
	}
	for range maxPasses {
		again, wake, err := l.Pass(ctx)
		if err != nil {
			return err
		}
		if err := seen(); err != nil {
			return err
		}
		if !again {
			l.wake = wake
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("the controller has made %d passes and would go on", maxPasses)
}
