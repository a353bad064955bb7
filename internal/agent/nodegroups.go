package agent

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// NodeRules select what is reported of nodes, by keys, or by prefixes of keys that end in "*".
type NodeRules struct {
	// ReportLabels take precedence over others if there is not room for all, OmitLabels are left out.
	ReportLabels, OmitLabels []string
	// OmitTaints are taints that pods need not tolerate, since something in the cluster adds the tolerations.
	OmitTaints []string
}

// isAmong reports whether a key equals one of the patterns, or has the prefix of one.
func isAmong(key string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		return key == pattern || isPrefix && strings.HasPrefix(key, prefix)
	})
}

// wellKnown labels are left out only after all others, except those that ReportLabels names.
var wellKnown = []string{
	corev1.LabelArchStable, corev1.LabelOSStable, "topology.kubernetes.io/*", corev1.LabelInstanceTypeStable, "node-role.kubernetes.io/*",
	"nvidia.com/gpu.*", "amd.com/gpu.*", "cloud.google.com/gke-accelerator",
}

// rank returns how much the label of a key is worth reporting; -1 means not at all.
func (r *NodeRules) rank(key string) int {
	switch {
	case isAmong(key, r.OmitLabels):
		return -1
	case isAmong(key, r.ReportLabels):
		return 2
	case key == corev1.LabelHostname:
		return -1
	case isAmong(key, wellKnown):
		return 1
	default:
		return 0
	}
}

const (
	// maxGroupBytes bounds the groups as JSON, in bytes.
	maxGroupBytes = 64 << 10
	// manyNodes is how many nodes with pairwise different values of a label make it count as a hostname.
	manyNodes = 8
)

// nodeSummary is what is reported of nodes.
type nodeSummary struct {
	groups        []v1alpha1.NodeGroup
	omittedGroups int32
	omittedLabels []string
}

func (s *nodeSummary) same(o *nodeSummary) bool {
	return s == o || s.omittedGroups == o.omittedGroups && slices.Equal(s.omittedLabels, o.omittedLabels) &&
		slices.EqualFunc(s.groups, o.groups, func(a, b v1alpha1.NodeGroup) bool {
			return a.Count == b.Count && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Taints, b.Taints)
		})
}

// traits are the properties of a node that matter to pods, the labels sorted by key.
type traits struct {
	labels []label
	taints []corev1.Taint
}

type label struct{ key, value unique.Handle[string] }

// passing is the prefix of taints for a transient state of a node, such as pressure.
const passing = "node.kubernetes.io/"

// traitsOf returns the traits of a node, nil if it can take no pods for now, whatever they tolerate.
func traitsOf(n *corev1.Node, ready bool) *traits {
	t := &traits{}
	for _, taint := range n.Spec.Taints {
		if keepsAway(&taint) {
			taint.TimeAdded = nil
			t.taints = append(t.taints, taint)
		}
	}
	if !ready || n.Spec.Unschedulable || slices.ContainsFunc(t.taints, func(taint corev1.Taint) bool { return strings.HasPrefix(taint.Key, passing) }) {
		return nil
	}
	slices.SortFunc(t.taints, func(a, b corev1.Taint) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Effect, b.Effect), cmp.Compare(a.Value, b.Value))
	})
	for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
		t.labels = append(t.labels, label{unique.Make(key), unique.Make(n.Labels[key])})
	}
	return t
}

func (t *traits) same(o *traits) bool {
	return t == o || t != nil && o != nil && slices.Equal(t.labels, o.labels) && slices.Equal(t.taints, o.taints)
}

// group is nodes with the same traits.
type group struct {
	traits
	count int32
}

// labelKey is what is known of the labels with one key.
type labelKey struct {
	key    unique.Handle[string]
	rank   int
	nodes  int
	values map[unique.Handle[string]]bool
	// long is set where one of the values, or the key, is longer than a registration can tell.
	long bool
}

