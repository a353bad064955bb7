package kubernetes_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/test/kubernetes"
)

// TestCluster: in a cluster with pods, what is applied comes to run as it does everywhere. The tests of delivery rest on this.
func TestCluster(t *testing.T) {
	programs, err := kubernetes.ClusterBinaries(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	options := kubernetes.Options{Programs: programs, Dir: t.TempDir(), Pods: true}
	server, err := kubernetes.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t, server}
	defer func() { c.server.Stop() }()
	size := corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}
	tainted := kubernetes.Node("gpu", size)
	tainted.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "ml", Effect: corev1.TaintEffectNoSchedule}}
	if err := server.AddNodes(t.Context(), kubernetes.Node("a", size), kubernetes.Node("b", size), tainted); err != nil {
		t.Fatal(err)
	}

	c.apply(application)
	await(c, deployments, "shop", "web", func(d *appsv1.Deployment) bool { return d.Status.ReadyReplicas == 3 })
	await(c, jobs, "shop", "report", func(j *batchv1.Job) bool { return j.Status.Succeeded == 2 && j.Status.CompletionTime != nil })
	claim := await(c, volumeClaims, "shop", "data", func(p *corev1.PersistentVolumeClaim) bool { return p.Status.Phase == corev1.ClaimBound })
	await(c, serviceAccounts, "shop", "default", func(a *corev1.ServiceAccount) bool { return a.Name != "" })
	web, err := c.client().CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range web.Items {
		if pod.Status.Phase != corev1.PodRunning || pod.Spec.NodeName == "gpu" || pod.Spec.Priority == nil || *pod.Spec.Priority != 10 {
			t.Errorf("%s is %s on %s with priority %v", pod.Name, pod.Status.Phase, pod.Spec.NodeName, pod.Spec.Priority)
		}
		// Admission mounts the ServiceAccount's token, which TokenRequest issues.
		if token := pod.Spec.Volumes[len(pod.Spec.Volumes)-1]; token.Projected == nil {
			t.Errorf("%s has no token of its ServiceAccount: %v", pod.Name, pod.Spec.Volumes)
		}
	}

	t.Log("a rolling update, and a scale down by a user")
	c.apply(strings.NewReplacer("nginx:1", "nginx:2", "replicas: 3", "replicas: 2").Replace(application))
	await(c, deployments, "shop", "web", func(d *appsv1.Deployment) bool {
		return d.Status.ObservedGeneration == d.Generation && d.Status.UpdatedReplicas == 2 && d.Status.Replicas == 2 && d.Status.AvailableReplicas == 2
	})

	t.Log("what cannot run says why")
	c.apply(large)
	await(c, pods, "shop", "large", func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && strings.Contains(c.Message, "Insufficient cpu")
		})
	})
	c.apply(failing)
	await(c, jobs, "shop", "failing", func(j *batchv1.Job) bool { return len(j.Status.Conditions) > 0 && j.Status.Failed == 1 })
	_, err = c.client().CoreV1().Pods("shop").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "host"}, Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c", Image: "x"}}},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "baseline:latest": host namespaces`) {
		t.Errorf("a pod that the namespace's Pod Security level forbids: %v", err)
	}

	t.Log("a restart on the same address; what ran runs on")
	server.Stop()
	restarted, err := kubernetes.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	c.server = restarted
	await(c, deployments, "shop", "web", func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 2 })
	if err := c.server.AddNodes(t.Context(), kubernetes.Node("c", corev1.ResourceList{"cpu": resource.MustParse("100")})); err != nil {
		t.Fatal(err)
	}
	await(c, pods, "shop", "large", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && p.Spec.NodeName == "c" })

	t.Log("a namespace goes with all that is in it")
	if err := c.client().CoreV1().Namespaces().Delete(t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(c, namespaces, "", "shop", func(n *corev1.Namespace) bool { return n.Name == "" })
	await(c, volumes, "", claim.Spec.VolumeName, func(v *corev1.PersistentVolume) bool { return v.Name == "" })
}

const application = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: baseline}}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: shop}
value: 10
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: shop}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      priorityClassName: shop
      containers:
        - {name: web, image: "nginx:1", volumeMounts: [{name: data, mountPath: /data}], resources: {requests: {cpu: 500m, memory: 512Mi}}}
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: report, namespace: shop}
spec:
  completions: 2
  template:
    spec: {restartPolicy: Never, containers: [{name: report, image: busybox}]}
`

const large = `
apiVersion: v1
kind: Pod
metadata: {name: large, namespace: shop}
spec: {containers: [{name: c, image: x, resources: {requests: {cpu: "50"}}}]}
`

const failing = `
apiVersion: batch/v1
kind: Job
metadata: {name: failing, namespace: shop}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {pod-container-running-failed.stage.kwok.x-k8s.io: "true"}}
    spec: {restartPolicy: Never, containers: [{name: c, image: x}]}
`

var (
	namespaces      = corev1.SchemeGroupVersion.WithResource("namespaces")
	pods            = corev1.SchemeGroupVersion.WithResource("pods")
	serviceAccounts = corev1.SchemeGroupVersion.WithResource("serviceaccounts")
	volumeClaims    = corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims")
	volumes         = corev1.SchemeGroupVersion.WithResource("persistentvolumes")
	deployments     = appsv1.SchemeGroupVersion.WithResource("deployments")
	jobs            = batchv1.SchemeGroupVersion.WithResource("jobs")
)

// cluster is one under test.
type cluster struct {
	*testing.T
	server *kubernetes.Server
}

func (c *cluster) client() client.Interface { return client.NewForConfigOrDie(c.server.Config()) }

func (c *cluster) apply(documents string) {
	c.Helper()
	if err := c.server.Apply(c.Context(), []byte(documents)); err != nil {
		c.Fatal(err)
	}
}

// await watches the object of a name, which is empty while there is none, until it is as it should be.
func await[T any](c *cluster, resource schema.GroupVersionResource, namespace, name string, done func(*T) bool) *T {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	objects := dynamic.NewForConfigOrDie(c.server.Config()).Resource(resource).Namespace(namespace)
	only := func(o metav1.ListOptions) metav1.ListOptions {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		return o
	}
	object := new(T)
	_, err := watchtools.UntilWithSync(ctx, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return objects.List(ctx, only(o))
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, only(o))
		},
	}, &unstructured.Unstructured{}, func(store cache.Store) (bool, error) {
		return len(store.ListKeys()) == 0 && done(object), nil
	}, func(event watch.Event) (bool, error) {
		object = new(T)
		if event.Type == watch.Deleted {
			return done(object), nil
		}
		err := runtime.DefaultUnstructuredConverter.FromUnstructured(event.Object.(*unstructured.Unstructured).Object, object)
		return err == nil && done(object), err
	})
	if err != nil {
		last, _ := yaml.Marshal(object)
		c.Fatalf("%s %s/%s: %v\n%s", resource.Resource, namespace, name, err, last)
	}
	return object
}
