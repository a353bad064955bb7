package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"github.com/prometheus/client_golang/prometheus/testutil"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// reports has a cluster report now: what it has, and what it counts for workloads, by UID.
func (w *world) reports(name, allocatable string, counted map[string]string) {
	c := testCluster(name, allocatable)
	c.UID, c.ResourceVersion = types.UID(name), w.next()
	c.Status.ClusterUID = c.UID
	usage := &v1alpha1.ClusterUsage{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("usage of " + name)}, ClusterUID: c.UID, Allocatable: c.Status.Allocatable}
	if before := w.usages[name]; before != nil {
		usage.Generation = before.Generation + 1
	}
	var allocated resource.Quantity
	for uid, cpu := range counted {
		quantity := resource.MustParse(cpu)
		allocated.Add(quantity)
		usage.Workloads = append(usage.Workloads, v1alpha1.WorkloadUsage{UID: types.UID(uid), Requests: corev1.ResourceList{"cpu": quantity}})
	}
	usage.Allocated = corev1.ResourceList{"cpu": allocated}
	for _, before := range w.clusters {
		if before.Name == name {
			c.Status.Conditions = before.Status.Conditions
		}
	}
	conditions.Set(c, conditions.TrueCondition(v1alpha1.ReadyCondition))
	w.clusters = append(slices.DeleteFunc(slices.Clone(w.clusters), func(r *v1alpha1.ClusterRegistration) bool { return r.Name == name }), c)
	if w.heard == nil {
		w.heard, w.usages = map[types.UID]heartbeat{}, map[string]*v1alpha1.ClusterUsage{}
	}
	w.usages[name] = usage
	w.leases[name] = heartbeat{renewed: w.clock, at: w.clock, holder: c.UID, usage: v1alpha1.UsageVersion(usage)}
	w.heard[c.UID] = w.leases[name]
}

// heardAt has the watch show the heartbeat of cluster a at a time.
func (w *world) heardAt(at time.Time) {
	beat := w.heard["a"]
	beat.at = at
	w.heard["a"] = beat
}

func (w *world) clusterCondition(name, kind string) string {
	for _, r := range w.clusters {
		if c := conditions.Get(r, v1alpha1.ReadyCondition); r.Name == name {
			if kind != v1alpha1.ReadyCondition {
				c = conditions.Get(r, v1alpha1.WithinCapacityCondition)
			}
			if c == nil {
				return "none"
			}
			return strings.Trim(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), " :")
		}
	}
	return "no cluster"
}

// TestSilentClusters: one that has not been heard of for too long is Unknown and given nothing, and later taken for lost. It
// comes back on its own.
func TestSilentClusters(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.reports("b", "3", nil)
	w.clusters = append(w.clusters, testCluster("by hand", "100m")) // never reports: nothing is expected of it
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	if r := w.pass(); r.after != time.Minute {
		t.Errorf("looked at again after %s", r.after)
	}
	w.workloads = []*workloadObject{testWorkload("there", 500)}
	w.pass()
	w.expect(map[string]string{"there": "a"})
	w.show()
	w.sleep(40 * time.Second)
	w.reports("b", "3", nil)
	if r := w.pass(); r.after != 20*time.Second {
		t.Errorf("looked at again after %s", r.after)
	}

	w.sleep(20 * time.Second)
	w.workloads = append(w.workloads, testWorkload("new", 2000), testWorkload("too large for b", 3500))
	w.pass()
	w.show()
	w.expect(map[string]string{"there": "a", "new": "b"})
	if got := w.clusterCondition("a", "Ready"); got != "Unknown HeartbeatMissed: the cluster has not reported for 1m0s" {
		t.Error(got)
	}
	if got := w.clusterCondition("by hand", "Ready"); got != "True" {
		t.Error(got)
	}
	if got := w.takeEvents(); !strings.Contains(got, "a: HeartbeatMissed: the cluster has not reported for 1m0s: no workloads are placed there until it does") {
		t.Error(got)
	}

	// The next controller has not heard of it either, and has nothing to write about it until it is lost.
	w.restart()
	w.heardAt(w.clock)
	w.pass()
	w.sleep(time.Minute)
	w.reports("b", "3", nil)
	w.writes = nil
	if w.pass(); len(w.writes) > 0 {
		t.Errorf("written %v", w.writes)
	}
	w.sleep(4 * time.Minute)
	w.reports("b", "3", nil)
	w.pass()
	w.show()
	w.expect(map[string]string{"there": "b", "new": "b"})
	if got := w.clusterCondition("a", "Ready"); got != "False ClusterLost: the cluster has not reported for 5m0s" {
		t.Error(got)
	}
	if got := w.takeEvents(); !strings.Contains(got, "a: ClusterLost: the cluster has not reported for 5m0s: its workloads are placed anew") {
		t.Error(got)
	}
	w.restart()
	w.heardAt(w.clock.Add(-2 * time.Minute))
	w.pass()
	if got := w.clusterCondition("a", "Ready"); got != "False ClusterLost: the cluster has not reported for 5m0s" {
		t.Errorf("lost is lost until it reports: %s", got)
	}

	w.reports("a", "4", nil)
	w.pass()
	w.expect(map[string]string{"there": "b", "new": "b", "too large for b": "a"})
	if got := w.clusterCondition("a", "Ready"); got != "True" {
		t.Error(got)
	}
}

