package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// fakeRecorder keeps the events that are written.
type fakeRecorder struct {
	*recorder
	created []string
	fail    error
}

func newFakeRecorder(t *testing.T) *fakeRecorder {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	n := &fakeRecorder{}
	n.recorder = &recorder{
		metrics: m, queue: make(chan queuedEvent, eventsQueued),
		create: func(_ context.Context, in logicalcluster.Name, e *corev1.Event) (*corev1.Event, error) {
			n.created = append(n.created, fmt.Sprintf("%s %s/%s: %s", in, e.Namespace, e.InvolvedObject.Name, e.Message))
			return e, n.fail
		},
		patch: func(_ context.Context, in logicalcluster.Name, e *corev1.Event, _ []byte) (*corev1.Event, error) {
			n.created = append(n.created, fmt.Sprintf("%s %s/%s: %s, %d times", in, e.Namespace, e.InvolvedObject.Name, e.Message, e.Count))
			return e, n.fail
		},
	}
	return n
}

// writeAll writes what is queued.
func (n *fakeRecorder) writeAll() {
	correlator := record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{})
	for len(n.queue) > 0 {
		_ = n.write(context.Background(), correlator, <-n.queue)
	}
}

func (n *fakeRecorder) expect(t *testing.T, result string, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(n.metrics.writes.WithLabelValues("Event", result)); got != want {
		t.Errorf("%v events are %s, want %v", got, result, want)
	}
}

func TestEventsAreWrittenToTheirWorkspace(t *testing.T) {
	n := newFakeRecorder(t)
	here, there := n.in("here"), n.in("there")
	cluster := testCluster("a", "1")
	cluster.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterRegistration"}
	cluster.UID = "a"
	here(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	there(cluster, corev1.EventTypeWarning, "InvalidRegistration", "odd")
	here(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	n.writeAll()
	want := []string{"here default/web: full", "there default/a: odd", "here default/web: full, 2 times"}
	if !slices.Equal(n.created, want) {
		t.Errorf("got %q, want %q", n.created, want)
	}
	n.fail = errors.New("no")
	here(testWorkload("web", 1), corev1.EventTypeNormal, "Moved", strings.Repeat("x", 5000))
	n.writeAll()
	if got := len(n.created[3]); got > 1024 {
		t.Errorf("an event of %d bytes", got)
	}
	n.expect(t, "ok", 3)
	n.expect(t, "error", 1)
}

// TestAFloodOfEvents is cut off in its workspace: those of other workspaces, and the summaries of placements, get through.
func TestAFloodOfEvents(t *testing.T) {
	n := newFakeRecorder(t)
	flooded, calm := n.in("flooded"), n.in("calm")
	for i := range 5000 {
		flooded(testWorkload(fmt.Sprint("w", i), 1), corev1.EventTypeWarning, "NotPlaced", "full")
	}
	placement := testPlacement(one)
	placement.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadPlacement"}
	flooded(placement, corev1.EventTypeNormal, "Placed", "placed 7 workloads")
	calm(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	n.writeAll()
	written := len(n.created)
	if written < workspaceEventBurst+2 || written > workspaceEventBurst+10 { // a few more where this test is slow
		t.Errorf("%d events", written)
	}
	if got := strings.Join(n.created[written-2:], "; "); got != "flooded default/p: placed 7 workloads; calm default/web: full" {
		t.Error(got)
	}
	n.expect(t, "ok", float64(written))
	n.expect(t, "dropped", float64(5002-written))

	// Where the server is slow and many workspaces are flooded, nothing waits for it, and there is room for placements.
	for i := range eventsQueued {
		n.in(logicalcluster.Name(fmt.Sprint("ws", i)))(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	}
	flooded(placement, corev1.EventTypeNormal, "Placed", "placed 8 workloads")
	if got := len(n.queue); got != eventsQueued/2+1 {
		t.Errorf("%d are queued", got)
	}
	n.expect(t, "dropped", float64(5002-written+eventsQueued/2))
}
