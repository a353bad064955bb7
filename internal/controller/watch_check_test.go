package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	kcpmetadata "github.com/kcp-dev/client-go/metadata"
	"github.com/kcp-dev/logicalcluster/v3"
)

var deployments = appsv1.SchemeGroupVersion.WithResource("deployments")

func testDeployment(name string) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
	}
}

// checkedEndpoint is an endpoint whose checks are made by the test, with little grace.
func checkedEndpoint(t *testing.T, server *apiServer) (e *endpoint, check func(context.Context) error) {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	e, err = newEndpoint(Config{Provider: server.config(), Kinds: []schema.GroupVersionResource{deployments}}, server.URL, m, func(logicalcluster.Name) {}, func(logicalcluster.Name) {})
	if err != nil {
		t.Fatal(err)
	}
	if e.checker.client, err = kcpmetadata.NewForConfig(server.config()); err != nil {
		t.Fatal(err)
	}
	e.checker.grace = 300 * time.Millisecond
	e.start(t.Context())
	t.Cleanup(e.close)
	eventually(t, "all is listed", e.hasSynced)
	eventually(t, "all is watched", func() bool { return server.requested("WATCH deployments") > 0 })
	return e, func(ctx context.Context) error { return e.checker.check(ctx, e.watches[len(e.watches)-1]) }
}

func (e *endpoint) reopened() float64 {
	return testutil.ToFloat64(e.metrics.reopened.WithLabelValues("deployments.apps"))
}

// TestADeafWatchIsReopened: a watch that is open and delivers nothing looks like a world in which nothing happens, as kcp's
// main branch of August 2026 has it for watches that were opened before the first binding. What was made, changed and
// deleted meanwhile is found by a list, and the watch is opened anew. So it is behind a proxy that never answers a watch.
func TestADeafWatchIsReopened(t *testing.T) {
	for fault, fails := range map[string]func(s *apiServer, fails bool){
		"open and deaf":  func(s *apiServer, fails bool) { s.deaf = fails },
		"never answered": func(s *apiServer, fails bool) { s.mute = fails },
	} {
		for name, happens := range map[string]func(*apiServer){
			"an object is made":    func(s *apiServer) { s.put("deployments", "shop", testDeployment("new")) },
			"an object is changed": func(s *apiServer) { s.put("deployments", "shop", testDeployment("there")) },
			"an object is deleted": func(s *apiServer) { s.remove("deployments", "default", "there") },
		} {
			t.Run(fault+"/"+name, func(t *testing.T) {
				server := newAPIServer(t)
				server.put("deployments", "shop", testDeployment("there"))
				fails(server, true)
				e, check := checkedEndpoint(t, server)
				if err := check(t.Context()); err != nil || e.reopened() != 0 || e.ready() != nil {
					t.Fatalf("nothing has happened yet, but: %v, reopened %v times, %v", err, e.reopened(), e.ready())
				}

				happens(server)
				checked := make(chan error)
				go func() { checked <- check(t.Context()) }()
				eventually(t, "the watch is reopened", func() bool { return e.reopened() > 0 })
				if err := e.ready(); err == nil || !strings.Contains(err.Error(), "the watch for deployments.apps") {
					t.Errorf("an endpoint that is deaf is ready: %v", err)
				}
				server.set(func(s *apiServer) { fails(s, false) })
				if err := <-checked; err != nil {
					t.Fatal(err)
				}
				if err := e.ready(); err != nil {
					t.Error(err)
				}
				if got, want := e.workloads.count("shop"), len(server.stored("deployments")); got != want {
					t.Errorf("the informer has %d objects, the server %d", got, want)
				}
				server.put("deployments", "shop", testDeployment("later"))
				eventually(t, "the new watch delivers", func() bool { return e.workloads.count("shop") == len(server.stored("deployments")) })
			})
		}
	}
}

// TestReadyTellsOfEveryWatch: without the leases, which are watched beside what a workspace cannot do without, clusters look silent.
func TestReadyTellsOfEveryWatch(t *testing.T) {
	e, _ := checkedEndpoint(t, newAPIServer(t))
	for _, watch := range e.all() {
		watch.deaf.Store(true)
		if err := e.ready(); err == nil || !strings.Contains(err.Error(), watch.resource.GroupResource().String()) {
			t.Errorf("the watch for %s is deaf, and %v", watch.resource.GroupResource(), err)
		}
		watch.deaf.Store(false)
	}
}

// TestALivelyWatchIsLeftAlone: the informer lags behind a list a little, and objects come and go meanwhile.
func TestALivelyWatchIsLeftAlone(t *testing.T) {
	server := newAPIServer(t)
	e, check := checkedEndpoint(t, server)
	e.checker.grace = 10 * time.Second // however slow this machine is; it ends as soon as there is no difference
	ctx, stop := context.WithCancel(t.Context())
	churned := make(chan struct{})
	go func() {
		defer close(churned)
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprint("w", i%300)
			server.put("deployments", "shop", testDeployment(name))
			if i%3 == 0 {
				server.remove("deployments", "default", name)
			}
			time.Sleep(200 * time.Microsecond)
		}
	}()
	for range 20 {
		if err := check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-churned
	if e.reopened() != 0 {
		t.Errorf("reopened %v times", e.reopened())
	}
}

// TestALongListIsCheckedAPageAtATime, and the last page counts as the first does.
func TestALongListIsCheckedAPageAtATime(t *testing.T) {
	server := newAPIServer(t)
	server.deaf = true
	e, check := checkedEndpoint(t, server)
	for i := range 2*checkPageSize + 1 {
		server.put("deployments", "shop", testDeployment(fmt.Sprintf("w%05d", i)))
	}
	server.set(func(s *apiServer) { s.deaf = false })
	before := server.requested("GET deployments")
	if err := check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := e.workloads.count("shop"); got != 2*checkPageSize+1 || e.reopened() != 1 {
		t.Errorf("%d objects, reopened %v times", got, e.reopened())
	}
	// Two lists of three pages, one look at an object, and the informer's own list.
	if got := server.requested("GET deployments") - before; got < 8 {
		t.Errorf("%d requests", got)
	}
}
