package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	conditionsv1alpha1 "github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/apis/conditions/v1alpha1"
	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"github.com/prometheus/client_golang/prometheus/testutil"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// world is an agent with a workspace in memory and a clock that only the test advances.
type world struct {
	t     *testing.T
	clock *clocktesting.FakeClock
	agent *Agent
	// client is the physical cluster, for requests that do not go through the reflectors.
	client *fake.Clientset

	// object is the registration, nil where there is none; failing is what kcp answers to all requests, creating to create.
	object            *v1alpha1.ClusterRegistration
	failing, creating error
	// usage and lease are nil where there is none; unequipped agents may not create them. renewals counts those of the Lease.
	usage      *v1alpha1.ClusterUsage
	lease      *coordinationv1.Lease
	unequipped bool
	renewals   int
	// probing is what the physical cluster answers when it is asked who it is.
	probing        error
	uid            types.UID
	created        int
	writes, events []string
}

var (
	registrations = v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations").GroupResource()
	usages        = v1alpha1.SchemeGroupVersion.WithResource("clusterusages").GroupResource()
	leases        = coordinationv1.SchemeGroupVersion.WithResource("leases").GroupResource()
)

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0)), uid: "cluster-1"}
	client := fake.NewClientset()
	w.client = client
	client.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: w.uid}}, w.probing
	})
	c := newClusterFor(client.CoreV1(), DefaultInterval, nil, w.clock)
	r := &registration{
		template: &v1alpha1.ClusterRegistration{
			ObjectMeta: metav1.ObjectMeta{Name: "frankfurt", Labels: map[string]string{"tier": "gold"}},
			Spec:       v1alpha1.ClusterRegistrationSpec{Location: "eu-central"},
		},
		register: true,
		interval: DefaultInterval,
		changed:  make(chan struct{}, 1),
		cached:   func() *v1alpha1.ClusterRegistration { return nil },
	}
	r.get = func(context.Context) (*v1alpha1.ClusterRegistration, error) {
		switch {
		case w.failing != nil:
			return nil, w.failing
		case w.object == nil:
			return nil, apierrors.NewNotFound(registrations, "frankfurt")
		}
		return w.object.DeepCopy(), nil
	}
	r.create = func(_ context.Context, object *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		if w.creating != nil {
			return nil, w.creating
		}
		w.created++
		object.UID, object.ResourceVersion = types.UID(fmt.Sprintf("registration-%d", w.created)), "1"
		w.object = object.DeepCopy()
		return object, nil
	}
	r.updateStatus = func(_ context.Context, object *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		switch {
		case w.failing != nil:
			return nil, w.failing
		case w.object == nil:
			return nil, apierrors.NewNotFound(registrations, object.Name)
		case object.ResourceVersion != w.object.ResourceVersion:
			return nil, apierrors.NewConflict(registrations, object.Name, errors.New("it has changed"))
		}
		w.object = object.DeepCopy()
		w.object.ResourceVersion += "1"
		ready := conditions.Get(object, v1alpha1.ReadyCondition)
		w.writes = append(w.writes, strings.TrimSpace(fmt.Sprintf("Ready %s %s", ready.Status, ready.Reason)))
		return w.object.DeepCopy(), nil
	}
	r.getUsage = func(context.Context) (*v1alpha1.ClusterUsage, error) {
		if w.usage == nil {
			return nil, apierrors.NewNotFound(usages, "frankfurt")
		}
		return w.usage.DeepCopy(), w.failing
	}
	r.createUsage = func(_ context.Context, object *v1alpha1.ClusterUsage) (*v1alpha1.ClusterUsage, error) {
		if w.unequipped {
			return nil, apierrors.NewForbidden(usages, "frankfurt", errors.New("no rights"))
		}
		w.usage = object.DeepCopy()
		w.usage.UID, w.usage.Generation, w.usage.ResourceVersion = "usage", 1, "1"
		return w.usage.DeepCopy(), w.failing
	}
	r.updateUsage = func(_ context.Context, object *v1alpha1.ClusterUsage) (*v1alpha1.ClusterUsage, error) {
		switch {
		case w.failing != nil:
			return nil, w.failing
		case w.usage == nil:
			return nil, apierrors.NewNotFound(usages, object.Name)
		case object.ResourceVersion != w.usage.ResourceVersion:
			return nil, apierrors.NewConflict(usages, object.Name, errors.New("it has changed"))
		}
		w.usage = object.DeepCopy()
		w.usage.ResourceVersion += "1"
		w.usage.Generation++
		return w.usage.DeepCopy(), nil
	}
	r.patchLease = func(_ context.Context, patch []byte) error {
		switch {
		case w.failing != nil:
			return w.failing
		case w.lease == nil:
			return apierrors.NewNotFound(leases, "frankfurt")
		}
		w.renewals++
		return json.Unmarshal(patch, w.lease) // which merges, and makes of null an empty text
	}
	r.createLease = func(_ context.Context, object *coordinationv1.Lease) error {
		if w.unequipped {
			return apierrors.NewForbidden(leases, "frankfurt", errors.New("no rights"))
		}
		w.lease = object.DeepCopy()
		return nil
	}
	r.event = func(_ runtime.Object, kind, reason, _ string, _ ...any) { w.events = append(w.events, kind+" "+reason) }
	w.agent = newAgent(c, r, DefaultInterval, 1, newMetrics(nil, w.clock), w.clock)
	return w
}

