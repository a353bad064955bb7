package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
)

// TestReplicasWait: what has no room of a workload that may be placed in part waits, and the placement, the slice and an event say
// so until there is room for it.
func TestReplicasWait(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "5"), testCluster("b", "3")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{
		ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Partial: true},
	})}
	batch := testWorkload("batch", 0)
	batch.workload.Divisible, batch.workload.Replicas = true, 10
	batch.workload.Requests = capacity.Resources{CPU: 10_000}
	w.workloads = []*workloadObject{batch}
	told := func(where, scheduled string) {
		t.Helper()
		w.sleep(countsEvery + time.Second)
		w.pass()
		if got := w.condition(v1alpha1.ScheduledCondition); !strings.HasPrefix(got, scheduled) {
			t.Errorf("Scheduled is %s, want %s", got, scheduled)
		}
		var summaries []string
		for _, slice := range w.stored {
			summaries = append(summaries, slice.Summary)
		}
		if got := strings.Join(summaries, ""); got != where {
			t.Errorf("WHERE shows %s, want %s", got, where)
		}
	}
	told("batch: a x5, b x3 (2 replicas wait)",
		"False ReplicasWaiting: 2 replicas wait, of 1 of 1 workloads. Deployment default/batch: 2 replicas wait: 2 of 2 clusters are feasible; there is room for 8 of 10 replicas")
	if !slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, replicasWaiting) }) {
		t.Errorf("events: %v", w.events)
	}
	w.clusters[1] = testCluster("b", "4")
	told("batch: a x5, b x4 (1 replica waits)", "False ReplicasWaiting: 1 replica waits, of 1 of 1")
	w.clusters[1] = testCluster("b", "8")
	told("batch: b x5, a x5", "True")
}
