package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

func share(cluster string, cpu int64) []capacity.Share {
	return []capacity.Share{{Cluster: cluster, Amount: capacity.Resources{CPU: cpu}}}
}

// TestReplace: what is rebuilt from durable decisions replaces everything that was reserved before. What was granted before
// is restored even if it does not fit; what another has granted has to fit beside that, and the first of two wins.
func TestReplace(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 10))
	e.SetCluster(ws, cluster("b", 10))
	on := func(name, cluster string, cpu int64) engine.Reservation {
		return engine.Reservation{Workload: workloadOf(name, cpu).Reference, Shares: share(cluster, cpu)}
	}
	expect := func(a, b int64) {
		t.Helper()
		s := e.Snapshot(ws)
		if gotA, gotB := s.Row("a").Reserved.CPU, s.Row("b").Reserved.CPU; gotA != a || gotB != b {
			t.Errorf("reserved: a %d, b %d, want %d and %d", gotA, gotB, a, b)
		}
	}
	e.Restore(ws, on("never written", "b", 9))
	e.Hold(ws, on("never written", "b", 1))
	expect(0, 10)

	held, refused, err := e.Replace(ws, []engine.Reservation{on("old", "a", 3)}, []engine.Reservation{on("old", "b", 12)},
		[]engine.Reservation{on("first", "a", 5), on("second", "a", 3), on("third", "a", 2)})
	if err != nil {
		t.Fatal(err)
	}
	expect(10, 12)
	var shortage *capacity.ShortageError
	if len(refused) != 3 || refused[0] != nil || !errors.As(refused[1], &shortage) || refused[2] != nil {
		t.Errorf("refused: %v", refused)
	}
	if !e.ReleaseHeld(ws, held[0]) || e.ReleaseHeld(ws, held[0]) {
		t.Error("what is held is released once")
	}
	expect(10, 0)
	e.Replace(ws, nil, nil, nil)
	expect(0, 0)
}

// TestHold: what is held for a workload is in addition to its own reservation, however often, and each hold is released on its own.
func TestHold(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 10))
	r := engine.Reservation{Workload: workloadOf("w", 2).Reference, Shares: share("a", 2)}
	e.Restore(ws, r)
	first, err := e.Hold(ws, r)
	if err != nil {
		t.Fatal(err)
	}
	e.Hold(ws, r)
	reserved := func() int64 { return e.Snapshot(ws).Row("a").Reserved.CPU }
	if got := reserved(); got != 6 {
		t.Errorf("%d reserved", got)
	}
	e.ReleaseHeld(ws, first)
	e.Release(ws, r.Workload)
	if got := reserved(); got != 2 {
		t.Errorf("%d reserved once one of two is released, and the workload's own", got)
	}
}

// TestReservationOf: a cluster of a durable decision has the decision's amount unless it has one of its own.
func TestReservationOf(t *testing.T) {
	amount := func(cpu string) corev1.ResourceList { return corev1.ResourceList{"cpu": resource.MustParse(cpu)} }
	for _, test := range []struct {
		name     string
		decision v1alpha1.WorkloadDecision
		want     string
	}{
		{"one amount", v1alpha1.WorkloadDecision{
			Reserved: amount("2"), Clusters: []v1alpha1.ClusterDecision{{Name: "a"}, {Name: "b"}},
		}, "a 2000, b 2000"},
		{"one cluster has its own", v1alpha1.WorkloadDecision{
			Reserved: amount("2"), Clusters: []v1alpha1.ClusterDecision{{Name: "a"}, {Name: "b", Reserved: amount("500m")}},
		}, "a 2000, b 500"},
		{"all have their own, which may be nothing", v1alpha1.WorkloadDecision{
			Clusters: []v1alpha1.ClusterDecision{{Name: "a", Reserved: amount("1")}, {Name: "b"}},
		}, "a 1000, b 0"},
		{"an amount that cannot be read", v1alpha1.WorkloadDecision{
			Clusters: []v1alpha1.ClusterDecision{{Name: "a"}, {Name: "b", Reserved: amount("-1")}},
		}, "clusters[1].reserved.cpu: -1 is negative"},
	} {
		r, err := engine.ReservationOf(types.NamespacedName{Namespace: "default", Name: "p"}, &test.decision)
		var shares []string
		for _, s := range r.Shares {
			shares = append(shares, fmt.Sprintf("%s %d", s.Cluster, s.Amount.CPU))
		}
		got := strings.Join(shares, ", ")
		if err != nil {
			got += err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestHoldsWhatIsGivenUp: if a request asks for Hold, what the workload gives up by the decision is held from that step on, so nobody finds
// it free until it is released. What it keeps or gains is not held, and without Hold nothing is.
func TestHoldsWhatIsGivenUp(t *testing.T) {
	for _, test := range []struct {
		why            string
		asks           int64
		current        string
		drained        bool
		claims, afterA int64 // what is reserved on a, with and without what is held
	}{
		{"less on the same cluster", 3, "a", false, 8, 3},
		{"another cluster", 8, "a", true, 8, 0},
		{"as much", 8, "a", false, 8, 8},
		{"more", 9, "a", false, 9, 9},
		{"no cluster", 11, "", false, 8, 0},
	} {
		for _, hold := range []bool{true, false} {
			t.Run(fmt.Sprint(test.why, " ", hold), func(t *testing.T) {
				s := newShared(t, cluster("a", 10))
				s.decide(platform, "w", 8)
				if test.drained {
					a := cluster("a", 10)
					a.Unschedulable, a.Draining = true, true
					s.set(a)
					s.set(cluster("b", 10))
				}
				r := s.request(platform, "w", test.asks)
				if r.Hold = hold; test.current != "" {
					r.Current = []engine.Choice{{Name: test.current, Replicas: 1}}
				}
				d, err := s.Decide(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				want := test.afterA
				if hold {
					want = test.claims
				}
				if got := s.Snapshot(platform).Row("a").Reserved.CPU; got != want {
					t.Errorf("%d reserved, want %d", got, want)
				}
				for _, h := range d.GivenUp {
					s.ReleaseHeld(platform, h)
				}
				if got := s.Snapshot(platform).Row("a").Reserved.CPU; got != test.afterA {
					t.Errorf("%d reserved once what was given up is released, want %d", got, test.afterA)
				}
			})
		}
	}
}
