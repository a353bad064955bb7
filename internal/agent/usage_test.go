package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
)

// What counts for what: each step changes one thing and states the resulting figures.
func TestWhatCounts(t *testing.T) {
	u := newUsage()
	pod := func(name, on, workload, cpu string) func() {
		return func() {
			u.setPod(podOf(testPod(name, on, requesting("cpu", cpu), func(p *corev1.Pod) {
				if workload != "" {
					p.Labels = map[string]string{v1alpha1.LabelWorkloadUID: workload}
				}
			})))
		}
	}
	node := func(name string, changes ...func(*corev1.Node)) func() {
		return func() {
			u.setNode(nodeOf(testNode(name, append([]func(*corev1.Node){having("cpu", "4", "pods", "3")}, changes...)...), nil))
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"nothing", func() {}, "nodes 0/0/0, cpu none, workloads []"},
		{"a pod before its node counts nowhere", pod("a", "n1", "w1", "1"), "nodes 0/0/0, cpu none, workloads []"},
		{"its node comes", node("n1"), "nodes 1/1/1, cpu 1 of 4, free 3, workloads [w1=1]"},
		{"a second node", node("n2"), "nodes 2/2/2, cpu 1 of 8, free 4, workloads [w1=1]"},
		{"a pod that is bound nowhere is demand, but takes nothing of a node", pod("b", "", "w2", "3"), "nodes 2/2/2, cpu 4 of 8, free 4, workloads [w1=1 w2=3]"},
		{"it is bound", pod("b", "n2", "w2", "3"), "nodes 2/2/2, cpu 4 of 8, free 3, workloads [w1=1 w2=3]"},
		{"it is resized", pod("b", "n2", "w2", "2"), "nodes 2/2/2, cpu 3 of 8, free 3, workloads [w1=1 w2=2]"},
		{"a node is cordoned: neither it nor its pods count", node("n2", cordoned), "nodes 2/2/1, cpu 1 of 4, free 3, workloads [w1=1]"},
		{"it is ready no more", node("n2", unready), "nodes 2/1/1, cpu 1 of 4, free 3, workloads [w1=1]"},
		{"it is back", node("n2"), "nodes 2/2/2, cpu 3 of 8, free 3, workloads [w1=1 w2=2]"},
		{"a pod of nobody counts, for no workload", pod("c", "n1", "", "500m"), "nodes 2/2/2, cpu 3500m of 8, free 2500m, workloads [w1=1 w2=2]"},
		{"the slots of a node are all taken: nothing is free there", pod("d", "n1", "", "0"), "nodes 2/2/2, cpu 3500m of 8, free 2, workloads [w1=1 w2=2]"},
		{"more is asked for than the node has: nothing is free, not less", pod("b", "n2", "w2", "9"), "nodes 2/2/2, cpu 10500m of 8, free 0, workloads [w1=1 w2=9]"},
		{"a node goes before its pods", func() { u.deleteNode("n2") }, "nodes 1/1/1, cpu 1500m of 4, free 0, workloads [w1=1]"},
		{"its pod goes", func() { u.deletePod("default/b") }, "nodes 1/1/1, cpu 1500m of 4, free 0, workloads [w1=1]"},
		{"a pod ends", func() {
			u.setPod(podOf(testPod("d", "n1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })))
		},
			"nodes 1/1/1, cpu 1500m of 4, free 2500m, workloads [w1=1]"},
	} {
		step.do()
		f := u.figures()
		got := fmt.Sprintf("nodes %d/%d/%d, cpu none, workloads %s", f.nodes.Total, f.nodes.Ready, f.nodes.Usable, workloadsOf(f))
		if have, found := f.allocatable["cpu"]; found {
			asked, free := f.allocated["cpu"], f.largestFree["cpu"]
			got = fmt.Sprintf("nodes %d/%d/%d, cpu %s of %s, free %s, workloads %s", f.nodes.Total, f.nodes.Ready, f.nodes.Usable,
				asked.String(), have.String(), free.String(), workloadsOf(f))
		}
		if got != step.want {
			t.Errorf("%s:\n got %s\nwant %s", step.name, got, step.want)
		}
	}
}

func TestWhichResources(t *testing.T) {
	u := newUsage()
	u.setNode(nodeOf(testNode("a", having("cpu", "4", "memory", "8Gi", "pods", "10", "hugepages-1Gi", "0")), nil))
	u.setNode(nodeOf(testNode("gpu", having("nvidia.com/gpu", "8", "pods", "10"), cordoned), nil))
	u.setPod(podOf(testPod("asks", "", requesting("example.com/unknown", "2", "cpu", "250m"))))
	f := u.figures()
	for name, lists := range map[string][3]string{
		"cpu":                 {"4", "250m", "4"},
		"memory":              {"8Gi", "0", "8Gi"},
		"nvidia.com/gpu":      {"0", "0", "0"}, // a node has some, but is cordoned
		"example.com/unknown": {"0", "2", "0"},
	} {
		for i, list := range []corev1.ResourceList{f.allocatable, f.allocated, f.largestFree} {
			if q, found := list[corev1.ResourceName(name)]; !found || q.String() != lists[i] {
				t.Errorf("%s: got %v, %s, want %s", name, found, q.String(), lists[i])
			}
			if len(list) != 4 {
				t.Errorf("want 4 resources, got %v", list)
			}
		}
	}
}

// TestVolumes: what volumes may hold is stated, since no node has it. What the pods use of the disks of nodes is another resource.
func TestVolumes(t *testing.T) {
	u := newUsage()
	u.volumes = 10 << 40
	u.setNode(nodeOf(testNode("a", having("cpu", "4", "ephemeral-storage", "100Gi", "pods", "10")), nil))
	u.setPod(podOf(testPod("asks", "a", requesting("ephemeral-storage", "40Gi"))))
	f := u.figures()
	for name, want := range map[corev1.ResourceName][3]string{"storage": {"10Ti", "0", "10Ti"}, "ephemeral-storage": {"100Gi", "40Gi", "60Gi"}} {
		for i, list := range []corev1.ResourceList{f.allocatable, f.allocated, f.largestFree} {
			if q := list[name]; q.String() != want[i] {
				t.Errorf("%s: %s, want %s", name, q.String(), want[i])
			}
		}
	}
}

func TestTooManyResources(t *testing.T) {
	u := newUsage()
	u.setNode(nodeOf(testNode("a", having("cpu", "4", "pods", "10")), nil))
	for i := range 1000 {
		u.setPod(podOf(testPod(fmt.Sprint(i), "", requesting(fmt.Sprintf("a.example.com/%d", i), "1"))))
	}
	f := u.figures()
	if len(f.allocated) != maxResources || f.unlisted != 1001-maxResources {
		t.Errorf("got %d resources, %d unlisted", len(f.allocated), f.unlisted)
	}
	if _, found := f.allocatable["cpu"]; !found {
		t.Error("what nodes have is left out")
	}
}

func TestTooManyWorkloads(t *testing.T) {
	for _, test := range []struct {
		name              string
		workloads, listed int
		requests          []string
	}{
		{"all", maxWorkloads, maxWorkloads, []string{"cpu", "100m", "memory", "134217728", "nvidia.com/gpu", "1"}},
		{"one too many", maxWorkloads + 1, maxWorkloads, []string{"cpu", "100m"}},
		{"not too many, but too large for an object", maxWorkloads, 2535, []string{
			"example.com/a-resource-with-a-name-of-ample-length-a", "999999999999999999", "example.com/a-resource-with-a-name-of-ample-length-b", "999999999999999999",
			"example.com/a-resource-with-a-name-of-ample-length-c", "999999999999999999", "example.com/a-resource-with-a-name-of-ample-length-d", "999999999999999999",
			"example.com/a-resource-with-a-name-of-ample-length-e", "999999999999999999", "example.com/a-resource-with-a-name-of-ample-length-f", "999999999999999999"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUsage()
			for i := range test.workloads {
				u.setPod(podOf(testPod(fmt.Sprint(i), "", requesting(test.requests...), func(p *corev1.Pod) {
					p.Labels = map[string]string{v1alpha1.LabelWorkloadUID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i)}
				})))
			}
			f := u.figures()
			if len(f.workloads) != test.listed || f.allWorkloads != test.workloads {
				t.Errorf("%d of %d are listed, want %d of %d", len(f.workloads), f.allWorkloads, test.listed, test.workloads)
			}
			if text, err := json.Marshal(f.workloads); err != nil || len(text) > maxWorkloadBytes {
				t.Errorf("they take %d bytes: %v", len(text), err)
			}
			if !slices.IsSortedFunc(f.workloads, func(a, b v1alpha1.WorkloadUsage) int { return cmp.Compare(a.UID, b.UID) }) {
				t.Error("they are not sorted")
			}
		})
	}
}

// The sums that are updated incrementally equal those computed from scratch, whatever changes, in whichever order.
func TestUsageIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := newUsage()
		m := model{nodes: map[string]modelNode{}, pods: map[string]modelPod{}}
		nodeNames := rapid.SampledFrom([]string{"n1", "n2", "n3"})
		podNames := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		amounts := rapid.SampledFrom([]int64{0, 1, 2, 7, capacity.MaxAmount / 2, capacity.MaxAmount})
		check := func(t *rapid.T) {
			if diff := gocmp.Diff(m.String(), describe(u.figures())); diff != "" {
				t.Fatalf("from scratch - incremental +:\n%s", diff)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"set a node": func(t *rapid.T) {
				n := modelNode{
					usable: rapid.Bool().Draw(t, "usable"), broken: rapid.IntRange(0, 5).Draw(t, "broken") == 0,
					slots: rapid.Int64Range(0, 4).Draw(t, "slots"), gpus: amounts.Draw(t, "gpus"), disks: amounts.Draw(t, "disks"),
				}
				name := nodeNames.Draw(t, "name")
				m.nodes[name] = n
				u.setNode(n.of(name))
			},
			"delete a node": func(t *rapid.T) {
				name := nodeNames.Draw(t, "name")
				delete(m.nodes, name)
				u.deleteNode(name)
			},
			"set a pod": func(t *rapid.T) {
				p := modelPod{
					node:     rapid.SampledFrom([]string{"n1", "n2", "n3", "nowhere", ""}).Draw(t, "on"),
					workload: rapid.SampledFrom([]string{"", "w1", "w2"}).Draw(t, "of"),
					over:     rapid.IntRange(0, 5).Draw(t, "over") == 0,
					absurd:   rapid.IntRange(0, 5).Draw(t, "absurd") == 0,
					gpus:     amounts.Draw(t, "gpus"), disks: amounts.Draw(t, "disks"),
				}
				name := podNames.Draw(t, "name")
				m.pods[name] = p
				u.setPod(p.of(name))
			},
			"delete a pod": func(t *rapid.T) {
				name := podNames.Draw(t, "name")
				delete(m.pods, name)
				u.deletePod("default/" + name)
			},
		})
		for name := range m.pods {
			u.deletePod("default/" + name)
		}
		for name := range m.nodes {
			u.deleteNode(name)
		}
		if n := len(u.pods) + len(u.nodes) + len(u.workloads) + len(u.problems); n > 0 {
			t.Fatalf("%d things are left of nothing", n)
		}
	})
}

