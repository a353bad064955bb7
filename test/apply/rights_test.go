package apply

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/apply"
)

// TestRights: the rights that docs/deploy gives suffice, as all tests here show, and with them an agent changes nothing of others, on
// either side.
func TestRights(t *testing.T) {
	t.Parallel()
	var own *apply.Config
	d := start(t, func(c *apply.Config) { own = c })
	d.work("a", manifest(settings))
	d.applied("a")
	d.inCluster("{apiVersion: v1, kind: Namespace, metadata: {name: theirs}}")
	d.inCluster("{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs, namespace: theirs}}")
	d.inWorkspace("{apiVersion: v1, kind: Namespace, metadata: {name: cluster-other}}")

	cluster, kcp, none := dynamic.NewForConfigOrDie(own.Cluster), dynamic.NewForConfigOrDie(own.KCP), metav1.PatchOptions{}
	label := []byte(`{"metadata": {"labels": {"tmc.kcp.io/cluster": "rights"}}}`)
	object := func(kind, namespace, name string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: kind})
		o.SetNamespace(namespace)
		o.SetName(name)
		return o
	}
	patch := func(r dynamic.ResourceInterface, name, patch string, subresource ...string) error {
		_, err := r.Patch(t.Context(), name, types.MergePatchType, []byte(patch), none, subresource...)
		return err
	}
	mine, others := kcp.Resource(works).Namespace(v1alpha1.WorkNamespace(d.name)), kcp.Resource(works).Namespace("cluster-other")
	for what, try := range map[string]func() error{
		"make an object in another's namespace": func() error {
			_, err := cluster.Resource(configMaps).Namespace("theirs").Create(t.Context(), object("ConfigMap", "theirs", "x"), metav1.CreateOptions{})
			return err
		},
		"change another's object": func() error { return patch(cluster.Resource(configMaps).Namespace("theirs"), "theirs", string(label)) },
		"delete another's object": func() error {
			return cluster.Resource(configMaps).Namespace("theirs").Delete(t.Context(), "theirs", metav1.DeleteOptions{})
		},
		"delete another's namespace": func() error {
			return cluster.Resource(namespaces).Delete(t.Context(), "theirs", metav1.DeleteOptions{})
		},
		"claim another's namespace": func() error { return patch(cluster.Resource(namespaces), "theirs", string(label)) },
		"claim kube-system":         func() error { return patch(cluster.Resource(namespaces), "kube-system", string(label)) },
		"make a namespace of no label": func() error {
			_, err := cluster.Resource(namespaces).Create(t.Context(), object("Namespace", "", "unlabelled"), metav1.CreateOptions{})
			return err
		},
		"delete a PersistentVolumeClaim": func() error {
			return cluster.Resource(volumeClaims).Namespace(d.namespace()).Delete(t.Context(), "any", metav1.DeleteOptions{})
		},
		"read another cluster's Works":   func() error { _, err := others.List(t.Context(), metav1.ListOptions{}); return err },
		"read the Works of all":          func() error { _, err := kcp.Resource(works).List(t.Context(), metav1.ListOptions{}); return err },
		"change what is to run":          func() error { return patch(mine, "a", `{"spec": {"workloads": 7}}`) },
		"delete a Work":                  func() error { return mine.Delete(t.Context(), "a", metav1.DeleteOptions{}) },
		"write another cluster's status": func() error { return patch(others, "a", `{"status": {}}`, "status") },
		"read the workspace's Secrets":   func() error { _, err := kcp.Resource(secrets).List(t.Context(), metav1.ListOptions{}); return err },
	} {
		if err := try(); !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Errorf("an agent may %s: %v", what, err)
		}
	}
	if d.get(namespaces, "", "theirs").GetLabels()[v1alpha1.LabelCluster] != "" || d.get(configMaps, "theirs", "theirs") == nil {
		t.Error("something of another's is changed")
	}
}
