package policy

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// IsModule reports whether a file, or a key of a ConfigMap, is loaded as a policy. Test suites are not.
func IsModule(name string) bool { return strings.HasSuffix(name, ".rego") && !IsSuite(name) }

// IsSuite reports whether a file, or a key of a ConfigMap, is a test suite.
func IsSuite(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// HasModules reports whether policies are loaded from a ConfigMap, by its label.
func HasModules(configMap *corev1.ConfigMap) bool {
	return configMap.Labels[v1alpha1.LabelPolicy] == v1alpha1.PolicyRego
}

// SetOf returns the set that the policies of a ConfigMap belong to, by its label: empty for the set in force, or v1alpha1.PolicySetShadow.
// Policies with any other label belong to none.
func SetOf(configMap *corev1.ConfigMap) string { return configMap.Labels[v1alpha1.LabelPolicySet] }

// OfSet returns the ConfigMaps whose policies belong to a set.
func OfSet(configMaps []*corev1.ConfigMap, set string) (of []*corev1.ConfigMap) {
	for _, c := range configMaps {
		if SetOf(c) == set {
			of = append(of, c)
		}
	}
	return of
}

// ModuleName returns the file name of a module in messages.
func ModuleName(configMap *corev1.ConfigMap, key string) string {
	return configMap.Namespace + "/" + configMap.Name + "/" + key
}

// Modules returns the text of all modules in ConfigMaps by their ModuleName. It does not check HasModules: an informer that
// selects by the label has no others.
func Modules(configMaps []*corev1.ConfigMap) map[string]string {
	modules := map[string]string{}
	for _, configMap := range configMaps {
		for key, text := range configMap.Data {
			if IsModule(key) {
				modules[ModuleName(configMap, key)] = text
			}
		}
	}
	return modules
}
