package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
)

// reporting is a fleet of so many clusters that report, with 40 workloads on the first one, which have room on the last one.
func reporting(t *testing.T, clusters int) *world {
	w := newWorld(t)
	w.workspace.brake.Budget, w.workspace.slowed.Budget = disruption.Default, disruption.Default.Slowed(slowedBy)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.reports("c0", "40", nil)
	for i := range 40 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%02d", i), 1000))
	}
	w.pass()
	for i := range clusters - 1 {
		w.reports(fmt.Sprintf("c%d", i+1), "40", nil)
	}
	w.pass()
	w.onFirst(40)
	w.events = nil
	return w
}

func (w *world) onFirst(want int) {
	w.Helper()
	got := 0
	for _, cluster := range w.where() {
		if cluster == "c0" {
			got++
		}
	}
	if got != want {
		w.Errorf("%d workloads on c0, want %d", got, want)
	}
}

// silence lets time go by in which only some clusters report, with the passes that are due.
func (w *world) silence(d time.Duration, reporting ...string) {
	w.Helper()
	for end := w.clock.Add(d); w.clock.Before(end); w.sleep(10 * time.Second) {
		for _, name := range reporting {
			w.reports(name, "40", nil)
		}
		w.pass()
		w.show()
	}
}

// TestFailoverOfMuch: while more than a share of the fleet is silent at once, the workloads of lost clusters are placed anew at a
// tenth of the pace, and none if all of it is. The placement says so.
func TestFailoverOfMuch(t *testing.T) {
	for _, c := range []struct {
		why             string
		clusters, heard int
		// moved after the clusters are lost, and a minute later.
		moved, later int
		reason       string
	}{
		{"one of four is lost", 4, 3, 10, 20, "DisruptionsPaced"},
		{"two of four: few clusters are a large share of a small fleet", 4, 2, 10, 20, "DisruptionsPaced"},
		{"three of four, more than 55 %", 4, 1, 1, 2, "FailoverSlowed"},
		{"six of eleven, less than that", 11, 5, 10, 20, "DisruptionsPaced"},
		{"eleven of twenty, as much as that", 20, 9, 1, 2, "FailoverSlowed"},
		{"all of three", 3, 0, 0, 0, "FailoverStopped"},
		{"the only one", 1, 0, 0, 0, "FailoverStopped"},
	} {
		t.Run(c.why, func(t *testing.T) {
			w := reporting(t, c.clusters)
			var heard []string
			for i := range c.heard {
				heard = append(heard, fmt.Sprintf("c%d", c.clusters-1-i))
			}
			w.silence(5*time.Minute+10*time.Second, heard...)
			w.onFirst(40 - c.moved)
			if got := w.condition("DisruptionAllowed"); !strings.HasPrefix(got, "False "+c.reason+":") {
				t.Errorf("condition %s", got)
			}
			if told := w.eventsOf(c.reason); len(told) != 1 {
				t.Errorf("events %q", told)
			}
			state := strings.TrimPrefix(c.reason, "Failover")
			if counted := testutil.ToFloat64(w.workspace.metrics.failover.WithLabelValues(state)); (counted == 1) != strings.HasPrefix(c.reason, "Failover") {
				t.Errorf("the metric counts %v workspaces that are %s", counted, state)
			}
			w.silence(time.Minute, heard...)
			w.onFirst(40 - c.later)

			// All report again: what is on its way goes on where it is, and nothing returns.
			w.silence(2*time.Minute, names(c.clusters)...)
			w.onFirst(40 - c.later)
			if got := w.condition("DisruptionAllowed"); got != "True" {
				t.Errorf("condition %s", got)
			}
		})
	}
}

func names(clusters int) (all []string) {
	for i := range clusters {
		all = append(all, fmt.Sprintf("c%d", i))
	}
	return all
}

// TestCutOffController: whatever a controller has not seen while it, or the server, was cut off or asleep, for however long, it takes
// no cluster for lost before clusters have had time to report again.
func TestCutOffController(t *testing.T) {
	w := reporting(t, 4)
	w.sleep(time.Hour)
	w.pass() // the informers show what they showed an hour ago
	w.onFirst(40)
	if got := w.clusterCondition("c0", "Ready"); !strings.HasPrefix(got, "Unknown HeartbeatMissed") {
		t.Errorf("after an hour without news: %s", got)
	}
	w.silence(50*time.Second, "c1") // one agent comes back first
	w.onFirst(40)
	w.silence(time.Minute, names(4)...)
	w.onFirst(40)
	if got := w.clusterCondition("c0", "Ready"); got != "True" {
		t.Errorf("it reports again: %s", got)
	}

	// It sees heartbeats late, and cannot read them: nothing is written, nothing moves.
	w.leaseErr = errors.New("the network is cut")
	for range 3 {
		w.sleep(10 * time.Minute)
		w.workspace.reconcile(t.Context(), w.cacheView)
	}
	w.onFirst(40)
}

// TestFlappingCluster: one that is up and down every few seconds moves nothing, however long that goes on, whether it says so itself
// or falls silent.
func TestFlappingCluster(t *testing.T) {
	w := reporting(t, 2)
	for i := range 200 {
		w.sleep(5 * time.Second)
		w.reports("c0", "40", nil)
		w.reports("c1", "40", nil)
		if i%2 == 0 {
			w.change("c0", func(c *v1alpha1.ClusterRegistration) {
				c.Status.Conditions[0].Status, c.Status.Conditions[0].Reason = corev1.ConditionFalse, "Flapping"
			})
		}
		w.pass()
	}
	w.onFirst(40)
	for range 6 {
		w.silence(2*time.Minute, "c1")
		w.silence(20*time.Second, "c0", "c1")
	}
	w.onFirst(40)
}

// TestFailoverInOrder: by priority first, then the largest, by the share of what is left that they ask for, before new ones of the
// same priority.
func TestFailoverInOrder(t *testing.T) {
	w := newWorld(t)
	urgent := testPlacement(one)
	urgent.Name, urgent.UID, urgent.Spec.Priority = "urgent", "urgent", 10
	urgent.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"urgent": "yes"}}
	w.placements = []*v1alpha1.WorkloadPlacement{urgent, testPlacement(one)}
	w.placements[1].CreationTimestamp = metav1.NewTime(w.clock)
	w.reports("a", "11", nil)
	tiny := testWorkload("z urgent", 1000)
	tiny.workload.Labels = map[string]string{"urgent": "yes"}
	w.workloads = []*workloadObject{testWorkload("a small", 1000), testWorkload("b middle", 2000), testWorkload("c large", 3000), testWorkload("d larger", 4000), tiny}
	w.pass()
	w.show()
	if placed := len(w.where()); placed != 5 {
		t.Fatalf("%d are placed: %v", placed, w.where())
	}
	for lost := w.clock.Add(5 * time.Minute); !w.clock.After(lost); w.sleep(10 * time.Second) {
		w.reports("b", "8", nil)
		if w.clock.Equal(lost) {
			w.workloads = append([]*workloadObject{testWorkload("0 is new", 7000)}, w.workloads...)
		}
		w.pass()
		w.show()
	}
	w.expect(map[string]string{"z urgent": "b", "d larger": "b", "c large": "b"})
}