// TestStaleSilence: a cluster that has reported meanwhile, which the informer does not show yet, stays Ready.
func TestStaleSilence(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	w.pass()
	w.sleep(time.Hour)
	stale := w.cacheView
	w.reports("a", "4", nil)
	stale.heard = map[types.UID]heartbeat{"a": {at: w.clock.Add(-time.Hour), holder: "a"}}
	if err := w.workspace.reconcile(context.Background(), stale).err(); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.expect(map[string]string{"w": "a"})
	for _, event := range w.events {
		if strings.Contains(event, "HeartbeatMissed") {
			t.Error(event)
		}
	}
}

// TestHeartbeats: of a Lease, that it is renewed counts, by whom, and not what its clock says.
func TestHeartbeats(t *testing.T) {
	beats := heartbeats{heard: map[clusterKey]heartbeat{}}
	r := &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{Name: "frankfurt", UID: "r"}}
	r.Status.ClusterUID = "c"
	now := time.Unix(1_000_000, 0)
	heard := func() string {
		beat, found := beats.of("ws", []*v1alpha1.ClusterRegistration{r})["r"]
		if !found {
			return "never"
		}
		return beat.at.Sub(now).String()
	}
	lease := func(holder string, renewed int64) *coordinationv1.Lease {
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.AgentNamespace, Name: "frankfurt", Annotations: map[string]string{"kcp.io/cluster": "ws"},
		}}
		if renewed != 0 {
			l.Spec = coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &metav1.MicroTime{Time: time.Unix(renewed, 0)}}
		}
		return l
	}
	elsewhere, another := lease("c", 9), lease("c", 9)
	elsewhere.Namespace = "default"
	another.Annotations = map[string]string{"kcp.io/cluster": "other"}
	for _, step := range []struct {
		what   string
		lease  *coordinationv1.Lease
		after  time.Duration
		turned bool
		want   string
	}{
		{"nobody has renewed it yet", lease("", 0), 0, false, "never"},
		{"in another namespace", elsewhere, 0, false, "never"},
		{"in another workspace", another, 0, true, "never"},
		{"its clock is decades behind", lease("c", 5), time.Second, true, "1s"},
		{"the same again", lease("c", 5), time.Hour, false, "1s"},
		{"its clock was set back", lease("c", 4), time.Hour, false, "1h0m0s"},
		{"another cluster renews it", lease("d", 6), 2 * time.Hour, true, "never"},
		{"nobody holds it any more", lease("", 0), 3 * time.Hour, true, "never"},
	} {
		if turned := beats.hear(step.lease, now.Add(step.after)); turned != step.turned || heard() != step.want {
			t.Errorf("%s: turned %v, heard %s, want %s", step.what, turned, heard(), step.want)
		}
	}
	beats.hear(lease("c", 7), now)
	beats.forget(clusterKey{"ws", "frankfurt"})
	if got := heard(); got != "never" {
		t.Errorf("after it is gone: %s", got)
	}
}

// TestSilenceIsConfirmed: a watch that is late or deaf, or a claim that is withdrawn, looks like clusters that have all fallen
// silent. The server knows better.
func TestSilenceIsConfirmed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		want   string
	}{
		"it is silent":                         {func(*world) {}, "Unknown HeartbeatMissed: the cluster has not reported for 1m0s"},
		"the watch is deaf":                    {func(w *world) { w.leases["a"] = heartbeat{renewed: w.clock, at: w.clock, holder: "a"} }, "True"},
		"the claim is withdrawn":               {func(w *world) { delete(w.leases, "a") }, "True"},
		"the server does not answer":           {func(w *world) { w.leaseErr = errors.New("no answer") }, "True"},
		"the claim was never accepted":         {func(w *world) { w.heard = nil }, "True"},
		"it has an agent that renews no Lease": {func(w *world) { w.heard = nil; delete(w.leases, "a") }, "True"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.reports("a", "4", nil)
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
			w.workloads = []*workloadObject{testWorkload("w", 2000)}
			w.pass()
			w.sleep(2 * time.Minute)
			test.change(w)
			_ = w.workspace.reconcile(context.Background(), w.cacheView)
			w.show()
			w.expect(map[string]string{"w": "a"})
			if got := w.clusterCondition("a", "Ready"); got != test.want {
				t.Error(got)
			}
		})
	}
}

