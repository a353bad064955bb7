package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/nodes"
)

func labelled(pairs ...string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		for pair := range slices.Chunk(pairs, 2) {
			n.Labels[pair[0]] = pair[1]
		}
	}
}

// nodesOf makes nodes 0, 1, ..., each as make says.
func nodesOf(count int, makes func(i int) []func(*corev1.Node)) (all []*corev1.Node) {
	for i := range count {
		all = append(all, testNode(fmt.Sprint(i), makes(i)...))
	}
	return all
}

func summaryOf(all []*corev1.Node, rules NodeRules) *nodeSummary {
	u := newUsage()
	u.rules = rules
	for _, n := range all {
		u.setNode(nodeOf(n, nil))
	}
	return u.figures().summary
}

// text is for example "2 disk=ssd gpu:NoSchedule; 1 disk=hdd; 3 more groups; not told a, b".
func (s *nodeSummary) text() string {
	var parts []string
	for _, g := range s.groups {
		part := fmt.Sprint(g.Count)
		for _, key := range slices.Sorted(maps.Keys(g.Labels)) {
			part += " " + key + "=" + g.Labels[key]
		}
		for _, t := range g.Taints {
			part += " " + t.ToString()
		}
		parts = append(parts, part)
	}
	if s.omittedGroups > 0 {
		parts = append(parts, fmt.Sprintf("%d more groups", s.omittedGroups))
	}
	if len(s.omittedLabels) > 0 {
		parts = append(parts, "not told "+strings.Join(s.omittedLabels, ", "))
	}
	return strings.Join(parts, "; ")
}

