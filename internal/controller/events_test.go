package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	n := &fakeRecorder{recorder: emptyRecorder(nil, m)}
	n.create = func(_ context.Context, in logicalcluster.Name, e *corev1.Event) (*corev1.Event, error) {
		n.created = append(n.created, fmt.Sprintf("%s %s/%s: %s", in, e.Namespace, e.InvolvedObject.Name, e.Message))
		return e, n.fail
	}
	n.patch = func(_ context.Context, in logicalcluster.Name, e *corev1.Event, _ []byte) (*corev1.Event, error) {
		n.created = append(n.created, fmt.Sprintf("%s %s/%s: %s, %d times", in, e.Namespace, e.InvolvedObject.Name, e.Message, e.Count))
		return e, n.fail
	}
	return n
}

// writeAll writes what is queued.
func (n *fakeRecorder) writeAll() {
	correlator := record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{})
	for queued, found := n.take(); found; queued, found = n.take() {
		_ = n.write(context.Background(), correlator, queued)
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

// summarized is a placement that events can be about.
func summarized(i int) *v1alpha1.WorkloadPlacement {
	placement := testPlacement(one)
	placement.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "WorkloadPlacement"}
	if i > 0 {
		placement.Name = fmt.Sprint("p", i)
	}
	return placement
}

// TestAFloodOfEvents is cut off in its workspace: those of other workspaces, and the summaries of placements, get through.
func TestAFloodOfEvents(t *testing.T) {
	n := newFakeRecorder(t)
	flooded, calm := n.in("flooded"), n.in("calm")
	for i := range 5000 {
		flooded(testWorkload(fmt.Sprint("w", i), 1), corev1.EventTypeWarning, "NotPlaced", "full")
	}
	placement := summarized(0)
	flooded(placement, corev1.EventTypeNormal, "Placed", "placed 7 workloads")
	calm(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	n.writeAll()
	written := len(n.created)
	if written < workspaceEventBurst+2 || written > workspaceEventBurst+10 { // a few more where this test is slow
		t.Errorf("%d events", written)
	}
	if n.created[1] != "calm default/web: full" || n.created[written-1] != "flooded default/p: placed 7 workloads" {
		t.Errorf("%q", n.created)
	}
	n.expect(t, "ok", float64(written))
	n.expect(t, "dropped", float64(5002-written))

	// Where the server is slow and many workspaces are flooded, nothing waits for it, and there is room for placements.
	for i := range eventsQueued {
		n.in(logicalcluster.Name(fmt.Sprint("ws", i)))(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	}
	flooded(placement, corev1.EventTypeNormal, "Placed", "placed 8 workloads")
	if got := n.queue.Len(); got != eventsQueued/2+1 {
		t.Errorf("%d are queued", got)
	}
	n.expect(t, "dropped", float64(5002-written+eventsQueued/2))
}

// TestAFloodOfSummaries: placements without number take nothing from other workspaces either, and those of many workspaces no more than
// their share: who has little queued has room, and is served in turn.
func TestAFloodOfSummaries(t *testing.T) {
	n := newFakeRecorder(t)
	flood := func(workspace logicalcluster.Name) {
		loud := n.in(workspace)
		for i := range 2 * eventsQueued {
			loud(summarized(i+1), corev1.EventTypeNormal, "Placed", "placed 7 workloads")
		}
	}
	flood("loud")
	if got := n.queue.Len(); got != workspaceQueued {
		t.Errorf("%d events of one workspace are queued", got)
	}
	n.in("quiet")(summarized(0), corev1.EventTypeNormal, "Placed", "placed 1 workload")
	n.in("calm")(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	n.writeAll()
	if got := strings.Join(n.created[:3], "; "); got != "loud default/p1: placed 7 workloads; quiet default/p: placed 1 workload; calm default/web: full" {
		t.Error(got)
	}
	n.expect(t, "ok", workspaceQueued+2)
	n.expect(t, "dropped", 2*eventsQueued-workspaceQueued)

	n.created = nil
	const many = 2 * eventsQueued / workspaceQueued
	for i := range many {
		flood(logicalcluster.Name(fmt.Sprint("loud", i)))
	}
	n.in("quiet")(summarized(0), corev1.EventTypeNormal, "Placed", "placed 2 workloads")
	n.in("calm")(testWorkload("db", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	if got := n.queue.Len(); got != eventsQueued {
		t.Errorf("%d events are queued", got)
	}
	n.writeAll()
	first := strings.Join(n.created[:many+2], "; ")
	for _, want := range []string{"quiet default/p: placed 2 workloads", "calm default/db: full"} {
		if !strings.Contains(first, want) {
			t.Errorf("%s is not among the first: %s", want, first)
		}
	}
	n.expect(t, "ok", workspaceQueued+2+eventsQueued)
	n.expect(t, "dropped", 2*eventsQueued-workspaceQueued+many*2*eventsQueued-eventsQueued+2)
}

// TestAServerThatHangsHoldsUpEventsForATime: what it does not answer is given up, and the others are written.
func TestAServerThatHangsHoldsUpEventsForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeRecorder(t)
		create := n.create
		n.create = func(ctx context.Context, in logicalcluster.Name, e *corev1.Event) (*corev1.Event, error) {
			if in == "hangs" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return create(ctx, in, e)
		}
		ctx, stop := context.WithCancel(t.Context())
		go n.run(ctx)
		for _, workspace := range []logicalcluster.Name{"hangs", "here"} {
			n.in(workspace)(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
		}
		time.Sleep(WriteWithin)
		synctest.Wait()
		n.expect(t, "error", 1)
		n.expect(t, "ok", 1)
		stop()
	})
}

// TestAFormerLeaderWritesNoEvents that it has queued while it led.
func TestAFormerLeaderWritesNoEvents(t *testing.T) {
	n := newFakeRecorder(t)
	var lease error
	n.fence = func() error { return lease }
	here := n.in("here")
	here(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	lease = errors.New("the lease has run out")
	n.writeAll()
	if len(n.created) > 0 {
		t.Errorf("%q", n.created)
	}
	n.expect(t, "dropped", 1)
	lease = nil
	here(testWorkload("web", 1), corev1.EventTypeWarning, "NotPlaced", "full")
	n.writeAll()
	if want := []string{"here default/web: full"}; !slices.Equal(n.created, want) {
		t.Errorf("got %q, want %q", n.created, want)
	}
}
