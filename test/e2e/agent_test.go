package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clientset "k8s.io/client-go/kubernetes"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/test/kcp"
)

// onlyChanges is an interval so long that an agent reports material changes only.
var onlyChanges = []string{"--report-interval", "1h"}

// TestAgentRegisters: with the rights of the manifests, an agent registers its cluster and reports every figure.
func TestAgentRegisters(t *testing.T) {
	site, team := newSite(t), newTeam(t)
	site.addNode("large", "cpu=8 memory=16Gi nvidia.com/gpu=2")
	site.addNode("small", "cpu=3500m memory=8Gi")
	site.addPod("web-1", "large", "uid-web", "cpu=1 memory=1Gi")
	site.addPod("web-2", "small", "uid-web", "cpu=250m memory=512Mi")
	site.addPod("train", "large", "uid-train", "cpu=2 memory=4Gi nvidia.com/gpu=1")
	site.addPod("daemon", "small", "", "cpu=100m memory=64Mi")
	site.addPod("waiting", "", "uid-web", "cpu=2 memory=1Gi")
	site.addPod("done", "large", "uid-web", "cpu=4 memory=4Gi")
	site.setPhase("done", corev1.PodSucceeded)

	start := time.Now()
	agent := team.startAgent(append(onlyChanges, "--labels", "tier=gold", "--capability", "gpu:model=a100")...)
	team.reports("the first report", figures{
		nodes:       "2/2/2",
		allocatable: "cpu=11500m memory=24Gi nvidia.com/gpu=2",
		allocated:   "cpu=5350m memory=6720Mi nvidia.com/gpu=1",
		largestFree: "cpu=5 memory=11Gi nvidia.com/gpu=1",
		workloads:   []string{"uid-train: cpu=2 memory=4Gi nvidia.com/gpu=1", "uid-web: cpu=3250m memory=2560Mi"},
	})
	team.eventually("Ready", "True", func() string { return team.ready() })

	registration := team.registration()
	spec := registration.Spec
	if spec.Location != "here" || len(spec.Capabilities) != 1 || spec.Capabilities[0].Type != "gpu" ||
		!spec.Capabilities[0].Available || spec.Capabilities[0].Attributes["model"] != "a100" {
		t.Errorf("registered as %+v", spec)
	}
	if registration.Labels["tier"] != "gold" {
		t.Errorf("registered with labels %v", registration.Labels)
	}
	if got, want := string(registration.Status.ClusterUID), site.uid(); got != want {
		t.Errorf("it reports as %q, want %q", got, want)
	}
	if beat := registration.Status.LastHeartbeatTime; beat == nil || beat.Time.Before(start.Truncate(time.Second)) || beat.After(time.Now()) {
		t.Errorf("the heartbeat is of %v, the agent was started at %v", beat, start)
	}
	team.expectEvent("Registered")

	if err := agent.Stop(); err != nil {
		t.Errorf("asked to stop: %v", err)
	}
	if got := team.ready(); got != "True" {
		t.Errorf("an agent that is restarted takes its cluster out of use: Ready is %s", got)
	}
}

