package agent

import (
	"fmt"
	"testing"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func TestConditions(t *testing.T) {
	full := having("cpu", "4", "pods", "10")
	for _, test := range []struct {
		name  string
		nodes []*corev1.Node
		want  string
	}{
		{"no nodes", nil, "Ready False NoNodes: the cluster has no nodes"},
		{"one is enough", []*corev1.Node{testNode("a", full), testNode("b", unready)}, "Ready True : "},
		{"none that is usable", []*corev1.Node{
			testNode("a", full, unready), testNode("b", full, cordoned, unready), testNode("c", full, cordoned),
			testNode("d", full, taintedBy("a", "", corev1.TaintEffectNoExecute)), testNode("e"),
		}, "Ready False NoUsableNodes: no node can take pods: of 5, 2 not ready, 1 unschedulable, 1 tainted, 1 with quantities that cannot be used"},
	} {
		u := newUsage()
		for _, n := range test.nodes {
			u.setNode(nodeOf(n, nil))
		}
		if got := text(u.figures().ready()); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}

	u := newUsage()
	for i := range 5 {
		u.setNode(nodeOf(testNode(fmt.Sprint(i), full, having("memory", "-1")), nil))
	}
	want := "QuantitiesValid False InvalidQuantities: 5 could not be used: node 0: status.allocatable.memory: -1 is negative; " +
		"node 1: status.allocatable.memory: -1 is negative; node 2: status.allocatable.memory: -1 is negative; and 2 more"
	if got := text(u.figures().quantitiesValid()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for i := range 5 {
		u.setNode(nodeOf(testNode(fmt.Sprint(i), full), nil))
	}
	if got := text(u.figures().quantitiesValid()); got != "QuantitiesValid True : " {
		t.Errorf("after all were repaired: %s", got)
	}

	f := &figures{allWorkloads: 12_345, workloads: make([]v1alpha1.WorkloadUsage, 10_000)}
	if got, want := text(f.workloadsCounted()), "WorkloadsCounted False TooManyWorkloads: 12345 workloads have pods here, of which 10000 have room in the report"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func text(c *conditionsv1alpha1.Condition) string {
	return fmt.Sprintf("%s %s %s: %s", c.Type, c.Status, c.Reason, c.Message)
}

func TestMaterial(t *testing.T) {
	// One node of 100 CPUs, half of which one workload asks for.
	start := func(change func(*usage)) *report {
		u := newUsage()
		u.setNode(nodeOf(testNode("a", having("cpu", "100", "pods", "10")), nil))
		u.setPod(podOf(testPod("p", "a", requesting("cpu", "50"), of("w"))))
		change(u)
		return newReport("cluster", u.figures())
	}
	pod := func(name, on, cpu string, changes ...func(*corev1.Pod)) func(*usage) {
		return func(u *usage) {
			u.setPod(podOf(testPod(name, on, append(changes, requesting("cpu", cpu))...)))
		}
	}
	node := func(name string, changes ...func(*corev1.Node)) func(*usage) {
		return func(u *usage) { u.setNode(nodeOf(testNode(name, changes...), nil)) }
	}
	for _, test := range []struct {
		name    string
		change  func(*usage)
		percent float64
		want    bool
	}{
		{"nothing", func(*usage) {}, 0, false},
		{"less than a percent", pod("q", "a", "999m"), 1, false},
		{"a percent", pod("q", "a", "1"), 1, true},
		{"anything, if nothing is too little", pod("q", "a", "1m"), 0, true},
		{"a pod that asks for nothing", pod("q", "a", "0"), 0, false},
		{"free on one node, where the sum stays", func(u *usage) {
			pod("p", "", "50", of("w"))(u)
		}, 1, true},
		{"what a workload asks for, however little", pod("p", "a", "50001m", of("w")), 1, true},
		{"one workload less", pod("p", "a", "50"), 1, true},
		{"one workload more, that asks for nothing", pod("q", "a", "0", of("v")), 1, true},
		{"a node that is not usable", node("b"), 1, true},
		{"a little more is allocatable", node("a", having("cpu", "100001m", "pods", "10")), 1, true},
		{"a new resource", node("a", having("cpu", "100", "pods", "10", "nvidia.com/gpu", "1")), 1, true},
		{"a resource that nobody has is asked for", func(u *usage) { u.setPod(podOf(testPod("q", "", requesting("example.com/x", "1")))) }, 1, true},
		{"a condition", pod("q", "a", "-1"), 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, after := start(func(*usage) {}), start(test.change)
			if got := after.material(before, test.percent); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if got := before.material(after, test.percent); got != test.want {
				t.Errorf("backwards: got %v, want %v", got, test.want)
			}
		})
	}
	known, lost := start(func(*usage) {}), unreachable("cluster", "no answer")
	switch {
	case !known.material(nil, 100):
		t.Error("the first report is not material")
	case !lost.material(known, 100) || !known.material(lost, 100):
		t.Error("to be reachable or not is not material")
	case lost.material(unreachable("cluster", "still no answer"), 0):
		t.Error("another message is material")
	case !newReport("other", known.figures).material(known, 100):
		t.Error("another cluster is not material")
	}
}

func of(workload string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{v1alpha1.LabelWorkloadUID: workload} }
}

func TestWriteTo(t *testing.T) {
	r := &v1alpha1.ClusterRegistration{}
	conditions.MarkTrue(r, v1alpha1.WithinCapacityCondition)
	u := newUsage()
	u.setNode(nodeOf(testNode("a", having("cpu", "4", "pods", "10")), nil))
	newReport("cluster", u.figures()).writeTo(r)
	unreachable("cluster", "no answer").writeTo(r)

	status := r.Status
	if cpu := status.Allocatable[corev1.ResourceCPU]; cpu.Cmp(resource.MustParse("4")) != 0 || status.Nodes.Usable != 1 {
		t.Errorf("the last known figures are lost: %v, %v", status.Allocatable, status.Nodes)
	}
	if status.ClusterUID != "cluster" {
		t.Errorf("got cluster %s", status.ClusterUID)
	}
	for kind, want := range map[conditionsv1alpha1.ConditionType]string{
		v1alpha1.ReadyCondition:            "Ready False ClusterUnreachable: no answer",
		v1alpha1.WithinCapacityCondition:   "WithinCapacity True : ",
		v1alpha1.WorkloadsCountedCondition: "WorkloadsCounted True : ",
		QuantitiesValidCondition:           "QuantitiesValid True : ",
	} {
		if got := text(conditions.Get(r, kind)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