// TestUnseenHeartbeat: where no Lease is seen nobody would notice that a cluster is silent, so that is reported. A registration
// that nobody's agent reports to has no heartbeat to miss.
func TestUnseenHeartbeat(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.clusters = append(w.clusters, testCluster("by hand", "100m"))
	heard := w.heard
	w.heard = nil
	seen := func() string {
		for _, c := range w.clusters {
			if condition := conditions.Get(c, v1alpha1.HeartbeatSeenCondition); condition != nil {
				return c.Name + " " + string(condition.Status) + " " + condition.Reason
			}
		}
		return "none"
	}
	if r := w.pass(); r.after != time.Minute || seen() != "none" {
		t.Errorf("at first: looked at again after %s, %s", r.after, seen())
	}
	w.sleep(time.Minute)
	w.pass()
	if got := seen(); got != "a False NoLease" {
		t.Error(got)
	}
	if !slices.ContainsFunc(w.events, func(event string) bool {
		return strings.HasPrefix(event, "a: NoLease: no Lease placement-agents/a that cluster a renews is seen")
	}) {
		t.Error(w.events)
	}
	w.writes = nil
	w.sleep(time.Hour)
	w.pass()
	if len(w.writes) > 0 {
		t.Errorf("written again: %v", w.writes)
	}
	w.withdraw(leaseResource)
	w.pass()
	if got := seen(); got != "a Unknown ClaimNotAccepted" {
		t.Error(got)
	}
	if got := w.clusterCondition("a", "Ready"); got != "True" {
		t.Errorf("a cluster whose heartbeat is not known is Ready %s", got)
	}
	w.hidden = nil
	w.pass()
	if got := seen(); got != "a False NoLease" {
		t.Error(got)
	}
	w.heard = heard
	w.heardAt(w.clock)
	w.pass()
	if got := seen(); got != "a True " {
		t.Error(got)
	}
}

// TestShrunkCluster: capacity that falls below what is promised is reported and takes no more, and nothing is taken away.
func TestShrunkCluster(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000), testWorkload("x", 1000)}
	w.pass()
	w.reports("a", "2", map[string]string{"w": "2"})
	w.workloads = append(w.workloads, testWorkload("late", 1))
	w.writes = nil
	w.pass()
	w.expect(map[string]string{"w": "a", "x": "a"})
	const over = "cpu: 2 in use and 1 promised of 2"
	if got := w.clusterCondition("a", "WithinCapacity"); got != "False Overcommitted: "+over {
		t.Error(got)
	}
	if !slices.Contains(w.events, "a: Overcommitted: "+over+": nothing more is placed there, nothing is taken away") {
		t.Error(w.events)
	}
	if n := testutil.ToFloat64(w.workspace.metrics.overcommitted); n != 1 {
		t.Errorf("%v overcommitted clusters", n)
	}
	w.writes = nil
	w.pass()
	if len(w.writes) > 0 {
		t.Error("written again: ", w.writes)
	}
	w.reports("a", "5", map[string]string{"w": "2"})
	w.pass()
	w.expect(map[string]string{"w": "a", "x": "a", "late": "a"})
	if got := w.clusterCondition("a", "WithinCapacity"); got != "True" {
		t.Error(got)
	}
	if n := testutil.ToFloat64(w.workspace.metrics.overcommitted); n != 0 {
		t.Errorf("%v overcommitted clusters", n)
	}
}

// TestUnreadableClusterIsNotWritten: what it reports would be lost.
func TestUnreadableClusterIsNotWritten(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	w.pass()
	w.clusters[0] = w.clusters[0].DeepCopy()
	w.clusters[0].Status = v1alpha1.ClusterRegistrationStatus{}
	w.unreadable = map[types.UID]decode.Problems{w.clusters[0].UID: {{Field: "status", Message: "must be an object, is a string"}}}
	w.workspace.writeConditions = func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
		return nil, errors.New("must not be")
	}
	w.pass()
}

