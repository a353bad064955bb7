package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// admin is an administrator of a workspace, like its owner: with all rights in the workspace and none outside.
const admin = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: owner, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: owner}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
  - {kind: ServiceAccount, name: owner, namespace: default}
`

var namespaces = corev1.SchemeGroupVersion.WithResource("namespaces")

func namespace(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
}

// TestDecisionsAreTheControllers: PlacementDecisions record what is reserved, so nobody in a workspace can change them, not even
// its administrators. They can do everything else, and deleting a placement deletes its decisions.
func TestDecisionsAreTheControllers(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(admin)
	client, err := dynamic.NewForConfig(withToken(t, server.Config(team.workspace), "owner"))
	if err != nil {
		t.Fatal(err)
	}
	team.apply(cluster("a", "64"), placement("app", "numberOfClusters: 1"), deployment("web", "app", "1"))
	team.expect("Deployment web", "a")
	list, err := team.client.Resource(decisions).Namespace("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d slices, %v", len(list.Items), err)
	}
	slice := &list.Items[0]

	// It takes a moment until rights are in effect.
	owned, nothing := client.Resource(decisions).Namespace("default"), metav1.PatchOptions{}
	team.eventually("reading decisions", "<nil>", func() string {
		_, err := owned.Get(t.Context(), slice.GetName(), metav1.GetOptions{})
		return fmt.Sprint(err)
	})
	forged := slice.DeepCopy()
	forged.SetName("forged")
	forged.SetResourceVersion("")
	_, create := owned.Create(t.Context(), forged, metav1.CreateOptions{})
	_, update := owned.Update(t.Context(), slice, metav1.UpdateOptions{})
	_, patch := owned.Patch(t.Context(), slice.GetName(), types.MergePatchType, []byte(`{"decisions": []}`), nothing)
	applied := slice.DeepCopy()
	applied.SetManagedFields(nil)
	applied.SetResourceVersion("")
	_, apply := owned.Apply(t.Context(), slice.GetName(), applied, metav1.ApplyOptions{FieldManager: "owner", Force: true})
	placed := client.Resource(placements).Namespace("default")
	_, status := placed.Patch(t.Context(), "app", types.MergePatchType, []byte(`{"status": {"placed": 7}}`), nothing, "status")
	for what, err := range map[string]error{
		"create": create, "update": update, "patch": patch, "apply": apply, "write the status of a placement": status,
		"delete":     owned.Delete(t.Context(), slice.GetName(), metav1.DeleteOptions{}),
		"delete all": owned.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("an administrator may %s: %v", what, err)
		}
	}

	_, location := client.Resource(clusters).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"spec": {"location": "there"}}`), nothing)
	_, taken := client.Resource(clusters).Patch(t.Context(), "a", types.MergePatchType, []byte(`{"status": {"clusterUID": "u"}}`), nothing, "status")
	_, strategy := placed.Patch(t.Context(), "app", types.MergePatchType, []byte(`{"spec": {"priority": 1}}`), nothing)
	_, read := owned.List(t.Context(), metav1.ListOptions{})
	_, create = client.Resource(namespaces).Create(t.Context(), namespace("doomed"), metav1.CreateOptions{})
	for what, err := range map[string]error{"change a cluster": location, "report": taken, "change a placement": strategy, "read decisions": read, "make a namespace": create} {
		if err != nil {
			t.Errorf("an administrator may not %s: %v", what, err)
		}
	}

	inDoomed := func(document string) string {
		return strings.Replace(document, "namespace: default", "namespace: doomed", 1)
	}
	team.apply(inDoomed(placement("app", "numberOfClusters: 1")), inDoomed(deployment("other", "app", "1")))
	team.expect("Deployment other", "a")
	if err := placed.Delete(t.Context(), "app", metav1.DeleteOptions{}); err != nil {
		t.Errorf("an administrator may not delete a placement: %v", err)
	}
	if err := client.Resource(namespaces).Delete(t.Context(), "doomed", metav1.DeleteOptions{}); err != nil {
		t.Errorf("an administrator may not delete a namespace: %v", err)
	}
	team.eventually("decisions left", "0", func() string {
		list, err := team.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(len(list.Items))
	})
}