// TestNodeGroups: what is reported of nodes, and what is left out where not all has room.
func TestNodeGroups(t *testing.T) {
	type change = func(*corev1.Node)
	ssd, hdd := labelled("disk", "ssd"), labelled("disk", "hdd")
	host := func(i int) change { return labelled("kubernetes.io/hostname", fmt.Sprint("n", i)) }
	for _, test := range []struct {
		name  string
		nodes []*corev1.Node
		rules NodeRules
		want  string
	}{
		{"no nodes", nil, NodeRules{}, ""},
		{"those that agree are one group", nodesOf(5, func(i int) []change { return []change{host(i), []change{ssd, hdd}[i%2]} }), NodeRules{},
			"2 disk=hdd; 3 disk=ssd; not told kubernetes.io/hostname"},
		{"a node without labels is one, too", nodesOf(1, func(int) []change { return nil }), NodeRules{}, "1"},
		{"taints that keep pods away", nodesOf(2, func(i int) []change {
			taints := []change{taintedBy("a", "", corev1.TaintEffectNoSchedule), taintedBy("b", "1", corev1.TaintEffectNoExecute), taintedBy("soft", "", corev1.TaintEffectPreferNoSchedule)}
			return []change{taints[i], taints[1-i], taints[2]}
		}), NodeRules{}, "2 a:NoSchedule b=1:NoExecute"},
		{"nodes that take no pods for now are none", []*corev1.Node{
			testNode("a", ssd), testNode("b", hdd, cordoned), testNode("c", hdd, unready), testNode("d", hdd, taintedBy("node.kubernetes.io/disk-pressure", "", corev1.TaintEffectNoSchedule)),
		}, NodeRules{}, "1 disk=ssd"},
		{"a label that differs by node, on few", nodesOf(7, func(i int) []change { return []change{labelled("serial", fmt.Sprint(i))} }), NodeRules{},
			"1 serial=0; 1 serial=1; 1 serial=2; 1 serial=3; 1 serial=4; 1 serial=5; 1 serial=6"},
		{"and on many", nodesOf(8, func(i int) []change { return []change{labelled("serial", fmt.Sprint(i))} }), NodeRules{}, "8; not told serial"},
		{"unless it is asked for", nodesOf(8, func(i int) []change { return []change{host(i % 7)} }), NodeRules{ReportLabels: []string{"kubernetes.io/*"}},
			"2 kubernetes.io/hostname=n0; 1 kubernetes.io/hostname=n1; 1 kubernetes.io/hostname=n2; 1 kubernetes.io/hostname=n3; " +
				"1 kubernetes.io/hostname=n4; 1 kubernetes.io/hostname=n5; 1 kubernetes.io/hostname=n6"},
		{"or well known", nodesOf(8, func(i int) []change { return []change{labelled("kubernetes.io/os", fmt.Sprint(i))} }), NodeRules{},
			"1 kubernetes.io/os=0; 1 kubernetes.io/os=1; 1 kubernetes.io/os=2; 1 kubernetes.io/os=3; 1 kubernetes.io/os=4; 1 kubernetes.io/os=5; 1 kubernetes.io/os=6; 1 kubernetes.io/os=7"},
		{"what is not to be told", nodesOf(2, func(i int) []change { return []change{labelled("example.com/rack", fmt.Sprint(i)), ssd} }), NodeRules{OmitLabels: []string{"example.com/*"}},
			"2 disk=ssd; not told example.com/rack"},
		{"taints that pods need not tolerate", nodesOf(3, func(i int) []change {
			return []change{taintedBy([]string{"a/x", "b", "a/y"}[i], "", corev1.TaintEffectNoSchedule)}
		}), NodeRules{OmitTaints: []string{"a/*"}}, "2; 1 b:NoSchedule"},
		{"more groups than have room: the label with the most values goes", nodesOf(200, func(i int) []change {
			return []change{labelled("disk", fmt.Sprint(i%2), "rack", fmt.Sprint(i%50)), labelled("shelf", fmt.Sprint(i%3))}
		}), NodeRules{}, "34 disk=0 shelf=0; 33 disk=0 shelf=1; 33 disk=0 shelf=2; 33 disk=1 shelf=0; 34 disk=1 shelf=1; 33 disk=1 shelf=2; not told rack"},
		{"unless it is asked for", nodesOf(200, func(i int) []change {
			return []change{labelled("disk", fmt.Sprint(i%2), "rack", fmt.Sprint(i%50)), labelled("shelf", fmt.Sprint(i%3))}
		}), NodeRules{ReportLabels: []string{"disk", "shelf"}}, "34 disk=0 shelf=0; 33 disk=0 shelf=1; 33 disk=0 shelf=2; 33 disk=1 shelf=0; 34 disk=1 shelf=1; 33 disk=1 shelf=2; not told rack"},
		{"one with more values than there may be groups always does", nodesOf(130, func(i int) []change {
			return []change{labelled("node.kubernetes.io/instance-type", fmt.Sprint(i%65)), ssd}
		}), NodeRules{ReportLabels: []string{"node.kubernetes.io/instance-type"}}, "130 disk=ssd; not told node.kubernetes.io/instance-type"},
		{"one with a value that is longer than a registration can tell", nodesOf(2, func(int) []change {
			return []change{labelled("note", strings.Repeat("x", v1alpha1.MaxNodeLabelValue+1)), ssd}
		}), NodeRules{ReportLabels: []string{"note"}}, "2 disk=ssd; not told note"},
		{"or with such a key", nodesOf(2, func(int) []change {
			return []change{labelled(strings.Repeat("x", v1alpha1.MaxNodeLabelKey+1), "y"), ssd}
		}), NodeRules{}, "2 disk=ssd; not told *"},
		{"too many keys to be named", nodesOf(80, func(i int) []change {
			var all []change
			for j := range 65 {
				all = append(all, labelled(fmt.Sprint("serial-", j), fmt.Sprint(i)))
			}
			return append(all, ssd)
		}), NodeRules{}, "80 disk=ssd; not told *"},
	} {
		if got := summaryOf(test.nodes, test.rules).text(); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}

	// Taints cannot be left out: what has no room then is the groups with the fewest nodes.
	s := summaryOf(nodesOf(100, func(i int) []change {
		return []change{taintedBy("team", fmt.Sprint(i*i%70), corev1.TaintEffectNoSchedule)}
	}), NodeRules{})
	if len(s.groups)+int(s.omittedGroups) != 24 {
		t.Fatalf("%d and %d groups", len(s.groups), s.omittedGroups)
	}
	s = summaryOf(nodesOf(100, func(i int) []change {
		return []change{taintedBy("team", fmt.Sprint(i%70), corev1.TaintEffectNoSchedule)}
	}), NodeRules{})
	if len(s.groups) != v1alpha1.MaxNodeGroups || s.omittedGroups != 6 || slices.ContainsFunc(s.groups[:30], func(g v1alpha1.NodeGroup) bool { return g.Count == 0 }) {
		t.Errorf("%s", s.text())
	}
	total := int32(0)
	for _, g := range s.groups {
		total += g.Count
	}
	if total != 94 { // 30 of two nodes, 34 of one
		t.Errorf("the groups with the most nodes have %d", total)
	}
}

// TestNodeGroupsHaveRoom: with any labels and taints that Kubernetes lets nodes have, the report is within the bounds of the API.
func TestNodeGroupsHaveRoom(t *testing.T) {
	long := strings.Repeat("x", 63)
	s := summaryOf(nodesOf(60, func(i int) []func(*corev1.Node) {
		return []func(*corev1.Node){func(n *corev1.Node) {
			n.Labels = map[string]string{}
			for j := range 150 {
				n.Labels[fmt.Sprintf("%s.%s.%s/%d-%s", long, long, long, j, long[:50])] = fmt.Sprint(i%2, long[:60])
			}
			for j := range i {
				n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: fmt.Sprint("t", j), Effect: corev1.TaintEffectNoExecute})
			}
		}}
	}), NodeRules{})
	text, err := json.Marshal(s.groups)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > maxGroupBytes || len(s.groups) == 0 || !slices.Equal(s.omittedLabels, []string{"*"}) {
		t.Errorf("%d bytes, %d groups, %v not told", len(text), len(s.groups), s.omittedLabels)
	}
	for _, g := range s.groups {
		if len(g.Labels) > v1alpha1.MaxNodeGroupLabels || len(g.Taints) > v1alpha1.MaxNodeGroupTaints {
			t.Errorf("%d labels, %d taints", len(g.Labels), len(g.Taints))
		}
	}
	if s.omittedGroups != 60-33 {
		t.Errorf("%d groups are omitted, want those with more than %d taints", s.omittedGroups, v1alpha1.MaxNodeGroupTaints)
	}
}