// summarize groups nodes. Labels are left out until the groups fit: first those that pods hardly ask for, and among these the ones with the
// most values. If that does not help, the smallest groups are left out.
func summarize(groups []group, rules *NodeRules) *nodeSummary {
	if len(rules.OmitTaints) > 0 {
		for i := range groups {
			groups[i].taints = slices.DeleteFunc(slices.Clone(groups[i].taints), func(t corev1.Taint) bool { return isAmong(t.Key, rules.OmitTaints) })
		}
	}
	crowded := func(g group) bool { return len(g.taints) > v1alpha1.MaxNodeGroupTaints }
	tainted := slices.DeleteFunc(slices.Clone(groups), func(g group) bool { return !crowded(g) })
	groups = slices.DeleteFunc(groups, crowded)
	keys := map[unique.Handle[string]]*labelKey{}
	for _, g := range groups {
		for _, l := range g.labels {
			k := keys[l.key]
			if k == nil {
				k = &labelKey{key: l.key, rank: rules.rank(l.key.Value()), values: map[unique.Handle[string]]bool{}}
				keys[l.key] = k
			}
			k.long = k.long || len(l.key.Value()) > v1alpha1.MaxNodeLabelKey || len(l.value.Value()) > v1alpha1.MaxNodeLabelValue
			k.nodes += int(g.count)
			k.values[l.value] = true
		}
	}
	s := &nodeSummary{}
	omitted := map[unique.Handle[string]]bool{}
	omit := func(k *labelKey) {
		omitted[k.key] = true
		s.omittedLabels = append(s.omittedLabels, k.key.Value())
	}
	var kept []*labelKey
	for _, k := range keys {
		isHostname := k.rank == 0 && k.nodes >= manyNodes && len(k.values) == k.nodes
		if k.rank < 0 || k.long || isHostname || len(k.values) > v1alpha1.MaxNodeGroups {
			omit(k)
		} else {
			kept = append(kept, k)
		}
	}
	slices.SortFunc(kept, func(a, b *labelKey) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(len(b.values), len(a.values)), cmp.Compare(a.key.Value(), b.key.Value()))
	})
	for groups = without(groups, omitted); len(kept) > 0 && !haveRoom(groups); kept = kept[1:] {
		omit(kept[0])
		groups = without(groups, omitted)
	}
	for _, g := range room(groups) {
		s.groups = append(s.groups, g.report())
	}
	s.omittedGroups = int32(len(without(tainted, omitted)) + len(groups) - len(s.groups))
	slices.Sort(s.omittedLabels)
	tooLong := func(key string) bool { return len(key) > v1alpha1.MaxNodeLabelKey }
	if len(s.omittedLabels) > v1alpha1.MaxOmittedNodeLabels || slices.ContainsFunc(s.omittedLabels, tooLong) {
		s.omittedLabels = []string{v1alpha1.AllNodeLabels}
	}
	return s
}

// without returns the groups without some labels, merged and sorted by the rest.
func without(groups []group, omitted map[unique.Handle[string]]bool) (all []group) {
	index := map[string]int{}
	var texts []string
	for _, g := range groups {
		g.labels = slices.DeleteFunc(slices.Clone(g.labels), func(l label) bool { return omitted[l.key] })
		text := g.text()
		at, found := index[text]
		if !found {
			index[text] = len(all)
			texts, all = append(texts, text), append(all, g)
			continue
		}
		all[at].count += g.count
	}
	slices.Sort(texts)
	sorted := make([]group, len(all))
	for i, text := range texts {
		sorted[i] = all[index[text]]
	}
	return sorted
}

// text returns a string that is equal for groups with the same traits.
func (g *group) text() string {
	var b strings.Builder
	for _, l := range g.labels {
		b.WriteString(l.key.Value() + "=" + l.value.Value() + "\n")
	}
	for i := range g.taints {
		t := &g.taints[i]
		b.WriteString("\n" + t.Key + "=" + t.Value + ":" + string(t.Effect))
	}
	return b.String()
}

func haveRoom(groups []group) bool { return len(room(groups)) == len(groups) }

// room returns the groups that fit into the report, those with the most nodes, in their original order.
func room(groups []group) []group {
	order := make([]int, len(groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(groups[b].count, groups[a].count) })
	bytes, chosen := 0, []int{}
	for _, i := range order {
		g := &groups[i]
		if bytes += g.bytes(); bytes > maxGroupBytes || len(chosen) == v1alpha1.MaxNodeGroups || len(g.labels) > v1alpha1.MaxNodeGroupLabels {
			break
		}
		chosen = append(chosen, i)
	}
	slices.Sort(chosen)
	fit := make([]group, len(chosen))
	for at, i := range chosen {
		fit[at] = groups[i]
	}
	return fit
}

// bytes estimates the size of a group as JSON.
func (g *group) bytes() int {
	return len(`{"count":0000,"labels":{},"taints":[]},`) + len(g.text()) + len(`"":"",`)*len(g.labels) + len(`{"key":"","value":"","effect":""},`)*len(g.taints)
}

func (g *group) report() v1alpha1.NodeGroup {
	reported := v1alpha1.NodeGroup{Count: g.count, Taints: g.taints}
	if len(g.labels) > 0 {
		reported.Labels = make(map[string]string, len(g.labels))
	}
	for _, l := range g.labels {
		reported.Labels[l.key.Value()] = l.value.Value()
	}
	return reported
}