// after lets time pass, and lets the agent do what it does then.
func (w *world) after(d time.Duration) {
	w.clock.Step(d)
	for {
		select {
		case <-w.agent.cluster.changed:
			w.agent.schedule.changed(w.clock.Now())
		case <-w.agent.registration.changed:
			w.agent.schedule.hurry(w.clock.Now())
		default:
			w.agent.step(w.t.Context())
			return
		}
	}
}

// settle lets the agent notice what has changed, and a second pass in which nothing else does.
func (w *world) settle() {
	w.after(0)
	w.after(time.Second)
}

func (w *world) probe() { w.agent.cluster.probe(w.t.Context(), time.Hour) }

// synced gives the cluster a node and a pod that asks for a quarter of it.
func (w *world) synced() *world {
	w.probe()
	must(w.t, w.agent.cluster.nodeStore().Replace([]any{testNode("a", having("cpu", "4", "pods", "10"))}, "1"))
	must(w.t, w.agent.cluster.podStore().Replace([]any{testPod("p", "a", requesting("cpu", "1"), of("w"))}, "1"))
	return w
}

// expect checks the writes and events since it was last called.
func (w *world) expect(what string, writes, events []string) {
	w.t.Helper()
	if fmt.Sprint(w.writes) != fmt.Sprint(writes) {
		w.t.Errorf("%s: written %q, want %q", what, w.writes, writes)
	}
	if fmt.Sprint(w.events) != fmt.Sprint(events) {
		w.t.Errorf("%s: events %q, want %q", what, w.events, events)
	}
	w.writes, w.events = nil, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReporting(t *testing.T) {
	w := newWorld(t)
	w.after(time.Second)
	w.expect("before anything is known", nil, nil)
	if w.agent.Ready() == nil {
		t.Error("it is ready before it has reported")
	}

	w.synced().settle()
	w.expect("the first report", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})
	if err := w.agent.Ready(); err != nil {
		t.Error(err)
	}
	if w.object.Spec.Location != "eu-central" || w.object.Labels["tier"] != "gold" || w.object.Status.ClusterUID != "cluster-1" {
		t.Errorf("registered as %+v", w.object)
	}

	must(t, w.agent.cluster.podStore().Add(testPod("q", "a", requesting("cpu", "10m"))))
	w.settle()
	w.expect("an immaterial change", nil, nil)
	w.after(30 * time.Second)
	w.expect("the next interval", []string{"Ready True"}, nil)
	if cpu := w.object.Status.Allocated[corev1.ResourceCPU]; cpu.String() != "1010m" {
		t.Errorf("allocated: %s", cpu.String())
	}
	if got := w.object.Status.LastHeartbeatTime; !got.Time.Equal(w.clock.Now()) {
		t.Errorf("heartbeat %s, want %s", got, w.clock.Now())
	}

	w.after(time.Second)
	must(t, w.agent.cluster.podStore().Add(testPod("r", "a", requesting("cpu", "1"))))
	w.after(0)
	w.after(249 * time.Millisecond)
	w.expect("a material change, too soon", nil, nil)
	w.after(time.Millisecond)
	w.expect("a material change", []string{"Ready True"}, nil)

	must(t, w.agent.cluster.nodeStore().Update(testNode("a", having("cpu", "4", "pods", "10"), cordoned)))
	w.settle()
	w.expect("the last node is cordoned", []string{"Ready False NoUsableNodes"}, []string{"Warning NoUsableNodes"})
	must(t, w.agent.cluster.nodeStore().Delete(testNode("a")))
	w.settle()
	w.expect("the last node has gone", []string{"Ready False NoNodes"}, []string{"Warning NoNodes"})
	if got := testutil.ToFloat64(w.agent.metrics.reports.WithLabelValues("ok")); got != 5 {
		t.Errorf("%v reports are counted", got)
	}
}

