// Package e2e tests the programs against a real kcp and the API of a real physical cluster. Each test works in a workspace
// of its own.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/test/kcp"
	"github.com/kcp-placement/placement/test/kubernetes"
)

var (
	server   *kcp.Server
	physical *kubernetes.Server
	current  *running
	// scratch is a folder that all tests share.
	scratch string
)

// atOnce is how many tests that may run beside others do: they wait, most of the time.
const atOnce = "3"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	binary, err := kcp.Binary(ctx, os.Stderr)
	if err != nil {
		return fail(err)
	}
	programs, err := kubernetes.Binaries(ctx, os.Stderr)
	if err != nil {
		return fail(err)
	}
	if scratch, err = os.MkdirTemp("", "placement-e2e-"); err != nil {
		return fail(err)
	}
	defer os.RemoveAll(scratch)
	if server, err = kcp.Start(ctx, kcp.Options{Binary: binary, Dir: filepath.Join(scratch, "kcp"), Users: users}); err != nil {
		return fail(err)
	}
	defer server.Stop()
	if physical, err = kubernetes.Start(ctx, kubernetes.Options{Programs: programs, Dir: filepath.Join(scratch, "physical")}); err != nil {
		return fail(err)
	}
	defer physical.Stop()
	if err := server.Install(ctx); err != nil {
		return fail(err)
	}
	if current, err = startController(ctx); err != nil {
		return fail(err)
	}
	defer func() { current.stop() }()
	return m.Run()
}

// program is one of ours, built once.
type program struct {
	name string
	once sync.Once
	path string
	err  error
}

var (
	controllerProgram = &program{name: "placement-controller"}
	agentProgram      = &program{name: "placement-agent"}
	cliProgram        = &program{name: "kubectl-placement"}
)

func (p *program) build(t *testing.T) string {
	t.Helper()
	p.once.Do(func() {
		p.path = filepath.Join(scratch, p.name)
		if out, err := exec.Command("go", "build", "-o", p.path, "../../cmd/"+p.name).CombinedOutput(); err != nil {
			p.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.path
}

// The workload kinds of the tests.
var (
	deployments  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	statefulSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
	jobs         = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}

	clusters   = v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations")
	usages     = v1alpha1.SchemeGroupVersion.WithResource("clusterusages")
	placements = v1alpha1.SchemeGroupVersion.WithResource("workloadplacements")
	decisions  = v1alpha1.SchemeGroupVersion.WithResource("placementdecisions")
	configMaps = corev1.SchemeGroupVersion.WithResource("configmaps")
	events     = corev1.SchemeGroupVersion.WithResource("events")
	leases     = coordinationv1.SchemeGroupVersion.WithResource("leases")
)

// running is a controller in this process.
type running struct {
	*controller.Controller
	engine *engine.Engine
	writes *writes
	stop   func()
}

// writes are the requests of a controller that change something, as "PATCH https://...". Tests ask for those of their own workspace:
// in those of others, which tests before them have left, clusters get lost and decisions are made meanwhile.
type writes struct {
	mu  sync.Mutex
	all []string
}

// through notes the requests that a transport is to send.
func (w *writes) through(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if request.Method != http.MethodGet {
			w.mu.Lock()
			w.all = append(w.all, request.Method+" "+request.URL.String())
			w.mu.Unlock()
		}
		return next.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// in returns the writes in the workspace of a team: of events, and of all else.
func (w *writes) in(t *team) (events, others []string) {
	t.Helper()
	of := "/clusters/" + string(t.logicalCluster()) + "/"
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, write := range w.all {
		switch {
		case !strings.Contains(write, of):
		case strings.Contains(write, "/events"):
			events = append(events, write)
		default:
			others = append(others, write)
		}
	}
	return events, others
}

func startController(ctx context.Context, change ...func(*controller.Config)) (*running, error) {
	policies, err := policy.NewCompiler(policy.Options{Timeout: time.Second}) // -race is slow
	if err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Options{Policies: policies})
	if err != nil {
		return nil, err
	}
	writes := &writes{}
	config := controller.Config{
		Provider: server.Config(kcp.Provider), EndpointSlice: kcp.Export, MaxConcurrentDecisions: 2,
		Kinds: []schema.GroupVersionResource{deployments, statefulSets, jobs}, Engine: e, Policies: policies, Registry: prometheus.NewRegistry(),
		Deliver:            true,
		WatchCheckInterval: 20 * time.Second, // so that no test waits long for a deaf watch
	}
	config.Provider.Wrap(writes.through)
	for _, f := range change {
		f(&config)
	}
	c, err := controller.New(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return &running{c, e, writes, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "controller:", err)
		}
	})}, nil
}

