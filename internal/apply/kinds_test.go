package apply

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestParseKinds: kinds are given as people write them elsewhere, and what is none says how it is spelt.
func TestParseKinds(t *testing.T) {
	kinds, err := ParseKinds(DefaultKinds())
	if err != nil || len(kinds) != 10 {
		t.Errorf("by default %v, %v", kinds, err)
	}
	kinds, err = ParseKinds([]string{"deployments.v1.apps", "v1/Secret", "configmaps.v1", "networking.k8s.io/v1/Ingress", "rayclusters.v1.ray.io"})
	if got := fmt.Sprint(kinds); err != nil || got != "[{apps/v1 Deployment} {v1 Secret} {v1 ConfigMap} {networking.k8s.io/v1 Ingress} {ray.io/v1 RayCluster}]" {
		t.Errorf("%s, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                                      "is no resource.version.group",
		"secret.v1":                             "did you mean",
		"ingresses.v1.networking.k8s.io":        "give it as apiVersion/Kind, for example networking.k8s.io/v1/Ingress",
		"apps/v1/":                              "is not apiVersion/Kind",
		"apps/v1/deployments":                   "is not apiVersion/Kind",
		"/Secret":                               "is not apiVersion/Kind",
		"a/b/c/Secret":                          "is not apiVersion/Kind",
		"v1/Sec ret":                            "is not apiVersion/Kind",
		"v1/" + strings.Repeat("S", 64):         "is not apiVersion/Kind",
		"v1/Namespace":                          "the agent makes namespaces itself",
		"v1/Secret,secrets.v1":                  "v1/Secret and secrets.v1 are the same kind",
		"apps/v1/Deployment,apps/v2/Deployment": "are the same kind",
	} {
		if got, err := ParseKinds(strings.Split(text, ",")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	if !slices.IsSorted(DefaultKinds()) {
		t.Errorf("%v", DefaultKinds())
	}
}
