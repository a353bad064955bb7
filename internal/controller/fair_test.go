package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestTurnsOfTeams: red has all, and gives up one workload after the other. What becomes free goes to the team with the lowest share,
// whichever pass comes first, though all teams want it: not to red itself, until no other has less. Of equals red is first, which has come to
// stand in line before the others.
func TestTurnsOfTeams(t *testing.T) {
	e := newEstate(t, []string{"eu-1", "eu-2"}, map[string]string{"red": "8", "green": "8", "blue": "8"})
	e.deploy("red", 0, 8, 1000)
	e.settle()
	for _, team := range []string{"red", "green", "blue"} {
		e.deploy(team, 8, 16, 1000)
	}
	e.settle()
	for red := int64(7); red > 0; red-- {
		e.now = e.now.Add(time.Minute)
		e.delete("red", slices.Min(slices.Collect(maps.Keys(e.where("red")))))
		e.settle()
		_, to := e.promised()
		others := 8 - max(red, 3)
		if to["red"] != 1000*max(red, 3) || max(to["green"], to["blue"]) != (others+1)/2*1000 || min(to["green"], to["blue"]) != others/2*1000 {
			t.Errorf("red has given up %d: promised %v", 8-red, to)
		}
	}
}

// TestTurnsBehindWhatNeverFits: what red wants first is larger than any cluster, and of many kinds. What it wants beside that has its turn all the
// same: green, which has all, gets nothing of what becomes free before it.
func TestTurnsBehindWhatNeverFits(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "80", "green": "80"})
	e.deploy("green", 0, 4, 1000)
	e.settle()
	e.deploy("green", 4, 8, 1000)
	for kind := range 3 {
		e.deploy("red", 10*kind, 10*(kind+1), 5000+kind)
	}
	e.settle()
	e.now = e.now.Add(time.Minute)
	e.deploy("red", 90, 91, 1000)
	e.settle()
	e.now = e.now.Add(time.Minute)
	e.delete("green", slices.Min(slices.Collect(maps.Keys(e.where("green")))))
	e.settle()
	if where := e.where("red"); where["web-90"] != "eu-1" {
		t.Errorf("red is on %v, green on %v", where, e.where("green"))
	}
}

