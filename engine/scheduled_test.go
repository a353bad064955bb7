package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestPoliciesSchedule: what policies say of scheduling counts as if the author of the placement had written it there, in all that
// the engine answers, as far as the placement says nothing of it and its strategy allows it.
func TestPoliciesSchedule(t *testing.T) {
	policies := compilePolicies(t).compiler
	rapid.Check(t, func(t *rapid.T) {
		said, asked := drawScheduling(t), v1alpha1.WorkloadPlacementSpec{}
		if own := drawScheduling(t); oneIn(t, "the placement says something", 2) {
			asked.NumberOfClusters, asked.SpreadConstraints, asked.ReplicaScheduling = own.NumberOfClusters, own.SpreadConstraints, own.ReplicaScheduling
		}
		asked.Strategy.Type = draw(t, "strategy", v1alpha1.StrategySpread, v1alpha1.StrategySpread, v1alpha1.StrategyBinPack, v1alpha1.StrategyAffinity)
		single := asked.Strategy.Type == v1alpha1.StrategyAffinity
		if single {
			asked.NumberOfClusters, asked.ReplicaScheduling = nil, nil
		}
		if oneIn(t, "fallback", 4) {
			asked.Fallback = []v1alpha1.ClusterGroup{{Name: "x", ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"a", "b", "c"}}}, {Name: "y"}}
		}
		// The placement as its author would have had to write it.
		written := asked
		if written.NumberOfClusters == nil && !single {
			written.NumberOfClusters = said.NumberOfClusters
		}
		if len(written.SpreadConstraints) == 0 {
			written.SpreadConstraints = said.SpreadConstraints
		}
		if written.ReplicaScheduling == nil && !single {
			written.ReplicaScheduling = said.ReplicaScheduling
		}
		number := int32(3)
		switch n := written.NumberOfClusters; {
		case single:
			number = 1
		case n != nil && n.Type == intstr.String:
			number = v1alpha1.MaxClusters
		case n != nil:
			number = n.IntVal
		}
		if said.MinClusters <= number {
			written.MinClusters = said.MinClusters
		}

		text, err := json.Marshal(said)
		if err != nil {
			t.Fatal(err)
		}
		set, err := policies.Compile(map[string]string{"a.rego": "package placement\nscheduling := " + string(text) + " if input.workload.name != \"other\""})
		if err != nil {
			t.Fatal(err)
		}
		unlike, err := policies.Compile(map[string]string{"a.rego": "package placement\nscheduling := {\"minClusters\": 1} if input.workload.name == \"nobody\""})
		if err != nil {
			t.Fatal(err)
		}
		by, as := newScheduledWorld(t, set, asked), newScheduledWorld(t, unlike, written)
		for range 3 {
			w := &workload.Workload{
				Reference: workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: draw(t, "workload", "v", "w"), UID: "uid"},
				Replicas:  rapid.Int64Range(0, 9).Draw(t, "replicas"), Divisible: true,
			}
			w.Pod = capacity.Resources{CPU: 1}
			w.Requests = capacity.Resources{CPU: w.Replicas}
			if got, want := by.ask(t, w), as.ask(t, w); got != want {
				t.Fatalf("policies say %s, and the placement %+v\n%s\nwhere the placement says it all\n%s", text, asked, got, want)
			}
		}
	})
}

func drawScheduling(t *rapid.T) (s placement.SchedulingSpec) {
	if oneIn(t, "number", 2) {
		n := draw(t, "clusters", intstr.FromInt32(1), intstr.FromInt32(2), intstr.FromInt32(4), intstr.FromString("All"))
		s.NumberOfClusters = &n
	}
	s.MinClusters = draw[int32](t, "least", 0, 0, 1)
	if s.NumberOfClusters == nil || *s.NumberOfClusters != intstr.FromInt32(1) {
		s.MinClusters = draw[int32](t, "least", 0, 1, 2)
	}
	if oneIn(t, "spread", 2) {
		s.SpreadConstraints = []v1alpha1.SpreadConstraint{{
			TopologyKey: draw(t, "key", "location", "cluster"), MaxSkew: draw[int32](t, "skew", 1, 2),
			WhenUnsatisfiable: draw(t, "unsatisfiable", corev1.DoNotSchedule, corev1.ScheduleAnyway), Scope: draw(t, "scope", v1alpha1.SpreadClusters, v1alpha1.SpreadWorkloads),
		}}
	}
	if oneIn(t, "replicas", 2) {
		s.ReplicaScheduling = draw(t, "replicas", &v1alpha1.ReplicaScheduling{}, &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDuplicated},
			&v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided}, &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideOverflow, Partial: true},
			&v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideFreeCapacity, MinPerCluster: 2})
	}
	return s
}

// scheduledWorld is an engine with one placement, and what was decided last for each workload.
type scheduledWorld struct {
	engine    *engine.Engine
	placement *placement.Placement
	last      map[string]*engine.Decision
}

func newScheduledWorld(t *rapid.T, set *policy.Set, spec v1alpha1.WorkloadPlacementSpec) *scheduledWorld {
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e.SetPolicies("ws", set)
	for i, name := range []string{"a", "b", "c", "d"} {
		if _, err := e.SetCluster("ws", &snapshot.Cluster{
			Name: name, Location: string("xyyz"[i]), Allocatable: capacity.Resources{CPU: int64(3 + 2*i)},
			Conditions: []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	object := &v1alpha1.WorkloadPlacement{Spec: spec}
	object.Name, object.Namespace = "p", "default"
	p, err := e.CompilePlacement(object)
	if err != nil {
		t.Fatal(err)
	}
	return &scheduledWorld{e, p, map[string]*engine.Decision{}}
}

// ask asks about a workload in every way, and decides for it.
func (w *scheduledWorld) ask(t *rapid.T, of *workload.Workload) (answers string) {
	r, ctx := engine.Request{Workspace: "ws", Placement: w.placement, Workload: of}, context.Background()
	say := func(what string, d *engine.Decision, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if answers += what; d == nil {
			answers += ": nothing changes\n"
			return
		}
		if d.InputsDigest != w.engine.InputsDigest(r) {
			t.Fatalf("%s: the inputs of the decision are not those of the request", what)
		}
		answers += fmt.Sprintf(": %v of %d, %d wait, group %q, left %v, standing %v, %s\n", d.Clusters, d.Asked, d.Waiting, d.Group, d.Left, d.Standing, d.Summary())
	}
	feasible, err := w.engine.Feasible(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	answers += fmt.Sprintf("feasible: %v\n", feasible)
	if last := w.last[of.Name]; last != nil {
		r.Current, r.Group = last.Clusters, last.Group
		d, err := w.engine.Review(ctx, r)
		say("review", d, err)
	}
	d, err := w.engine.Explain(ctx, r)
	say("explain", d, err)
	if of.Replicas%2 == 0 {
		d, err = w.engine.Decide(ctx, r)
	} else {
		result := w.engine.DecideBatch(ctx, []engine.Request{r})[0]
		d, err = result.Decision, result.Err
	}
	say("decide", d, err)
	w.last[of.Name] = d
	return answers
}
