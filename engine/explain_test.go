package engine_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestObstacles: the obstacles of a rejected cluster are complete, each with the change that would remove it.
func TestObstacles(t *testing.T) {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := policies.Compile(map[string]string{"a.rego": `package placement.affinity
terms contains {"factor": "location", "required": true, "reason": "residency", "match": {
	"location": "eu", "capability": "ssd", "labelSelector": {"matchExpressions": [
		{"key": "region", "operator": "In", "values": ["eu", "uk"]},
		{"key": "phase", "operator": "DoesNotExist"},
		{"key": "owner", "operator": "Exists"},
	]}}}`})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, engine.Options{Policies: policies})
	e.SetPolicies(ws, set)
	e.SetCluster(ws, &snapshot.Cluster{
		Name: "worst", Location: "us", Invalid: "status.allocatable.cpu: -1 is negative",
		Labels: map[string]string{"tier": "silver", "phase": "trial"}, Taints: []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}, {Key: "b", Value: "c", Effect: corev1.TaintEffectNoExecute}},
		Allocatable: capacity.Resources{CPU: 1000, Memory: 1 << 30},
	})
	e.SetCluster(ws, cluster("best", 100_000, func(c *snapshot.Cluster) {
		c.Labels = map[string]string{"tier": "gold", "region": "uk", "owner": "x"}
		c.Allocatable.Memory = 1 << 40
		c.Capabilities = []snapshot.Capability{{Type: "gpu", Available: true}, {Type: "ssd", Available: true}}
	}))
	placement := compile(t, e, v1alpha1.WorkloadPlacementSpec{
		LocationSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"location": "eu"}},
		ClusterSelector:        &v1alpha1.ClusterSelector{ClusterNames: []string{"best"}, LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "phase", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"trial"}}}}},
		CapabilityRequirements: []v1alpha1.CapabilityRequirement{{Type: "gpu", Required: true}},
		Constraints: []v1alpha1.Constraint{
			{Name: "gold", Expression: `cluster.labels.tier == "gold" && capacity.free.cpu >= 4000`, Message: "gold only"},
			{Name: "zone", Expression: `cluster.labels.?zone.orValue("a") == "a"`},
		},
	})
	decision, err := e.Explain(t.Context(), engine.Request{Workspace: ws, Placement: placement, Workload: &workload.Workload{
		Reference: workload.Reference{Kind: "Deployment", Namespace: "default", Name: "web"}, Replicas: 1,
		Requests: capacity.Resources{CPU: 3000, Memory: 1 << 31},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range decision.Obstacles("worst") {
		got = append(got, fmt.Sprintf("%s %s %s: %s", o.Stage, o.Constraint, o.Expression, o.Remedy))
	}
	want := `Registration  : a registration without this error
Ready  : Ready to be True
Location  : location=eu
ClusterSelector  : label phase none of trial and its name in the placement's clusterSelector.clusterNames
Taint  : a toleration of taint a:NoSchedule in the placement
Taint  : a toleration of taint b=c:NoExecute in the placement
Capability  : capability gpu available
Constraint gold cluster.labels.tier == "gold": label tier=gold
Constraint gold capacity.free.cpu >= 4000: 3 more cpu free
Capacity  : 2 more cpu free and 1Gi more memory free
Policy  : location=eu and label owner and no label phase and label region one of eu, uk and capability ssd available`
	if joined := strings.Join(got, "\n"); joined != want {
		t.Errorf("got\n%s\nwant\n%s", joined, want)
	}
	for _, name := range []string{"best", "nowhere"} {
		if o := decision.Obstacles(name); len(o) > 0 {
			t.Errorf("obstacles of %s: %v", name, o)
		}
	}
}

// TestFactors: every factor of a score is explained with the formula or the terms behind it.
func TestFactors(t *testing.T) {
	e := newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("a", 10_000, func(c *snapshot.Cluster) { c.Allocated.CPU = 2000 }))
	decision, err := e.Explain(t.Context(), engine.Request{Workspace: ws, Placement: compile(t, e, v1alpha1.WorkloadPlacementSpec{}), Workload: &workload.Workload{
		Annotations: map[string]string{"tmc.kcp.io/preferred-cluster": "a", "tmc.kcp.io/preferred-location": "us"},
		Requests:    capacity.Resources{CPU: 2000},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range decision.Factors("a") {
		got = append(got, fmt.Sprintf("%s %d x%d: %s", f.Factor, f.Score, f.Weight, f.Because))
	}
	want := `capacity 80 x30: mean of cpu 60 (8 free for 2) and memory 100 (not asked for)
health 100 x30: Ready is True
performance 100 x20: mean of cpu 20% and memory 0% in use
affinity 100 x10: 50 +50 (match: the workload prefers a cluster by tmc.kcp.io/preferred-cluster)
location 30 x10: 50 -20 (no match: the workload prefers a location by tmc.kcp.io/preferred-location)`
	if joined := strings.Join(got, "\n"); joined != want {
		t.Errorf("got\n%s\nwant\n%s", joined, want)
	}
	if got := decision.Factors("nowhere"); got != nil {
		t.Error(got)
	}
}
