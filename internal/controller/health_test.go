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
	c.Status.LastHeartbeatTime = &metav1.Time{Time: w.clock}
	var allocated resource.Quantity
	for uid, cpu := range counted {
		quantity := resource.MustParse(cpu)
		allocated.Add(quantity)
		c.Status.Workloads = append(c.Status.Workloads, v1alpha1.WorkloadUsage{UID: types.UID(uid), Requests: corev1.ResourceList{"cpu": quantity}})
	}
	c.Status.Allocated = corev1.ResourceList{"cpu": allocated}
	for _, before := range w.clusters {
		if before.Name == name {
			c.Status.Conditions = before.Status.Conditions
		}
	}
	conditions.Set(c, conditions.TrueCondition(v1alpha1.ReadyCondition))
	conditions.Set(c, conditions.TrueCondition(v1alpha1.WorkloadsCountedCondition))
	w.clusters = append(slices.DeleteFunc(slices.Clone(w.clusters), func(r *v1alpha1.ClusterRegistration) bool { return r.Name == name }), c)
	if w.heard == nil {
		w.heard = map[types.UID]time.Time{}
	}
	w.heard[c.UID] = w.clock
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
	if got := w.told(); !strings.Contains(got, "a: HeartbeatMissed: the cluster has not reported for 1m0s: no workloads are placed there until it does") {
		t.Error(got)
	}

	// The next controller has not heard of it either, and has nothing to write about it until it is lost.
	w.restart()
	w.heard["a"] = w.clock
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
	if got := w.told(); !strings.Contains(got, "a: ClusterLost: the cluster has not reported for 5m0s: its workloads are placed anew") {
		t.Error(got)
	}
	w.restart()
	w.heard["a"] = w.clock.Add(-2 * time.Minute)
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

// TestOldNewsOfSilence: where the cluster has reported meanwhile, which the informer does not show yet, nothing is done to it.
func TestOldNewsOfSilence(t *testing.T) {
	w := newWorld(t)
	w.reports("a", "4", nil)
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 2000)}
	w.pass()
	w.sleep(time.Hour)
	stale := w.cacheView
	w.reports("a", "4", nil)
	stale.heard = map[types.UID]time.Time{"a": w.clock.Add(-time.Hour)}
	if err := w.workspace.reconcile(context.Background(), stale).err(); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.expect(map[string]string{"w": "a"})
	for _, told := range w.events {
		if strings.Contains(told, "HeartbeatMissed") {
			t.Error(told)
		}
	}
}

func TestHeartbeats(t *testing.T) {
	beats := heartbeats{heard: map[types.UID]heartbeat{}}
	r := &v1alpha1.ClusterRegistration{ObjectMeta: metav1.ObjectMeta{UID: "a", ResourceVersion: "1"}}
	now := time.Unix(1_000_000, 0)
	heard := func() time.Time { return beats.of([]*v1alpha1.ClusterRegistration{r})["a"] }
	beats.hear(r, now)
	if _, found := beats.of([]*v1alpha1.ClusterRegistration{r})["a"]; found {
		t.Error("a cluster that has no heartbeat")
	}
	before := r
	r = r.DeepCopy()
	r.ResourceVersion = "2"
	r.Status.LastHeartbeatTime = &metav1.Time{Time: time.Unix(5, 0)} // its clock is decades behind
	beats.hear(r, now)
	if !heard().Equal(now) || !onlyHeartbeat(before, r) {
		t.Error(heard())
	}
	beats.hear(r, now.Add(time.Hour))
	if !heard().Equal(now) {
		t.Error("the same again is no news")
	}
	r = r.DeepCopy()
	r.Status.LastHeartbeatTime = &metav1.Time{Time: time.Unix(4, 0)} // and was set back
	r.Status.Nodes = &v1alpha1.NodeCounts{Total: 1}
	beats.hear(r, now.Add(time.Hour))
	if !heard().Equal(now.Add(time.Hour)) || onlyHeartbeat(before, r) {
		t.Error(heard())
	}
	beats.forget(r)
	if len(beats.heard) > 0 {
		t.Error(beats.heard)
	}
}

// TestShrunkCluster: capacity that falls below what is promised is told of and takes no more, and nothing is taken away.
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
		t.Error("told twice: ", w.writes)
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
