package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/test/agent"
	"github.com/kcp-placement/placement/test/internal/access"
	"github.com/kcp-placement/placement/test/internal/process"
)

// site is the physical cluster as a test finds it: without nodes and pods. There is only one, so the tests that use it
// do not run in parallel.
type site struct {
	*testing.T
	client clientset.Interface
}

func newSite(t *testing.T) *site {
	t.Helper()
	client, err := clientset.NewForConfig(physical.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t, client}
	s.deletePods()
	s.deleteNodes()
	return s
}

func (s *site) deleteNodes() {
	s.Helper()
	err := s.client.CoreV1().Nodes().DeleteCollection(s.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
}

// deletePods deletes them at once, since there is no kubelet to wait for.
func (s *site) deletePods(names ...string) {
	s.Helper()
	pods, now := s.client.CoreV1().Pods("default"), *metav1.NewDeleteOptions(0)
	if len(names) == 0 {
		if err := pods.DeleteCollection(s.Context(), now, metav1.ListOptions{}); err != nil {
			s.Fatal(err)
		}
	}
	for _, name := range names {
		if err := pods.Delete(s.Context(), name, now); err != nil {
			s.Fatal(err)
		}
	}
}

// addNode adds a node that is ready and has room for 110 pods.
func (s *site) addNode(name, allocatable string) {
	s.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	node.Status.Allocatable = resources(s.T, allocatable+" pods=110")
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := s.client.CoreV1().Nodes().Create(s.Context(), node, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// changeNode changes a node's spec and status.
func (s *site) changeNode(name string, change func(*corev1.Node)) {
	s.Helper()
	nodes := s.client.CoreV1().Nodes()
	node, err := nodes.Get(s.Context(), name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	change(node)
	status := node.Status
	if node, err = nodes.Update(s.Context(), node, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
	node.Status = status
	if _, err := nodes.UpdateStatus(s.Context(), node, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// addPod adds a pod of a workload, or of none where the UID is empty, to a node, or to none.
func (s *site) addPod(name, node, uid, requests string) {
	s.Helper()
	list := resources(s.T, requests)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			// Limits of extended resources must equal the requests.
			Name: "main", Image: "none", Resources: corev1.ResourceRequirements{Requests: list, Limits: list},
		}}},
	}
	if uid != "" {
		pod.Labels = map[string]string{v1alpha1.LabelWorkloadUID: uid}
	}
	if _, err := s.client.CoreV1().Pods("default").Create(s.Context(), pod, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// setPhase sets the phase of a pod, as a kubelet would.
func (s *site) setPhase(name string, phase corev1.PodPhase) {
	s.Helper()
	pods := s.client.CoreV1().Pods("default")
	pod, err := pods.Get(s.Context(), name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	pod.Status.Phase = phase
	if _, err := pods.UpdateStatus(s.Context(), pod, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// uid identifies the physical cluster.
func (s *site) uid() string {
	s.Helper()
	namespace, err := s.client.CoreV1().Namespaces().Get(s.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return string(namespace.UID)
}

// resources reads "cpu=1 memory=2Gi".
func resources(t *testing.T, text string) corev1.ResourceList {
	t.Helper()
	list := corev1.ResourceList{}
	for _, field := range strings.Fields(text) {
		name, amount, _ := strings.Cut(field, "=")
		quantity, err := resource.ParseQuantity(amount)
		if err != nil {
			t.Fatalf("%s: %v", field, err)
		}
		list[corev1.ResourceName(name)] = quantity
	}
	return list
}

// text writes what resources reads, sorted by name.
func text(list corev1.ResourceList) string {
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		quantity := list[name]
		fields = append(fields, string(name)+"="+quantity.String())
	}
	return strings.Join(fields, " ")
}

// edge is the name by which the physical cluster registers.
const edge = "edge"

// registration reads the cluster's registration; it is empty if there is none.
func (t *team) registration() *v1alpha1.ClusterRegistration {
	t.Helper()
	object, err := t.client.Resource(clusters).Get(t.Context(), edge, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &v1alpha1.ClusterRegistration{}
	} else if err != nil {
		t.Fatal(err)
	}
	return as[v1alpha1.ClusterRegistration](t, object)
}

// told is what the registration tells of nodes.
func (t *team) told() string {
	status, text := t.registration().Status, ""
	for _, g := range status.NodeGroups {
		taints := make([]string, len(g.Taints))
		for i := range g.Taints {
			taints[i] = g.Taints[i].ToString()
		}
		text += fmt.Sprintf("%d %v %v; ", g.Count, g.Labels, taints)
	}
	return text + fmt.Sprintf("not told %v, %d groups", status.OmittedNodeLabels, status.OmittedNodeGroups)
}

// usage reads the cluster's usage; it is empty if there is none.
func (t *team) usage() *v1alpha1.ClusterUsage {
	t.Helper()
	object, err := t.client.Resource(usages).Get(t.Context(), edge, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &v1alpha1.ClusterUsage{}
	} else if err != nil {
		t.Fatal(err)
	}
	return as[v1alpha1.ClusterUsage](t, object)
}

// renewed reads when the cluster's Lease was renewed.
func (t *team) renewed() time.Time {
	t.Helper()
	object, err := t.client.Resource(leases).Namespace(v1alpha1.AgentNamespace).Get(t.Context(), edge, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lease := as[coordinationv1.Lease](t, object)
	if lease.Spec.RenewTime == nil {
		return time.Time{}
	}
	return lease.Spec.RenewTime.Time
}

// figures is what the cluster reports of its nodes and pods: the nodes are all/ready/usable.
type figures struct {
	nodes, allocatable, allocated, largestFree string
	workloads                                  []string
}

func (f figures) String() string {
	return fmt.Sprintf("nodes %s; allocatable %s; allocated %s; largestFree %s; workloads %s",
		f.nodes, f.allocatable, f.allocated, f.largestFree, strings.Join(f.workloads, ", "))
}

func (t *team) figures() figures {
	t.Helper()
	status := t.registration().Status
	f := figures{nodes: "none", allocatable: text(status.Allocatable), allocated: text(status.Allocated), largestFree: text(status.LargestFree)}
	if n := status.Nodes; n != nil {
		f.nodes = fmt.Sprintf("%d/%d/%d", n.Total, n.Ready, n.Usable)
	}
	usage := t.usage()
	if f.allocated != text(usage.Allocated) {
		f.allocated += ", and in the ClusterUsage " + text(usage.Allocated)
	}
	for _, w := range usage.Workloads {
		f.workloads = append(f.workloads, string(w.UID)+": "+text(w.Requests))
	}
	slices.Sort(f.workloads)
	return f
}

// reports waits until the cluster reports the figures, and logs how long that took.
func (t *team) reports(what string, want figures) {
	t.Helper()
	slices.Sort(want.workloads)
	start := time.Now()
	t.eventually(what, want.String(), func() string { return t.figures().String() })
	t.Logf("%s: reported after %s", what, time.Since(start).Round(10*time.Millisecond))
}

// ready reads the cluster's condition Ready as "Status Reason".
func (t *team) ready() string {
	t.Helper()
	c := conditions.Get(t.registration(), v1alpha1.ReadyCondition)
	if c == nil {
		return "none"
	}
	return strings.TrimSpace(string(c.Status) + " " + c.Reason)
}

// waits waits until the placement app says that a Deployment waits, and why.
func (t *team) waits(name, because string) {
	t.Helper()
	t.eventually("Deployment "+name+" waits: "+because, "true", func() string {
		c := t.condition("app", v1alpha1.ScheduledCondition)
		if strings.Contains(c, "Deployment default/"+name+": ") && strings.Contains(c, because) {
			return "true"
		}
		return c
	})
}

// expectEvent waits for an event about the registration with this reason.
func (t *team) expectEvent(reason string) {
	t.Helper()
	t.eventually("there is an event "+reason, "true", func() string {
		list, err := t.client.Resource(events).Namespace("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(slices.ContainsFunc(list.Items, func(u unstructured.Unstructured) bool {
			e := as[corev1.Event](t, &u)
			return e.InvolvedObject.Name == edge && e.Reason == reason
		}))
	})
}

// startAgent runs the program as it is deployed: with the rights that docs/deploy gives it on either side, and no more.
func (t *team) startAgent(args ...string) *process.Process {
	t.Helper()
	p, err := agent.Start(t.Context(), agent.Options{
		Binary: agentProgram.build(t.T), Dir: t.TempDir(), Registration: edge,
		Workspace: server.Config(t.workspace), Cluster: physical.Config(),
		Args: append([]string{"--location", "here", "--volume-capacity", "0", "--metrics-bind-address", freeAddress(t.T), "--v=2"}, args...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the agent's log:\n%s", p.Tail(80))
		}
	})
	return p
}

// agentRights are the configuration of the agent of one registration in the team's workspace.
func (t *team) agentRights(name string) *rest.Config {
	t.Helper()
	config, err := agent.Rights(t.Context(), server.Config(t.workspace), name)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// withToken returns the configuration of a ServiceAccount of the namespace default.
func withToken(t *testing.T, admin *rest.Config, account string) *rest.Config {
	t.Helper()
	config, err := access.ServiceAccount(t.Context(), admin, "default", account)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// writeKubeconfig writes a configuration with a token for a program.
func writeKubeconfig(t *testing.T, config *rest.Config, path string) {
	t.Helper()
	if err := access.WriteKubeconfig(config, path); err != nil {
		t.Fatal(err)
	}
}

// never is how long a test waits for what must not happen. Too short a time can hide a failure but not cause one.
func never(ctx context.Context) {
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
	}
}
