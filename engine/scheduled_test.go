package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestPoliciesSchedule: scheduling by policies counts as if the author of the placement had written it there, in every answer of
// the engine, as far as the placement does not set it and its strategy allows it.
func TestPoliciesSchedule(t *testing.T) {
	policies := compilePolicies(t).compiler
	rapid.Check(t, func(t *rapid.T) {
		said, asked := drawScheduling(t), v1alpha1.WorkloadPlacementSpec{}
		if own := drawScheduling(t); oneIn(t, "the placement says something", 2) {
			asked.NumberOfClusters, asked.SpreadConstraints, asked.ReplicaScheduling = own.NumberOfClusters, own.SpreadConstraints, own.ReplicaScheduling
		}
		asked.Strategy.Type = draw(t, "strategy", v1alpha1.StrategySpread, v1alpha1.StrategySpread, v1alpha1.StrategyBinPack, v1alpha1.StrategyAffinity)
		if oneCluster(asked) {
			asked.NumberOfClusters, asked.ReplicaScheduling = nil, nil
		}
		if oneIn(t, "fallback", 4) {
			asked.Fallback = []v1alpha1.ClusterGroup{{Name: "x", ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{"a", "b", "c"}}}, {Name: "y"}}
		}
		// The placement as its author would have had to write it.
		written := asked
		if s := said.Strategy.Type; s != "" && asked.Strategy.Type == v1alpha1.StrategySpread {
			written.Strategy = said.Strategy
			several := asked.NumberOfClusters != nil && *asked.NumberOfClusters != intstr.FromInt32(1)
			if divides := asked.ReplicaScheduling != nil && asked.ReplicaScheduling.Type == v1alpha1.ReplicasDivided; oneCluster(written) && (several || divides) {
				written.Strategy = asked.Strategy
			}
		}
		single := oneCluster(written)
		written.WorkloadAffinity = said.WorkloadAffinity
		asked.Tolerations = drawTolerations(t)
		written.Tolerations = slices.Concat(asked.Tolerations, said.Tolerations)
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
			w.Labels = map[string]string{"app": w.Name}
			now := time.Unix(draw[int64](t, "now", 2, 100, 1000), 0)
			by.change(t, now)
			as.change(t, now)
			if got, want := strings.ReplaceAll(by.ask(t, w), "scheduling.workloadAffinity", "workloadAffinity"), as.ask(t, w); got != want {
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
	if oneIn(t, "strategy", 3) {
		s.Strategy.Type = draw(t, "strategy", v1alpha1.StrategySpread, v1alpha1.StrategyBinPack, v1alpha1.StrategyWeighted, v1alpha1.StrategyRoundRobin, v1alpha1.StrategyAffinity)
		if oneCluster(v1alpha1.WorkloadPlacementSpec{Strategy: s.Strategy}) {
			s.NumberOfClusters, s.MinClusters = draw(t, "one", nil, ptr.To(intstr.FromInt32(1))), 0
		}
	}
	for range below(t, "terms", 3) {
		s.WorkloadAffinity = append(s.WorkloadAffinity, v1alpha1.WorkloadAffinityTerm{
			Type: draw(t, "type", v1alpha1.WorkloadsAttract, v1alpha1.WorkloadsRepel), Required: oneIn(t, "required", 2), TopologyKey: draw(t, "key", "", "location"),
			LabelSelector: draw(t, "selector", &metav1.LabelSelector{}, selects("app", metav1.LabelSelectorOpIn, "v")), Weight: draw[int32](t, "weight", 0, 50),
		})
	}
	s.Tolerations = drawTolerations(t)
	if oneIn(t, "replicas", 2) && !oneCluster(v1alpha1.WorkloadPlacementSpec{Strategy: s.Strategy}) {
		s.ReplicaScheduling = draw(t, "replicas", &v1alpha1.ReplicaScheduling{}, &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDuplicated},
			&v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided}, &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideOverflow, Partial: true},
			&v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideFreeCapacity, MinPerCluster: 2})
	}
	return s
}