// TestReportsComeInTwoParts: an agent writes the status of its registration and its usage one after the other, and watches show
// them in any order. That they are of different clusters counts at once and is a fault only if it lasts.
func TestReportsComeInTwoParts(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	steps := []struct {
		what                string
		registration, usage types.UID
		after               time.Duration
		valid               string
		events              int
	}{
		{"the usage is shown before the status", "", "old", 0, "none", 0},
		{"both are shown", "old", "old", settlesWithin, "none", 0},
		{"the agent of another cluster takes over", "new", "old", 0, "none", 0},
		{"it has not written the usage yet", "new", "old", settlesWithin - time.Second, "none", 0},
		{"it cannot write it", "new", "old", time.Second, "False", 1},
		{"that lasts", "new", "old", time.Minute, "False", 0},
		{"it has written it", "new", "new", 0, "True", 0},
		{"the one before writes again", "new", "old", time.Minute, "True", 0},
		{"it writes on", "new", "old", settlesWithin, "False", 1},
	}
	for _, step := range steps {
		w.sleep(step.after)
		r := *w.clusters[0]
		r.Status.ClusterUID = step.registration
		if r.Status.ClusterUID != w.clusters[0].Status.ClusterUID {
			w.clusters = []*v1alpha1.ClusterRegistration{&r}
		}
		if usage := *w.usages["a"]; usage.ClusterUID != step.usage {
			usage.ClusterUID = step.usage
			w.usages["a"] = &usage
		}
		w.events = nil
		w.pass()
		valid := "none"
		if c := conditions.Get(w.clusters[0], v1alpha1.ValidCondition); c != nil {
			valid = string(c.Status)
		}
		warnings := 0
		for _, e := range w.events {
			if strings.Contains(e, v1alpha1.InvalidRegistrationReason) {
				warnings++
			}
		}
		if valid != step.valid || warnings != step.events {
			t.Errorf("%s: Valid %s, events %v", step.what, valid, w.events)
		}
		if invalid := w.workspace.engine.Snapshot(w.workspace.name).Rows()[0].Invalid != ""; invalid != (step.registration != step.usage) {
			t.Errorf("%s: invalid for decisions: %v", step.what, invalid)
		}
	}
}

// TestInvalidRegistration: what cannot be used of a registration or its usage is named in condition Valid for as long as that
// is so, and Ready stays the agent's.
func TestInvalidRegistration(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	valid := func() string {
		c := conditions.Get(w.clusters[0], v1alpha1.ValidCondition)
		if c == nil {
			return "none"
		}
		return strings.Trim(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), " :")
	}
	usageUID := types.UID("usage of a")
	steps := []struct {
		what    string
		uid     types.UID
		problem *decode.Problem
		want    string
		written bool
	}{
		{"it was always valid", "a", nil, "none", false},
		{"a taint cannot be read", "a", &decode.Problem{Field: "spec.taints[0].timeAdded", Message: "not a time"},
			"False InvalidRegistration: spec.taints[0].timeAdded: not a time", true},
		{"it stays so", "a", &decode.Problem{Field: "spec.taints[0].timeAdded", Message: "not a time"},
			"False InvalidRegistration: spec.taints[0].timeAdded: not a time", false},
		{"it is mended", "a", nil, "True", true},
		{"the usage cannot be read", usageUID, &decode.Problem{Field: "allocated.cpu", Message: "out of proportion"},
			"False InvalidRegistration: ClusterUsage: allocated.cpu: out of proportion", true},
		{"another field cannot be read", usageUID, &decode.Problem{Field: "allocatable.cpu", Message: "out of proportion"},
			"False InvalidRegistration: ClusterUsage: allocatable.cpu: out of proportion", true},
		{"to write a condition would lose the agent's", "a", &decode.Problem{Field: "status.conditions[1].lastTransitionTime", Message: "not a time"},
			"False InvalidRegistration: ClusterUsage: allocatable.cpu: out of proportion", false},
		{"it is mended again", "a", nil, "True", true},
		{"the message is long", "a", &decode.Problem{Field: "spec", Message: strings.Repeat("x", 5000)},
			"False InvalidRegistration: spec: " + strings.Repeat("x", maxMessage-len("spec: ")) + "...", true},
	}
	for _, step := range steps {
		w.unreadable = map[types.UID]decode.Problems{}
		if step.problem != nil {
			w.unreadable[step.uid] = decode.Problems{*step.problem}
		}
		w.sleep(countsEvery)
		w.reports("a", "4", nil) // so that the informers show other objects
		w.writes, w.events = nil, nil
		w.pass()
		if got := valid(); got != step.want {
			t.Errorf("%s: %s", step.what, got)
		}
		if written := slices.Contains(w.writes, "conditions of a"); written != step.written {
			t.Errorf("%s: written %v", step.what, w.writes)
		}
		if got := w.clusterCondition("a", v1alpha1.ReadyCondition); got != "True" {
			t.Errorf("%s: Ready %s", step.what, got)
		}
		if n := len(w.events); n > 1 {
			t.Errorf("%s: events %v", step.what, w.events)
		}
	}
}