// model is the state of the cluster. Its String computes everything from scratch, with big integers.
type model struct {
	nodes map[string]modelNode
	pods  map[string]modelPod
}

type modelNode struct {
	usable, broken     bool
	slots, gpus, disks int64
}

func (n modelNode) of(name string) *node {
	object := testNode(name, having("gpus", fmt.Sprint(n.gpus), "disks", fmt.Sprint(n.disks), "pods", fmt.Sprint(n.slots)))
	object.Spec.Unschedulable = !n.usable
	if n.broken {
		having("cpu", "-1")(object)
	}
	return nodeOf(object, nil)
}

type modelPod struct {
	node, workload string
	over, absurd   bool
	gpus, disks    int64
}

func (p modelPod) of(name string) *pod {
	object := testPod(name, p.node, requesting("gpus", fmt.Sprint(p.gpus), "disks", fmt.Sprint(p.disks)))
	object.Labels = map[string]string{v1alpha1.LabelWorkloadUID: p.workload}
	if p.absurd {
		requesting("gpus", "4Ei")(object)
	}
	if p.over {
		object.Status.Phase = corev1.PodFailed
	}
	return podOf(object)
}

func (m model) String() string {
	have, asked, free, offered := map[string]*big.Int{}, map[string]*big.Int{}, map[string]*big.Int{}, map[string]bool{}
	workloads := map[string]map[string]*big.Int{}
	var total, usable, pods int
	add := func(to map[string]*big.Int, name string, n int64) {
		if to[name] == nil {
			to[name] = new(big.Int)
		}
		to[name].Add(to[name], big.NewInt(n))
	}
	count := func(p modelPod, gpus int64) {
		pods++
		add(asked, "gpus", gpus)
		add(asked, "disks", p.disks)
		if p.workload != "" {
			if workloads[p.workload] == nil {
				workloads[p.workload] = map[string]*big.Int{}
			}
			add(workloads[p.workload], "gpus", gpus)
			add(workloads[p.workload], "disks", p.disks)
		}
	}
	for _, p := range m.pods {
		if p.node == "" && !p.over && !p.absurd {
			count(p, p.gpus)
		}
	}
	for name, n := range m.nodes {
		total++
		if n.broken {
			continue
		}
		offered["gpus"], offered["disks"] = offered["gpus"] || n.gpus > 0, offered["disks"] || n.disks > 0
		if !n.usable {
			continue
		}
		usable++
		add(have, "gpus", n.gpus)
		add(have, "disks", n.disks)
		room := map[string]*big.Int{"gpus": big.NewInt(n.gpus), "disks": big.NewInt(n.disks)}
		slots := n.slots
		for _, p := range m.pods {
			if p.node != name || p.over {
				continue
			}
			slots--
			gpus := p.gpus
			if p.absurd {
				gpus = n.gpus
			}
			count(p, gpus)
			add(room, "gpus", -gpus)
			add(room, "disks", -p.disks)
		}
		for name, r := range room {
			if slots > 0 && (free[name] == nil || r.Cmp(free[name]) > 0) {
				free[name] = r
			}
		}
	}
	bounded := func(of map[string]*big.Int, name string) int64 {
		switch n := of[name]; {
		case n == nil || n.Sign() < 0:
			return 0
		case n.Cmp(big.NewInt(capacity.MaxAmount)) > 0:
			return capacity.MaxAmount
		default:
			return n.Int64()
		}
	}
	text := fmt.Sprintf("%d nodes, %d usable, %d pods\n", total, usable, pods)
	for _, name := range []string{"disks", "gpus"} {
		if offered[name] || bounded(asked, name) > 0 {
			text += fmt.Sprintf("%s: %d of %d, %d free on one node\n", name, bounded(asked, name), bounded(have, name), bounded(free, name))
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(workloads)) {
		text += uid + ":"
		for _, name := range []string{"disks", "gpus"} {
			if n := bounded(workloads[uid], name); n > 0 {
				text += fmt.Sprintf(" %s %d", name, n)
			}
		}
		text += "\n"
	}
	return text
}

func describe(f *figures) string {
	text := fmt.Sprintf("%d nodes, %d usable, %d pods\n", f.nodes.Total, f.nodes.Usable, f.pods)
	value := func(list corev1.ResourceList, name corev1.ResourceName) int64 { q := list[name]; return q.Value() }
	for _, name := range slices.Sorted(maps.Keys(f.allocated)) {
		text += fmt.Sprintf("%s: %d of %d, %d free on one node\n", name, value(f.allocated, name), value(f.allocatable, name), value(f.largestFree, name))
	}
	for _, w := range f.workloads {
		text += string(w.UID) + ":"
		for _, name := range slices.Sorted(maps.Keys(w.Requests)) {
			text += fmt.Sprintf(" %s %d", name, value(w.Requests, name))
		}
		text += "\n"
	}
	return text
}

func workloadsOf(f *figures) []string {
	all := []string{}
	for _, w := range f.workloads {
		cpu := w.Requests[corev1.ResourceCPU]
		all = append(all, fmt.Sprintf("%s=%s", w.UID, cpu.String()))
	}
	return all
}
