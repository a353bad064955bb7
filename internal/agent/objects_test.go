package agent

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kcp-placement/placement/engine/capacity"
)

func testNode(name string, changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, change := range changes {
		change(n)
	}
	return n
}

func having(pairs ...string) func(*corev1.Node) {
	return func(n *corev1.Node) { add(&n.Status.Allocatable, pairs) }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func unready(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }

func taintedBy(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func testPod(name, on string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.NodeName = on
	p.Spec.Containers = []corev1.Container{{Name: "app"}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func requesting(pairs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { add(&p.Spec.Containers[0].Resources.Requests, pairs) }
}

func add(list *corev1.ResourceList, pairs []string) {
	if *list == nil {
		*list = corev1.ResourceList{}
	}
	for pair := range slices.Chunk(pairs, 2) {
		(*list)[corev1.ResourceName(pair[0])] = resource.MustParse(pair[1])
	}
}

// outOfProportion is a quantity that takes minutes to compare with another one.
func outOfProportion() resource.Quantity {
	q := resource.MustParse("1")
	q.AsDec().SetScale(-math.MaxInt32)
	return q
}

func TestNodeStates(t *testing.T) {
	full := having("cpu", "4", "memory", "8Gi", "pods", "110")
	for _, test := range []struct {
		name    string
		node    *corev1.Node
		want    state
		problem string
	}{
		{name: "usable", node: testNode("n", full), want: usable},
		{name: "not ready", node: testNode("n", full, unready), want: notReady},
		{name: "no condition", node: testNode("n", full, func(n *corev1.Node) { n.Status.Conditions = nil }), want: notReady},
		{name: "cordoned", node: testNode("n", full, cordoned), want: unschedulable},
		{name: "cordoned and not ready", node: testNode("n", full, cordoned, unready), want: notReady},
		{name: "tainted", node: testNode("n", full, taintedBy("a", "", corev1.TaintEffectNoSchedule)), want: tainted},
		{name: "tainted, pods are evicted", node: testNode("n", full, taintedBy("a", "", corev1.TaintEffectNoExecute)), want: tainted},
		{name: "a taint that only prefers", node: testNode("n", full, taintedBy("a", "", corev1.TaintEffectPreferNoSchedule)), want: usable},
		{name: "tolerated, whatever its value", node: testNode("n", full, taintedBy("nvidia.com/gpu", "present", corev1.TaintEffectNoSchedule)), want: usable},
		{name: "tolerated by value", node: testNode("n", full, taintedBy("team", "ml", corev1.TaintEffectNoSchedule)), want: usable},
		{name: "another value", node: testNode("n", full, taintedBy("team", "shop", corev1.TaintEffectNoSchedule)), want: tainted},
		{name: "another effect", node: testNode("n", full, taintedBy("team", "ml", corev1.TaintEffectNoExecute)), want: tainted},

		{name: "nothing allocatable", node: testNode("n"), want: invalid, problem: "status.allocatable is empty"},
		{name: "nothing allocatable yet", node: testNode("n", unready), want: notReady},
		{name: "negative", node: testNode("n", full, having("cpu", "-4")), want: invalid, problem: "status.allocatable.cpu: -4 is negative"},
		{name: "negative slots", node: testNode("n", full, having("pods", "-1")), want: invalid, problem: "status.allocatable.pods: -1 is negative"},
		{name: "too large", node: testNode("n", full, having("memory", "2Ei")), want: invalid, problem: "status.allocatable.memory: 2Ei is too large"},
		{name: "too large for an int64", node: testNode("n", full, having("memory", "1e30")), want: invalid, problem: "status.allocatable.memory: 1e30 is too large"},
		{name: "out of proportion", want: invalid, problem: "status.allocatable.cpu: the quantity is out of proportion",
			node: testNode("n", full, func(n *corev1.Node) { n.Status.Allocatable["cpu"] = outOfProportion() })},
		{name: "an unknown resource", node: testNode("n", full, having("example.com/what", "3")), want: usable},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := nodeOf(test.node, []corev1.Toleration{
				{Key: "nvidia.com/gpu", Operator: corev1.TolerationOpExists},
				{Key: "team", Operator: corev1.TolerationOpEqual, Value: "ml", Effect: corev1.TaintEffectNoSchedule},
			})
			if got.state != test.want || strings.Join(got.problems, "; ") != test.problem {
				t.Errorf("got %v, %q, want %v, %q", got.state, got.problems, test.want, test.problem)
			}
			if got.state == invalid && (got.allocatable != nil || got.slots != 0) {
				t.Errorf("%v of it would be counted", got.allocatable)
			}
		})
	}
}

func TestPodRequests(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	status := func(requests, allocated corev1.ResourceList) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: "app", Resources: &corev1.ResourceRequirements{Requests: requests}, AllocatedResources: allocated,
			}}
		}
	}
	initContainer := func(restart *corev1.ContainerRestartPolicy, cpu string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			c := corev1.Container{Name: "init", RestartPolicy: restart}
			add(&c.Resources.Requests, []string{"cpu", cpu})
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		}
	}
	for _, test := range []struct {
		name     string
		pod      *corev1.Pod
		want     string
		problems []string
	}{
		{name: "nothing", pod: testPod("p", "n")},
		{name: "none of a resource", pod: testPod("p", "n", requesting("cpu", "0"))},
		{name: "extended resources", pod: testPod("p", "n", requesting("cpu", "1500m", "memory", "1Gi", "nvidia.com/gpu", "2")), want: "cpu=1500 memory=1073741824 nvidia.com/gpu=2"},
		{name: "pods are no resource", pod: testPod("p", "n", requesting("pods", "1"))},
		{name: "an init container that asks for more", pod: testPod("p", "n", requesting("cpu", "1"), initContainer(nil, "3")), want: "cpu=3000"},
		{name: "a sidecar", pod: testPod("p", "n", requesting("cpu", "1"), initContainer(&always, "3")), want: "cpu=4000"},
		{name: "overhead", pod: testPod("p", "n", requesting("cpu", "1"), func(p *corev1.Pod) { add(&p.Spec.Overhead, []string{"cpu", "250m"}) }), want: "cpu=1250"},
		{name: "requests of the pod as a whole", want: "cpu=2000 nvidia.com/gpu=1", pod: testPod("p", "n", requesting("cpu", "1", "nvidia.com/gpu", "1"), func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{}
			add(&p.Spec.Resources.Requests, []string{"cpu", "2"})
		})},
		{name: "shrinking: it counts with what it had until it is resized", want: "cpu=2000", pod: testPod("p", "n", requesting("cpu", "1"),
			status(corev1.ResourceList{"cpu": resource.MustParse("2")}, corev1.ResourceList{"cpu": resource.MustParse("2")}))},
		{name: "growing: it counts with what it will have", want: "cpu=3000", pod: testPod("p", "n", requesting("cpu", "3"),
			status(corev1.ResourceList{"cpu": resource.MustParse("2")}, corev1.ResourceList{"cpu": resource.MustParse("2")}))},

		{name: "negative counts as none", pod: testPod("p", "n", requesting("cpu", "-1", "memory", "1")), want: "memory=1",
			problems: []string{"spec.containers[app].resources.requests.cpu: -1 is negative"}},
		{name: "negative cannot hide in the sum", pod: testPod("p", "n", requesting("cpu", "-1"), initContainer(&always, "3")), want: "cpu=3000",
			problems: []string{"spec.containers[app].resources.requests.cpu: -1 is negative"}},
		{name: "too large is all of the node", pod: testPod("p", "n", requesting("memory", "2Ei", "cpu", "1")), want: "cpu=1000 memory=all",
			problems: []string{"spec.containers[app].resources.requests.memory: 2Ei is too large"}},
		{name: "out of proportion", want: "memory=1 cpu=all", pod: testPod("p", "n", requesting("memory", "1"), func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests["cpu"] = outOfProportion()
		}), problems: []string{"spec.containers[app].resources.requests.cpu: the quantity is out of proportion"}},
		{name: "too large in all", want: "memory=all", pod: testPod("p", "n", requesting("memory", fmt.Sprint(capacity.MaxAmount)), func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0])
		}), problems: []string{"requests in all: memory: 2305843009213693952 is too large"}},
		{name: "absurd overhead", want: "memory=all", pod: testPod("p", "n", func(p *corev1.Pod) { add(&p.Spec.Overhead, []string{"memory", "1e20"}) }),
			problems: []string{"spec.overhead.memory: 100e18 is too large"}},
		{name: "absurd status", want: "cpu=all", pod: testPod("p", "n", requesting("cpu", "1"), status(nil, corev1.ResourceList{"cpu": outOfProportion()})),
			problems: []string{"status.containerStatuses[app].allocatedResources.cpu: the quantity is out of proportion"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.pod.DeepCopy()
			p := podOf(test.pod)
			var got []string
			for _, a := range p.requests {
				text := fmt.Sprintf("%s=%d", a.name.Value(), a.n)
				if a.n == absurd {
					text = string(a.name.Value()) + "=all"
				}
				got = append(got, text)
			}
			if strings.Join(got, " ") != test.want || !slices.Equal(p.problems, test.problems) {
				t.Errorf("got %v, %q\nwant %s, %q", got, p.problems, test.want, test.problems)
			}
			if len(before.Spec.Containers[0].Resources.Requests) != len(test.pod.Spec.Containers[0].Resources.Requests) {
				t.Error("the pod that was read has changed")
			}
		})
	}
}

