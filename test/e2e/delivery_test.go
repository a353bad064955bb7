package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/test/agent"
	"github.com/kcp-placement/placement/test/internal/process"
	"github.com/kcp-placement/placement/test/kcp"
	"github.com/kcp-placement/placement/test/kubernetes"
)

var secrets = corev1.SchemeGroupVersion.WithResource("secrets")

// physicalClusters are two clusters in which pods run, started once.
var physicalClusters = sync.OnceValues(func() ([]*kubernetes.Server, error) {
	ctx := context.Background()
	programs, err := kubernetes.ClusterBinaries(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	var started []*kubernetes.Server
	for _, name := range []string{"east", "west"} {
		s, err := kubernetes.Start(ctx, kubernetes.Options{Programs: programs, Dir: filepath.Join(scratch, name), Pods: true})
		if err != nil {
			return started, err
		}
		started = append(started, s)
		room := corev1.ResourceList{"cpu": resource.MustParse("16"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("500")}
		if err := s.AddNodes(ctx, kubernetes.Node("node-1", room)); err != nil {
			return started, err
		}
	}
	return started, nil
})

// fleet is a team whose clusters run what is placed there.
type fleet struct {
	*team
	clusters map[string]*kubernetes.Server
	agents   map[string]*process.Process
	// made selects what the agents of this team have made.
	made metav1.ListOptions
}

// newFleet registers the physical clusters east and west in a team's workspace.
func newFleet(t *testing.T, team *team) *fleet {
	t.Helper()
	started, err := physicalClusters()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{team: team, clusters: map[string]*kubernetes.Server{"east": started[0], "west": started[1]}, agents: map[string]*process.Process{}}
	f.Cleanup(f.leave)
	for name := range f.clusters {
		f.start(name)
	}
	for name := range f.clusters {
		f.eventually(name+" is ready and delivers", "True true", func() string { return f.registered(name) })
	}
	return f
}

// leave leaves nothing behind that the controller would write for during the tests that follow, as for clusters that are lost.
func (f *fleet) leave() {
	ctx := context.Background()
	for _, in := range []dynamic.ResourceInterface{f.client.Resource(placements).Namespace("default"), f.client.Resource(clusters)} {
		if err := in.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			f.Error(err)
		}
	}
}

// start starts the agent of a cluster.
func (f *fleet) start(name string) {
	f.Helper()
	dir, err := os.MkdirTemp(scratch, "agent-")
	if err != nil {
		f.Fatal(err)
	}
	p, err := agent.Start(f.Context(), agent.Options{
		Binary: agentProgram.build(f.T), Dir: dir, Registration: name, Workspace: server.Config(f.workspace), Cluster: f.clusters[name].Config(),
		Args: []string{"--deliver", "--location", name, "--report-interval", "5s", "--metrics-bind-address", ""},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.agents[name] = p
	f.Cleanup(func() {
		p.Kill()
		if f.Failed() {
			f.Logf("agent of %s:\n%s", name, p.Tail(40))
		}
	})
}

func (f *fleet) registered(name string) string {
	u, err := f.client.Resource(clusters).Get(f.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	r := as[v1alpha1.ClusterRegistration](f.team, u)
	for _, c := range r.Status.Conditions {
		if c.Type == v1alpha1.ReadyCondition {
			return fmt.Sprint(c.Status, " ", r.Delivers())
		}
	}
	return "nothing is reported"
}

// inCluster is a client for a physical cluster.
func (f *fleet) inCluster(name string) clientset.Interface {
	f.Helper()
	client, err := clientset.NewForConfig(f.clusters[name].Config())
	if err != nil {
		f.Fatal(err)
	}
	return client
}

// ours selects what the agents of this team have made.
func (f *fleet) ours() metav1.ListOptions {
	if f.made.LabelSelector != "" {
		return f.made
	}
	f.made.LabelSelector = v1alpha1.LabelWorkspace + "=" + string(f.logicalCluster())
	return f.made
}

// running tells which Deployments of the team have ready pods, cluster by cluster: "east web 3/3 image, west ...".
func (f *fleet) running() string {
	f.Helper()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f.clusters)) {
		list, err := f.inCluster(name).AppsV1().Deployments("").List(f.Context(), f.ours())
		if err != nil {
			return err.Error()
		}
		for _, d := range list.Items {
			all = append(all, fmt.Sprintf("%s %s %d/%d", name, d.Name, d.Status.ReadyReplicas, *d.Spec.Replicas))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// left lists every object of the team's in every cluster, namespaces included.
func (f *fleet) left() string {
	f.Helper()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f.clusters)) {
		client := f.inCluster(name)
		lists, err := client.Discovery().ServerPreferredResources()
		if err != nil {
			return err.Error()
		}
		config := f.clusters[name].Config()
		config.WarningHandler = rest.NoWarnings{} // it lists what is deprecated as well
		objects, err := dynamic.NewForConfig(config)
		if err != nil {
			f.Fatal(err)
		}
		for _, list := range lists {
			gv, err := schema.ParseGroupVersion(list.GroupVersion)
			if err != nil {
				f.Fatal(err)
			}
			for _, r := range list.APIResources {
				if !slices.Contains(r.Verbs, "list") {
					continue
				}
				found, err := objects.Resource(gv.WithResource(r.Name)).List(f.Context(), f.ours())
				if err != nil {
					return fmt.Sprintf("%s: %v", r.Name, err)
				}
				for _, u := range found.Items {
					all = append(all, name+" "+r.Kind+" "+u.GetName())
				}
			}
		}
	}
	return strings.Join(all, ", ")
}

// kubectl runs kubectl in the team's workspace.
func (f *fleet) kubectl(args ...string) (string, error) {
	f.Helper()
	binary, err := kubernetes.Kubectl(f.Context(), os.Stderr)
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "kubeconfig")
	if err := server.WriteKubeconfig(f.workspace, path); err != nil {
		f.Fatal(err)
	}
	out, err := exec.CommandContext(f.Context(), binary, append([]string{"--kubeconfig", path}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// app is a Deployment with a ConfigMap and a Secret.
func app(name string, replicas int, image string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: %[1]s-config, namespace: default}
data: {greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: %[1]s-key, namespace: default}
stringData: {key: secret}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default, labels: {app: %[1]s}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: main
        image: %[3]s
        resources: {requests: {cpu: 100m}}
        envFrom: [{configMapRef: {name: %[1]s-config}}, {secretRef: {name: %[1]s-key}}]
`, name, replicas, image)
}

func pinnedTo(name string, on ...string) string {
	return placement(name, fmt.Sprintf("clusterSelector: {clusterNames: [%s]}", strings.Join(on, ", ")), fmt.Sprintf("numberOfClusters: %d", len(on)))
}

// TestAnApplicationIsDelivered: a Deployment with what it refers to comes to run in two clusters, is scaled, updated, moved and
// deleted, and its workspace shows the truth throughout.
func TestAnApplicationIsDelivered(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newTeam(t))
	f.apply(pinnedTo("web", "east", "west"), app("web", 3, "nginx:1"))
	f.eventually("it runs", "east web 3/3, west web 3/3", f.running)
	f.eventually("its status is the sum", "6 6 6 True", func() string {
		return f.deployment("{.status.replicas} {.status.readyReplicas} {.status.availableReplicas} {.status.conditions[?(@.type=='Available')].status}")
	})
	for cluster := range f.clusters {
		for _, list := range []func() (int, error){
			func() (int, error) {
				l, err := f.inCluster(cluster).CoreV1().Secrets("").List(t.Context(), f.ours())
				return len(l.Items), err
			},
			func() (int, error) {
				l, err := f.inCluster(cluster).CoreV1().ConfigMaps("").List(t.Context(), f.ours())
				return len(l.Items), err
			},
		} {
			if n, err := list(); n != 1 || err != nil {
				t.Errorf("%d objects in %s, %v", n, cluster, err)
			}
		}
	}
	f.eventually("the placement says so", "True", func() string { return strings.Fields(f.condition("web", v1alpha1.DeliveredCondition))[0] })

	f.apply(app("web", 5, "nginx:1"))
	f.eventually("it is scaled", "east web 5/5, west web 5/5", f.running)

	// An update is never said to be done before it is done everywhere.
	f.apply(app("web", 5, "nginx:2"))
	deadline := time.Now().Add(within)
	for {
		out, err := f.kubectl("rollout", "status", "deployment/web", "--watch=false")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if strings.Contains(out, "successfully rolled out") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(out)
		}
	}
	for cluster := range f.clusters {
		pods, err := f.inCluster(cluster).CoreV1().Pods("").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			t.Fatal(err)
		}
		updated := 0
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil && p.Spec.Containers[0].Image == "nginx:2" {
				updated++
			}
		}
		if updated != 5 {
			t.Errorf("rolled out, with %d updated pods in %s", updated, cluster)
		}
	}

	// Moved, it runs throughout. Clusters are read by name, so the one that it leaves is read before the one that it comes to.
	f.apply(pinnedTo("web", "east"))
	f.eventually("it has left west", "east web 5/5", f.running)
	f.apply(pinnedTo("web", "west"))
	for deadline := time.Now().Add(2 * within); ; time.Sleep(20 * time.Millisecond) {
		now := f.running()
		if !strings.Contains(now, "5/5") {
			t.Fatalf("nothing is ready in the middle of a move: %s", now)
		}
		if now == "west web 5/5" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it has not moved: %s", now)
		}
	}

	f.delete(deployments, "default", "web")
	f.eventually("nothing is left", "", f.left)
	f.eventually("the workload is gone", "true", func() string {
		_, err := f.client.Resource(deployments).Namespace("default").Get(t.Context(), "web", metav1.GetOptions{})
		return fmt.Sprint(apierrors.IsNotFound(err))
	})
}

// deployment reads the Deployment web by a JSONPath.
func (f *fleet) deployment(path string) string {
	f.Helper()
	out, err := f.kubectl("get", "deployment", "web", "-o", "jsonpath="+path)
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return out
}

// TestADividedJobCompletes: two clusters run the pods of one Job, each its part of the completions, until all have succeeded. Neither
// loses its share while they do, though ever fewer are left, and what has succeeded is reserved no more.
func TestADividedJobCompletes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newTeam(t))
	f.apply(placement("sum", "replicaScheduling: {type: Divided}"), `
apiVersion: batch/v1
kind: Job
metadata: {name: sum, namespace: default, labels: {app: sum}}
spec:
  parallelism: 4
  completions: 11
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: busybox, resources: {requests: {cpu: 100m}}}]
`)
	on := func() string {
		names := strings.Split(f.placed()["Job sum"], ",")
		slices.Sort(names) // the better one comes first, which depends on what others run there
		return strings.Join(names, ",")
	}
	f.eventually("it is on both clusters", "east,west", on)
	f.eventually("it completes", "11 True", func() string {
		if on := on(); on != "east,west" {
			t.Fatalf("it is on %q", on)
		}
		u, err := f.client.Resource(jobs).Namespace("default").Get(t.Context(), "sum", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		succeeded, _, _ := unstructured.NestedInt64(u.Object, "status", "succeeded")
		job := as[batchv1.Job](f.team, u)
		for _, c := range job.Status.Conditions {
			if c.Type == batchv1.JobComplete {
				return fmt.Sprint(succeeded, " ", c.Status)
			}
		}
		return fmt.Sprint(succeeded)
	})
	var completed int32
	for cluster := range f.clusters {
		list, err := f.inCluster(cluster).BatchV1().Jobs("").List(t.Context(), f.ours())
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("%d Jobs in %s, %v", len(list.Items), cluster, err)
		}
		completed += *list.Items[0].Spec.Completions
	}
	if completed != 11 {
		t.Errorf("%d completions in all clusters", completed)
	}
	f.eventually("nothing is reserved for it", "", f.reserved)
}

// reserved is what decisions reserve, and where.
func (f *fleet) reserved() string {
	f.Helper()
	list, err := f.client.Resource(decisions).List(f.Context(), metav1.ListOptions{})
	if err != nil {
		f.Fatal(err)
	}
	var all []string
	for i := range list.Items {
		for _, d := range as[v1alpha1.PlacementDecision](f.team, &list.Items[i]).Decisions {
			if len(d.Reserved) > 0 {
				all = append(all, d.Workload.Name)
			}
			for _, c := range d.Clusters {
				if len(c.Reserved) > 0 {
					all = append(all, d.Workload.Name+" on "+c.Name)
				}
			}
		}
	}
	return strings.Join(all, ", ")
}

// TestAnAgentIsCutOff: what runs goes on while an agent is away, and follows when it is back.
func TestAnAgentIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newTeam(t))
	f.apply(pinnedTo("web", "east"), app("web", 2, "nginx:1"), pinnedTo("gone", "east"), app("gone", 1, "nginx:1"))
	f.eventually("they run", "east gone 1/1, east web 2/2", f.running)
	f.agents["east"].Pause()
	f.apply(app("web", 4, "nginx:1"))
	f.delete(deployments, "default", "gone")
	time.Sleep(time.Minute)
	if got := f.running(); got != "east gone 1/1, east web 2/2" {
		t.Errorf("%s, while the agent is away", got)
	}
	f.agents["east"].Resume()
	f.eventually("it follows", "east web 4/4", f.running)
	f.agents["east"].Kill()
	f.apply(app("web", 3, "nginx:1"))
	f.start("east")
	f.eventually("so does the next one", "east web 3/3", f.running)
	f.delete(deployments, "default", "web")
	f.eventually("nothing is left", "", f.left)
}

// TestDeliveryIsKilled kills the controller again and again while workloads come, move and go.
func TestDeliveryIsKilled(t *testing.T) {
	const workloads, kills = 30, 8
	alone(t)
	binary, dir := controllerProgram.build(t), t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := server.WriteKubeconfig(kcp.Provider, kubeconfig); err != nil {
		t.Fatal(err)
	}
	start := func() *process.Process {
		p, err := process.Start("placement-controller", dir, binary, "--kubeconfig", kubeconfig, "--deliver", "--metrics-bind-address", "", "--disruption-percent", "100")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	c := start()
	defer func() {
		c.Kill()
		if t.Failed() {
			t.Logf("controller:\n%s", c.Tail(40))
		}
	}()
	f := newFleet(t, newTeam(t))
	var want []string
	each := func(do func(name string)) {
		for i := range workloads {
			do(fmt.Sprintf("w%02d", i))
		}
	}
	killed := func(step string, change func(name string), want string) {
		t.Helper()
		n := 0
		each(func(name string) {
			change(name)
			if n++; n%(workloads/kills) == 0 {
				c.Kill()
				c = start()
			}
		})
		deadline := time.Now().Add(4 * within)
		for got := ""; got != want; time.Sleep(100 * time.Millisecond) {
			if got = f.running(); time.Now().After(deadline) {
				t.Fatalf("%s\ngot  %s\nwant %s", step, got, want)
			}
		}
	}
	on := func(cluster string) string {
		want = nil
		each(func(name string) { want = append(want, fmt.Sprintf("%s %s 1/1", cluster, name)) })
		return strings.Join(want, ", ")
	}
	killed("they come", func(name string) { f.apply(pinnedTo(name, "east"), app(name, 1, "nginx:1")) }, on("east"))
	killed("they move", func(name string) { f.apply(pinnedTo(name, "west")) }, on("west"))
	killed("they go", func(name string) { f.delete(deployments, "default", name) }, "")
	f.eventually("nothing is left", "", f.left)
}

// TestALostClusterComesBack: what had to leave a lost cluster is removed when it comes back, and the registration tells until then
// what may still run there. Nothing waits for the lost cluster.
func TestALostClusterComesBack(t *testing.T) {
	alone(t)
	c, err := startController(context.Background(), func(c *controller.Config) { c.HeartbeatGracePeriod, c.FailoverAfter = 6*time.Second, 8*time.Second })
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	f := newFleet(t, newTeam(t))
	f.apply(placement("web", "numberOfClusters: 1", "constraints: [{name: east, expression: \"cluster.name == 'east'\"}]"), app("web", 1, "nginx:1"))
	f.eventually("it runs", "east web 1/1", f.running)
	f.eventually("its agent has said so", "True", func() string { return strings.Fields(f.condition("web", v1alpha1.DeliveredCondition))[0] })
	f.agents["east"].Kill()
	f.apply(placement("web", "numberOfClusters: 1"))
	f.eventually("it runs elsewhere", "east web 1/1, west web 1/1", f.running)
	const left = "removed once it is back: Deployment default/web"
	f.eventually("the registration tells", left, func() string {
		u, err := f.client.Resource(clusters).Get(t.Context(), "east", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		for _, c := range as[v1alpha1.ClusterRegistration](f.team, u).Status.Conditions {
			if c.Type == v1alpha1.DeliveredCondition {
				if strings.Contains(c.Message, left) {
					return left
				}
				return fmt.Sprint(c.Status, " ", c.Reason, ": ", c.Message)
			}
		}
		return "no condition"
	})
	f.delete(deployments, "default", "web")
	f.eventually("it is deleted", "true", func() string {
		_, err := f.client.Resource(deployments).Namespace("default").Get(t.Context(), "web", metav1.GetOptions{})
		return fmt.Sprint(apierrors.IsNotFound(err))
	})
	f.start("east")
	f.eventually("nothing is left", "", f.left)
}

// TestTwoWorkspacesStayApart: equal names in two workspaces on the same clusters are two applications.
func TestTwoWorkspacesStayApart(t *testing.T) {
	t.Parallel()
	var fleets []*fleet
	for i, name := range []string{"one", "two"} {
		f := newFleet(t, newTeam(t, name))
		f.apply(pinnedTo("web", "east", "west"), app("web", i+1, fmt.Sprintf("nginx:%d", i+1)))
		fleets = append(fleets, f)
	}
	for i, f := range fleets {
		n := i + 1
		f.eventually("it runs", fmt.Sprintf("east web %[1]d/%[1]d, west web %[1]d/%[1]d", n), f.running)
	}
	fleets[0].delete(deployments, "default", "web")
	fleets[0].eventually("nothing is left of one", "", fleets[0].left)
	if got := fleets[1].running(); got != "east web 2/2, west web 2/2" {
		t.Errorf("of the other: %s", got)
	}
	fleets[1].delete(deployments, "default", "web")
	fleets[1].eventually("nothing is left", "", fleets[1].left)
}

// TestAHostileAgent tries, with the credentials of one cluster's agent, every call that could tell it of another cluster or
// workspace, or change what runs there.
func TestAHostileAgent(t *testing.T) {
	f := newFleet(t, newTeam(t))
	other := newTeam(t, "other")
	f.apply(pinnedTo("web", "west"), app("web", 1, "nginx:1"))
	f.eventually("it runs", "west web 1/1", f.running)
	config, err := agent.Rights(t.Context(), server.Config(f.workspace), "east")
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	own, theirs := v1alpha1.WorkNamespace("east"), v1alpha1.WorkNamespace("west")
	f.eventually("it may read its own Works", "<nil>", func() string {
		_, err := client.Resource(works).Namespace(own).List(t.Context(), metav1.ListOptions{})
		return fmt.Sprint(err)
	})
	list, err := f.client.Resource(works).Namespace(theirs).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		t.Fatalf("%d Works of west, %v", len(list.Items), err)
	}
	name, ctx := list.Items[0].GetName(), t.Context()
	forged := list.Items[0].DeepCopy()
	forged.SetNamespace(own)
	forged.SetName("forged")
	forged.SetResourceVersion("")
	forged.SetUID("")
	merge := func(resource schema.GroupVersionResource, namespace, name, patch string, sub ...string) error {
		_, err := client.Resource(resource).Namespace(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, sub...)
		return err
	}
	get := func(resource schema.GroupVersionResource, namespace, name string) error {
		_, err := client.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	}
	lists := func(resource schema.GroupVersionResource, namespace string) error {
		_, err := client.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
		return err
	}
	watches := func(resource schema.GroupVersionResource, namespace string) error {
		w, err := client.Resource(resource).Namespace(namespace).Watch(ctx, metav1.ListOptions{})
		if err == nil {
			w.Stop()
		}
		return err
	}
	_, create := client.Resource(works).Namespace(own).Create(ctx, forged, metav1.CreateOptions{})
	calls := map[string]error{
		"create a Work":               create,
		"change a Work of its own":    merge(works, own, "any", `{"spec":{"manifests":[]}}`),
		"read a Work of another":      get(works, theirs, name),
		"list the Works of another":   lists(works, theirs),
		"watch the Works of another":  watches(works, theirs),
		"list all Works":              lists(works, ""),
		"write a status of another":   merge(works, theirs, name, `{"status":{"failed":1}}`, "status"),
		"change a Work of another":    merge(works, theirs, name, `{"spec":{"manifests":[]}}`),
		"delete the Works of another": client.Resource(works).Namespace(theirs).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		"delete its own Works":        client.Resource(works).Namespace(own).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
		"read a Secret":               get(secrets, "default", "web-key"),
		"list Secrets":                lists(secrets, ""),
		"list ConfigMaps":             lists(configMaps, "default"),
		"list Deployments":            lists(deployments, "default"),
		"change a Deployment":         merge(deployments, "default", "web", `{"spec":{"replicas":9}}`),
		"write a Deployment's status": merge(deployments, "default", "web", `{"status":{"replicas":9}}`, "status"),
		"list decisions":              lists(decisions, ""),
		"list placements":             lists(placements, ""),
		"read another registration":   get(clusters, "", "west"),
		"list registrations":          lists(clusters, ""),
		"write another registration":  merge(clusters, "", "west", `{"status":{"nodes":null}}`, "status"),
		"change its own registration": merge(clusters, "", "east", `{"spec":{"location":"moon"}}`),
		"read another's usage":        get(usages, "", "west"),
		"renew another's Lease":       merge(leases, v1alpha1.AgentNamespace, "west", `{"spec":{"leaseDurationSeconds":1}}`),
		"list namespaces":             lists(namespaces, ""),
	}
	away := server.Config(other.workspace)
	away.BearerToken, away.CertData, away.KeyData, away.CertFile, away.KeyFile = config.BearerToken, nil, nil, "", ""
	if client, err = dynamic.NewForConfig(away); err != nil {
		t.Fatal(err)
	}
	calls["list Works in another workspace"] = lists(works, "")
	calls["list registrations in another workspace"] = lists(clusters, "")
	for _, what := range slices.Sorted(maps.Keys(calls)) {
		if err := calls[what]; !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
			t.Errorf("it can %s: %v", what, err)
		}
	}
}
