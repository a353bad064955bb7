package apply

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func (d *delivery) replicas() int64 {
	object := d.get(deployments, d.namespace(), "web")
	if object == nil {
		return -1
	}
	n, _, _ := unstructured.NestedInt64(object.Object, "spec", "replicas")
	return n
}

// decided waits until there are two replicas, as the manifest says.
func (d *delivery) decided() {
	d.Helper()
	d.eventually("2 replicas", func() bool { return d.replicas() == 2 }, func() any { return d.get(deployments, d.namespace(), "web") })
}

// scale scales by the subresource, as a field manager.
func (d *delivery) scale(manager, replicas string) {
	d.Helper()
	_, err := d.cluster.Resource(deployments).Namespace(d.namespace()).Patch(d.Context(), "web", types.MergePatchType,
		[]byte(`{"spec": {"replicas": `+replicas+`}}`), metav1.PatchOptions{FieldManager: manager}, "scale")
	if err != nil {
		d.Fatal(err)
	}
}

// imageOf changes the image, so that there is another revision.
func imageOf(document, image string) string { return strings.ReplaceAll(document, "nginx:1", image) }

func (d *delivery) image() string {
	containers, _, _ := unstructured.NestedSlice(d.get(deployments, d.namespace(), "web").Object, "spec", "template", "spec", "containers")
	return containers[0].(map[string]any)["image"].(string)
}

// TestScaled: replicas of what an autoscaler scales are set once, and are the autoscaler's then.
func TestScaled(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("a", manifest(web, placed("u-web"), scaled), manifest(settings))
	d.applied("a")
	d.decided()
	d.scale("kube-controller-manager", "5")
	d.work("a", manifest(imageOf(web, "nginx:2"), placed("u-web"), scaled), manifest(settings))
	d.applied("a")
	if n, image := d.replicas(), d.image(); n != 5 || image != "nginx:2" {
		t.Errorf("%d replicas of %s", n, image)
	}

	t.Log("without the autoscaler they are the decision's again")
	d.scale("kubectl", "4") // so that the scaler in the cluster is gone as well
	d.work("a", manifest(imageOf(web, "nginx:3"), placed("u-web")), manifest(settings))
	d.applied("a")
	d.decided()

	t.Log("one that comes later takes over what there is")
	d.work("a", manifest(imageOf(strings.Replace(web, "replicas: 2", "replicas: 3", 1), "nginx:4"), placed("u-web"), scaled), manifest(settings))
	d.applied("a")
	if n, image := d.replicas(), d.image(); n != 2 || image != "nginx:4" {
		t.Errorf("%d replicas of %s", n, image)
	}
	d.work("a", manifest(imageOf(web, "nginx:5"), placed("u-web"), scaled), manifest(settings))
	d.applied("a")
	if n := d.replicas(); n != 2 {
		t.Errorf("%d replicas once the fields are handed over", n)
	}
}

// TestScaledInCluster: an autoscaler that only the cluster knows is respected; what people scale comes back.
func TestScaledInCluster(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.work("a", manifest(web, placed("u-web")), manifest(settings))
	d.applied("a")
	d.scale("kubectl", "7")
	d.decided()
	d.patch(deployments, d.namespace(), "web", `{"spec": {"replicas": 6}}`)
	d.decided()
	d.scale("keda", "5")
	time.Sleep(2 * time.Second)
	d.work("a", manifest(imageOf(web, "nginx:2"), placed("u-web")), manifest(settings))
	d.applied("a")
	d.patch(deployments, d.namespace(), "web", `{"spec": {"paused": true, "minReadySeconds": 3}}`)
	d.patch(configMaps, d.namespace(), "settings", `{"data": {"colour": "blue"}}`)
	d.colour("red")
	if n, image := d.replicas(), d.image(); n != 5 || image != "nginx:2" {
		t.Errorf("%d replicas of %s", n, image)
	}
}

// TestWaves: what is in a wave is applied once all that is in lower ones is ready: a Job once it has succeeded.
func TestWaves(t *testing.T) {
	t.Parallel()
	d := start(t)
	const migration = `
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, namespace: shop}
spec:
  suspend: true
  template:
    metadata: {labels: {tmc.kcp.io/workload-uid: u-migrate}}
    spec: {restartPolicy: Never, containers: [{name: c, image: x}]}
`
	claim := manifest(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: shop},
		spec: {accessModes: [ReadWriteOnce], storageClassName: waits, resources: {requests: {storage: 1Gi}}}}`, wave(-2))
	all := func(migration string) {
		d.work("a", manifest(web, placed("u-web")), manifest(settings, wave(-1)), manifest(migration, placed("u-migrate"), wave(-1)), claim)
	}
	all(migration)
	d.told("a", "Deployment/web", "it waits for wave -1: Job migrate is not ready")
	if d.get(deployments, d.namespace(), "web") != nil {
		t.Error("it does not wait")
	}
	all(strings.Replace(migration, "suspend: true", "suspend: false", 1))
	d.applied("a")
	d.healthy("Deployment/web")

	t.Log("a Deployment whose turn was is updated, and put right, whatever becomes of lower waves")
	d.patch(deployments, d.namespace(), "web", `{"spec": {"replicas": 6}}`)
	d.decided()
}
