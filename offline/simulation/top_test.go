package simulation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/offline/simulation"
)

// queue lists the waiting workloads, in order.
func queue(top *simulation.Top) string {
	var lines []string
	for i := range top.Queue {
		lines = append(lines, top.Queue[i].Workload.Name+" "+top.Queue[i].WaitsFor)
	}
	return strings.Join(lines, "\n")
}

// TestTopOfQueue: what is placed in part waits, too; each has its position, what keeps it waiting, and a cluster that would have a place
// for it; since when, and when there is room, it is told by the controller.
func TestTopOfQueue(t *testing.T) {
	s, err := simulation.New(simulation.Options{Queue: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), read(t, cluster("a", "2"), `
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: p}
spec: {workloadSelector: {}, replicaScheduling: {type: Divided, partial: true}}
status:
  queue: [{workload: {apiVersion: apps/v1, kind: Deployment, name: large, uid: u2}, position: 2, since: "2026-01-01T00:00:00Z", reason: NoFeasibleCluster,
    estimate: {at: "2026-01-01T01:00:00Z"}}]
---`, strings.Replace(deployment("part", 1, "1"), "spec: {", "spec: {replicas: 3, ", 1), deployment("large", 2, "5"), `
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: p-1}
placementName: p
decisions:
  - {workload: {apiVersion: apps/v1, kind: Deployment, name: part, uid: u}, divided: true, clusters: [{name: a, replicas: 2}], waitingReplicas: 1, reserved: {cpu: "2"}, decidedAt: "2026-01-01T00:00:00Z"}
`)); err != nil {
		t.Fatal(err)
	}
	top, err := s.Top(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Queue) != 2 || top.Summary.Waiting != 2 {
		t.Fatalf("%d wait: %+v", top.Summary.Waiting, top.Queue)
	}
	part, large := top.Queue[0], top.Queue[1]
	if part.Position != 1 || part.WaitingReplicas != 1 || len(part.BlockedBy) == 0 || part.WouldFit == nil || part.WouldFit.Allocatable.Cpu().Value() != 1 {
		t.Errorf("%+v", part)
	}
	if large.Position != 2 || large.Since == nil || large.Estimate == nil || len(large.BlockedBy) != 1 || large.BlockedBy[0].Name != "a" || large.WouldFit.Allocatable.Cpu().Value() != 5 {
		t.Errorf("%+v", large)
	}
}

// TestTop: a workload with a decision does not wait; one that waits says what for, the same for each of a class.
func TestTop(t *testing.T) {
	s, err := simulation.New(simulation.Options{Queue: true})
	if err != nil {
		t.Fatal(err)
	}
	wrong := s.Load(t.Context(), read(t, cluster("a", "2"), placement("p", one),
		placement("wrong", one+", priority: 1, constraints: [{name: c, expression: nonsense}]"),
		deployment("placed", 1, "1"), deployment("gone", 1, "1", ", deletionTimestamp: \"2026-01-01T00:00:00Z\""),
		deployment("small", 2, "1"), deployment("large", 3, "3"), deployment("larger", 4, "3"),
		deployment("held", 5, "1", ", annotations: {tmc.kcp.io/placement: wrong}"), `
apiVersion: tmc.kcp.io/v1alpha1
kind: PlacementDecision
metadata: {name: p-1}
placementName: p
decisions:
  - {workload: {apiVersion: apps/v1, kind: Deployment, name: placed, uid: u}, clusters: [{name: a, replicas: 1, score: 7, reason: Poor}], reserved: {cpu: "1"}, decidedAt: "2026-01-01T00:00:00Z"}
  - {workload: {apiVersion: apps/v1, kind: Deployment, name: small, uid: u2}, reserved: {cpu: "1"}, decidedAt: "2026-01-01T00:00:00Z"}
`))
	if wrong == nil {
		t.Error("nothing is wrong")
	}
	top, err := s.Top(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := `held 2.yaml:2:91: WorkloadPlacement default/wrong: spec.constraints[0].expression: Invalid value: "nonsense": constraint "c": 1:1: undeclared reference to 'nonsense' (in container '')
small its turn: 1 of 1 clusters are feasible
large a: 2 more cpu free
larger a: 2 more cpu free`
	if got := queue(top); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if first := top.Queue[0]; first.Error == "" || first.Priority != 1 || first.CreationTimestamp.Second() != 5 {
		t.Errorf("%+v", first)
	}
	if got := fmt.Sprint(top.Summary, top.Clusters[0].Reserved["cpu"], top.Clusters[0].Free["cpu"]); got != "{1 0 4} 1000 1000" {
		t.Error(got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Top(ctx); err == nil {
		t.Error("it went on")
	}
}

// TestTopChangesNothing: Top places nothing and returns the same twice. What a run leaves unplaced waits for what a cluster
// lacks, in the order of the run.
func TestTopChangesNothing(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var objects []string
		for i := range rapid.IntRange(0, 3).Draw(r, "clusters") {
			objects = append(objects, cluster(fmt.Sprintf("c%d", i), fmt.Sprint(rapid.IntRange(0, 8).Draw(r, "cpu"))))
		}
		for i := range 2 {
			objects = append(objects, placement(fmt.Sprintf("p%d", i), fmt.Sprintf("%s, priority: %d", one, rapid.IntRange(-1, 1).Draw(r, "priority"))))
		}
		workloads := rapid.IntRange(0, 10).Draw(r, "workloads")
		for i := range workloads {
			owner := fmt.Sprintf(", annotations: {tmc.kcp.io/placement: p%d}", rapid.IntRange(0, 1).Draw(r, "owner"))
			objects = append(objects, deployment(fmt.Sprintf("w%d", i), rapid.IntRange(0, 3).Draw(r, "second"), fmt.Sprintf("%dm", rapid.IntRange(0, 4000).Draw(r, "request")), owner))
		}
		s, err := simulation.New(simulation.Options{Queue: true})
		if err != nil {
			r.Fatal(err)
		}
		if err := s.Load(t.Context(), read(t, strings.Join(objects, ""))); err != nil {
			r.Fatal(err)
		}
		observe := func() (*simulation.Top, string) {
			top, err := s.Top(t.Context())
			if err != nil {
				r.Fatal(err)
			}
			text, err := json.Marshal(top)
			if err != nil {
				r.Fatal(err)
			}
			return top, string(text)
		}
		top, first := observe()
		if _, second := observe(); first != second || len(top.Queue) != workloads {
			r.Errorf("%d wait\n%s\n%s", len(top.Queue), first, second)
		}
		result, err := s.Run(t.Context())
		if err != nil {
			r.Fatal(err)
		}
		var unplaced []string
		for i, d := range result.Decisions {
			if d.Workload != top.Queue[i].Workload {
				r.Errorf("%s is placed before %s", d.Workload, top.Queue[i].Workload)
			}
			if len(d.Clusters) == 0 {
				unplaced = append(unplaced, d.Workload.Name)
			}
		}
		top, _ = observe()
		var waiting []string
		for i := range top.Queue {
			waiting = append(waiting, top.Queue[i].Workload.Name)
			if strings.HasPrefix(top.Queue[i].WaitsFor, "its turn") {
				r.Errorf("%s waits for %s", top.Queue[i].Workload, top.Queue[i].WaitsFor)
			}
		}
		if fmt.Sprint(waiting) != fmt.Sprint(unplaced) {
			r.Errorf("%s wait, and not %s", waiting, unplaced)
		}
	})
}