// A pod with an absurd request fills its node. One that is not bound yet is left out, since it never will be.
func TestAbsurdPods(t *testing.T) {
	u := newUsage()
	u.setNode(nodeOf(testNode("n", having("cpu", "4", "memory", "8Gi", "pods", "10")), nil))
	u.setPod(podOf(testPod("bound", "n", requesting("cpu", "1", "memory", "2Ei"))))
	u.setPod(podOf(testPod("unbound", "", requesting("cpu", "1", "memory", "2Ei"))))
	f := u.figures()
	for name, want := range map[corev1.ResourceName][2]string{"cpu": {"1", "3"}, "memory": {"8Gi", "0"}} {
		asked, free := f.allocated[name], f.largestFree[name]
		if asked.String() != want[0] || free.String() != want[1] {
			t.Errorf("%s: %s are allocated, %s free, want %v", name, asked.String(), free.String(), want)
		}
	}
	want := "2 could not be used: pod default/bound: spec.containers[app].resources.requests.memory: 2Ei is too large; " +
		"pod default/unbound: spec.containers[app].resources.requests.memory: 2Ei is too large"
	if got := f.quantitiesValid(); got.Reason != InvalidQuantitiesReason || got.Message != want {
		t.Errorf("got %s %s\nwant %s", got.Reason, got.Message, want)
	}
}
