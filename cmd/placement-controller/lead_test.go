package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/kcp-placement/placement/internal/program"
)

// memoryLock is a lease in memory.
type memoryLock struct {
	mu      sync.Mutex
	record  *resourcelock.LeaderElectionRecord
	acquire func() // called when the lease is first acquired
}

func (l *memoryLock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.record == nil {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{}, "lease")
	}
	record := *l.record
	return &record, []byte(record.HolderIdentity), nil
}

func (l *memoryLock) Create(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record = &record
	if l.acquire != nil {
		l.acquire()
	}
	return nil
}

func (l *memoryLock) Update(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record = &record
	return nil
}

func (l *memoryLock) RecordEvent(string) {}
func (l *memoryLock) Identity() string   { return "me" }
func (l *memoryLock) Describe() string   { return "a lease in memory" }

func (l *memoryLock) holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record.HolderIdentity
}

// TestLeaseIsReleasedLast: the next leader must not find writes of this one still under way.
func TestLeaseIsReleasedLast(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	lock, c := &memoryLock{}, &completed{}
	failed := errors.New("no endpoint slice")
	err := c.whileLeading(ctx, cancel, lock, func(context.Context) error {
		if c.standby.Load() || lock.holder() != "me" {
			t.Error("runs without the lease")
		}
		return failed
	})
	if !errors.Is(err, failed) || program.Failure(ctx) != nil {
		t.Errorf("got %v and %v, want what run returned, and nothing about the lease", err, program.Failure(ctx))
	}
	if holder := lock.holder(); holder != "" {
		t.Errorf("the lease is still held by %s", holder)
	}
}

// TestStoppedWhileBeingElected: a controller that is asked to stop while it acquires the lease either runs and returns or does
// not run at all. In both cases nothing runs any more once the lease is released.
func TestStoppedWhileBeingElected(t *testing.T) {
	for range 200 {
		ctx, cancel := context.WithCancelCause(t.Context())
		lock, c := &memoryLock{acquire: func() { go cancel(nil) }}, &completed{}
		running := false // not guarded: the race detector sees a run that outlives whileLeading
		if err := c.whileLeading(ctx, cancel, lock, func(ctx context.Context) error {
			running = true
			<-ctx.Done()
			time.Sleep(time.Millisecond)
			if lock.holder() != "me" {
				t.Error("the lease was released while running")
			}
			running = false
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if running {
			t.Fatal("still running")
		}
	}
}