// TestSummaryKeepsNobodyAway: pods that some node could run, by Kubernetes' own code, have a node in what is reported. Where nothing
// is left out of it, they have one only then.
func TestSummaryKeepsNobodyAway(t *testing.T) {
	key := rapid.SampledFrom([]string{"a", "b", "kubernetes.io/hostname", "kubernetes.io/arch", "serial"})
	value := rapid.SampledFrom([]string{"0", "1", "2"})
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.SampledFrom([]int{1, 3, 9, 80}).Draw(t, "nodes")
		bits := rapid.Uint64().Draw(t, "seed")
		all := nodesOf(count, func(i int) []func(*corev1.Node) {
			random := bits*uint64(2*i+1) ^ uint64(i)*0x9e3779b97f4a7c15
			pick := func(n int) string {
				random = random*6364136223846793005 + 1442695040888963407
				return fmt.Sprint(random >> 33 % uint64(n))
			}
			changes := []func(*corev1.Node){labelled("kubernetes.io/hostname", fmt.Sprint(i), "a", pick(2), "b", pick(9), "kubernetes.io/arch", pick(2))}
			if pick(3) == "0" {
				changes = append(changes, labelled("serial", fmt.Sprint(i)))
			}
			if pick(2) == "0" {
				changes = append(changes, taintedBy(pick(3), "", corev1.TaintEffectNoSchedule))
			}
			return changes
		})
		s := summaryOf(all, NodeRules{})
		var status v1alpha1.ClusterRegistrationStatus
		status.NodeGroups, status.OmittedNodeGroups, status.OmittedNodeLabels = s.groups, s.omittedGroups, s.omittedLabels

		spec := nodes.PodSpec{NodeSelector: rapid.MapOfN(key, value, 0, 2).Draw(t, "selector")}
		if rapid.Bool().Draw(t, "has an affinity") {
			spec.Affinity.NodeAffinity.Required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: key.Draw(t, "key"), Operator: rapid.SampledFrom([]corev1.NodeSelectorOperator{"In", "NotIn"}).Draw(t, "operator"), Values: []string{value.Draw(t, "value")},
				}},
			}}}
		}
		if rapid.Bool().Draw(t, "tolerates") {
			spec.Tolerations = []corev1.Toleration{{Key: value.Draw(t, "taint"), Operator: corev1.TolerationOpExists}}
		}
		pods, err := spec.Of("spec", nil)
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: spec.NodeSelector, Tolerations: spec.Tolerations}}
		if required := spec.Affinity.NodeAffinity.Required; required != nil {
			pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required}}
		}
		affinity := nodeaffinity.GetRequiredNodeAffinity(pod)
		could := slices.ContainsFunc(all, func(n *corev1.Node) bool {
			matches, err := affinity.Match(n)
			_, tainted := scheduling.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, spec.Tolerations, keepsAway, false)
			return err == nil && matches && !tainted
		})
		asks := func(key string) bool {
			for asked := range pods.Labels {
				if asked == key {
					return true
				}
			}
			return spec.Affinity.NodeAffinity.Required != nil
		}
		switch have := nodes.FromStatus(&status).Have(&pods); {
		case could && !have:
			t.Fatalf("kept away by %s", s.text())
		case have && !could && s.omittedGroups == 0 && !slices.ContainsFunc(s.omittedLabels, asks):
			t.Fatalf("no node can run them: %s", s.text())
		}
	})
}

// TestNodesAreSummarizedOnce: the summary is made anew where labels, taints or states of nodes change, and only then.
func TestNodesAreSummarizedOnce(t *testing.T) {
	u := newUsage()
	set := func(changes ...func(*corev1.Node)) *nodeSummary {
		u.setNode(nodeOf(testNode("a", append(changes, having("pods", "10"))...), nil))
		return u.figures().summary
	}
	first := set(labelled("disk", "ssd"))
	if set(labelled("disk", "ssd"), having("cpu", "3")) != first {
		t.Error("it is made anew where nothing that it tells has changed")
	}
	for name, changes := range map[string][]func(*corev1.Node){
		"a label": {labelled("disk", "hdd")}, "a taint": {labelled("disk", "ssd"), taintedBy("a", "", corev1.TaintEffectNoSchedule)}, "cordoned": {labelled("disk", "ssd"), cordoned},
	} {
		set(labelled("disk", "ssd"))
		if before := u.figures().summary; set(changes...).same(before) {
			t.Errorf("%s makes no difference", name)
		}
	}
	u.deleteNode("a")
	if told := u.figures().summary; len(told.groups) > 0 {
		t.Error("a node that is gone is told")
	}
}
