package apply

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tmc.kcp.io/workload-uid: u-web}}
    spec:
      containers: [{name: web, image: "nginx:1", envFrom: [{configMapRef: {name: settings}}]}]
`

const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {colour: red}
`

// TestDelivery: what a Work says comes to run, stays as it is said, and goes with it.
func TestDelivery(t *testing.T) {
	d := start(t)
	d.work("a", manifest(web, placed("u-web")), manifest(settings))
	d.applied("a")
	status := d.healthy("Deployment/web")
	if c := status.Counts; c == nil || c.Replicas != 2 || c.Ready != 2 || status.WorkloadUID != "u-web" || status.Namespace != "shop" {
		t.Errorf("%+v with %+v", status, status.Counts)
	}
	in := d.namespace()
	namespace := d.get(namespaces, "", in)
	for label, want := range map[string]string{
		"pod-security.kubernetes.io/enforce": "baseline", v1alpha1.LabelWorkspace: d.workspace, v1alpha1.LabelCluster: d.name,
	} {
		if got := namespace.GetLabels()[label]; got != want {
			t.Errorf("%s: %s of the namespace is %q", label, want, got)
		}
	}

	t.Log("what others change comes back, and what they add stays")
	d.patch(configMaps, in, "settings", `{"data": {"colour": "blue", "size": "large"}}`)
	d.eventually("red again", func() bool {
		data, _, _ := unstructured.NestedStringMap(d.get(configMaps, in, "settings").Object, "data")
		return data["colour"] == "red" && data["size"] == "large"
	}, func() any { return d.get(configMaps, in, "settings") })
	uid := d.get(configMaps, in, "settings").GetUID()
	if err := d.cluster.Resource(configMaps).Namespace(in).Delete(t.Context(), "settings", *background); err != nil {
		t.Fatal(err)
	}
	d.eventually("made again", func() bool { o := d.get(configMaps, in, "settings"); return o != nil && o.GetUID() != uid }, func() any { return nil })

	t.Log("what leaves the Work leaves the cluster: workloads first, the namespace last")
	d.work("a", manifest(settings))
	d.gone(deployments, in, "web")
	d.status("a", "removed", func(s *v1alpha1.WorkStatus) bool { return len(s.Removing) == 0 && s.Applied == "1/1" })
	d.work("a")
	d.gone(configMaps, in, "settings")
	d.gone(namespaces, "", in)
	d.status("a", "removed", func(s *v1alpha1.WorkStatus) bool { return len(s.Removing) == 0 && s.Applied == "0/0" })
}

var background = &metav1.DeleteOptions{}
