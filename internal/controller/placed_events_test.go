package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// arrives adds a workload and makes a pass.
func (w *world) arrives(name string) result {
	w.Helper()
	w.workloads = append(w.workloads, testWorkload(name, 10))
	return w.pass()
}

// takeEvents returns the events since its last call.
func (w *world) takeEvents() string {
	events := strings.Join(w.events, "\n")
	w.events = nil
	return events
}

func quietWorld(t *testing.T) *world {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "1000")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.pass()
	return w
}

// TestPlacedEvents: the first workload gets its event at once, and those of the next ten seconds share one.
func TestPlacedEvents(t *testing.T) {
	w := quietWorld(t)
	w.arrives("first")
	if got := w.takeEvents(); got != "p: Placed: placed Deployment first on a (Excellent, 90)" {
		t.Error(got)
	}
	w.show()
	w.pass()
	for i := range 5 {
		w.sleep(time.Second)
		w.arrives(fmt.Sprintf("w%d", i))
		w.show()
	}
	w.workloads = slices.DeleteFunc(w.workloads, func(o *workloadObject) bool { return o.Name == "w1" })
	w.sleep(time.Second)
	w.pass()
	w.show()
	r := w.pass()
	if got := w.takeEvents(); got != "" || r.after != 4*time.Second {
		t.Errorf("the next pass after %s, events %q", r.after, got)
	}
	w.sleep(r.after)
	r = w.pass()
	if got := w.takeEvents(); r.after != 0 || got != "p: Placed: placed 4 workloads: Deployment default/w0 on a; Deployment default/w2 on a; Deployment default/w3 on a; and 1 more" {
		t.Errorf("the next pass after %s, events %q", r.after, got)
	}
	// After ten quiet seconds the next event comes at once again, and nothing is kept of a placement without one.
	w.sleep(placedEvery)
	if w.pass(); len(w.workspace.placed) != 0 {
		t.Errorf("kept %v", w.workspace.placed)
	}
	w.arrives("last")
	if got := w.takeEvents(); got != "p: Placed: placed Deployment last on a (Excellent, 90)" {
		t.Error(got)
	}
}

// TestPlacedEventsComeAfterTheWrite: only published decisions get an event, and one, however often they were made.
func TestPlacedEventsComeAfterTheWrite(t *testing.T) {
	w := quietWorld(t)
	w.failNext = apierrors.NewTimeoutError("try later", 1)
	w.workloads = []*workloadObject{testWorkload("w", 10)}
	if err := w.reconcile(); err == nil {
		t.Fatal("the failure must be reported")
	}
	if got := w.takeEvents(); got != "" {
		t.Error(got)
	}
	w.sleep(retryFirst)
	w.pass()
	if got := w.takeEvents(); got != "p: Placed: placed Deployment w on a (Excellent, 90)" {
		t.Error(got)
	}
}

// TestCountsAreGathered: a status is written at once if a condition turns, and otherwise every five seconds.
func TestCountsAreGathered(t *testing.T) {
	w := quietWorld(t)
	placed := func() string {
		return fmt.Sprintf("%d of %d", w.placements[0].Status.Placed, w.placements[0].Status.Workloads)
	}
	w.sleep(countsEvery)
	w.writes = nil
	w.arrives("first")
	if got := placed(); got != "1 of 1" {
		t.Errorf("a lone workload is counted at once, is %s", got)
	}
	w.show()
	for i := range 8 {
		w.sleep(countsEvery / 10)
		w.arrives(fmt.Sprint(i))
		w.show()
	}
	r := w.pass()
	if got := placed(); got != "1 of 1" || r.after != 2*countsEvery/10 {
		t.Errorf("counted %s, the next pass after %s", got, r.after)
	}
	w.sleep(r.after)
	w.pass()
	if got := placed(); got != "9 of 9" {
		t.Errorf("in the end the counts are right, are %s", got)
	}
	if statuses := slices.DeleteFunc(w.writes, func(what string) bool { return what != "status of p" }); len(statuses) != 2 {
		t.Errorf("%d statuses", len(statuses))
	}

	// A workload that waits turns a condition, so the status is written at once, with the counts of the moment.
	w.workloads = append(w.workloads, testWorkload("huge", 2_000_000))
	w.pass()
	if got := placed() + ", " + w.condition(v1alpha1.ScheduledCondition); !strings.HasPrefix(got, "9 of 10, False WorkloadsWaiting: 1 of 10 workloads wait") {
		t.Error(got)
	}
	// So is the observed generation.
	changed := w.placements[0].DeepCopy()
	changed.Generation++
	w.placements = []*v1alpha1.WorkloadPlacement{changed}
	w.pass()
	if got := w.placements[0].Status.ObservedGeneration; got != changed.Generation {
		t.Errorf("observed generation %d", got)
	}
	// Once all is written no other pass is due.
	w.show()
	w.sleep(placedEvery)
	if r := w.pass(); r.after != 0 {
		t.Errorf("another pass after %s", r.after)
	}
}

// TestTheEarliestReasonCounts: of several reasons for another pass, the earliest sets the time.
func TestTheEarliestReasonCounts(t *testing.T) {
	w := quietWorld(t)
	w.sleep(countsEvery)
	for _, test := range []struct {
		what string
		do   func() result
		want time.Duration
	}{
		{"to see what was written", func() result { return w.arrives("first") }, confirmWithin},
		{"the counts", func() result { w.show(); w.sleep(2 * time.Second); return w.arrives("second") }, countsEvery - 2*time.Second},
		{"a Placed event", func() result { w.show(); w.sleep(countsEvery - 2*time.Second); return w.pass() }, placedEvery - countsEvery},
		{"nothing", func() result { w.sleep(placedEvery - countsEvery); return w.pass() }, 0},
	} {
		if r := test.do(); r.after != test.want {
			t.Errorf("%s: the next pass after %s, want %s", test.what, r.after, test.want)
		}
	}
}
