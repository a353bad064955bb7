package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func (w *world) queue(placement string) (text []string) {
	for _, q := range w.placements[w.named(placement)].Status.Queue {
		line := fmt.Sprintf("%d %s %s", q.Position, q.Workload.Name, q.Reason)
		for _, b := range q.BlockedBy {
			line += fmt.Sprintf(" %s/%s %s", b.Kind, b.Name, b.Field)
		}
		if q.WouldFit != nil {
			line += " fits " + q.WouldFit.Allocatable.Cpu().String()
		}
		text = append(text, strings.TrimSpace(line))
	}
	return text
}

// TestQueue: the status of a placement has what waits, in the order of the workspace, with what keeps it waiting, since when, and which
// cluster would have a place for it. It is bounded, and outlives the controller.
func TestQueue(t *testing.T) {
	w := newWorld(t)
	w.tiered()
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.add("usual", testWorkload("web", 4000))
	w.pass()
	first := testWorkload("first", 5000)
	first.CreationTimestamp = metav1.NewTime(w.clock.Add(-time.Hour))
	w.add("low", first)
	w.add("usual", testWorkload("second", 3000))
	for i := range 12 {
		later := testWorkload(fmt.Sprintf("z%02d", i), 9000)
		later.CreationTimestamp = metav1.NewTime(w.clock)
		w.add("low", later)
	}
	for range 3 { // clusters are suggested one by one
		w.elapse(2 * countsEvery)
	}
	if got := strings.Join(w.queue("usual"), ", "); got != "1 second NoFeasibleCluster ClusterRegistration/a status.allocatable fits 3" {
		t.Errorf("usual: %s", got)
	}
	low := w.queue("low")
	if len(low) != v1alpha1.MaxQueued || !strings.HasPrefix(low[9], "11 ") || !strings.HasSuffix(low[9], "fits 9") {
		t.Errorf("low: %v", low)
	}
	since := map[string]time.Time{}
	for _, q := range w.placements[w.named("low")].Status.Queue {
		since[q.Workload.Name] = q.Since.Time
	}
	if !since["first"].Equal(first.CreationTimestamp.Time) || since["z00"].IsZero() {
		t.Errorf("since %v", since)
	}
	w.restart()
	w.sleep(time.Hour)
	w.pass()
	for _, q := range w.placements[w.named("low")].Status.Queue {
		if !q.Since.Time.Equal(since[q.Workload.Name]) {
			t.Errorf("%s waits since %s, before the restart since %s", q.Workload.Name, q.Since, since[q.Workload.Name])
		}
	}
	w.clusters = append(w.clusters, testCluster("b", "200"))
	w.pass()
	w.sleep(countsEvery)
	w.pass()
	if low, usual := w.queue("low"), w.queue("usual"); len(low)+len(usual) > 0 {
		t.Errorf("nothing waits, and the queue is %v, %v", low, usual)
	}
}

// TestBlockingPolicies: a workload that waits for policies names the ConfigMaps whose modules have errors, each once with its key.
func TestBlockingPolicies(t *testing.T) {
	w := newWorld(t)
	w.tiered()
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.add("usual", testWorkload("web", 1000))
	for _, name := range []string{"broken", "sound", "wrong"} {
		configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}, Data: map[string]string{"a.rego": "package placement.a\n"}}
		if name != "sound" {
			configMap.Data["b.rego"] = "package placement.b\nx := nowhere\ny := nowhere\n"
		}
		w.configMaps = append(w.configMaps, configMap)
	}
	w.pass()
	w.elapse(2 * countsEvery)
	const want = "1 web NotDecided ConfigMap/broken data[b.rego] ConfigMap/wrong data[b.rego]"
	if got := strings.Join(w.queue("usual"), ", "); got != want {
		t.Errorf("the queue is %q, not %q", got, want)
	}
}

// TestEstimate: when there is room is told from what was freed in the last hour, once that is known from a few workloads over some time;
// while nothing else changes, no status is written for it.
func TestEstimate(t *testing.T) {
	w := newWorld(t)
	w.tiered()
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "10")}
	for i := range 10 {
		w.add("usual", testWorkload(fmt.Sprintf("w%d", i), 1000))
	}
	w.pass()
	w.add("low", testWorkload("large", 10000))
	w.pass()
	estimate := func() *v1alpha1.QueueEstimate {
		w.elapse(2 * countsEvery)
		return w.placements[w.named("low")].Status.Queue[0].Estimate
	}
	if e := estimate(); e != nil {
		t.Errorf("nothing was freed, and it says %v", e)
	}
	for range 5 {
		w.sleep(6 * time.Minute)
		w.workloads = w.workloads[1:]
		w.pass()
	}
	w.sleep(6 * time.Minute) // 5 cpu within half an hour: 10 take an hour
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "9")}
	e := estimate()
	if e == nil || e.At.Sub(w.clock) < 50*time.Minute || e.At.Sub(w.clock) > 70*time.Minute || !strings.HasPrefix(e.Because, "cpu: 10 asked for by this workload and the 0 before it, 5 freed within") {
		t.Fatalf("it says %+v at %s", e, w.clock)
	}
	writes := len(w.writes)
	for range 20 {
		w.sleep(time.Minute)
		w.pass()
	}
	if more := w.writes[writes:]; len(more) > 0 {
		t.Errorf("written while nothing changed: %v", more)
	}
}