// What changes is written when it changes: a status and a usage of a megabyte are not written again every 30 seconds to say
// that the agent is alive. A Lease says that, and which usage is still current.
func TestHeartbeat(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	w.expect("the first report", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})
	heartbeat, usage := w.object.Status.LastHeartbeatTime, w.usage.DeepCopy()
	if usage.ClusterUID != "cluster-1" || len(usage.Workloads) != 1 || usage.Allocated.Cpu().String() != "1" || usage.Allocatable.Cpu().String() != "4" {
		t.Errorf("the usage is %+v", usage)
	}
	for i := range 10 {
		renewed, renewals := *w.lease.Spec.RenewTime, w.renewals
		w.after(30 * time.Second)
		if w.renewals != renewals+1 || !renewed.Before(w.lease.Spec.RenewTime) {
			t.Errorf("interval %d: renewed %d times, at %s", i, w.renewals-renewals, w.lease.Spec.RenewTime)
		}
	}
	w.expect("nothing has changed", nil, nil)
	if w.usage.Generation != usage.Generation || !w.object.Status.LastHeartbeatTime.Equal(heartbeat) {
		t.Errorf("usage %d, status of %s", w.usage.Generation, w.object.Status.LastHeartbeatTime)
	}
	if l := w.lease; *l.Spec.HolderIdentity != "cluster-1" || *l.Spec.LeaseDurationSeconds != 120 || l.Labels[v1alpha1.LabelHeartbeat] != "true" ||
		l.Annotations[v1alpha1.AnnotationUsage] != v1alpha1.UsageVersion(usage) {
		t.Errorf("the Lease is %+v", l)
	}

	must(t, w.agent.cluster.podStore().Add(testPod("q", "a", requesting("cpu", "1"), of("v"))))
	w.settle()
	if len(w.usage.Workloads) != 2 || v1alpha1.UsageAtLeast(usage, v1alpha1.UsageVersion(w.usage)) || !v1alpha1.UsageAtLeast(w.usage, v1alpha1.UsageVersion(usage)) {
		t.Errorf("a pod comes: %+v", w.usage)
	}
	// A stream of changes that are written as they come does not keep the Lease from being renewed, and does not renew it each time.
	renewals := w.renewals
	for i := range 60 {
		must(t, w.agent.cluster.podStore().Add(testPod("q", "a", requesting("cpu", fmt.Sprint(1+i%2)), of("v"))))
		w.settle()
	}
	if n := w.renewals - renewals; n < 2 || n > 6 {
		t.Errorf("renewed %d times in a minute of changes", n)
	}

	w.probing = errors.New("connection refused")
	w.clock.Step(31 * time.Second)
	w.probe()
	w.settle()
	w.after(30 * time.Second)
	if version := w.lease.Annotations[v1alpha1.AnnotationUsage]; version != "" {
		t.Errorf("the cluster does not answer, but the Lease names the usage %s as current", version)
	}
}

