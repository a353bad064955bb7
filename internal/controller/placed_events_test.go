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

// told are the events since it was asked last.
func (w *world) told() string {
	told := strings.Join(w.events, "\n")
	w.events = nil
	return told
}

func quietWorld(t *testing.T) *world {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "1000")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.pass()
	return w
}

// TestPlacementsTellWhatTheyPlace: the first at once, and what follows within ten seconds together.
func TestPlacementsTellWhatTheyPlace(t *testing.T) {
	w := quietWorld(t)
	w.arrives("first")
	if got := w.told(); got != "p: Placed: placed Deployment first on a (Excellent, 90)" {
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
	if got := w.told(); got != "" || r.after != 4*time.Second {
		t.Errorf("the next pass after %s, told %q", r.after, got)
	}
	w.sleep(r.after)
	r = w.pass()
	if got := w.told(); r.after != 0 || got != "p: Placed: placed 4 workloads: Deployment default/w0 on a; Deployment default/w2 on a; Deployment default/w3 on a; and 1 more" {
		t.Errorf("the next pass after %s, told %q", r.after, got)
	}
	// After silence the next is told at once again, and nothing is kept of a placement that has nothing to tell.
	w.sleep(placedEvery)
	if w.pass(); len(w.workspace.placed) != 0 {
		t.Errorf("kept %v", w.workspace.placed)
	}
	w.arrives("last")
	if got := w.told(); got != "p: Placed: placed Deployment last on a (Excellent, 90)" {
		t.Error(got)
	}
}

// TestWhatIsNotWrittenIsNotTold: only decisions that are published are told, and once, however often they were made.
func TestWhatIsNotWrittenIsNotTold(t *testing.T) {
	w := quietWorld(t)
	w.failNext = apierrors.NewTimeoutError("try later", 1)
	w.workloads = []*workloadObject{testWorkload("w", 10)}
	if err := w.reconcile(); err == nil {
		t.Fatal("the failure must be told")
	}
	if got := w.told(); got != "" {
		t.Error(got)
	}
	w.sleep(retryFirst)
	w.pass()
	if got := w.told(); got != "p: Placed: placed Deployment w on a (Excellent, 90)" {
		t.Error(got)
	}
}

// TestCountsAreGathered: a status is written at once where a condition turns, and otherwise every five seconds.
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
		t.Errorf("in the end the truth is told, is %s", got)
	}
	if statuses := slices.DeleteFunc(w.writes, func(what string) bool { return what != "status of p" }); len(statuses) != 2 {
		t.Errorf("%d statuses", len(statuses))
	}

	// One that waits is told at once, with the counts of the moment.
	w.workloads = append(w.workloads, testWorkload("huge", 2_000_000))
	w.pass()
	if got := placed() + ", " + w.condition(v1alpha1.ScheduledCondition); !strings.HasPrefix(got, "9 of 10, False WorkloadsWaiting: 1 of 10 workloads wait") {
		t.Error(got)
	}
	// So is that another spec has been looked at.
	changed := w.placements[0].DeepCopy()
	changed.Generation++
	w.placements = []*v1alpha1.WorkloadPlacement{changed}
	w.pass()
	if got := w.placements[0].Status.ObservedGeneration; got != changed.Generation {
		t.Errorf("observed generation %d", got)
	}
	// Once all is told nothing is kept waiting.
	w.show()
	w.sleep(placedEvery)
	if r := w.pass(); r.after != 0 {
		t.Errorf("another pass after %s", r.after)
	}
}

// TestTheEarliestReasonCounts: of several reasons for another pass.
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
		{"the news", func() result { w.show(); w.sleep(countsEvery - 2*time.Second); return w.pass() }, placedEvery - countsEvery},
		{"nothing", func() result { w.sleep(placedEvery - countsEvery); return w.pass() }, 0},
	} {
		if r := test.do(); r.after != test.want {
			t.Errorf("%s: the next pass after %s, want %s", test.what, r.after, test.want)
		}
	}
}
