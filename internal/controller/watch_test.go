package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
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

// TestAPanicCostsWhatCausedIt: the watch goes on with the other objects, whether the controller fails on one as it reads it or as it takes it up.
func TestAPanicCostsWhatCausedIt(t *testing.T) {
	read := transforms[clusterResource]
	transforms[clusterResource] = func(content any) (any, error) {
		if u, ok := content.(*unstructured.Unstructured); ok && u.Object["spec"] != nil && u.GetName() == "broken" {
			panic("a bug")
		}
		return read(content)
	}
	t.Cleanup(func() { transforms[clusterResource] = read })
	server := newAPIServer(t)
	for _, name := range []string{"a", "broken", "c"} {
		server.put("clusterregistrations", "shop", testCluster(name, "4"))
		server.put("clusterregistrations", "panics", testCluster(name, "4"))
	}
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	var handled, woken atomic.Int64
	e, err := newEndpoint(Config{Provider: server.config()}, server.URL, m, func(name logicalcluster.Name) {
		if name == "shop" {
			woken.Add(1)
		} else if handled.Add(1) <= 3 {
			panic("another bug")
		}
	}, func(logicalcluster.Name) {})
	if err != nil {
		t.Fatal(err)
	}
	e.start(t.Context())
	t.Cleanup(e.close)
	eventually(t, "all is listed", e.hasSynced)
	for _, name := range []logicalcluster.Name{"shop", "panics"} {
		view := e.view(name)
		clusters := as[*v1alpha1.ClusterRegistration](e.watch(clusterResource).of(name), view.unreadable)
		if len(clusters) != 3 || len(view.unreadable) != 1 {
			t.Errorf("%d clusters of %s, unreadable %v", len(clusters), name, view.unreadable)
		}
	}
	if woken.Load() < 3 {
		t.Errorf("woken %d times", woken.Load())
	}
}
