package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/internal/controller"
)

// TestOverTime: a thousand workloads on ten clusters. One cluster goes up and down every few seconds, which moves nothing; one is lost,
// and what it had is placed on the others; a policy would move all, and moves a tenth, pauses, and goes on.
//
// Somebody watches the decisions all the time. Invariants: no workload loses its decision or has two, no cluster is promised more than
// it has, and no interval has more moves than the budget.
func TestOverTime(t *testing.T) {
	const (
		number, each = 10, 100
		most         = 12_000 // millicores of a cluster: nine have room for all, with little left
		notReady     = 8      // seconds that workloads stay on a cluster that says of itself that it is not ready
	)
	alone(t)
	pace := controller.Pace{
		HeartbeatGracePeriod: 8 * time.Second, FailoverAfter: 14 * time.Second,
		Disruptions: disruption.Budget{Percent: 10, Minimum: 10, Interval: 10 * time.Second},
	}
	c, err := startController(context.Background(), func(c *controller.Config) { c.Pace = pace })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	team := newTeam(t)
	names := make([]string, number)
	for i := range names {
		names[i] = fmt.Sprintf("c%d", i)
		team.apply(beating(names[i], "True"))
	}
	hearts := team.startHearts(names)
	team.apply(placement("app", "strategy: {type: RoundRobin}",
		fmt.Sprintf("tolerations: [{key: %s, operator: Exists, effect: NoExecute, tolerationSeconds: %d}]", v1alpha1.TaintNotReady, notReady)))
	o := team.observe(most)
	creating, next := sync.WaitGroup{}, atomic.Int64{}
	for range 4 {
		creating.Go(func() {
			for i := next.Add(1); i <= number*each; i = next.Add(1) {
				if err := team.create(deployment(fmt.Sprintf("w-%d", i), "app", "100m")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	creating.Wait()
	team.eventually("all are placed", fmt.Sprint(number*each), func() string { return fmt.Sprint(len(o.placed())) })

	// A cluster up and down every few seconds.
	flapping := time.Now()
	for up := false; time.Since(flapping) < 2*notReady*time.Second; up = !up {
		hearts["c5"].Store(up)
		team.apply(beating("c5", map[bool]string{true: "True", false: "False"}[up]))
		time.Sleep(3 * time.Second)
	}
	hearts["c5"].Store(true)
	team.apply(beating("c5", "True"))
	if moves := o.moved(); len(moves) > 0 {
		t.Errorf("a cluster that goes up and down moves %d workloads", len(moves))
	}

	// A cluster is lost.
	lost := time.Now()
	hearts["c3"].Store(false)
	team.eventually("c3 has nothing", "0", func() string { return fmt.Sprint(o.on("c3")) })
	moves := o.moved()
	if len(moves) != each {
		t.Errorf("%d workloads move since one of %d clusters is lost", len(moves), number)
	}
	for _, m := range moves {
		if m.from != "c3" || m.at.Before(lost.Add(pace.FailoverAfter/2)) {
			t.Errorf("%s moves from %s at %s, when c3 was last heard of at %s", m.workload, m.from, m.at, lost)
			break
		}
	}

	// A policy that would move all.
	time.Sleep(pace.Disruptions.Interval) // what was lost has been paid for
	team.apply(cluster("next", "1000"), policies("move", "package placement.affinity\nterms contains {\"match\": {\"clusterNames\": [\"next\"]}, \"factor\": \"location\", \"required\": true}"))
	tenth := number * each / 10
	for batch := range 2 {
		team.eventually("workloads on next", fmt.Sprint((batch+1)*tenth), func() string { return fmt.Sprint(o.on("next")) })
		team.eventually("the brake is told", "False DisruptionsPaced", func() string {
			told, _, _ := strings.Cut(team.condition("app", v1alpha1.DisruptionAllowedCondition), ":")
			return told
		})
	}

	if placed := o.placed(); len(placed) != number*each {
		t.Errorf("%d of %d are placed", len(placed), number*each)
	}
	o.keeps(t, pace.Disruptions)
	for _, problem := range o.problems() {
		t.Error(problem)
	}
}

// beating is a cluster whose agent renews a Lease.
func beating(name, ready string) string {
	c := clusterWith(name, ready, "12", "{}") + "  clusterUID: uid-" + name + "\n"
	return strings.Replace(c, "2026-01-01T00:00:00Z", time.Now().UTC().Format(time.RFC3339), 1)
}

// startHearts has the agents of clusters renew their Leases, each for as long as its switch is on.
func (t *team) startHearts(names []string) map[string]*atomic.Bool {
	t.Helper()
	namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": v1alpha1.AgentNamespace}}}
	if _, err := t.client.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")).Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	hearts := map[string]*atomic.Bool{}
	var beating sync.WaitGroup
	t.Cleanup(beating.Wait)
	for _, name := range names {
		on := new(atomic.Bool)
		on.Store(true)
		hearts[name] = on
		beating.Go(func() {
			for beat := 0; t.Context().Err() == nil; beat++ {
				if on.Load() {
					lease := fmt.Appendf(nil, `{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": %q, "namespace": %q, "labels": {%q: "true"}},
						"spec": {"holderIdentity": "uid-%s", "leaseDurationSeconds": 8, "renewTime": %q}}`,
						name, v1alpha1.AgentNamespace, v1alpha1.LabelHeartbeat, name, time.Now().UTC().Format(metav1.RFC3339Micro))
					_, err := t.client.Resource(leases).Namespace(v1alpha1.AgentNamespace).Patch(t.Context(), name, types.ApplyPatchType, lease, metav1.PatchOptions{FieldManager: "agent"})
					if err != nil && t.Context().Err() == nil {
						t.Error(err)
					}
				}
				select {
				case <-t.Context().Done():
				case <-time.After(1500 * time.Millisecond):
				}
			}
		})
	}
	return hearts
}

// observer follows the decisions of a team as they are written.
type observer struct {
	// most is what a cluster may be promised, in millicores.
	most int64

	mu     sync.Mutex
	slices map[string]*v1alpha1.PlacementDecision
	// where each workload is, with what is reserved, and the moves that led there.
	where map[string]v1alpha1.ClusterDecision
	moves []move
	wrong []string
}

type move struct {
	workload, from, to string
	at                 time.Time
}

// observe begins to follow the decisions. Of each cluster named c and a number the room is known.
func (t *team) observe(most int64) *observer {
	t.Helper()
	o := &observer{most: most, slices: map[string]*v1alpha1.PlacementDecision{}, where: map[string]v1alpha1.ClusterDecision{}}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(t.client, 0)
	informer := factory.ForResource(decisions).Informer()
	put := func(object any) { o.see(as[v1alpha1.PlacementDecision](t, object.(*unstructured.Unstructured))) }
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: put, UpdateFunc: func(_, after any) { put(after) },
		DeleteFunc: func(object any) {
			key, _ := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
			o.see(&v1alpha1.PlacementDecision{ObjectMeta: metav1.ObjectMeta{Name: strings.TrimPrefix(key, "default/")}})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	if !cache.WaitForCacheSync(t.Context().Done(), registration.HasSynced) {
		t.Fatal("the decisions cannot be listed")
	}
	return o
}

// see takes up a slice, and holds what is true of all decisions together at any time.
func (o *observer) see(slice *v1alpha1.PlacementDecision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.slices[slice.Name] = slice
	where, promised := map[string]v1alpha1.ClusterDecision{}, map[string]int64{}
	for _, slice := range o.slices {
		for _, d := range slice.Decisions {
			on, name := d.Clusters[0], d.Workload.Name
			if other, twice := where[name]; twice { // one that moves between slices is in both for a moment
				if other.Name != on.Name {
					o.wrong = append(o.wrong, fmt.Sprintf("%s is on %s and on %s", name, other.Name, on.Name))
				}
				continue
			}
			where[name] = on
			promised[on.Name] += d.Reserved.Cpu().MilliValue()
			if before, found := o.where[name]; found && before.Name != on.Name {
				o.moves = append(o.moves, move{name, before.Name, on.Name, d.DecidedAt.Time})
			}
		}
	}
	for name := range o.where {
		if _, found := where[name]; !found {
			o.wrong = append(o.wrong, fmt.Sprintf("%s has lost its decision", name))
		}
	}
	for name, sum := range promised {
		if name != "next" && sum > o.most {
			o.wrong = append(o.wrong, fmt.Sprintf("%s is promised %dm of %dm", name, sum, o.most))
		}
	}
	o.where = where
}

func (o *observer) placed() map[string]v1alpha1.ClusterDecision {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.where)
}

func (o *observer) on(cluster string) (n int) {
	for _, on := range o.placed() {
		if on.Name == cluster {
			n++
		}
	}
	return n
}

func (o *observer) moved() []move {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.moves)
}

func (o *observer) problems() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wrong[:min(len(o.wrong), 10)]
}

// keeps holds that no interval has more moves than a budget. Decisions tell their time in seconds, so an interval is a second less.
func (o *observer) keeps(t *testing.T, budget disruption.Budget) {
	t.Helper()
	moves := o.moved()
	slices.SortFunc(moves, func(a, b move) int { return a.at.Compare(b.at) })
	limit, first := budget.Limit(len(o.placed())), 0
	for last := range moves {
		for moves[last].at.Sub(moves[first].at) >= budget.Interval-time.Second {
			first++
		}
		if n := last - first + 1; n > limit {
			t.Errorf("%d workloads move from %s to %s, may be %d within %s", n, moves[first].at, moves[last].at, limit, budget.Interval)
			return
		}
	}
}