// The controller makes Ready Unknown while the agent is silent. The agent, which knows better, writes it anew.
func TestReadyIsRestored(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	w.writes, w.events = nil, nil
	conditions.MarkUnknown(w.object, v1alpha1.ReadyCondition, v1alpha1.HeartbeatMissedReason, "silent")
	w.object.ResourceVersion += "1"
	w.agent.registration.observed(w.object)
	w.after(0)
	w.expect("it is silent no longer", []string{"Ready True"}, []string{"Normal Ready"})
}

// An agent that cannot write its usage or its Lease says what is missing. What it has written before stays, so its cluster can
// be used.
func TestIncompleteRights(t *testing.T) {
	for _, test := range []struct {
		name, want string
		usage      *v1alpha1.ClusterUsage
	}{
		{"no usage", "ClusterUsage frankfurt is missing; apply the manifest of the agent's rights (docs/deploy/agent-rbac.yaml)", nil},
		{"no Lease", "Lease placement-agents/frankfurt, or the right to renew it, is missing; apply the manifest", &v1alpha1.ClusterUsage{}},
	} {
		w := newWorld(t).synced()
		w.unequipped, w.usage = true, test.usage
		w.settle()
		w.expect(test.name, []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})
		if err := w.agent.Ready(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		w.unequipped = false
		w.after(30 * time.Second)
		if err := w.agent.Ready(); err != nil || w.lease == nil || w.usage.ClusterUID != "cluster-1" {
			t.Errorf("%s, and then it is there: %v", test.name, err)
		}
	}
}

// Two clusters with one name do not write over each other's usage, whichever of them comes first.
func TestUsageOfAnother(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	lagging := w.object.DeepCopy()
	w.usage.ClusterUID, w.usage.ResourceVersion = "cluster-2", w.usage.ResourceVersion+"9"
	w.object.Status.ClusterUID, w.object.ResourceVersion = "cluster-2", w.object.ResourceVersion+"9"
	w.agent.registration.cached = func() *v1alpha1.ClusterRegistration { return lagging } // the take-over is not shown yet
	must(t, w.agent.cluster.podStore().Add(testPod("q", "a", requesting("cpu", "1"), of("v"))))
	w.after(30 * time.Second)
	w.after(time.Second)
	if w.usage.ClusterUID != "cluster-2" || w.object.Status.ClusterUID != "cluster-2" {
		t.Errorf("usage of %s, status of %s", w.usage.ClusterUID, w.object.Status.ClusterUID)
	}
}

// A list after a gap in watching replaces everything that was missed.
func TestRelist(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	must(t, w.agent.cluster.nodeStore().Replace([]any{testNode("b", having("cpu", "8", "pods", "10"))}, "2"))
	must(t, w.agent.cluster.podStore().Replace([]any{testPod("q", "b", requesting("cpu", "2"))}, "2"))
	w.settle()
	allocatable, allocated := w.object.Status.Allocatable[corev1.ResourceCPU], w.object.Status.Allocated[corev1.ResourceCPU]
	if allocatable.String() != "8" || allocated.String() != "2" || len(w.usage.Workloads) != 0 {
		t.Errorf("%s of %s are allocated, to %v", allocated.String(), allocatable.String(), w.usage.Workloads)
	}
}

