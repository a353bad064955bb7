package kubernetes_test

import (
	"os"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	client "k8s.io/client-go/kubernetes"
	podresource "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// TestRequests: a workload requests what the pods that an API server makes of its template request.
func TestRequests(t *testing.T) {
	programs, err := kubernetes.Binaries(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	server, err := kubernetes.Start(t.Context(), kubernetes.Options{Programs: programs, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	pods := client.NewForConfigOrDie(server.Config()).CoreV1().Pods(metav1.NamespaceDefault)
	made, refused := 0, 0
	check := func(t *rapid.T) {
		spec := drawPod(t)
		pod, err := pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: *spec.DeepCopy(),
		}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		switch {
		case apierrors.IsInvalid(err):
			refused++
			return
		case err != nil:
			t.Fatal(err)
		}
		made++
		want, err := capacity.FromResourceList(podresource.PodRequests(pod, podresource.PodResourcesOptions{}))
		if err != nil {
			t.Fatal(err)
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&appsv1.Deployment{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
			Spec:     appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: *spec}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := workload.FromObject(&unstructured.Unstructured{Object: content})
		if err != nil {
			t.Fatal(err)
		}
		if !got.Requests.Equal(want) {
			t.Fatalf("requests %+v, the API server's pod %+v:\n%+v", got.Requests, want, pod.Spec)
		}
	}
	for made < 200 && !t.Failed() {
		rapid.Check(t, check)
	}
	t.Logf("compared %d pods, the API server refused %d", made, refused)
}

// drawPod draws a pod that an API server mostly accepts.
func drawPod(t *rapid.T) *corev1.PodSpec {
	spec := &corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways}
	containers := func(what string, least int) (all []corev1.Container) {
		for i := range rapid.IntRange(least, 2).Draw(t, what) {
			c := corev1.Container{Name: what + string(rune('a'+i)), Image: "x", Resources: drawResources(t, 1, "nvidia.com/gpu", "ephemeral-storage")}
			if what == "init" && rapid.Bool().Draw(t, "sidecar") {
				c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			}
			all = append(all, c)
		}
		return all
	}
	spec.Containers, spec.InitContainers = containers("main", 1), containers("init", 0)
	if rapid.Bool().Draw(t, "pod level") {
		spec.Resources = ptr.To(drawResources(t, 8))
	}
	return spec
}

// drawResources draws requests and limits, some without the other. What cannot be overcommitted has no other request than its limit.
func drawResources(t *rapid.T, least int64, more ...corev1.ResourceName) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for _, name := range append(more, corev1.ResourceCPU, corev1.ResourceMemory, "hugepages-2Mi") {
		unit, exact := int64(1), name == "nvidia.com/gpu"
		switch name {
		case corev1.ResourceMemory, "ephemeral-storage":
			unit = 1 << 20
		case "hugepages-2Mi":
			unit, exact = 2<<20, true
		}
		n := rapid.Int64Range(least, least+3).Draw(t, string(name))
		limit := *resource.NewQuantity(n*unit, resource.DecimalSI)
		switch rapid.SampledFrom([]string{"", "limit", "request", "both"}).Draw(t, "given of "+string(name)) {
		case "limit":
			r.Limits[name] = limit
		case "request":
			r.Requests[name] = limit
			if exact {
				r.Limits[name] = limit
			}
		case "both":
			r.Limits[name], r.Requests[name] = limit, limit
			if !exact {
				r.Requests[name] = *resource.NewQuantity(rapid.Int64Range(0, n).Draw(t, "request")*unit, resource.DecimalSI)
			}
		}
	}
	return r
}
