package delivery_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/delivery"
)

// reporting is a Reporter with a server that it writes to, and a clock.
type reporting struct {
	*world
	*delivery.Reporter
	works []*v1alpha1.Work
	// shown is the workload as the watch shows it; server is its status there.
	shown  *delivery.Source
	server []byte
	writes int
	events []string
	fails  error
}

func newReporting() *reporting {
	r := &reporting{world: newWorld("Deployment", int64(3)), server: []byte("{}")}
	r.on("dublin", 3)
	r.restart()
	r.show()
	return r
}

func (r *reporting) restart() { r.Reporter = delivery.NewReporter(func() time.Time { return r.now }) }

// show has the watch show the workload as the server has it.
func (r *reporting) show() {
	r.status = r.server
	r.shown = r.rollout().Source
}

// say has the agent of dublin report.
func (r *reporting) say(health v1alpha1.Health, n int32, message string) {
	work := &v1alpha1.Work{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.WorkNamespace("dublin"), Name: "w"}}
	work.Spec.Manifests = []v1alpha1.Manifest{{Revision: fmt.Sprint(r.generation), Generation: r.generation, WorkloadUID: "u"}}
	work.Status.Manifests = []v1alpha1.ManifestStatus{{
		ManifestReference: v1alpha1.ManifestReference{WorkloadUID: "u"}, Revision: fmt.Sprint(r.generation), Health: health, Message: message,
		Counts: &v1alpha1.WorkloadCounts{Desired: 3, Replicas: max(3, n), Updated: n, Ready: n, Available: n},
	}}
	r.works = []*v1alpha1.Work{work}
	r.report()
}

func (r *reporting) report() {
	rollout := r.rollout()
	rollout.Source = r.shown
	round := &delivery.Round{Assignments: []*delivery.Assignment{rollout.Assignment}}
	for _, c := range r.clusters {
		round.Clusters = append(round.Clusters, *c)
	}
	r.Report(round, delivery.CopiesOf([]string{"dublin"}, r.works), map[types.UID][]delivery.Problem{"u": r.problems})
	r.work()
}

// work writes what is due.
func (r *reporting) work() (wait time.Duration) {
	for {
		next, wait := r.Next()
		for _, write := range next {
			if r.fails == nil && write.Patch != nil {
				var patch struct{ Status json.RawMessage }
				if err := json.Unmarshal(write.Patch, &patch); err != nil {
					panic(err)
				}
				after, err := jsonpatch.MergePatch(r.server, patch.Status)
				if err != nil {
					panic(err)
				}
				r.server = after
				r.writes++
			}
			if r.fails == nil && write.Event != nil {
				r.events = append(r.events, write.Event.Type+" "+write.Event.Reason)
			}
			r.Wrote(write, r.fails, false)
		}
		if len(next) == 0 {
			return wait
		}
	}
}

// pass lets time pass, and has what is due by then written when it is.
func (r *reporting) pass(d time.Duration) {
	for end := r.now.Add(d); ; {
		wait := r.work()
		if wait == 0 || r.now.Add(wait).After(end) {
			r.now = end
			r.work()
			return
		}
		r.now = r.now.Add(wait)
	}
}

func (r *reporting) expectWrites(t *testing.T, when string, want int) {
	t.Helper()
	if r.writes != want {
		t.Errorf("%s: %d writes, want %d", when, r.writes, want)
	}
	r.writes = 0
}

// TestStatusesAreGathered: what moves is gathered, and what turns is written at once.
func TestStatusesAreGathered(t *testing.T) {
	r := newReporting()
	for n := range int32(3) { // replicas come up one after the other, and each is reported
		r.say(v1alpha1.HealthInProgress, n, "")
		r.pass(300 * time.Millisecond)
	}
	r.expectWrites(t, "while it moves", 0)
	r.say(v1alpha1.HealthCurrent, 3, "")
	r.expectWrites(t, "once it is ready", 1)
	if !strings.Contains(string(r.server), `"observedGeneration":1`) {
		t.Errorf("status %s", r.server)
	}
	r.pass(time.Hour)
	r.show()
	r.report()
	r.pass(time.Hour)
	r.expectWrites(t, "while nothing changes", 0)

	r.restart()
	r.report()
	r.pass(time.Hour)
	r.expectWrites(t, "after a restart", 0)

	for n := range int32(40) { // pods come and go for 20 s
		r.say(v1alpha1.HealthInProgress, 4+n, "")
		r.pass(500 * time.Millisecond)
	}
	if r.writes < 3 || r.writes > 8 {
		t.Errorf("%d writes in 20 s of changes", r.writes)
	}
}