// TestAgentReportsChanges: a material change is reported when it happens. The interval is an hour.
func TestAgentReportsChanges(t *testing.T) {
	site, team := newSite(t), newTeam(t)
	site.addNode("a", "cpu=8 memory=16Gi")
	team.startAgent(append(onlyChanges, "--tolerate", "dedicated=batch:NoSchedule")...)
	one := figures{nodes: "1/1/1", allocatable: "cpu=8 memory=16Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=8 memory=16Gi"}
	team.reports("the first report", one)
	team.eventually("Ready", "True", func() string { return team.ready() })

	two := figures{nodes: "2/2/2", allocatable: "cpu=12 memory=24Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=8 memory=16Gi"}
	site.addNode("b", "cpu=4 memory=8Gi")
	team.reports("a node comes", two)

	busy := two
	busy.allocated, busy.largestFree, busy.workloads = "cpu=3 memory=4Gi", "cpu=5 memory=12Gi", []string{"uid-web: cpu=3 memory=4Gi"}
	site.addPod("web", "a", "uid-web", "cpu=3 memory=4Gi")
	team.reports("a pod comes", busy)

	// A change that is not material waits for the interval or the next material change.
	beat := team.registration().Status.LastHeartbeatTime
	site.addPod("tiny", "b", "", "cpu=1m memory=1Mi")
	never(t.Context())
	if now := team.registration().Status.LastHeartbeatTime; !now.Equal(beat) {
		t.Errorf("a tiny pod is reported at once, at %v", now)
	}
	site.deletePods("web")
	idle := two
	idle.allocated = "cpu=1m memory=1Mi"
	team.reports("a pod goes", idle)
	site.deletePods()

	without := figures{allocatable: "cpu=8 memory=16Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=8 memory=16Gi"}
	unusable := func(nodes string) figures {
		f := without
		f.nodes = nodes
		return f
	}
	taint := func(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Value: value, Effect: effect}} }
	}
	for _, step := range []struct {
		what   string
		change func(*corev1.Node)
		want   figures
	}{
		{"a node is cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, unusable("2/2/1")},
		{"it is uncordoned", func(n *corev1.Node) { n.Spec.Unschedulable = false }, two},
		{"it is not ready", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }, unusable("2/1/1")},
		{"it is ready", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionTrue }, two},
		{"it is not heard of", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, unusable("2/1/1")},
		{"it is ready again", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionTrue }, two},
		{"it is tainted", taint("maintenance", "", corev1.TaintEffectNoSchedule), unusable("2/2/1")},
		{"its taint is tolerated", taint("dedicated", "batch", corev1.TaintEffectNoSchedule), two},
		{"its taint throws pods out", taint("dedicated", "batch", corev1.TaintEffectNoExecute), unusable("2/2/1")},
		{"its taint keeps nothing away", taint("slow", "", corev1.TaintEffectPreferNoSchedule), two},
		{"it shrinks", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("2") },
			figures{nodes: "2/2/2", allocatable: "cpu=10 memory=24Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=8 memory=16Gi"}},
	} {
		site.changeNode("b", step.change)
		team.reports(step.what, step.want)
	}

	for _, name := range []string{"a", "b"} {
		site.changeNode(name, func(n *corev1.Node) { n.Spec.Unschedulable = true })
	}
	team.eventually("all nodes are cordoned", "False NoUsableNodes", func() string { return team.ready() })
	site.deleteNodes()
	team.eventually("all nodes are gone", "False NoNodes", func() string { return team.ready() })
	team.eventually("nodes", "0/0/0", func() string { return team.figures().nodes })
	site.addNode("a", "cpu=8 memory=16Gi")
	team.reports("a node is back", one)
	team.eventually("Ready", "True", func() string { return team.ready() })
}

// TestAgentInterval: a change that is not material is reported with the interval, and so is the loss of the cluster. While
// nothing changes, only the heartbeat is written.
func TestAgentInterval(t *testing.T) {
	site, team := newSite(t), newTeam(t)
	site.addNode("a", "cpu=100 memory=100Gi")
	team.startAgent("--report-interval", "2s")
	want := figures{nodes: "1/1/1", allocatable: "cpu=100 memory=100Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=100 memory=100Gi"}
	team.reports("the first report", want)
	site.addPod("tiny", "a", "", "cpu=10m memory=1Mi")
	want.allocated, want.largestFree = "cpu=10m memory=1Mi", "cpu=99990m memory=102399Mi"
	team.reports("a tiny pod comes", want)

	registration, usage, first := team.registration(), team.usage(), team.renewed()
	team.eventually("another heartbeat", "true", func() string { return fmt.Sprint(first.Before(team.renewed())) })
	if diff := cmp.Diff(registration, team.registration()) + cmp.Diff(usage, team.usage()); diff != "" {
		t.Errorf("with a heartbeat, the status or the usage is written again:\n%s", diff)
	}
	if c := conditions.Get(registration, v1alpha1.ValidCondition); c != nil {
		t.Errorf("the controller found something wrong with what the agent wrote: %+v", c)
	}

	physical.Pause()
	defer physical.Resume()
	team.eventually("the cluster does not answer", "False ClusterUnreachable", func() string { return team.ready() })
	physical.Resume()
	team.eventually("the cluster answers", "True", func() string { return team.ready() })
	team.reports("the cluster answers", want)
}