// alone stops the shared controller until the end of this test, which starts its own.
func alone(t *testing.T) {
	current.stop()
	t.Cleanup(func() {
		var err error
		if current, err = startController(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// team is a workspace of one test.
type team struct {
	*testing.T
	workspace string
	client    dynamic.Interface
}

// newTeam makes the workspace of a test, or one of several, each with a suffix.
func newTeam(t *testing.T, suffix ...string) *team {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.Join(append([]string{t.Name()}, suffix...), "-")))
	if err := server.CreateTeam(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(server.Config("root:" + name))
	if err != nil {
		t.Fatal(err)
	}
	return &team{t, "root:" + name, client}
}

// logicalCluster is the team's workspace as the controller knows it.
func (t *team) logicalCluster() logicalcluster.Name {
	t.Helper()
	u, err := t.client.Resource(configMaps).Namespace("default").Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return logicalcluster.From(u)
}

func (t *team) apply(documents ...string) {
	t.Helper()
	for _, d := range documents {
		if err := server.Apply(t.Context(), t.workspace, []byte(d)); err != nil {
			t.Fatalf("%v\n%s", err, d)
		}
	}
}

func (t *team) delete(resource schema.GroupVersionResource, namespace, name string) {
	t.Helper()
	if err := t.client.Resource(resource).Namespace(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// within is the longest that the controller may take for anything on a busy machine.
const within = time.Minute

// eventually waits until what is observed is as wanted.
func (t *team) eventually(what, want string, observe func() string) {
	t.Helper()
	deadline := time.Now().Add(within)
	var got string
	for time.Now().Before(deadline) {
		if got = observe(); got == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s\ngot  %s\nwant %s", what, got, want)
}

// kubectlPlacement runs kubectl placement in the team's workspace, and returns what it prints.
func (t *team) kubectlPlacement(args ...string) string {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := server.WriteKubeconfig(t.workspace, kubeconfig); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), cliProgram.build(t.T), append(args, "--kubeconfig", kubeconfig)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// expect waits until a workload, "Deployment web", is on the clusters, "a,b"; "" if it is nowhere.
func (t *team) expect(workload, on string) {
	t.Helper()
	t.eventually(workload+" is on", on, func() string { return t.placed()[workload] })
}

// placed reads where every workload is. While one moves between placements it can have two decisions for a moment,
// but never none. Those are listed side by side, as "a b".
func (t *team) placed() map[string]string {
	t.Helper()
	list, err := t.client.Resource(decisions).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	placed := map[string]string{}
	for i := range list.Items {
		slice := as[v1alpha1.PlacementDecision](t, &list.Items[i])
		for _, d := range slice.Decisions {
			name := d.Workload.Kind + " " + d.Workload.Name
			var names []string
			for _, c := range d.Clusters {
				names = append(names, c.Name)
			}
			placed[name] = strings.TrimSpace(placed[name] + " " + strings.Join(names, ","))
		}
	}
	return placed
}

// condition reads a placement's condition as "Status Reason: message".
func (t *team) condition(placement, kind string) string {
	t.Helper()
	object, err := t.client.Resource(placements).Namespace("default").Get(t.Context(), placement, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := conditions.Get(as[v1alpha1.WorkloadPlacement](t, object), kindOf(kind))
	if c == nil {
		return "none"
	}
	text := string(c.Status)
	if c.Reason != "" {
		text += " " + c.Reason
	}
	if c.Message != "" {
		text += ": " + c.Message
	}
	return text
}

func as[T any](t *team, u *unstructured.Unstructured) *T {
	t.Helper()
	object := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, object); err != nil {
		t.Fatal(err)
	}
	return object
}

// cluster is a registration: cpu and memory are allocatable, more is YAML for its spec.
func cluster(name, cpu string, more ...string) string {
	return clusterWith(name, "True", cpu, "{}", more...)
}

func clusterWith(name, ready, cpu, labels string, more ...string) string {
	return fmt.Sprintf(`
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: %s, labels: %s}
spec:
  location: here
%s
status:
  allocatable: {cpu: "%s", memory: 64Gi}
  conditions: [{type: Ready, status: "%s", reason: Test, lastTransitionTime: "2026-01-01T00:00:00Z"}]
`, name, labels, indent(more), cpu, ready)
}

// placement selects workloads labelled app: NAME; spec is more YAML for it.
func placement(name string, spec ...string) string {
	return fmt.Sprintf(`
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: %[1]s, namespace: default}
spec:
  workloadSelector: {labelSelector: {matchLabels: {app: %[1]s}}}
%[2]s
`, name, indent(spec))
}

// deployment has one replica and is labelled app: APP.
func deployment(name, app, cpu string, annotations ...string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s, namespace: default, labels: {app: %s}, annotations: {%s}}
spec:
  template:
    spec:
      containers: [{name: main, image: none, resources: {requests: {cpu: "%s"}}}]
`, name, app, strings.Join(annotations, ", "), cpu)
}

// policies is a ConfigMap with one module.
func policies(name, rego string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: %s, namespace: default, labels: {openpolicyagent.org/policy: rego}}
data:
  policy.rego: |
%s
`, name, indent([]string{"  " + strings.ReplaceAll(rego, "\n", "\n  ")}))
}

func indent(lines []string) string {
	return "  " + strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n  ")
}
