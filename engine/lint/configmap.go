package lint

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/internal/spelling"
)

// configMaps are the checks of ConfigMaps.
var configMaps = []check[*corev1.ConfigMap]{
	{Warning, codePolicyLabel, policyLabel},
	{Warning, codeNotLoaded, notLoaded},
	{Warning, codePolicySet, policySet},
}

// ConfigMap reports parts of a ConfigMap that look like policies and are not loaded. It reports nothing for ConfigMaps that are not
// about policies.
func ConfigMap(configMap *corev1.ConfigMap) []Finding {
	return run(configMaps, "ConfigMap "+configMap.Namespace+"/"+configMap.Name, configMap, nil)
}

var (
	dataPath       = field.NewPath("data")
	binaryDataPath = field.NewPath("binaryData")
)

// clause matches the package clause of a module.
var clause = regexp.MustCompile(`(?m)^[ \t]*package[ \t]+([\w.]+)`)

// looksLikePolicy reports whether a text is a module below placement, or a .rego file that could be one.
func looksLikePolicy(key, text string) bool {
	found := clause.FindStringSubmatch(text)
	if found == nil {
		return policy.IsModule(key)
	}
	return found[1] == "placement" || strings.HasPrefix(found[1], "placement.")
}

func policyLabel(configMap *corev1.ConfigMap, _ *Workspace, report *report) {
	if policy.HasModules(configMap) {
		return
	}
	label := []string{v1alpha1.LabelPolicy}
	for _, key := range slices.Sorted(maps.Keys(configMap.Labels)) {
		if spelling.Typo(key, label) != "" {
			report.name(metadataLabels.Key(key), "is not read, so the policies are not loaded, did you mean %s?", v1alpha1.LabelPolicy)
			return
		}
	}
	for _, key := range slices.Sorted(maps.Keys(configMap.Annotations)) {
		if key == v1alpha1.LabelPolicy || key != v1alpha1.AnnotationPolicyStatus && spelling.Typo(key, label) != "" {
			report.name(metadataAnnotations.Key(key), "is read from the labels, so the policies are not loaded: write %s: %s under metadata.labels", v1alpha1.LabelPolicy, v1alpha1.PolicyRego)
			return
		}
	}
	for _, key := range slices.Sorted(maps.Keys(configMap.Data)) {
		if !looksLikePolicy(key, configMap.Data[key]) {
			continue
		}
		value, labelled := configMap.Labels[v1alpha1.LabelPolicy]
		if labelled {
			report.at(metadataLabels.Key(v1alpha1.LabelPolicy), "is %q, so the policies are not loaded: it must be %q", value, v1alpha1.PolicyRego)
		} else {
			near := spelling.DidYouMean(v1alpha1.LabelPolicy, slices.Sorted(maps.Keys(configMap.Labels)))
			if near != "" {
				near = "; the label " + spelling.Nearest(v1alpha1.LabelPolicy, slices.Sorted(maps.Keys(configMap.Labels))) + " looks misspelt"
			}
			report.at(dataPath.Key(key), "is not loaded: the ConfigMap needs the label %s: %s%s", v1alpha1.LabelPolicy, v1alpha1.PolicyRego, near)
		}
		return
	}
}

// policySet reports policies of a set that does not exist: they are in force nowhere.
func policySet(configMap *corev1.ConfigMap, _ *Workspace, report *report) {
	set := policy.SetOf(configMap)
	if policy.HasModules(configMap) && set != "" && set != v1alpha1.PolicySetShadow {
		report.at(metadataLabels.Key(v1alpha1.LabelPolicySet), "is %q, so the policies are not loaded: it must be %q, or be left out for the policies in force", set, v1alpha1.PolicySetShadow)
	}
}

func notLoaded(configMap *corev1.ConfigMap, _ *Workspace, report *report) {
	if !policy.HasModules(configMap) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(configMap.Data)) {
		switch {
		case policy.IsModule(key), policy.IsSuite(key):
		case clause.MatchString(configMap.Data[key]):
			report.at(dataPath.Key(key), "is not loaded: the keys of policies end in .rego, did you mean %s?", policyKey(key))
		default:
			report.at(dataPath.Key(key), "is not loaded: only keys that end in .rego are policies")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(configMap.BinaryData)) {
		report.at(binaryDataPath.Key(key), "is not loaded: policies are read from data, write them there as text")
	}
	if len(configMap.Data)+len(configMap.BinaryData) == 0 {
		report.at(nil, "has no policies: it has no data")
	}
}

// policyKey returns a key with the extension of a policy.
func policyKey(key string) string {
	for _, ending := range []string{".txt", ".yaml", ".rego", ".Rego", ".REGO", ".reg"} {
		key = strings.TrimSuffix(key, ending)
	}
	return key + ".rego"
}
