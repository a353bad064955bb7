// Package apply tests the agent's side of delivery against a real physical cluster, in which pods run, and against the API of
// another server in the place of kcp. Each test has a registration of its own.
package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/crds"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/apply"
	"github.com/kcp-placement/placement/internal/delivery/render"
	"github.com/kcp-placement/placement/test/agent"
	"github.com/kcp-placement/placement/test/kubernetes"
)

var (
	// physical is the cluster, workspace what stands for kcp: it serves the same API.
	physical, workspace *kubernetes.Server
	// inCluster is how agents reach the cluster, with the rights that docs/deploy gives them.
	inCluster *rest.Config
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx := context.Background()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "apply:", err)
		return 1
	}
	programs, err := kubernetes.ClusterBinaries(ctx, os.Stderr)
	if err != nil {
		return fail(err)
	}
	scratch, err := os.MkdirTemp("", "placement-apply-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(scratch)
	if physical, err = kubernetes.Start(ctx, kubernetes.Options{Programs: programs, Dir: filepath.Join(scratch, "physical"), Pods: true}); err != nil {
		return fail(err)
	}
	defer physical.Stop()
	size := corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("256Gi"), "pods": resource.MustParse("1000")}
	if err := physical.AddNodes(ctx, kubernetes.Node("a", size)); err != nil {
		return fail(err)
	}
	if workspace, err = kubernetes.Start(ctx, kubernetes.Options{Programs: programs, Dir: filepath.Join(scratch, "workspace")}); err != nil {
		return fail(err)
	}
	defer workspace.Stop()
	manifests, err := fs.Glob(crds.Manifests, "manifests/*.yaml")
	if err != nil {
		return fail(err)
	}
	for _, name := range manifests {
		manifest, err := crds.Manifests.ReadFile(name)
		if err != nil {
			return fail(err)
		}
		if err := workspace.Apply(ctx, manifest); err != nil {
			return fail(err)
		}
	}
	if inCluster, err = agent.ClusterRights(ctx, physical.Config(), true); err != nil {
		return fail(err)
	}
	return m.Run()
}

var (
	works       = v1alpha1.SchemeGroupVersion.WithResource("works")
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
)

// delivery is one registration with its agent.
type delivery struct {
	*testing.T
	name, workspace string
	config          apply.Config
	kcp, cluster    dynamic.Interface
	stop            func()
	held            bool
	mu              sync.Mutex
}

// start registers a cluster and delivers to it.
func start(t *testing.T, change ...func(*apply.Config)) *delivery {
	t.Helper()
	return startAs(t, strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), change...)
}

// startAs does so with a name for the cluster.
func startAs(t *testing.T, name string, change ...func(*apply.Config)) *delivery {
	t.Helper()
	d := &delivery{
		T: t, name: name, workspace: "w" + name, held: true,
		kcp: dynamic.NewForConfigOrDie(workspace.Config()), cluster: dynamic.NewForConfigOrDie(physical.Config()),
	}
	kinds, err := apply.ParseKinds(apply.DefaultKinds())
	if err != nil {
		t.Fatal(err)
	}
	inKCP, err := agent.Rights(t.Context(), workspace.Config(), name)
	if err != nil {
		t.Fatal(err)
	}
	d.config = apply.Config{
		Cluster: inCluster, KCP: inKCP, Registration: name, Holds: func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.held
		},
		Delivery: v1alpha1.AgentDelivery{NamespaceTemplate: render.DefaultNamespaceTemplate, PodSecurity: "baseline", Kinds: kinds},
	}
	for _, f := range change {
		f(&d.config)
	}
	d.inWorkspace(fmt.Sprintf(`
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: %s, annotations: {kcp.io/cluster: %s}}
spec: {location: here}
`, name, d.workspace))
	d.run()
	t.Cleanup(func() { d.stop() })
	return d
}

// run starts the agent, which ends with stop.
func (d *delivery) run() {
	d.Helper()
	applier, err := apply.New(d.config)
	if err != nil {
		d.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		applier.Run(ctx)
		close(done)
	}()
	d.stop = func() {
		cancel()
		<-done
	}
}

// hold says whether the registration is this cluster's.
func (d *delivery) hold(held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = held
}

// delete deletes a Work.
func (d *delivery) delete(work string) {
	d.Helper()
	if err := d.kcp.Resource(works).Namespace(v1alpha1.WorkNamespace(d.name)).Delete(d.Context(), work, metav1.DeleteOptions{}); err != nil {
		d.Fatal(err)
	}
}

func (d *delivery) inWorkspace(documents string) {
	d.Helper()
	if err := workspace.Apply(d.Context(), []byte(documents)); err != nil {
		d.Fatal(err)
	}
}

// inCluster applies documents in the cluster, as somebody else.
func (d *delivery) inCluster(documents string) {
	d.Helper()
	if err := physical.Apply(d.Context(), []byte(documents)); err != nil {
		d.Fatal(err)
	}
}

// namespace is that of the cluster for the namespace shop of the workspace, in which all tests have their objects.
func (d *delivery) namespace() string {
	return render.Namespace(d.config.Delivery.NamespaceTemplate, d.workspace, d.name, "shop")
}