func TestKCPUnreachable(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	w.expect("the first report", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})

	w.failing = errors.New("connection refused")
	w.after(30 * time.Second)
	must(t, w.agent.cluster.nodeStore().Add(testNode("b", having("cpu", "4", "pods", "10"))))
	for range 10 {
		w.after(12 * time.Second)
	}
	w.expect("nothing can be written", nil, nil)
	if err := w.agent.Ready(); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("ready: %v", err)
	}
	w.failing = nil
	w.probe()
	w.after(12 * time.Second)
	w.expect("kcp is back", []string{"Ready True"}, nil)
	if w.object.Status.Nodes.Total != 2 {
		t.Error("the figures are those from before")
	}
}

func TestClusterUnreachable(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	w.expect("the first report", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})

	w.probing = errors.New("connection refused")
	w.probe()
	w.settle()
	w.expect("one probe without answer", nil, nil)
	w.clock.Step(30 * time.Second)
	w.probe()
	w.settle()
	w.expect("none for an interval", []string{"Ready False ClusterUnreachable"}, []string{"Warning ClusterUnreachable"})
	if w.object.Status.Nodes.Usable != 1 {
		t.Error("the last known figures are lost")
	}
	w.probing = nil
	w.probe()
	w.settle()
	w.expect("it answers again", []string{"Ready True"}, []string{"Normal Ready"})
}

// The cluster answers, but the right to watch is gone, so that what the watches have shown gets out of date.
func TestWatchesBroken(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	w.expect("the first report", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})
	c := w.agent.cluster
	_ = c.recordAnswer(c.pods, errors.New("pods is forbidden"))
	w.after(time.Second)
	w.expect("at first", nil, nil)
	w.clock.Step(30 * time.Second)
	w.probe()
	w.settle()
	w.expect("after an interval", []string{"Ready False ClusterUnreachable"}, []string{"Warning ClusterUnreachable"})
	if got := conditions.GetMessage(w.object, v1alpha1.ReadyCondition); !strings.Contains(got, "pods cannot be listed and watched since 2023-11-14T22:13:21Z: pods is forbidden") {
		t.Error(got)
	}
	_ = c.recordAnswer(c.pods, nil)
	w.after(30 * time.Second)
	w.probe()
	w.settle()
	w.expect("the rights are back", []string{"Ready True"}, []string{"Normal Ready"})
}

func TestRegistering(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*world)
		want string // of the error
	}{
		{"not allowed by the flag", func(w *world) { w.agent.registration.register = false }, `there is no ClusterRegistration frankfurt, and --register=false forbids to create it. ` +
			`The agent goes on once it exists: apply {"apiVersion":"tmc.kcp.io/v1alpha1","kind":"ClusterRegistration","metadata":{"name":"frankfurt"},"spec":{"location":"eu-central"}}`},
		{"no location", func(w *world) { w.agent.registration.template.Spec.Location = "" }, "it cannot be created without --location"},
		{"forbidden", func(w *world) {
			w.creating = apierrors.NewForbidden(registrations, "frankfurt", errors.New("no rights"))
		}, "creating it is forbidden"},
		{"invalid", func(w *world) {
			w.creating = apierrors.NewInvalid(v1alpha1.SchemeGroupVersion.WithKind("ClusterRegistration").GroupKind(), "frankfurt", nil)
		}, "what the flags say is invalid"},
		{"the API is not bound", func(w *world) {
			w.creating = apierrors.NewGenericServerResponse(http.StatusNotFound, "create", registrations, "", "", 0, false)
		}, "bind the APIExport"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t).synced()
			test.set(w)
			w.settle()
			w.expect("it does not exist", nil, nil)
			if err := w.agent.Ready(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			// The operator applies it.
			w.object = &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{Name: "frankfurt", UID: "theirs", ResourceVersion: "1"}}
			w.object.Spec.Location = "elsewhere"
			w.agent.registration.observed(w.object)
			w.settle()
			w.expect("it exists", []string{"Ready True"}, []string{"Normal Ready"})
			if w.object.Spec.Location != "elsewhere" {
				t.Error("the agent has changed the spec")
			}
			if err := w.agent.Ready(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRegistrationDeleted(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	w.expect("the first report", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})
	w.object = nil
	w.agent.registration.deleted(nil)
	w.after(0)
	w.expect("it is registered anew at once", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})
	if w.object.UID != "registration-2" {
		t.Errorf("got %s", w.object.UID)
	}
	// Its own writes and those of the controller do not wake it.
	w.agent.registration.observed(w.object)
	w.after(time.Second)
	w.expect("nothing has happened", nil, nil)
}

