package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/disruption"
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

// TestPartOfAShareStays: where pods ask for more than a cluster has room for, those that fit stay and the others go elsewhere. Where
// these find no place, all stay as they are, and the placement says so until there is one.
func TestPartOfAShareStays(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "15"), testCluster("b", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{
		ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideAggregated},
	})}
	told := func(cpu int64, where, scheduled string) {
		t.Helper()
		batch := testWorkload("batch", 10*cpu)
		batch.workload.Divisible, batch.workload.Replicas = true, 10
		w.workloads = []*workloadObject{batch}
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
	told(1000, "batch: a x10", "True")
	told(2000, "batch: a x10", "False NoBetterPlace: ")
	w.clusters[1] = testCluster("b", "8")
	told(2000, "batch: a x7, b x3", "True")
	told(2000, "batch: a x7, b x3", "True")
	told(1000, "batch: a x7, b x3", "True")
}

// TestScalingIsNoDisruption: a cluster that has no replicas of a workload that was scaled down is left at once, however many
// workloads are scaled, and takes no turn from those that have to leave theirs.
func TestScalingIsNoDisruption(t *testing.T) {
	w := newWorld(t)
	w.workspace.brake.Budget = disruption.Default
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "100"), testCluster("b", "100")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(v1alpha1.WorkloadPlacementSpec{
		ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided},
	})}
	scale := func(replicas int64) {
		w.workloads = nil
		for i := range 40 {
			o := testWorkload(fmt.Sprintf("w%02d", i), 1000*replicas)
			o.workload.Divisible, o.workload.Replicas = true, replicas
			w.workloads = append(w.workloads, o)
		}
		w.pass()
	}
	on := func(clusters int) {
		t.Helper()
		for name, where := range w.where() {
			if got := len(strings.Split(where, ",")); got != clusters {
				t.Errorf("%s is on %s", name, where)
			}
		}
		if got := w.condition(v1alpha1.DisruptionAllowedCondition); got != "none" && !strings.HasPrefix(got, "True") {
			t.Errorf("DisruptionAllowed is %s", got)
		}
	}
	scale(2)
	on(2)
	w.sleep(disruption.Default.Interval)
	scale(1)
	on(1)
	w.taint("a", corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute})
	w.taint("b", corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute})
	w.pass()
	if got := 40 - len(w.where()); got != disruption.Default.Minimum {
		t.Errorf("%d have left, want those that the budget lets", got)
	}
}
