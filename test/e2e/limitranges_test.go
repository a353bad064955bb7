package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/test/kcp"
)

// TestLimitRanges: an APIExport serves LimitRanges, ours claims them, and the requests of a team that accepts that are counted with
// them.
func TestLimitRanges(t *testing.T) {
	exports := schema.GroupVersionResource{Group: "apis.kcp.io", Version: "v1alpha2", Resource: "apiexports"}
	if err := server.Apply(t.Context(), kcp.Provider, []byte(`
apiVersion: apis.kcp.io/v1alpha1
kind: APIResourceSchema
metadata: {name: v1.limitranges.core}
spec:
  group: ""
  names: {kind: LimitRange, listKind: LimitRangeList, plural: limitranges, singular: limitrange}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: apis.kcp.io/v1alpha2
kind: APIExport
metadata: {name: limits}
spec: {resources: [{group: "", name: limitranges, schema: v1.limitranges.core, storage: {crd: {}}}]}
`)); err != nil {
		t.Fatal(err)
	}
	provider, err := dynamic.NewForConfig(server.Config(kcp.Provider))
	if err != nil {
		t.Fatal(err)
	}
	get := func(name string) *unstructured.Unstructured {
		export, err := provider.Resource(exports).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return export
	}
	claims, _, err := unstructured.NestedSlice(get(kcp.Export).Object, "spec", "permissionClaims")
	if err != nil {
		t.Fatal(err)
	}
	change := func(claims []any) { // of which kcp writes none, and no other test does
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"permissionClaims": claims}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provider.Resource(exports).Patch(context.Background(), kcp.Export, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	identity := func() string {
		hash, _, _ := unstructured.NestedString(get("limits").Object, "status", "identityHash")
		return hash
	}
	for deadline := time.Now().Add(within); identity() == ""; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the export of LimitRanges has no identity")
		}
	}
	t.Cleanup(func() { change(claims) }) // the export is that of all tests
	change(append(slices.Clone(claims), map[string]any{
		"group": "", "resource": "limitranges", "identityHash": identity(), "verbs": []any{"get", "list", "watch"},
	}))
	const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s, namespace: default}
spec: {replicas: 1, selector: {}, template: {spec: {containers: [{name: c}]}}}
`
	team := newTeam(t)
	team.apply(`
apiVersion: apis.kcp.io/v1alpha2
kind: APIBinding
metadata: {name: limits}
spec: {reference: {export: {path: `+kcp.Provider+`, name: limits}}}
`, cluster("a", "4"), `
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: app, namespace: default}
spec: {workloadSelector: {}, numberOfClusters: 1}
`, fmt.Sprintf(workload, "web"))
	team.expect("Deployment web", "a")
	team.eventually("the LimitRange is taken", "", func() string {
		err := server.Apply(t.Context(), team.workspace, []byte("apiVersion: v1\nkind: LimitRange\nmetadata: {name: defaults, namespace: default}\nspec: {limits: [{type: Container, default: {cpu: 2}}]}"))
		if err != nil {
			return err.Error()
		}
		return ""
	})
	reserved := func() string { // by each workload; one that is moved from one slice to another is in both for a moment
		list, err := team.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cpu := map[string]string{}
		for i := range list.Items {
			for _, d := range as[v1alpha1.PlacementDecision](team, &list.Items[i]).Decisions {
				cpu[d.Workload.Name] = d.Reserved.Cpu().String()
			}
		}
		return fmt.Sprint(cpu)
	}
	applied := func() string {
		binding, err := team.client.Resource(bindings).Get(t.Context(), kcp.Export, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		applied, _, _ := unstructured.NestedSlice(binding.Object, "status", "appliedPermissionClaims")
		return fmt.Sprint(slices.ContainsFunc(applied, func(c any) bool { return c.(map[string]any)["resource"] == "limitranges" }))
	}
	// kcp looks for the resource of a claim once: the binding has to change for it to look again, now that LimitRanges are served.
	team.claim("Rejected", "limitranges")
	team.claim("Accepted", "limitranges")
	team.eventually("what the LimitRange adds is reserved", "map[web:2]", reserved)

	team.claim("Rejected", "limitranges")
	team.eventually("the claim is applied", "false", applied)
	time.Sleep(15 * time.Second) // until what is not shown could count as gone
	team.apply(fmt.Sprintf(workload, "late"))
	team.eventually("what the LimitRange added stays reserved, and is for another workload", "map[late:2 web:2]", reserved)
	team.eventually("the placement misses nothing", "True", func() string { return team.condition("app", "WorkloadsVisible") })
}
