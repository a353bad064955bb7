package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestRehearsalComesTrue: a rehearsal decides for a loss what is decided when the loss happens, cluster by cluster and replica by
// replica, and until then nothing has changed.
func TestRehearsalComesTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := engine.New(engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		fleet := map[string]*snapshot.Cluster{}
		names := []string{"a", "b", "c", "d", "e"}
		for _, name := range names {
			c := cluster(name, rapid.Int64Range(0, 12).Draw(t, name)*1000)
			c.Location = rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "location")
			fleet[name] = c
			e.SetCluster(ws, c)
		}
		var placements []*placement.Placement
		for _, spec := range []v1alpha1.WorkloadPlacementSpec{
			{NumberOfClusters: ptr.To(intstr.FromInt32(1))},
			{NumberOfClusters: ptr.To(intstr.FromInt32(2)), SpreadConstraints: []v1alpha1.SpreadConstraint{{TopologyKey: "location", WhenUnsatisfiable: "DoNotSchedule"}}},
			{NumberOfClusters: ptr.To(intstr.FromInt32(3)), ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideEven}},
			{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategyRoundRobin}},
		} {
			object := &v1alpha1.WorkloadPlacement{Spec: spec}
			object.Namespace, object.Name = "default", fmt.Sprintf("p%d", len(placements))
			compiled, err := e.CompilePlacement(object)
			if err != nil {
				t.Fatal(err)
			}
			placements = append(placements, compiled)
		}
		decide := func(by func(engine.Request) (*engine.Decision, error), r engine.Request) *engine.Decision {
			d, err := by(r)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		real := func(r engine.Request) (*engine.Decision, error) { return e.Decide(t.Context(), r) }
		var requests []engine.Request
		for i := range rapid.IntRange(1, 12).Draw(t, "workloads") {
			name := fmt.Sprintf("w%d", i)
			w := &workload.Workload{
				Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: name, UID: name}, Divisible: true,
				Replicas: 2, Pod: capacity.Resources{CPU: rapid.Int64Range(0, 3).Draw(t, "cpu") * 500},
			}
			w.Requests = capacity.Resources{CPU: 2 * w.Pod.CPU}
			r := engine.Request{Workspace: ws, Placement: rapid.SampledFrom(placements).Draw(t, "placement"), Workload: w}
			if d := decide(real, r); len(d.Clusters) > 0 {
				r.Current, r.Group = d.Clusters, d.Group
				requests = append(requests, r)
			}
		}
		lost := rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(t, "lost")
		requests = slices.DeleteFunc(requests, func(r engine.Request) bool {
			return !slices.ContainsFunc(r.Current, func(c engine.Choice) bool { return slices.Contains(lost, c.Name) })
		})
		before := e.Revision(ws)
		rehearsal := e.Rehearse(ws, lost)
		var foreseen []string
		for _, r := range requests {
			foreseen = append(foreseen, describe(decide(func(r engine.Request) (*engine.Decision, error) { return rehearsal.Decide(t.Context(), r) }, r)))
		}
		if after := e.Revision(ws); after != before {
			t.Fatalf("the rehearsal has changed the workspace: revision %d, before %d", after, before)
		}
		for _, name := range lost {
			c := *fleet[name]
			c.Conditions = []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "False", Reason: v1alpha1.ClusterLostReason}}
			e.SetCluster(ws, &c)
		}
		for i, r := range requests {
			if got := describe(decide(real, r)); got != foreseen[i] {
				t.Errorf("%s, when %v are lost:\n%s\nforeseen:\n%s", r.Workload, lost, got, foreseen[i])
			}
		}
	})
}
