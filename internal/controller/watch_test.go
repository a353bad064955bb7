package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestWhatABindingBringsIsAskedForSoon: nobody has accepted the claim on a resource for an hour, and so it is not served and is asked for
// seldom. Once a binding changes it is asked for again soon, and still soon where kcp takes a while to serve it, however many bind.
func TestWhatABindingBringsIsAskedForSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unserved := apierrors.NewNotFound(schema.GroupResource{Resource: "limitranges"}, "")
		bound := make(chan struct{}, 1)
		var served atomic.Bool
		var asked, answeredAt atomic.Int64
		start := time.Now()
		go func() {
			_, err := onceServed(t.Context(), bound, func(context.Context) (string, error) {
				if asked.Add(1); !served.Load() {
					return "", unserved
				}
				return "served", nil
			})
			if answeredAt.Store(int64(time.Since(start))); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := asked.Load(); n < 100 || n > 200 {
			t.Errorf("asked %d times in an hour", n)
		}
		for range 1000 {
			select {
			case bound <- struct{}{}:
			default:
			}
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		before := asked.Load()
		served.Store(true)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if since := asked.Load() - before; answeredAt.Load() == 0 || since > 3 {
			t.Errorf("answered after %v, asked %d times since", time.Duration(answeredAt.Load()), since)
		}
	})
}

// TestOnlyWhatIsNotServedIsWaitedFor: any other answer is the reflector's.
func TestOnlyWhatIsNotServedIsWaitedFor(t *testing.T) {
	for _, want := range []error{nil, apierrors.NewUnauthorized("no"), errors.New("cut off")} {
		if _, err := onceServed(t.Context(), nil, func(context.Context) (string, error) { return "", want }); !errors.Is(err, want) {
			t.Errorf("%v became %v", want, err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err := onceServed(ctx, nil, func(context.Context) (string, error) { return "", apierrors.NewNotFound(schema.GroupResource{}, "") })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
