package filter_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/scoring"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestStages sends clusters through the chain that differ in one thing from a cluster that passes, and expects the
// violation, its words and its remedy. What is violated by a cluster where the workload runs already has a plus, or a minus if
// it has to leave.
func TestStages(t *testing.T) {
	spec := v1alpha1.WorkloadPlacementSpec{
		LocationSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"location": "eu"}},
		ClusterSelector:        &v1alpha1.ClusterSelector{ClusterNames: []string{"a"}, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}},
		CapabilityRequirements: []v1alpha1.CapabilityRequirement{{Type: "ssd", Required: true}, {Type: "gpu"}},
		Tolerations: []corev1.Toleration{
			{Key: "tolerated", Operator: corev1.TolerationOpExists},
			{Key: "drain", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](60)},
			{Key: "drain", Operator: corev1.TolerationOpExists}, // the first that matches counts
			{Key: "at-once", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](0)},
			{Key: "eons", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](math.MaxInt64)},
		},
		Constraints: []v1alpha1.Constraint{
			{Name: "zoned", Expression: `"zone" in cluster.labels`, Message: "zones only"},
			{Name: "roomy", Expression: `capacity.free.cpu >= 2 * workload.requests.cpu && capacity.utilization.memory < 90`},
		},
	}
	compiler, err := constraint.NewCompiler(constraint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := placement.Compile(&v1alpha1.WorkloadPlacement{Spec: spec}, compiler, anyStrategy)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := (&nodes.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}}).Of("spec", nil)
	if err != nil {
		t.Fatal(err)
	}
	asks, err := nodes.Of([]nodes.Pods{fast})
	if err != nil {
		t.Fatal(err)
	}
	class := filter.NewClass(p, &policy.Judgement{Terms: []scoring.Term{
		{Required: true, Reason: "residency", Match: scoring.Match{Capability: "ssd"}},
	}}, &workload.Workload{Nodes: asks, Replicas: 2, Requests: capacity.Resources{CPU: 2000, Extended: map[string]int64{"nvidia.com/gpu": 2}}}, &filter.Facts{})

	p.NotReadyDelay = 5 * time.Minute
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	tainted := func(key string, effect corev1.TaintEffect, ago time.Duration) func(*snapshot.Cluster) {
		added := metav1.NewTime(now.Add(-ago))
		return func(c *snapshot.Cluster) { c.Taints = []corev1.Taint{{Key: key, Effect: effect, TimeAdded: &added}} }
	}
	for name, test := range map[string]struct {
		change func(c *snapshot.Cluster)
		want   []string
	}{
		"it passes": {func(*snapshot.Cluster) {}, nil},
		"the registration cannot be used": {func(c *snapshot.Cluster) { c.Invalid = "a typo" }, []string{
			"Registration: the registration is not usable: a typo -> a registration without this error",
		}},
		"it is not ready": {func(c *snapshot.Cluster) { c.Conditions[0].Status, c.Conditions[0].Message = "False", "gone" }, []string{
			"+Ready: Ready is False: gone -> Ready to be True",
		}},
		"it has not been ready for as long as the delay": {func(c *snapshot.Cluster) {
			c.Conditions[0].Status, c.NotReadySince = "False", now.Add(-5*time.Minute)
		}, []string{"+Ready: Ready is False -> Ready to be True"}},
		"it has not been ready for less": {func(c *snapshot.Cluster) {
			c.Conditions[0].Status, c.NotReadySince = "False", now.Add(-5*time.Minute+1)
		}, []string{"Ready: Ready is False -> Ready to be True"}},
		"it is lost": {func(c *snapshot.Cluster) {
			c.Conditions[0].Status, c.Conditions[0].Reason, c.NotReadySince = "False", "ClusterLost", now
		}, []string{"-Ready: Ready is False: ClusterLost -> Ready to be True"}},
		"it is silent": {func(c *snapshot.Cluster) { c.Conditions[0].Status = "Unknown" }, []string{
			"Ready: Ready is Unknown -> Ready to be True",
		}},
		"it has no condition": {func(c *snapshot.Cluster) { c.Conditions = nil }, []string{
			"Ready: the cluster has not reported a Ready condition -> Ready to be True",
		}},
		"it is elsewhere": {func(c *snapshot.Cluster) { c.Location = "us" }, []string{
			`+Location: location "us" is not selected by locationSelector "location=eu" -> location=eu`,
		}},
		"it has another name and label": {func(c *snapshot.Cluster) { c.Name = "b"; c.Labels["tier"] = "silver" }, []string{
			"+ClusterSelector: not among clusterSelector.clusterNames -> label tier=gold and its name in the placement's clusterSelector.clusterNames",
		}},
		"it has taints": {func(c *snapshot.Cluster) {
			c.Taints = []corev1.Taint{
				{Key: "tolerated", Effect: "NoSchedule"}, {Key: "soft", Effect: "PreferNoSchedule"},
				{Key: "x", Effect: "NoSchedule"}, {Key: "y", Value: "z", Effect: "NoExecute"},
			}
		}, []string{
			"Taint: taint x:NoSchedule is not tolerated -> a toleration of taint x:NoSchedule in the placement",
			"-Taint: taint y=z:NoExecute is not tolerated -> a toleration of taint y=z:NoExecute in the placement",
		}},
		"a taint is tolerated for a minute": {tainted("drain", corev1.TaintEffectNoExecute, time.Minute-1), nil},
		"the minute is over": {tainted("drain", corev1.TaintEffectNoExecute, time.Minute), []string{
			"-Taint: taint drain:NoExecute was tolerated until 2026-11-26T12:00:00Z -> more tolerationSeconds for taint drain:NoExecute in the placement",
		}},
		"the minute is over that is none of NoSchedule": {tainted("drain", corev1.TaintEffectNoSchedule, time.Hour), nil},
		"the minute has begun at a time that is not known": {func(c *snapshot.Cluster) {
			c.Taints = []corev1.Taint{{Key: "drain", Effect: corev1.TaintEffectNoExecute}}
		}, nil},
		"a taint is tolerated for no time": {tainted("at-once", corev1.TaintEffectNoExecute, -time.Hour), []string{
			"-Taint: taint at-once:NoExecute is not tolerated -> a toleration of taint at-once:NoExecute in the placement",
		}},
		"a taint is tolerated for longer than a clock goes": {tainted("eons", corev1.TaintEffectNoExecute, time.Hour), nil},
		"an effect is none that Kubernetes knows": {tainted("x", "NoScheduling", time.Hour), []string{
			"Taint: taint x:NoScheduling is not tolerated -> a toleration of taint x:NoScheduling in the placement",
		}},
		"a capability is not available, one is not listed": {func(c *snapshot.Cluster) {
			c.Capabilities = []snapshot.Capability{{Type: "gpu"}}
		}, []string{
			`+Capability: capability "ssd" is required and not listed -> capability ssd available`,
			`+Capability: capability "gpu" is not available -> capability gpu available`,
			"+Policy: excluded by a required term: residency -> capability ssd available",
		}},
		"a constraint on facts does not hold": {func(c *snapshot.Cluster) { delete(c.Labels, "zone") }, []string{
			`+Constraint zoned: zones only: not true: "zone" in cluster.labels (cluster.labels["zone"] = absent) -> label zone`,
		}},
		"a constraint on capacity does not hold": {func(c *snapshot.Cluster) { c.Allocated.CPU = 7000 }, []string{
			"Constraint roomy: not true: capacity.free.cpu >= 2 * workload.requests.cpu (capacity.free.cpu = 3000, workload.requests.cpu = 2000) -> 1 more cpu free",
		}},
		"no node is what the pods select": {func(c *snapshot.Cluster) {
			c.Nodes = &nodes.Summary{Groups: []nodes.Group{{Labels: map[string]string{"disk": "hdd"}}}}
		}, []string{
			"Nodes: no node group has label disk=ssd (spec.nodeSelector) -> a node with label disk=ssd",
		}},
		"each node has a taint that the pods do not tolerate": {func(c *snapshot.Cluster) {
			c.Nodes = &nodes.Summary{Groups: []nodes.Group{{Labels: map[string]string{"disk": "ssd"}, Taints: []corev1.Taint{{Key: "a", Effect: "NoExecute"}}}}}
		}, []string{
			"Nodes: each node that the pods select has a taint that they do not tolerate: a:NoExecute (spec.tolerations) -> a toleration of taint a:NoExecute in the pod template",
		}},
		"a node is what the pods select": {func(c *snapshot.Cluster) {
			c.Nodes = &nodes.Summary{Groups: []nodes.Group{{}, {Labels: map[string]string{"disk": "ssd"}}}}
		}, nil},
		"an extended resource is missing": {func(c *snapshot.Cluster) { c.Allocatable.Extended = nil }, []string{
			"Capacity: asks for 2 nvidia.com/gpu, 0 free -> 2 more nvidia.com/gpu free",
		}},
		"no node is large enough": {func(c *snapshot.Cluster) {
			c.LargestFree = &capacity.Resources{CPU: 999, Extended: map[string]int64{"nvidia.com/gpu": 1}}
		}, []string{
			"Capacity: each replica asks for 1 cpu, 999m free on any one node -> 1m more cpu free on one node",
		}},
		"too little is free, and no node is large enough": {func(c *snapshot.Cluster) {
			c.Allocated.CPU = 9000
			c.LargestFree = &capacity.Resources{CPU: 999, Memory: 1 << 30, Extended: map[string]int64{"nvidia.com/gpu": 1}}
		}, []string{
			"Constraint roomy: not true: capacity.free.cpu >= 2 * workload.requests.cpu (capacity.free.cpu = 1000, workload.requests.cpu = 2000) -> 3 more cpu free",
			"Capacity: asks for 2 cpu, 1 free -> 1 more cpu free and 1m more cpu free on one node",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &snapshot.Cluster{
				Name: "a", Location: "eu", Labels: map[string]string{"tier": "gold", "zone": "1"},
				Capabilities: []snapshot.Capability{{Type: "ssd", Available: true}},
				Conditions:   []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
				Allocatable:  capacity.Resources{CPU: 10_000, Memory: 1 << 30, Extended: map[string]int64{"nvidia.com/gpu": 4}},
			}
			test.change(c)
			row := snapshot.NewRow(c, capacity.Resources{})
			running := map[string]string{}
			class.Violations(row, true, now, func(v filter.Violation) bool {
				running[class.Reject(row, &v).Message] = map[bool]string{false: "+", true: "-"}[v.Evicts]
				return true
			})
			var got []string
			for _, o := range class.Obstacles(row, now) {
				stage := running[o.Message] + strings.TrimSpace(fmt.Sprintf("%s %s", o.Stage, o.Constraint))
				got = append(got, fmt.Sprintf("%s: %s -> %s", stage, o.Message, o.Remedy))
			}
			if got, want := strings.Join(got, "\n"), strings.Join(test.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			first := class.First(row, false, now)
			switch {
			case (first == nil) != (len(test.want) == 0):
				t.Errorf("first violation: %v", first)
			case first != nil && !strings.Contains(test.want[0], class.Reject(row, first).Message):
				t.Errorf("first violation: %s", class.Reject(row, first).Message)
			}
		})
	}
}

func anyStrategy(v1alpha1.StrategyType, int) (int, []v1alpha1.StrategyType) { return 1, nil }