// TestAgentRights: an agent can write its own registration and nothing else.
func TestAgentRights(t *testing.T) {
	t.Parallel()
	team := newTeam(t)
	team.apply(cluster("mine", "4"), cluster("other", "4"))
	team.agentRights("other")
	rights := team.agentRights("mine")
	client, err := dynamic.NewForConfig(rights)
	if err != nil {
		t.Fatal(err)
	}
	typed, err := clientset.NewForConfig(rights)
	if err != nil {
		t.Fatal(err)
	}
	rights.Host = server.Config(kcp.Provider).Host
	elsewhere, err := dynamic.NewForConfig(rights)
	if err != nil {
		t.Fatal(err)
	}
	registrations := client.Resource(clusters)
	report := func(name string) error {
		// Read by the administrator, so that the write is valid and only missing rights can prevent it.
		object, err := team.client.Resource(clusters).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		_, err = registrations.UpdateStatus(t.Context(), object, metav1.UpdateOptions{})
		return err
	}
	change := func(name string) error {
		_, err := registrations.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec": {"location": "there"}}`), metav1.PatchOptions{})
		return err
	}
	list := func(resource schema.GroupVersionResource) error {
		_, err := client.Resource(resource).List(t.Context(), metav1.ListOptions{})
		return err
	}
	// It takes a moment until rights are in effect.
	team.eventually("its own report", "<nil>", func() string { return fmt.Sprint(report("mine")) })
	_, foreign := elsewhere.Resource(configMaps).List(t.Context(), metav1.ListOptions{})
	renew := func(name string) error {
		_, err := client.Resource(leases).Namespace(v1alpha1.AgentNamespace).Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec": {"leaseDurationSeconds": 1}}`), metav1.PatchOptions{})
		return err
	}
	count := func(name string) error {
		object, err := team.client.Resource(usages).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		_, err = client.Resource(usages).Update(t.Context(), object, metav1.UpdateOptions{})
		return err
	}
	team.eventually("its own heartbeat", "<nil>", func() string { return fmt.Sprint(renew("mine")) })
	team.eventually("its own usage", "<nil>", func() string { return fmt.Sprint(count("mine")) })
	_, usage := client.Resource(usages).Get(t.Context(), "other", metav1.GetOptions{})
	_, heartbeat := client.Resource(leases).Namespace(v1alpha1.AgentNamespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{"name": "third", "namespace": v1alpha1.AgentNamespace},
	}}, metav1.CreateOptions{})
	_, token := typed.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "placement-agent-other", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	_, read := registrations.Get(t.Context(), "other", metav1.GetOptions{})
	for what, err := range map[string]error{
		"report for another":       report("other"),
		"count for another":        count("other"),
		"read another's usage":     usage,
		"renew another's Lease":    renew("other"),
		"create a Lease":           heartbeat,
		"read all Leases":          list(leases),
		"read all usages":          list(usages),
		"read another":             read,
		"read all":                 list(clusters),
		"change another":           change("other"),
		"change its own":           change("mine"),
		"delete another":           registrations.Delete(t.Context(), "other", metav1.DeleteOptions{}),
		"delete its own":           registrations.Delete(t.Context(), "mine", metav1.DeleteOptions{}),
		"delete all":               registrations.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}),
		"read placements":          list(placements),
		"read decisions":           list(decisions),
		"read policies":            list(configMaps),
		"read workloads":           list(deployments),
		"read secrets":             list(corev1.SchemeGroupVersion.WithResource("secrets")),
		"look into another's home": foreign,
		"have another's token":     token,
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("it may %s: %v", what, err)
		}
	}
}