// TestStatusIsWrittenOnce: until the watch shows what was written, that is taken for the status that there is.
func TestStatusIsWrittenOnce(t *testing.T) {
	r := newReporting()
	r.say(v1alpha1.HealthCurrent, 3, "")
	r.expectWrites(t, "at first", 1)
	for range 5 {
		r.say(v1alpha1.HealthCurrent, 3, "")
		r.pass(10 * time.Second)
	}
	r.expectWrites(t, "before the watch shows it", 0)
}

// TestStatusIsRetried: a write that fails is made later, with what is true by then.
func TestStatusIsRetried(t *testing.T) {
	r := newReporting()
	r.fails = errors.New("no")
	r.say(v1alpha1.HealthInProgress, 1, "")
	r.pass(time.Minute)
	r.say(v1alpha1.HealthCurrent, 3, "")
	r.fails = nil
	r.pass(2 * time.Minute)
	r.expectWrites(t, "once it can be written", 1)
	if !strings.Contains(string(r.server), `"availableReplicas":3`) {
		t.Errorf("status %s", r.server)
	}
}

// TestEventsAreToldOnce: once when something goes wrong, once when it is well again, and not again after a restart.
func TestEventsAreToldOnce(t *testing.T) {
	r := newReporting()
	for range 3 {
		r.say(v1alpha1.HealthFailed, 1, "Progress deadline exceeded")
		r.pass(5 * time.Second)
		r.show()
		r.restart()
	}
	r.say(v1alpha1.HealthInProgress, 2, "")
	r.pass(5 * time.Second)
	r.say(v1alpha1.HealthCurrent, 3, "")
	r.pass(5 * time.Second)
	r.problems = []delivery.Problem{{Reason: v1alpha1.MissingReferenceReason, Message: "Secret db is not there"}}
	r.say(v1alpha1.HealthCurrent, 3, "")
	if got, want := strings.Join(r.events, ", "), "Warning NotDelivered, Normal DeliveryResumed, Warning NotDelivered"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

// TestStatusComesToRest: whatever happens in whatever order, in the end the server has what is true, and nothing more is written.
func TestStatusComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newReporting()
		t.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				r.say(rapid.SampledFrom([]v1alpha1.Health{"InProgress", "Current", "Failed"}).Draw(t, "health"), rapid.Int32Range(0, 3).Draw(t, "n"), "")
			},
			"fail": func(t *rapid.T) {
				if r.fails = nil; rapid.Bool().Draw(t, "fails") {
					r.fails = errors.New("no")
				}
			},
			"edit":    func(*rapid.T) { r.generation++; r.show() },
			"show":    func(*rapid.T) { r.show(); r.report() },
			"restart": func(*rapid.T) { r.restart(); r.report() },
			"wait": func(t *rapid.T) {
				r.pass(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			},
		})
		r.fails = nil
		r.report()
		r.pass(time.Hour)
		r.show()
		if u := r.rolloutOf().Status(r.now); u.Status != nil {
			t.Fatalf("the server has %s, and not %v", r.server, u.Status)
		}
		r.writes = 0
		r.report()
		r.pass(time.Hour)
		if r.writes > 0 {
			t.Fatalf("%d writes though nothing changes", r.writes)
		}
	})
}

// rolloutOf is the rollout of what the Works say.
func (r *reporting) rolloutOf() *delivery.Rollout {
	rollout := r.rollout()
	rollout.Source = r.shown
	rollout.Copies = delivery.CopiesOf([]string{"dublin"}, r.works).Of("u")
	return rollout
}
