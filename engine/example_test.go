package engine_test

import (
	"context"
	"fmt"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// Two clusters, one constraint: where does the workload run, and why not elsewhere?
func Example() {
	e, err := engine.New(engine.Options{})
	if err != nil {
		panic(err)
	}
	for name, tier := range map[string]string{"frankfurt": "gold", "paris": "silver"} {
		if _, err := e.SetCluster("root:shop", &snapshot.Cluster{
			Name: name, Labels: map[string]string{"tier": tier},
			Conditions:  []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
			Allocatable: capacity.Resources{CPU: 16_000, Memory: 64 << 30},
		}); err != nil {
			panic(err)
		}
	}
	placement, err := e.CompilePlacement(&v1alpha1.WorkloadPlacement{Spec: v1alpha1.WorkloadPlacementSpec{
		Constraints: []v1alpha1.Constraint{{Name: "gold", Expression: `cluster.labels["tier"] == "gold"`}},
	}})
	if err != nil {
		panic(err)
	}
	decision, err := e.Decide(context.Background(), engine.Request{
		Workspace: "root:shop", Placement: placement,
		Workload: &workload.Workload{Reference: workload.Reference{Name: "web"}, Replicas: 2, Requests: capacity.Resources{CPU: 1000, Memory: 1 << 30}},
	})
	if err != nil {
		panic(err)
	}
	for _, v := range decision.Ranked() {
		if v.Rejection != nil {
			fmt.Println(v.Cluster, "rejected:", v.Rejection.Message)
		} else {
			fmt.Println(v.Cluster, "scores", v.Score.Total)
		}
	}
	// Output:
	// frankfurt scores 90
	// paris rejected: not true: cluster.labels["tier"] == "gold" (cluster.labels["tier"] = "silver")
}
