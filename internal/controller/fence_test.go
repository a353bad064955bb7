package controller

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNoActionTakesForEver: each request that any of the actions makes is bounded in time, those that are added as well.
func TestNoActionTakesForEver(t *testing.T) {
	requests, bounded := 0, true
	config := Config{Kinds: []schema.GroupVersionResource{deployments}, Deliver: true, Provider: &rest.Config{Host: "https://kcp", QPS: -1, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		_, has := r.Context().Deadline()
		requests, bounded = requests+1, bounded && has
		return nil, errors.New("no answer")
	})}}
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEndpoint(config, "https://kcp", m, func(logicalcluster.Name) {}, func(logicalcluster.Name) {})
	if err != nil {
		t.Fatal(err)
	}
	d := newDeliverer("ws", e, nil, e.keptWorks("ws", nil).workspace("ws"), nil)
	d.round.Store(&delivery.Round{})
	d.claims.seen = &apisv1alpha2.APIBinding{}
	arguments := map[reflect.Type]reflect.Value{}
	for _, value := range []any{
		"name", types.NamespacedName{Namespace: "default", Name: "name"}, deployments, []v1alpha1.ManifestReference{{APIVersion: "v1", Kind: "Secret", Name: "name"}},
	} {
		arguments[reflect.TypeOf(value)] = reflect.ValueOf(value)
	}
	arguments[reflect.TypeFor[context.Context]()] = reflect.ValueOf(context.Background())
	actions := e.actions("ws").fenced(nil)
	makes := func(name string, request func()) {
		requests, bounded = 0, true
		request()
		if requests == 0 || !bounded {
			t.Errorf("%s: %d requests, bounded is %t", name, requests, bounded)
		}
	}
	for _, all := range []reflect.Value{reflect.ValueOf(&actions).Elem(), reflect.ValueOf(&d.Actions).Elem()} {
		for i := range all.NumField() {
			action, name := all.Field(i), all.Type().Field(i).Name
			if of := action.Type(); of.NumIn() == 0 || of.In(0) != reflect.TypeFor[context.Context]() {
				continue // it makes no request
			}
			with := make([]reflect.Value, action.Type().NumIn())
			for j := range with {
				if of := action.Type().In(j); arguments[of].IsValid() {
					with[j] = arguments[of]
				} else if with[j] = reflect.Zero(of); of.Kind() == reflect.Pointer {
					with[j] = reflect.New(of.Elem())
					with[j].Interface().(metav1.Object).SetName("name")
				}
			}
			makes(name, func() { reflect.NewAt(action.Type(), unsafe.Pointer(action.UnsafeAddr())).Elem().Call(with) })
		}
	}

	p, err := newPaths(config.Provider, func(map[string]bool) {})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = p.of("ws", "root:teams:shop")
	makes("what is at a path", func() { p.follow(t.Context(), pathAsked{"ws", "root:teams:shop"}) })
	makes("a list of what is watched", func() { _, _ = e.checker.compare(t.Context(), e.watches[0]) })
	makes("what a watch lacks", func() { e.checker.confirm(t.Context(), e.watches[0], difference{key: "ws|default/name"}) })
}

// TestLeasesAreReadWithinOneTime, however many clusters are silent: a server that hangs does not hold up a pass once for each.
func TestLeasesAreReadWithinOneTime(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.reports(name, "4", nil)
	}
	w.pass()
	w.sleep(2 * time.Minute)
	var until []time.Time
	w.workspace.readHeartbeat = func(ctx context.Context, _ string) (heartbeat, bool, error) {
		end, _ := ctx.Deadline()
		until = append(until, end)
		return heartbeat{}, false, errors.New("no answer")
	}
	_ = w.workspace.reconcile(t.Context(), w.cacheView)
	if len(until) != 3 || until[0].IsZero() || until[0] != until[1] || until[1] != until[2] {
		t.Errorf("until %v", until)
	}
}