func TestOthersConditionsStay(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	// The controller writes between the watch's last event and the agent's write.
	lagging := w.object.DeepCopy()
	w.agent.registration.cached = func() *v1alpha1.ClusterRegistration { return lagging }
	conditions.MarkFalse(w.object, v1alpha1.WithinCapacityCondition, "Overcommitted", conditionsv1alpha1.ConditionSeverityWarning, "too much")
	w.object.ResourceVersion = "2"
	w.writes, w.events = nil, nil
	must(t, w.agent.cluster.podStore().Add(testPod("q", "a", requesting("cpu", "10m"))))
	w.after(30 * time.Second)
	w.expect("a conflict", nil, nil)
	w.after(time.Second)
	w.expect("the next attempt", []string{"Ready True"}, nil)
	if !conditions.IsFalse(w.object, v1alpha1.WithinCapacityCondition) {
		t.Errorf("the condition of the controller is lost: %v", w.object.Status.Conditions)
	}
}

func TestTwoClustersWithOneName(t *testing.T) {
	w := newWorld(t).synced()
	w.object = &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{Name: "frankfurt", UID: "theirs", ResourceVersion: "1"}}
	w.object.Status.ClusterUID = "cluster-2"
	w.settle()
	w.expect("another cluster reports here", nil, []string{"Warning AgentConflict"})
	err := w.agent.Ready()
	for _, part := range []string{"frankfurt", "cluster-1", "cluster-2", "--registration-name", "--take-over"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	must(t, w.agent.cluster.nodeStore().Add(testNode("b", having("cpu", "4", "pods", "10"))))
	w.agent.registration.observed(w.object) // its heartbeat
	w.settle()
	w.expect("changes do not ask again", nil, nil)
	w.after(30 * time.Second)
	w.expect("the next interval does", nil, []string{"Warning AgentConflict"})
	w.object = nil
	w.agent.registration.deleted(nil)
	w.after(0)
	w.expect("the name is free", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})

	// Somebody starts the other agent with --take-over.
	w.object.Status.ClusterUID, w.object.ResourceVersion = "cluster-2", "7"
	w.agent.registration.observed(w.object)
	w.after(0)
	w.expect("the other has taken it", nil, []string{"Warning AgentConflict"})
}

func TestTakeOverOnce(t *testing.T) {
	w := newWorld(t).synced()
	w.agent.registration.takeOver = true
	w.object = &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{Name: "frankfurt", UID: "theirs", ResourceVersion: "1"}}
	w.object.Status.ClusterUID = "cluster-2"
	w.settle()
	w.expect("taken over", []string{"Ready True"}, []string{"Normal TookOver", "Normal Ready"})
	w.object.Status.ClusterUID, w.object.ResourceVersion = "cluster-2", "7"
	w.after(30 * time.Second)
	w.expect("taken back", nil, []string{"Warning AgentConflict"})
}

// An API server at the address that is another cluster's now must not be reported as this one.
func TestAnotherClusterAnswers(t *testing.T) {
	w := newWorld(t).synced()
	w.settle()
	w.expect("the first report", []string{"Ready True"}, []string{"Normal Registered", "Normal Ready"})
	w.uid = "cluster-3"
	w.probe()
	w.settle()
	w.expect("another cluster", nil, []string{"Warning AgentConflict"})
}

