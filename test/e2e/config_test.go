package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

var configs = v1alpha1.SchemeGroupVersion.WithResource("placementconfigs")

// TestPlacementConfig: a workspace is suspended and goes on, and its shadow policies come into force by a rollout.
func TestPlacementConfig(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	const config = "apiVersion: tmc.kcp.io/v1alpha1\nkind: PlacementConfig\nmetadata: {name: cluster}\nspec: {%s}"
	team.apply(cluster("a", "64"), cluster("b", "32"), placement("app", "numberOfClusters: 1"), fmt.Sprintf(config, "suspend: true"))
	team.eventually("Suspended", "True WorkspaceSuspended: spec.suspend of the PlacementConfig is true: nothing is decided in this workspace. Would change nothing.",
		func() string { return team.condition("app", v1alpha1.SuspendedCondition) })
	team.apply(deployment("web", "app", "1"))
	team.eventually("Suspended", "Would place 1: Deployment default/web would be placed on a", func() string {
		_, would, _ := strings.Cut(team.condition("app", v1alpha1.SuspendedCondition), "workspace. ")
		return would
	})
	team.expect("Deployment web", "")
	read := func() *v1alpha1.PlacementConfig {
		u, err := team.client.Resource(configs).Get(t.Context(), v1alpha1.PlacementConfigName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return as[v1alpha1.PlacementConfig](team, u)
	}
	if !conditions.IsTrue(read(), v1alpha1.SuspendedCondition) {
		t.Errorf("the config says %v", read().Status.Conditions)
	}

	team.apply(fmt.Sprintf(config, "suspend: false"))
	team.expect("Deployment web", "a")

	shadow := strings.Replace(policies("next", "package placement.affinity\n\nterms contains {\"factor\": \"affinity\", \"match\": {\"clusterNames\": [\"b\"]}, \"required\": true}"),
		"openpolicyagent.org/policy: rego", "openpolicyagent.org/policy: rego, tmc.kcp.io/policy-set: shadow", 1)
	team.apply(shadow)
	team.eventually("the shadow policies", "true", func() string {
		c, err := team.client.Resource(configMaps).Namespace("default").Get(t.Context(), "next", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(strings.HasPrefix(c.GetAnnotations()[v1alpha1.AnnotationPolicyStatus], `{"status":"ok","shadow":`))
	})
	team.apply(deployment("early", "app", "1"))
	team.expect("Deployment early", "a")

	team.apply(fmt.Sprintf(config, "policyRollout: {steps: [{percent: 1, pause: 1s}]}"))
	team.eventually("the rollout", "Complete 100", func() string {
		s := read().Status.PolicyRollout
		if s == nil {
			return "none"
		}
		return fmt.Sprint(s.Phase, " ", s.Percent)
	})
	team.apply(deployment("late", "app", "1"))
	team.expect("Deployment late", "b")
	if _, err := team.client.Resource(configMaps).Namespace("default").Patch(t.Context(), "next", types.MergePatchType,
		[]byte(`{"metadata": {"labels": {"tmc.kcp.io/policy-set": null}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	team.eventually("the policies in force", "true", func() string {
		c, err := team.client.Resource(configMaps).Namespace("default").Get(t.Context(), "next", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(strings.Contains(c.GetAnnotations()[v1alpha1.AnnotationPolicyStatus], `"digest":`))
	})
	team.apply(deployment("last", "app", "1"))
	team.expect("Deployment last", "b")
}
