package nodes_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/nodes"
)

func parse[T any](t testing.TB, text string) (value T) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), &value); err != nil {
		t.Fatal(text, err)
	}
	return value
}

// fleet are nodes with fast disks for anybody, with GPUs for who tolerates that, and others.
const fleet = `{nodeGroups: [
	{count: 3, labels: {disk: ssd, zone: a, kubernetes.io/arch: amd64, cores: "16"}},
	{count: 2, labels: {disk: hdd, zone: b, kubernetes.io/arch: arm64, cores: "64"}},
	{count: 1, labels: {disk: ssd, zone: b, gpu: a100}, taints: [{key: nvidia.com/gpu, effect: NoSchedule}, {key: dedicated, value: ml, effect: NoExecute}]}],
	omittedNodeLabels: [kubernetes.io/hostname]}`

// TestWhatPodsAskFor states what pods ask for, what is wrong with that, and why no node has it.
func TestWhatPodsAskFor(t *testing.T) {
	affinity := func(terms string) string {
		return `{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: ` + terms + `}}}}`
	}
	tolerates := `tolerations: [{key: nvidia.com/gpu, operator: Exists}, {key: dedicated, value: ml}]`
	for _, test := range []struct{ name, pod, status, want string }{
		{"nothing", `{}`, fleet, ""},
		{"nothing, where each node has a taint", `{}`, `{nodeGroups: [{taints: [{key: gpu, effect: NoSchedule}, {key: old, effect: NoExecute}]}, {taints: [{key: dedicated, value: ml, effect: NoSchedule}]}]}`,
			"each node that the pods select has a taint that they do not tolerate: dedicated=ml:NoSchedule (pod.spec.tolerations) -> a toleration of taint dedicated=ml:NoSchedule in the pod template"},
		{"nothing, where a taint is a wish", `{}`, `{nodeGroups: [{taints: [{key: slow, effect: PreferNoSchedule}]}]}`, ""},
		{"nothing, where an effect is none", `{}`, `{nodeGroups: [{taints: [{key: slow, effect: NoScheduling}]}]}`,
			"each node that the pods select has a taint that they do not tolerate: slow:NoScheduling (pod.spec.tolerations) -> a toleration of taint slow:NoScheduling in the pod template"},
		{"a label that a group has", `{nodeSelector: {disk: ssd}}`, fleet, ""},
		{"a value that none has", `{nodeSelector: {disk: nvme, zone: a}}`, fleet,
			"no node group has label disk=nvme (pod.spec.nodeSelector) -> a node with label disk=nvme and zone=a"},
		{"labels that no group has together", `{nodeSelector: {disk: hdd, zone: a}}`, fleet,
			"no node group has label disk=hdd and zone=a together (pod.spec.nodeSelector) -> a node with label disk=hdd and zone=a"},
		{"a label of nodes with taints", `{nodeSelector: {gpu: a100}, tolerations: [{key: dedicated, operator: Exists}]}`, fleet,
			"each node that the pods select has a taint that they do not tolerate: nvidia.com/gpu:NoSchedule (pod.spec.tolerations) -> a toleration of taint nvidia.com/gpu:NoSchedule in the pod template"},
		{"taints are tolerated", `{nodeSelector: {gpu: a100}, ` + tolerates + `}`, fleet, ""},
		{"everything is tolerated", `{nodeSelector: {gpu: a100}, tolerations: [{operator: Exists}]}`, fleet, ""},
		{"an effect is tolerated, another is not", `{nodeSelector: {gpu: a100}, tolerations: [{operator: Exists, effect: NoSchedule}]}`, fleet,
			"each node that the pods select has a taint that they do not tolerate: dedicated=ml:NoExecute (pod.spec.tolerations) -> a toleration of taint dedicated=ml:NoExecute in the pod template"},
		{"what is tolerated for a while is tolerated", `{tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 0}]}`, `{nodeGroups: [{taints: [{key: a, effect: NoExecute}]}]}`, ""},
		{"a toleration by number", `{tolerations: [{key: sla, operator: Gt, value: "950"}]}`, `{nodeGroups: [{taints: [{key: sla, value: "999", effect: NoSchedule}]}]}`, ""},
		{"a number that is too small", `{tolerations: [{key: sla, operator: Gt, value: "950"}]}`, `{nodeGroups: [{taints: [{key: sla, value: "900", effect: NoSchedule}]}]}`,
			"each node that the pods select has a taint that they do not tolerate: sla=900:NoSchedule (pod.spec.tolerations) -> a toleration of taint sla=900:NoSchedule in the pod template"},

		{"one of two terms", affinity(`[{matchExpressions: [{key: disk, operator: In, values: [nvme]}]}, {matchExpressions: [{key: cores, operator: Gt, values: ["32"]}]}]`), fleet, ""},
		{"none of two terms", affinity(`[{matchExpressions: [{key: disk, operator: In, values: [nvme, tape]}, {key: zone, operator: Exists}]}, {matchExpressions: [{key: cores, operator: Lt, values: ["8"]}]}]`), fleet,
			"no node group has disk In nvme, tape and zone Exists, or cores Lt 8 (pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution) -> a node with disk In nvme, tape and zone Exists, or cores Lt 8"},
		{"an empty term selects nothing", affinity(`[{}]`), fleet, "an empty term selects no node (pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution) -> a term with a requirement in the pod template"},
		{"a node by name is not known", affinity(`[{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]`), fleet, ""},
		{"the selector and the affinity in different groups", `{nodeSelector: {zone: a}, ` + affinity(`[{matchExpressions: [{key: disk, operator: NotIn, values: [ssd]}]}]`)[1:], fleet,
			"no node group has disk NotIn ssd (pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution) -> a node with disk NotIn ssd"},

		{"what is not told is taken as met", `{nodeSelector: {kubernetes.io/hostname: n1}}`, fleet, ""},
		{"but the rest is not", `{nodeSelector: {kubernetes.io/hostname: n1, disk: tape}}`, fleet,
			"no node group has label disk=tape (pod.spec.nodeSelector) -> a node with label disk=tape"},
		{"nor are taints", `{nodeSelector: {kubernetes.io/hostname: n1, gpu: a100}}`, fleet,
			"each node that the pods select has a taint that they do not tolerate: nvidia.com/gpu:NoSchedule and dedicated=ml:NoExecute (pod.spec.tolerations) -> a toleration of taint nvidia.com/gpu:NoSchedule and dedicated=ml:NoExecute in the pod template"},
		{"an affinity by what is not told", affinity(`[{matchExpressions: [{key: disk, operator: In, values: [tape]}]}, {matchExpressions: [{key: kubernetes.io/hostname, operator: DoesNotExist}]}]`), fleet, ""},
		{"an affinity by that and by what is told", affinity(`[{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}, {key: disk, operator: In, values: [tape]}]}]`), fleet,
			"no node group has disk In tape (pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution) -> a node with disk In tape"},
		{"there are more keys than have room", `{nodeSelector: {serial: "7"}}`, `{nodeGroups: [{labels: {disk: ssd}}], omittedNodeLabels: ["*"]}`, ""},
		{"those that have room are told", `{nodeSelector: {disk: tape}}`, `{nodeGroups: [{labels: {disk: ssd}}], omittedNodeLabels: ["*"]}`,
			"no node group has label disk=tape (pod.spec.nodeSelector) -> a node with label disk=tape"},
		{"there are more groups than have room", `{nodeSelector: {disk: tape}}`, `{nodeGroups: [{labels: {disk: ssd}}], omittedNodeGroups: 1}`, ""},
		{"more groups than there may be", `{nodeSelector: {disk: tape}}`, `{nodeGroups: [` + strings.Repeat("{},", v1alpha1.MaxNodeGroups+1) + `]}`, ""},
		{"more keys than there may be", `{nodeSelector: {disk: tape}}`, `{nodeGroups: [{}], omittedNodeLabels: [` + strings.Repeat("a, ", v1alpha1.MaxOmittedNodeLabels+1) + `]}`, ""},
		{"nothing is told", `{nodeSelector: {disk: tape}}`, `{}`, ""},

		{"a key that is none", `{nodeSelector: {"a b": c}}`, fleet, `error: pod.spec.nodeSelector: key: Invalid value: "a b"`},
		{"an operator that there is not", affinity(`[{matchExpressions: [{key: disk, operator: Like, values: [a]}]}]`), fleet,
			`error: pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Unsupported value: "Like"`},
		{"no number", affinity(`[{matchExpressions: [{key: cores, operator: Gt, values: [many]}]}]`), fleet,
			`error: pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: "many"`},
		{"no term", affinity(`[]`), fleet,
			`error: pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value`},
		{"a toleration that is none", `{tolerations: [{key: a, operator: Like}]}`, fleet,
			`error: pod.spec.tolerations[0].operator: Unsupported value: "Like": supported values: "Equal", "Exists", "Gt", "Lt"`},
		{"a toleration by what is no number", `{tolerations: [{key: a, operator: Lt, value: "07"}]}`, fleet,
			`error: pod.spec.tolerations[0].value: Invalid value: "07": must be an integer where operator is Lt`},
		{"too much", affinity(`[{matchExpressions: [{key: a, operator: In, values: [` + strings.Repeat("b, ", 1024) + `]}]}]`), fleet,
			"error: pod.spec: nodeSelector and required node affinity have more than 1024 values"},
		{"too many tolerations", `{tolerations: [` + strings.Repeat("{key: a, operator: Exists}, ", 129) + `]}`, fleet,
			"error: pod.spec: there are more than 128 tolerations, with those of extended resources that are requested"},
	} {
		spec := parse[nodes.PodSpec](t, test.pod)
		if got := answer(spec, parse[v1alpha1.ClusterRegistrationStatus](t, strings.ReplaceAll(test.status, "\t", " "))); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func answer(spec nodes.PodSpec, status v1alpha1.ClusterRegistrationStatus) string {
	pods, err := spec.Of("pod.spec", nil)
	if err != nil {
		return "error: " + err.Error()
	}
	if _, err := nodes.Of([]nodes.Pods{pods}); err != nil {
		return "error: " + err.Error()
	}
	s := nodes.FromStatus(&status)
	if s.Have(&pods) {
		return ""
	}
	lack := s.Lacking(&pods)
	if strings.Contains(lack.Remedy, "in the pod template") != lack.InTemplate {
		return "the remedy is said to be elsewhere than it is: " + lack.Remedy
	}
	return lack.Message + " (" + lack.Field + ") -> " + lack.Remedy
}

// TestCount: a pod on each node is one on each that it can run on. Nodes with taints that it tolerates count, but are no part of what the
// cluster has. Where a group is not counted, or not told, it is not known.
func TestCount(t *testing.T) {
	fleet := func(count int, more string) string {
		return fmt.Sprintf(`{nodeGroups: [{count: 3, labels: {disk: ssd}}, {count: 2, labels: {disk: ssd}, taints: [{key: gpu, effect: NoSchedule}]},
			{count: %d, labels: {disk: hdd}}]%s}`, count, more)
	}
	for _, test := range []struct{ name, status, pod, want string }{
		{"pods that ask for nothing run where there are no taints", fleet(5, ""), "{}", "8 8 true"},
		{"a node selector", fleet(5, ""), "{nodeSelector: {disk: ssd}}", "3 3 true"},
		{"what tolerates a taint runs there, too", fleet(5, ""), "{nodeSelector: {disk: ssd}, tolerations: [{key: gpu, operator: Exists}]}", "5 3 true"},
		{"what has no node runs on none", fleet(5, ""), "{nodeSelector: {disk: tape}}", "0 0 true"},
		{"labels that are not told are taken as met", fleet(5, ", omittedNodeLabels: [disk]"), "{nodeSelector: {disk: tape}}", "8 8 true"},
		{"a group that is not counted", fleet(0, ""), "{}", "0 0 false"},
		{"groups that are not told", fleet(5, ", omittedNodeGroups: 1"), "{}", "0 0 false"},
		{"nothing is told", "{}", "{}", "0 0 false"},
	} {
		status := parse[v1alpha1.ClusterRegistrationStatus](t, strings.ReplaceAll(test.status, "\t", " "))
		spec := parse[nodes.PodSpec](t, test.pod)
		pods, err := spec.Of("spec", nil)
		if err != nil {
			t.Fatal(err)
		}
		wishes, err := nodes.Of([]nodes.Pods{pods})
		if err != nil {
			t.Fatal(err)
		}
		running, usable, known := nodes.FromStatus(&status).Count(wishes)
		if got := fmt.Sprint(running, usable, known); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestExtendedResources: pods tolerate the taints of the resources that they request, as the API server may add.
func TestExtendedResources(t *testing.T) {
	s := &nodes.Summary{Groups: []nodes.Group{{Taints: []corev1.Taint{{Key: "nvidia.com/gpu", Value: "present", Effect: corev1.TaintEffectNoSchedule}}}}}
	for name, want := range map[string]bool{"nvidia.com/gpu": true, "amd.com/gpu": false} {
		pods, err := new(nodes.PodSpec).Of("spec", []string{name})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Have(&pods); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestEqual: wishes are the same if every template asks for the same, and nil if none asks for anything.
func TestEqual(t *testing.T) {
	of := func(specs ...string) *nodes.Wishes {
		var all []nodes.Pods
		for i, spec := range specs {
			parsed := parse[nodes.PodSpec](t, spec)
			pods, err := parsed.Of(fmt.Sprintf("spec.groups[%d]", i), nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pods)
		}
		w, err := nodes.Of(all)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	different := []*nodes.Wishes{
		of(), of(`{nodeSelector: {a: b}}`), of(`{nodeSelector: {a: c}}`), of(`{nodeSelector: {a: b}}`, `{}`), of(`{nodeSelector: {a: b, c: d}}`), of(`{tolerations: [{operator: Exists}]}`),
		of(`{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}}}}`),
	}
	for i, a := range different {
		for j, b := range different {
			if a.Equal(b) != (i == j) || (a.Digest() == b.Digest()) != (i == j) {
				t.Errorf("%d and %d are the same: %v", i, j, a.Equal(b))
			}
		}
	}
	if of(`{}`, `{}`) != nil || !of(`{nodeSelector: {a: b}}`, `{nodeSelector: {a: b}}`).Equal(of(`{nodeSelector: {a: b}}`)) {
		t.Error("a template that asks for the same makes a difference")
	}
}

// TestNobodyIsKeptAwayWrongly: whatever of the labels is not told, pods that a node could run have a node. Where all is told,
// they have one only then.
func TestNobodyIsKeptAwayWrongly(t *testing.T) {
	keys, values := []string{"a", "b", "c"}, []string{"", "1", "2"}
	key, value := rapid.SampledFrom(keys), rapid.SampledFrom(values)
	effect := rapid.SampledFrom([]string{"", "NoSchedule", "NoExecute"})
	taint := rapid.Custom(func(t *rapid.T) corev1.Taint {
		return corev1.Taint{Key: key.Draw(t, "key"), Value: value.Draw(t, "value"), Effect: corev1.TaintEffect(rapid.SampledFrom([]string{"NoSchedule", "NoExecute", "PreferNoSchedule"}).Draw(t, "effect"))}
	})
	requirement := rapid.Custom(func(t *rapid.T) corev1.NodeSelectorRequirement {
		r := corev1.NodeSelectorRequirement{Key: key.Draw(t, "key")}
		switch r.Operator = rapid.SampledFrom([]corev1.NodeSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}).Draw(t, "operator"); r.Operator {
		case "In", "NotIn":
			r.Values = rapid.SliceOfN(value, 1, 2).Draw(t, "values")
		case "Gt", "Lt":
			r.Values = []string{"1"}
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		var spec nodes.PodSpec
		spec.NodeSelector = rapid.MapOfN(key, value, 0, 2).Draw(t, "selector")
		if rapid.Bool().Draw(t, "has an affinity") {
			spec.Affinity.NodeAffinity.Required = &corev1.NodeSelector{}
			for range rapid.IntRange(1, 2).Draw(t, "terms") {
				spec.Affinity.NodeAffinity.Required.NodeSelectorTerms = append(spec.Affinity.NodeAffinity.Required.NodeSelectorTerms,
					corev1.NodeSelectorTerm{MatchExpressions: rapid.SliceOfN(requirement, 0, 2).Draw(t, "term")})
			}
		}
		for range rapid.IntRange(0, 2).Draw(t, "tolerations") {
			spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Key: key.Draw(t, "key"), Value: value.Draw(t, "value"), Effect: corev1.TaintEffect(effect.Draw(t, "effect"))})
		}
		pods, err := spec.Of("spec", nil)
		if err != nil {
			t.Fatal(err)
		}
		omitted := rapid.SampledFrom([][]string{nil, {"a"}, {"a", "b"}, {"*"}}).Draw(t, "omitted")
		var all v1alpha1.ClusterRegistrationStatus
		could := false
		for range rapid.IntRange(1, 3).Draw(t, "nodes") {
			g := v1alpha1.NodeGroup{Labels: rapid.MapOfN(key, value, 0, 3).Draw(t, "labels"), Taints: rapid.SliceOfN(taint, 0, 1).Draw(t, "taints")}
			could = could || runs(&spec, g)
			for _, key := range omitted {
				if delete(g.Labels, key); key == "*" {
					clear(g.Labels)
				}
			}
			all.NodeGroups = append(all.NodeGroups, g)
		}
		all.OmittedNodeLabels = omitted
		switch have := nodes.FromStatus(&all).Have(&pods); {
		case could && !have:
			t.Fatal("the pods are kept away from a node that could run them")
		case have && !could && omitted == nil:
			t.Fatal("no node can run them")
		}
	})
}

// runs reports whether a node can run pods, as Kubernetes' documentation has it.
func runs(spec *nodes.PodSpec, node v1alpha1.NodeGroup) bool {
	for key, value := range spec.NodeSelector {
		if has, found := node.Labels[key]; !found || has != value {
			return false
		}
	}
	for _, taint := range node.Taints {
		tolerated := taint.Effect == corev1.TaintEffectPreferNoSchedule
		for _, t := range spec.Tolerations {
			tolerated = tolerated || t.Key == taint.Key && t.Value == taint.Value && (t.Effect == "" || t.Effect == taint.Effect)
		}
		if !tolerated {
			return false
		}
	}
	if spec.Affinity.NodeAffinity.Required == nil {
		return true
	}
	for _, term := range spec.Affinity.NodeAffinity.Required.NodeSelectorTerms {
		all := len(term.MatchExpressions) > 0
		for _, r := range term.MatchExpressions {
			has, found := node.Labels[r.Key]
			in := found && strings.Contains("|"+strings.Join(r.Values, "|")+"|", "|"+has+"|")
			all = all && map[corev1.NodeSelectorOperator]bool{
				"In": in, "NotIn": !in, "Exists": found, "DoesNotExist": !found, "Gt": has == "2", "Lt": false,
			}[r.Operator]
		}
		if all {
			return true
		}
	}
	return false
}