func drawTolerations(t *rapid.T) (all []corev1.Toleration) {
	for range below(t, "tolerations", 3) {
		all = append(all, draw(t, "toleration", corev1.Toleration{Operator: corev1.TolerationOpExists}, corev1.Toleration{Key: "maintenance"},
			corev1.Toleration{Key: "maintenance", Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](60)},
			corev1.Toleration{Key: v1alpha1.TaintNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](600)},
			corev1.Toleration{Key: v1alpha1.TaintNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](1)}))
	}
	return all
}

func oneCluster(spec v1alpha1.WorkloadPlacementSpec) bool {
	return spec.Strategy.Type == v1alpha1.StrategyAffinity || spec.Strategy.Type == v1alpha1.StrategyRoundRobin
}

// scheduledWorld is an engine with one placement, and the last decision for each workload.
type scheduledWorld struct {
	engine    *engine.Engine
	placement *placement.Placement
	last      map[string]*engine.Decision
	now       time.Time
}

// change sets the time to a while after a cluster was tainted, and another became not ready.
func (w *scheduledWorld) change(t *rapid.T, now time.Time) {
	w.now = now
	since := metav1.NewTime(time.Unix(1, 0))
	for _, c := range w.engine.Snapshot("ws").Rows() {
		changed := *c.Cluster
		switch c.Name {
		case "b":
			changed.Taints = []corev1.Taint{{Key: "maintenance", Effect: corev1.TaintEffectNoExecute, TimeAdded: &since}}
		case "c":
			changed.Conditions = []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "False"}}
			changed.NotReadySince = since.Time
		default:
			continue
		}
		if len(w.last) == 0 {
			continue // what comes to run there is put there before
		}
		if _, err := w.engine.SetCluster("ws", &changed); err != nil {
			t.Fatal(err)
		}
	}
}

func newScheduledWorld(t rapid.TB, set *policy.Set, spec v1alpha1.WorkloadPlacementSpec) *scheduledWorld {
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
	return &scheduledWorld{e, p, map[string]*engine.Decision{}, time.Time{}}
}

// ask asks about a workload in every way, and decides for it.
func (w *scheduledWorld) ask(t *rapid.T, of *workload.Workload) (answers string) {
	r, ctx := engine.Request{Workspace: "ws", Placement: w.placement, Workload: of, Now: w.now}, context.Background()
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
		answers += fmt.Sprintf(": %v of %d, %d wait, group %q, left %v, standing %v, %s\n", d.Clusters, d.Asked, d.Waiting, d.Group, d.Left, d.Retained, d.Summary())
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

// TestBetterGroupAsPoliciesSchedule: a workload does not return to a group that has no place for it as the policies schedule
// it.
func TestBetterGroupAsPoliciesSchedule(t *testing.T) {
	policies := compilePolicies(t).compiler
	for _, test := range []struct{ rego, want string }{
		{`{"numberOfClusters": 1}`, "x"},
		{`{"workloadAffinity": [{"type": "Attract", "labelSelector": {"matchLabels": {"app": "db"}}, "required": true}]}`, ""},
	} {
		t.Run(test.rego, func(t *testing.T) {
			set, err := policies.Compile(map[string]string{"a.rego": "package placement\nscheduling := " + test.rego})
			if err != nil {
				t.Fatal(err)
			}
			w := newScheduledWorld(t, set, v1alpha1.WorkloadPlacementSpec{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategySpread}, Fallback: []v1alpha1.ClusterGroup{
				{Name: "x", LocationSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"location": "y"}}, ReturnAfter: &metav1.Duration{Duration: 1}}, {Name: "any"},
			}})
			got, err := w.engine.BetterGroup(context.Background(), engine.Request{
				Workspace: "ws", Placement: w.placement, Workload: benchWorkload("w", 0, 0), Current: []engine.Choice{{Name: "a"}}, Group: "any",
			})
			if err != nil || got != test.want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