// TestAgentCutOff: a cluster that is silent for the grace period gets no more workloads until it reports again.
func TestAgentCutOff(t *testing.T) {
	current.stop()
	defer func() {
		current.stop()
		var err error
		if current, err = startController(context.Background()); err != nil {
			t.Fatal(err)
		}
	}()
	var err error
	current, err = startController(context.Background(), func(c *controller.Config) { c.HeartbeatGracePeriod = 5 * time.Second })
	if err != nil {
		t.Fatal(err)
	}

	site, team := newSite(t), newTeam(t)
	site.addNode("a", "cpu=8 memory=16Gi")
	agent := team.startAgent("--report-interval", "1s")
	team.apply(placement("app", "numberOfClusters: 1"), deployment("before", "app", "1"))
	team.expect("Deployment before", edge)

	agent.Pause()
	team.eventually("the agent is cut off", "Unknown HeartbeatMissed", func() string { return team.ready() })
	team.apply(deployment("meanwhile", "app", "1"))
	team.waits("meanwhile", "1 rejected by Ready")
	if got := team.placed()["Deployment meanwhile"]; got != "" {
		t.Errorf("placed on %s, which is not heard of", got)
	}
	if got := team.placed()["Deployment before"]; got != edge {
		t.Errorf("what runs there was moved to %q, though it may well go on", got)
	}
	agent.Resume()
	team.eventually("the agent is back", "True", func() string { return team.ready() })
	team.expect("Deployment meanwhile", edge)
	team.expect("Deployment before", edge)
}

// TestAgentRegistersAnew: an agent whose registration is deleted creates it again as it was.
func TestAgentRegistersAnew(t *testing.T) {
	site, team := newSite(t), newTeam(t)
	site.addNode("a", "cpu=8 memory=16Gi")
	team.startAgent(append(onlyChanges, "--labels", "tier=gold")...)
	want := figures{nodes: "1/1/1", allocatable: "cpu=8 memory=16Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=8 memory=16Gi"}
	team.reports("the first report", want)
	first := team.registration().UID
	team.delete(clusters, "", edge)
	team.eventually("another registration", "true", func() string {
		uid := team.registration().UID
		return fmt.Sprint(uid != "" && uid != first)
	})
	team.reports("it is deleted", want)
	team.eventually("Ready", "True", func() string { return team.ready() })
	if got := team.registration().Labels["tier"]; got != "gold" {
		t.Errorf("registered anew with labels %v", team.registration().Labels)
	}
}