func TestUnidentified(t *testing.T) {
	w := newWorld(t)
	w.probing = errors.New("connection refused")
	w.probe()
	w.after(30 * time.Second)
	w.expect("nothing is known", nil, nil)
	if err := w.agent.Ready(); err == nil || !strings.Contains(err.Error(), "kube-system: connection refused") {
		t.Errorf("ready: %v", err)
	}
	w.probing = nil
	w.probe()
	w.settle()
	w.expect("known, but its nodes never came", []string{"Ready False ClusterUnreachable"}, []string{"Normal Registered", "Warning ClusterUnreachable"})
	w.synced().settle()
	w.expect("they came", []string{"Ready True"}, []string{"Normal Ready"})
}

// lister is a client whose server lists before it watches, as the fake one does.
type lister struct{ corev1client.CoreV1Interface }

func (lister) IsWatchListSemanticsUnSupported() bool { return true }

// Everything at once, with a clock that runs: nodes and pods come from a server, and changes arrive at the registration.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.agent = newAgent(newClusterFor(lister{w.client.CoreV1()}, DefaultInterval, nil, clock.RealClock{}), w.agent.registration, DefaultInterval, 1, w.agent.metrics, clock.RealClock{})
	w.agent.registration.run = func(ctx context.Context) { <-ctx.Done() }
	written := make(chan string)
	update := w.agent.registration.updateStatus
	w.agent.registration.updateStatus = func(ctx context.Context, object *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		cpu := object.Status.Allocated[corev1.ResourceCPU]
		select {
		case written <- cpu.String():
		case <-ctx.Done():
		}
		return update(ctx, object)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	must(t, w.client.Tracker().Add(testNode("a", having("cpu", "4", "pods", "10"))))
	go func() { ended <- w.agent.Run(ctx) }()
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"a node", func() error { return nil }, "0"},
		{"a pod", func() error { return w.client.Tracker().Add(testPod("p", "a", requesting("cpu", "1"))) }, "1"},
		{"it has ended", func() error {
			p := testPod("p", "a", requesting("cpu", "1"))
			p.Status.Phase = corev1.PodFailed
			return w.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), p, p.Namespace)
		}, "0"},
	} {
		must(t, step.do())
		if got := <-written; got != step.want {
			t.Errorf("%s: %s are allocated, want %s", step.name, got, step.want)
		}
	}
	stop()
	must(t, <-ended)
}

// TestDelivery: the registration says how an agent delivers, for as long as it does, and the agent knows whether the registration is
// its cluster's, for only then may it deliver.
func TestDelivery(t *testing.T) {
	w := newWorld(t).synced()
	w.agent.registration.delivery = &v1alpha1.AgentDelivery{NamespaceTemplate: "{workspace}-{namespace}", PodSecurity: "baseline"}
	if w.agent.Holds() {
		t.Error("it holds a registration that it has not seen")
	}
	w.settle()
	if d := w.object.Status.AgentDelivery; d == nil || d.PodSecurity != "baseline" || !w.object.Delivers() || !w.agent.Holds() {
		t.Errorf("the registration says %+v; held: %t", d, w.agent.Holds())
	}
	w.failing = errors.New("kcp is not there")
	w.after(30 * time.Second)
	if !w.agent.Holds() {
		t.Error("cut off, it takes its registration for another's")
	}
	w.failing = nil
	w.object.Status.ClusterUID, w.object.ResourceVersion = "cluster-2", w.object.ResourceVersion+"9"
	w.after(30 * time.Second)
	w.after(30 * time.Second)
	if w.agent.Holds() {
		t.Error("it holds the registration of another cluster")
	}
	w.object.Status.ClusterUID, w.object.ResourceVersion = "cluster-1", w.object.ResourceVersion+"9"
	w.agent.registration.delivery = nil
	w.after(30 * time.Second)
	w.after(30 * time.Second)
	if w.object.Status.AgentDelivery != nil || w.object.Delivers() || !w.agent.Holds() {
		t.Errorf("the registration says %+v; held: %t", w.object.Status.AgentDelivery, w.agent.Holds())
	}
}
