package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"

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
	identity := ""
	for deadline := time.Now().Add(within); identity == "" && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		export, err := provider.Resource(exports).Get(t.Context(), "limits", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		identity, _, _ = unstructured.NestedString(export.Object, "status", "identityHash")
	}
	claim := map[string]any{"group": "", "resource": "limitranges", "identityHash": identity, "verbs": []any{"get", "list", "watch"}}
	change := func(change func(claims []any) []any) {
		err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			export, err := provider.Resource(exports).Get(context.Background(), kcp.Export, metav1.GetOptions{})
			if err != nil {
				return err
			}
			claims, _, err := unstructured.NestedSlice(export.Object, "spec", "permissionClaims")
			if err != nil {
				return err
			}
			if err := unstructured.SetNestedSlice(export.Object, change(claims), "spec", "permissionClaims"); err != nil {
				return err
			}
			_, err = provider.Resource(exports).Update(context.Background(), export, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	change(func(claims []any) []any { return append(claims, claim) })
	t.Cleanup(func() { // the export is that of all tests
		change(func(claims []any) []any {
			return slices.DeleteFunc(claims, func(c any) bool { return c.(map[string]any)["resource"] == "limitranges" })
		})
	})
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
`, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec: {replicas: 1, selector: {}, template: {spec: {containers: [{name: c}]}}}
`)
	team.expect("Deployment web", "a")
	team.eventually("the LimitRange is taken", "", func() string {
		err := server.Apply(t.Context(), team.workspace, []byte("apiVersion: v1\nkind: LimitRange\nmetadata: {name: defaults, namespace: default}\nspec: {limits: [{type: Container, default: {cpu: 2}}]}"))
		if err != nil {
			return err.Error()
		}
		return ""
	})
	reserved := func() string {
		list, err := team.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all, _, _ := unstructured.NestedSlice(list.Items[0].Object, "decisions")
		cpu, _, _ := unstructured.NestedString(all[0].(map[string]any), "reserved", "cpu")
		return cpu
	}
	// kcp looks for the resource of a claim once: the binding has to change for it to look again, now that LimitRanges are served.
	team.claim("Rejected", "limitranges")
	team.claim("Accepted", "limitranges")
	team.eventually("what the LimitRange adds is reserved", "2", reserved)
	team.claim("Rejected", "limitranges")
	time.Sleep(15 * time.Second)
	if got := reserved(); got != "2" || team.condition("app", "WorkloadsVisible") != "True" {
		t.Errorf("%s reserved, WorkloadsVisible %s", got, team.condition("app", "WorkloadsVisible"))
	}
}