// TestGuaranteedIsGivenBack: green has borrowed all. What red is guaranteed it gets back as far as green's placement lets it be reclaimed, as
// fast as green's disruption budget allows, and no more: what stays stays, and green is not told for whom.
func TestGuaranteedIsGivenBack(t *testing.T) {
	for _, reclaimable := range []bool{true, false} {
		e := newEstate(t, []string{"eu-1", "eu-2"}, map[string]string{"red": "8", "green": "8"})
		e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: shared}, spec: {clusterSelector: {labelSelector: {matchLabels: {set: shared}}},
			grants: [{name: red, workspace: {cluster: red}, guaranteed: {cpu: "3"}}, {name: green, workspace: {cluster: green}, guaranteed: {cpu: "4"}}]}}`)
		e.put("green", fmt.Sprintf(`{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default},
			spec: {workloadSelector: {}, numberOfClusters: 1, preemption: {reclaimable: %t}}}`, reclaimable))
		e.deploy("green", 0, 8, 1000)
		e.settle()
		e.deploy("red", 0, 6, 1000)
		e.settle()
		for range 30 {
			e.later(time.Minute)
		}
		on, to := e.promised()
		want := map[bool]int64{true: 3000, false: 0}[reclaimable]
		if to["red"] != want || to["green"] != 8000-want || on["eu-1"]+on["eu-2"] != 8000 {
			t.Errorf("reclaimable %t: promised to %v on %v", reclaimable, to, on)
		}
		if happened := e.happened("green", string(v1alpha1.ChangePreempted)); happened != reclaimable {
			t.Errorf("reclaimable %t: told: %t", reclaimable, happened)
		}
		for _, event := range e.in("green").Events() {
			if strings.Contains(event.Message, "red") {
				t.Errorf("green is told of red: %s", event.Message)
			}
		}
	}
}

// TestGatheringBesideOneThatShouldLeave: a workload that has waited too long has a cluster gather room for it, though another one of its
// workspace, that has a place and should leave it, stands in line. While that one was in line, it was not: a cluster gathered room only while
// the disruption budget kept the other one from going, which was in line again as soon as it did. So passes were made without end.
func TestGatheringBesideOneThatShouldLeave(t *testing.T) {
	e := newEstate(t, []string{"a"}, map[string]string{"red": "100", "green": "100"})
	spent := func(after time.Duration) {
		e.now = e.now.Add(after)
		for range 10 {
			e.in("red").workspace.brake.Disrupted(e.now)
		}
		e.later(0)
	}
	e.deploy("red", 0, 1, 500)
	e.settle()
	e.register("a", "other")
	spent(0)
	e.deploy("red", 0, 1, 600) // it asks for more, so others may come first where it goes
	e.register("c", "shared")
	e.deploy("green", 0, 1, 3000)
	e.settle()
	e.deploy("red", 1, 2, 3500)
	e.settle()
	spent(2 * engine.DefaultGatherAfter)
	e.deploy("green", 1, 2, 250)
	e.settle()
	if red, green := e.where("red"), e.where("green"); red["web-0"] != "a" || red["web-1"] != "" || green["web-0"] != "c" || green["web-1"] != "" {
		t.Fatalf("red %v, green %v", red, green)
	}

	e.later(time.Minute) // it may go now, and the other one comes first
	e.delete("green", "web-0")
	e.settle()
	if red, green := e.where("red"), e.where("green"); red["web-0"] != "a" || red["web-1"] != "c" || green["web-1"] != "c" {
		t.Fatalf("red %v, green %v", red, green)
	}
}

// TestWhatIsNotWrittenIsNotGivenBack: green's workload is to move off a cluster that has left the set, and that cannot be written. Red reclaims
// the cluster that it is to move to. The workload runs where it is as long as nothing else is written: it gives back only what it has.
func TestWhatIsNotWrittenIsNotGivenBack(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "8", "green": "8"})
	e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: shared}, spec: {clusterSelector: {labelSelector: {matchLabels: {set: shared}}},
		grants: [{name: red, workspace: {cluster: red}, guaranteed: {cpu: "4"}}, {name: green, workspace: {cluster: green}}]}}`)
	e.put("green", `{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default},
		spec: {workloadSelector: {}, numberOfClusters: 1, preemption: {reclaimable: true}}}`)
	e.deploy("green", 0, 1, 3000)
	e.settle()
	e.register("eu-2", "shared")
	e.settle()
	e.register("eu-1", "none")
	green, refused := e.in("green"), true
	write := green.workspace.writeDecision
	green.workspace.writeDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
		if refused {
			return nil, apierrors.NewForbidden(schema.GroupResource{}, "p-0", errors.New("not now"))
		}
		return write(ctx, d)
	}
	pass := func() {
		e.now = e.now.Add(time.Minute)
		for _, l := range e.platform.workspaces {
			_, _, _ = l.Pass(context.Background())
		}
	}
	for range 3 {
		pass()
	}
	e.deploy("red", 0, 1, 4000)
	for range 5 {
		pass()
		if where, _, _ := green.workspace.store.get(workloadKey{"apps/v1", "Deployment", "default", "web-0"}); len(where.Clusters) == 0 {
			t.Fatal("what runs on eu-1 has lost its place, and another one has never been written")
		}
	}
	refused = false
	for range 30 {
		e.later(time.Minute)
	}
	if red := e.where("red"); red["web-0"] != "eu-2" {
		t.Errorf("once it is written, red is on %v", red)
	}
}

// TestWhatMayBeReclaimedFromNowOn: red is guaranteed what green has borrowed, and waits. As soon as green's placement lets that be reclaimed, it is.
func TestWhatMayBeReclaimedFromNowOn(t *testing.T) {
	e := newEstate(t, []string{"eu-1"}, map[string]string{"red": "8", "green": "8"})
	e.put("platform", `{apiVersion: tmc.kcp.io/v1alpha1, kind: ClusterSet, metadata: {name: shared}, spec: {clusterSelector: {labelSelector: {matchLabels: {set: shared}}},
		grants: [{name: red, workspace: {cluster: red}, guaranteed: {cpu: "4"}}, {name: green, workspace: {cluster: green}}]}}`)
	e.deploy("green", 0, 1, 4000)
	e.settle()
	e.later(time.Hour)
	e.deploy("red", 0, 1, 4000)
	e.settle()
	e.put("green", `{apiVersion: tmc.kcp.io/v1alpha1, kind: WorkloadPlacement, metadata: {name: p, namespace: default},
		spec: {workloadSelector: {}, numberOfClusters: 1, preemption: {reclaimable: true}}}`)
	e.settle()
	if where := e.where("red")["web-0"]; where != "eu-1" {
		t.Errorf("red is on %q", where)
	}
}
