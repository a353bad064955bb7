package kubernetes_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	client "k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	podresource "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// TestRequests: a workload requests what the pods that an API server makes of its template request, in a namespace without
// LimitRanges and in others with one or several.
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
	api := client.NewForConfigOrDie(server.Config()).CoreV1()
	made, refused, defaulted := 0, 0, 0
	check := func(t *rapid.T) {
		namespace, defaults := limited(t, api)
		defer func() {
			if err := api.Namespaces().Delete(context.WithoutCancel(t.Context()), namespace, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}()
		for range 5 {
			spec := drawPod(t)
			pod, err := api.Pods(namespace).Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: *spec.DeepCopy(),
			}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			switch {
			case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
				refused++
				continue
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
			object := workload.Kinds().Read(&unstructured.Unstructured{Object: content})
			got, err := object.Count(defaults)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Requests.Equal(want) {
				t.Fatalf("requests %+v, the API server's pod %+v:\n%+v\nwith defaults %v", got.Requests, want, pod.Spec, defaults)
			}
			if plain, err := object.Count(nil); err == nil && !plain.Requests.Equal(want) {
				defaulted++
			}
		}
	}
	for (made < 200 || defaulted < 50) && !t.Failed() {
		rapid.Check(t, check)
	}
	t.Logf("compared %d pods, %d with requests of LimitRanges, the API server refused %d", made, defaulted, refused)
}

// limited makes a namespace with up to three LimitRanges, and returns what they add to a container that asks for nothing. No two say
// something about the same resource, since the API server takes any of them then.
func limited(t *rapid.T, api corev1client.CoreV1Interface) (string, corev1.ResourceList) {
	namespace, err := api.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "limited-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ranges []*corev1.LimitRange
	for i := range rapid.IntRange(0, 3).Draw(t, "ranges") {
		ranges = append(ranges, &corev1.LimitRange{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("l", i), Namespace: namespace.Name},
			Spec:       corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypePersistentVolumeClaim, Max: corev1.ResourceList{"storage": resource.MustParse("1")}}}},
		})
	}
	if len(ranges) > 0 {
		items := map[int]*corev1.LimitRangeItem{}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "nvidia.com/gpu"} {
			i := rapid.IntRange(0, len(ranges)-1).Draw(t, "range of "+string(name))
			if items[i] == nil {
				items[i] = &corev1.LimitRangeItem{
					Type: corev1.LimitTypeContainer, Min: corev1.ResourceList{}, DefaultRequest: corev1.ResourceList{}, Default: corev1.ResourceList{}, Max: corev1.ResourceList{},
				}
			}
			lists, amount := []corev1.ResourceList{items[i].Min, items[i].DefaultRequest, items[i].Default, items[i].Max}, rapid.Int64Range(1, 3).Draw(t, "amount")
			if name == "nvidia.com/gpu" { // which has to have a limit
				lists = lists[2:]
			}
			for _, list := range lists { // each is no less than the one before
				if rapid.IntRange(0, 2).Draw(t, "given") == 0 {
					list[name] = *resource.NewQuantity(amount, resource.DecimalSI)
					if len(lists) == 4 {
						amount += rapid.Int64Range(0, 3).Draw(t, "more")
					}
				}
			}
		}
		for i, item := range items {
			ranges[i].Spec.Limits = append(ranges[i].Spec.Limits, *item)
		}
	}
	for _, r := range ranges {
		if _, err := api.LimitRanges(r.Namespace).Create(t.Context(), r.DeepCopy(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	defaults := workload.DefaultRequests(ranges)[namespace.Name]
	// The API server's admission notices them a moment later.
	for started := time.Now(); len(defaults) > 0; time.Sleep(5 * time.Millisecond) {
		probe, err := api.Pods(namespace.Name).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "x"}}}},
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && len(probe.Spec.Containers[0].Resources.Requests) == len(defaults) {
			break
		}
		if time.Since(started) > 5*time.Second {
			t.Fatalf("the API server does not apply %v: %v, %v", defaults, probe.Spec.Containers, err)
		}
	}
	return namespace.Name, defaults
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