// manifest is one object of a Work, as YAML. What it says of itself stands in the fields.
func manifest(object string, change ...func(*v1alpha1.Manifest)) v1alpha1.Manifest {
	content, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		panic(err)
	}
	m := v1alpha1.Manifest{Object: runtime.RawExtension{Raw: content}}
	for _, f := range change {
		f(&m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	m.Revision = fmt.Sprintf("r%x", len(text)) + fmt.Sprintf("%x", hash(text))
	return m
}

func hash(text []byte) uint32 {
	sum := uint32(2166136261)
	for _, b := range text {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return sum
}

func placed(uid string) func(*v1alpha1.Manifest) {
	return func(m *v1alpha1.Manifest) { m.WorkloadUID = types.UID(uid) }
}

func wave(n int32) func(*v1alpha1.Manifest) { return func(m *v1alpha1.Manifest) { m.Wave = n } }
func takeOver(m *v1alpha1.Manifest)         { m.TakeOver = true }
func scaled(m *v1alpha1.Manifest)           { m.Scaled = true }

// work writes a Work.
func (d *delivery) work(name string, manifests ...v1alpha1.Manifest) {
	d.Helper()
	w := &v1alpha1.Work{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Work"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: v1alpha1.WorkNamespace(d.name)},
		Spec:       v1alpha1.WorkSpec{Manifests: manifests},
	}
	if manifests == nil {
		w.Spec.Manifests = []v1alpha1.Manifest{}
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(w)
	if err != nil {
		d.Fatal(err)
	}
	delete(content, "status")
	object := &unstructured.Unstructured{Object: content}
	objects := d.kcp.Resource(works).Namespace(w.Namespace)
	if existing, err := objects.Get(d.Context(), name, metav1.GetOptions{}); err == nil {
		object.SetResourceVersion(existing.GetResourceVersion())
		_, err = objects.Update(d.Context(), object, metav1.UpdateOptions{})
		if err != nil {
			d.Fatal(err)
		}
		return
	}
	if _, err := objects.Create(d.Context(), object, metav1.CreateOptions{}); err != nil {
		d.Fatal(err)
	}
}

// status waits until a Work, once all of its spec is observed, is as done says.
func (d *delivery) status(name, what string, done func(*v1alpha1.WorkStatus) bool) *v1alpha1.WorkStatus {
	d.Helper()
	work := &v1alpha1.Work{}
	d.eventually(what, func() bool {
		object, err := d.kcp.Resource(works).Namespace(v1alpha1.WorkNamespace(d.name)).Get(d.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		work = &v1alpha1.Work{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, work); err != nil {
			d.Fatal(err)
		}
		return work.Status.ObservedGeneration == work.Generation && done(&work.Status)
	}, func() any { return work.Status })
	return &work.Status
}

// applied waits until all of a Work is applied.
func (d *delivery) applied(name string) {
	d.Helper()
	d.status(name, "applied", func(s *v1alpha1.WorkStatus) bool {
		done, all, _ := strings.Cut(s.Applied, "/")
		return done == all
	})
}

// told waits until the Work says this of an object.
func (d *delivery) told(work, object, message string) {
	d.Helper()
	d.status(work, fmt.Sprintf("%s: %q", object, message), func(s *v1alpha1.WorkStatus) bool {
		return slices.ContainsFunc(s.Manifests, func(m v1alpha1.ManifestStatus) bool {
			return m.Kind+"/"+m.Name == object && strings.Contains(m.Message, message)
		})
	})
}

// healthy waits until a workload of the Work a is Current.
func (d *delivery) healthy(object string) v1alpha1.ManifestStatus {
	d.Helper()
	var told v1alpha1.ManifestStatus
	d.status("a", object+" is Current", func(s *v1alpha1.WorkStatus) bool {
		for _, m := range s.Manifests {
			if m.Kind+"/"+m.Name == object {
				told = m
				return m.Health == v1alpha1.HealthCurrent
			}
		}
		return false
	})
	return told
}

func (d *delivery) eventually(what string, done func() bool, last func() any) {
	d.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			text, _ := yaml.Marshal(last())
			d.Fatalf("never: %s. The last is\n%s", what, text)
		}
	}
}

// get returns an object of the cluster; nil if there is none.
func (d *delivery) get(resource schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	d.Helper()
	object, err := d.cluster.Resource(resource).Namespace(namespace).Get(d.Context(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return object
}

// gone waits until an object of the cluster is.
func (d *delivery) gone(resource schema.GroupVersionResource, namespace, name string) {
	d.Helper()
	d.eventually(resource.Resource+" "+name+" is gone", func() bool { return d.get(resource, namespace, name) == nil },
		func() any { return d.get(resource, namespace, name) })
}

// in replaces the namespace shop by that of the cluster.
func (d *delivery) in(document string) string {
	return strings.ReplaceAll(document, "namespace: shop", "namespace: "+d.namespace())
}

// patch changes an object of the cluster as somebody else.
func (d *delivery) patch(resource schema.GroupVersionResource, namespace, name, patch string) {
	d.Helper()
	_, err := d.cluster.Resource(resource).Namespace(namespace).Patch(d.Context(), name, types.MergePatchType, []byte(patch),
		metav1.PatchOptions{FieldManager: "somebody"})
	if err != nil {
		d.Fatal(err)
	}
}