// TestAgentConflict: of two clusters with one name, the first keeps it until the other starts with --take-over.
func TestAgentConflict(t *testing.T) {
	site, team := newSite(t), newTeam(t)
	site.addNode("a", "cpu=8 memory=16Gi")
	own := figures{nodes: "1/1/1", allocatable: "cpu=8 memory=16Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=8 memory=16Gi"}
	agent := team.startAgent("--report-interval", "1s")
	team.reports("the first report", own)

	// From here on another cluster has the name, and has reported once.
	patch := `{"status": {"clusterUID": "another", "allocatable": {"cpu": "77", "memory": "77Gi"}}}`
	_, err := team.client.Resource(clusters).Patch(t.Context(), edge, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	others := own
	others.allocatable = "cpu=77 memory=77Gi"
	unchanged := func(what string) {
		t.Helper()
		never(t.Context())
		if got := team.figures().String(); got != others.String() {
			t.Errorf("%s\ngot  %s\nwant %s", what, got, others)
		}
		if got := team.registration().Status.ClusterUID; got != "another" {
			t.Errorf("%s: it reports as %q", what, got)
		}
	}
	team.expectEvent("AgentConflict")
	site.addNode("b", "cpu=8 memory=16Gi")
	unchanged("another cluster took the name")

	_ = agent.Stop()
	agent = team.startAgent("--report-interval", "1s")
	unchanged("started with a name that another cluster has")
	_ = agent.Stop()

	team.startAgent("--report-interval", "1s", "--take-over")
	team.reports("it takes over", figures{
		nodes: "2/2/2", allocatable: "cpu=16 memory=32Gi", allocated: "cpu=0 memory=0", largestFree: "cpu=8 memory=16Gi",
	})
	if got, want := string(team.registration().Status.ClusterUID), site.uid(); got != want {
		t.Errorf("it reports as %q, want %q", got, want)
	}
	team.expectEvent("TookOver")
}

// TestReservationPassesToReport: a reservation lasts until the pods of the workload are reported, and no longer.
func TestReservationPassesToReport(t *testing.T) {
	site, team := newSite(t), newTeam(t)
	site.addNode("a", "cpu=4 memory=16Gi")
	team.startAgent(onlyChanges...)
	team.eventually("Ready", "True", func() string { return team.ready() })

	team.apply(placement("app", "numberOfClusters: 1"), deployment("one", "app", "2"))
	team.expect("Deployment one", edge)
	object, err := team.client.Resource(deployments).Namespace("default").Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uid := string(object.GetUID())
	want := figures{nodes: "1/1/1", allocatable: "cpu=4 memory=16Gi", allocated: "cpu=2 memory=1Gi", largestFree: "cpu=2 memory=15Gi",
		workloads: []string{uid + ": cpu=2 memory=1Gi"}}
	site.addPod("one", "a", uid, "cpu=2 memory=1Gi")
	team.reports("its pod comes", want)

	// If one were counted twice, two would not fit; if two were not counted, three would.
	team.apply(deployment("two", "app", "2"))
	team.expect("Deployment two", edge)
	team.apply(deployment("three", "app", "2"))
	team.waits("three", "(edge: Capacity: asks for 2 cpu, 0 free)")

	// The pod still counts, whatever happens to the Deployment.
	team.delete(deployments, "default", "one")
	team.expect("Deployment one", "")
	never(t.Context())
	if got := team.placed()["Deployment three"]; got != "" {
		t.Errorf("placed on %s, where a pod still runs", got)
	}
	site.deletePods("one")
	team.expect("Deployment three", edge)
	want.allocated, want.largestFree, want.workloads = "cpu=0 memory=0", "cpu=4 memory=16Gi", nil
	team.reports("its pod is gone", want)
}

// TestAgentTellsOfNodes: nodes are reported in groups by their labels and taints, at once when these change, and workloads go where
// their pods have a node.
func TestAgentTellsOfNodes(t *testing.T) {
	site, team := newSite(t), newTeam(t)
	label := func(labels ...string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Labels = map[string]string{corev1.LabelHostname: n.Name, "serial": n.Name}
			for i := 0; i < len(labels); i += 2 {
				n.Labels[labels[i]] = labels[i+1]
			}
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		site.addNode(name, "cpu=8 memory=16Gi")
		site.changeNode(name, label("disktype", "hdd"))
	}
	site.changeNode("c", label("disktype", "ssd"))
	team.startAgent(append(onlyChanges, "--omit-node-labels", "serial")...)
	team.eventually("two groups", "2 map[disktype:hdd] []; 1 map[disktype:ssd] []; not told [kubernetes.io/hostname serial], 0 groups", team.told)
	site.changeNode("b", func(n *corev1.Node) { n.Labels["disktype"] = "ssd" })
	team.eventually("a label changes", "1 map[disktype:hdd] []; 2 map[disktype:ssd] []; not told [kubernetes.io/hostname serial], 0 groups", team.told)
	site.changeNode("a", func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "ml", Effect: corev1.TaintEffectNoSchedule}, {Key: "slow", Effect: corev1.TaintEffectPreferNoSchedule}}
	})
	team.eventually("a taint comes", "1 map[disktype:hdd] [dedicated=ml:NoSchedule]; 2 map[disktype:ssd] []; not told [kubernetes.io/hostname serial], 0 groups", team.told)

	selecting := func(name, disk, more string) string {
		return strings.Replace(deployment(name, "app", "1"), "    spec:\n", "    spec:\n      nodeSelector: {disktype: "+disk+"}\n"+more, 1)
	}
	team.apply(placement("app", "strategy: {type: Spread}"),
		selecting("fast", "ssd", ""), selecting("dedicated", "hdd", "      tolerations: [{key: dedicated, value: ml}]\n"), selecting("slow", "hdd", ""), selecting("new", "nvme", ""))
	team.expect("Deployment fast", edge)
	team.expect("Deployment dedicated", edge)
	team.eventually("what waits says why", "true true", func() string {
		waits := team.condition("app", v1alpha1.ScheduledCondition)
		return fmt.Sprint(strings.Contains(waits, "1 rejected by Nodes"), strings.Contains(waits, "default/slow") || strings.Contains(waits, "default/new"))
	})
	site.changeNode("b", func(n *corev1.Node) { n.Labels["disktype"] = "nvme" })
	team.expect("Deployment new", edge)
	team.expect("Deployment fast", edge) // on the other node, but it would stay without

	site.changeNode("c", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	team.eventually("a node is cordoned", "1 map[disktype:hdd] [dedicated=ml:NoSchedule]; 1 map[disktype:nvme] []; not told [kubernetes.io/hostname serial], 0 groups", team.told)
}
