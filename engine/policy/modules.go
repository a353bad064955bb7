package policy

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// IsModule tells whether a file, or a key of a ConfigMap, is loaded as a policy: suites are not.
func IsModule(name string) bool { return strings.HasSuffix(name, ".rego") && !IsSuite(name) }

// IsSuite tells whether a file, or a key of a ConfigMap, is a test suite.
func IsSuite(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// HasModules tells whether a ConfigMap is one that policies are loaded from, by its label.
func HasModules(configMap *corev1.ConfigMap) bool {
	return configMap.Labels[v1alpha1.LabelPolicy] == v1alpha1.PolicyRego
}

// ModuleName is the file of a module in what people are told.
func ModuleName(configMap *corev1.ConfigMap, key string) string {
	return configMap.Namespace + "/" + configMap.Name + "/" + key
}

// Modules returns the text of all modules in ConfigMaps by their ModuleName. That they have policies, see HasModules, is
// for the caller to see to: an informer that selects by the label has no others.
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
