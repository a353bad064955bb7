package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
)

// TestCutPassesDecideTheSame: in a world where nothing else changes, passes that are cut short come to the decisions of one
// long pass: by priority and age, with the same scores and reasons, and the same workloads wait. On the way nothing that was
// decided is taken back, counts are those of the store, and no condition turns that does not stay so.
func TestCutPassesDecideTheSame(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		whole, cut := newWorld(t), newWorld(t)
		cut.workspace.batchSize = rapid.IntRange(1, 5).Draw(r, "batch size")
		for i := range rapid.IntRange(1, 3).Draw(r, "clusters") {
			cpu := fmt.Sprint(rapid.IntRange(1, 9).Draw(r, "cpu of cluster"))
			for _, w := range []*world{whole, cut} {
				w.clusters = append(w.clusters, testCluster(string(rune('a'+i)), cpu))
			}
		}
		for i := range rapid.IntRange(1, 3).Draw(r, "placements") {
			spec := v1alpha1.WorkloadPlacementSpec{
				Priority:         rapid.Int32Range(0, 2).Draw(r, "priority"),
				NumberOfClusters: ptr.To(intstr.FromInt32(rapid.Int32Range(1, 2).Draw(r, "number of clusters"))),
				Strategy:         v1alpha1.Strategy{Type: rapid.SampledFrom([]v1alpha1.StrategyType{"", v1alpha1.StrategyRoundRobin, v1alpha1.StrategySpread}).Draw(r, "strategy")},
				WorkloadSelector: v1alpha1.WorkloadSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"of": fmt.Sprint(i)}}},
			}
			for _, w := range []*world{whole, cut} {
				p := testPlacement(spec)
				p.Name, p.UID = fmt.Sprintf("p%d", i), types.UID(fmt.Sprintf("p%d", i))
				w.placements = append(w.placements, p)
			}
		}
		for _, burst := range []string{"first", "second"} {
			for i := range rapid.IntRange(0, 15).Draw(r, burst+" burst") {
				o := testWorkload(fmt.Sprintf("%s-%02d", burst, i), rapid.Int64Range(0, 4000).Draw(r, "cpu"))
				o.CreationTimestamp = metav1.NewTime(time.Unix(rapid.Int64Range(0, 3).Draw(r, "age"), 0))
				o.workload.Labels = map[string]string{"of": fmt.Sprint(rapid.IntRange(0, len(whole.placements)-1).Draw(r, "placement"))}
				whole.workloads, cut.workloads = append(whole.workloads, o), append(cut.workloads, o)
			}
			if burst == "second" && rapid.Bool().Draw(r, "another cluster") {
				whole.clusters, cut.clusters = append(whole.clusters, testCluster("z", "3")), append(cut.clusters, testCluster("z", "3"))
			}
			whole.sleep(countsEvery)
			whole.pass()
			expectSteadyProgress(r, cut)
			if a, b := whole.published(), cut.published(); !maps.Equal(a, b) {
				r.Fatalf("in one pass\n%v\nin passes of %d\n%v", a, cut.workspace.batchSize, b)
			}
			if a, b := whole.workspace.index.waiting, cut.workspace.index.waiting; a != b {
				r.Fatalf("%d wait in one pass, %d in passes of %d", a, b, cut.workspace.batchSize)
			}
			for i, p := range whole.placements {
				if a, b := conditions.Get(p, v1alpha1.ScheduledCondition), conditions.Get(cut.placements[i], v1alpha1.ScheduledCondition); a.Status != b.Status || a.Reason != b.Reason {
					r.Fatalf("%s: %v in one pass, %v in several", p.Name, a, b)
				}
			}
		}
	})
}

// expectSteadyProgress makes passes until nothing is left to decide.
func expectSteadyProgress(t *rapid.T, w *world) {
	turns := map[string][]string{} // the reasons of Scheduled, by placement
	for _, p := range w.placements {
		if c := conditions.Get(p, v1alpha1.ScheduledCondition); c != nil {
			turns[p.Name] = []string{c.Reason}
		}
	}
	for again := true; again; {
		before := w.published()
		w.sleep(countsEvery) // counts are written
		r := w.workspace.reconcile(context.Background(), w.cacheView)
		if r.err() != nil {
			t.Fatal(r.err())
		}
		again = r.again
		after := w.published()
		for name, decision := range before {
			if after[name] != decision && len(strings.Fields(decision)) >= len(strings.Fields(after[name])) { // more clusters are fine
				t.Fatalf("%s had %q, has %q", name, decision, after[name])
			}
		}
		if n := len(after) - len(before); n > w.workspace.batchSize {
			t.Fatalf("%d decisions in a pass", n)
		}
		for _, p := range w.placements {
			placed := 0
			for _, slice := range w.stored {
				if slice.PlacementName == p.Name {
					placed += len(slice.Decisions)
				}
			}
			if int(p.Status.Placed) != placed {
				t.Fatalf("%s: %d placed, the status says %d of %d", p.Name, placed, p.Status.Placed, p.Status.Workloads)
			}
			c := conditions.Get(p, v1alpha1.ScheduledCondition)
			if last := turns[p.Name]; len(last) == 0 || last[len(last)-1] != c.Reason {
				turns[p.Name] = append(last, c.Reason)
				if c.Reason == "WorkloadsWaiting" && w.workspace.index.waiting == 0 {
					t.Fatalf("%s: nothing waits: %s", p.Name, c.Message)
				}
			}
		}
	}
	for name, reasons := range turns {
		if slices.Contains(reasons[1:], "Deciding") || len(reasons) > 2 {
			t.Fatalf("Scheduled of %s went through %q", name, reasons)
		}
	}
}

// published are the decisions by workload, with all that is deterministic in them.
func (w *world) published() map[string]string {
	all := map[string]string{}
	for _, slice := range w.stored {
		for _, d := range slice.Decisions {
			all[d.Workload.Name] = describe(d.Clusters)
		}
	}
	return all
}

// TestBatchTimeout: a pass publishes once it has decided for as long as it may, and the next goes on at once.
func TestBatchTimeout(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	for i := range 5 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprint(i), 10))
	}
	ask := w.workspace.ask
	w.workspace.ask = func(ctx context.Context, request engine.Request) (*engine.Decision, error) {
		w.sleep(60 * time.Millisecond)
		return ask(ctx, request)
	}
	w.workspace.batchTimeout = 100 * time.Millisecond
	for _, want := range []struct {
		placed int
		again  bool
	}{{2, true}, {4, true}, {5, false}} {
		r := w.workspace.reconcile(context.Background(), w.cacheView)
		if placed := len(w.where()); r.err() != nil || placed != want.placed || r.again != want.again {
			t.Errorf("%d placed, %+v; want %+v", placed, r, want)
		}
	}
}

// TestACutBurstIsWrittenTogether: the writes of a burst are ten or twenty for a thousand decisions, cut or not.
func TestACutBurstIsWrittenTogether(t *testing.T) {
	for _, size := range []int{50, 100, 250, 1000} {
		w := newWorld(t)
		w.workspace.batchSize = size
		w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "1000")}
		w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
		for i := range 1000 {
			w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%04d", i), 10))
		}
		w.pass()
		slices := len(slices.DeleteFunc(w.writes, func(what string) bool { return strings.HasPrefix(what, "status") }))
		if len(w.where()) != 1000 || slices > 20 {
			t.Errorf("batches of %d: %d placed in %d writes", size, len(w.where()), slices)
		}
	}
}

// TestFailuresDoNotHoldUpTheRest: workloads on which the policies fail, or the engine panics, stand first in line for ever,
// and those behind them are decided on all the same, pass by pass.
func TestFailuresDoNotHoldUpTheRest(t *testing.T) {
	w := newWorld(t)
	w.workspace.batchSize = 2
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.configMaps = []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default"}, Data: map[string]string{
		"a.rego": "package placement.scoring\nweights := {\"health\": to_number(input.workload.labels.weight)}",
	}}}
	w.pass() // they come into force, since there is no workload yet for which they fail
	for i := range 8 {
		o := testWorkload(fmt.Sprint(i), 10)
		o.CreationTimestamp = metav1.NewTime(time.Unix(int64(i), 0))
		o.workload.Labels = map[string]string{"weight": map[bool]string{true: "none", false: "1"}[i < 2 || i == 5]}
		w.workloads = append(w.workloads, o)
	}
	ask := w.workspace.ask
	w.workspace.ask = func(ctx context.Context, request engine.Request) (*engine.Decision, error) {
		if request.Workload.Name == "2" {
			panic("out of cheese")
		}
		return ask(ctx, request)
	}
	for passes := 1; ; passes++ {
		w.sleep(countsEvery)
		r := w.workspace.reconcile(context.Background(), w.cacheView)
		if len(r.errs) != 1 {
			t.Errorf("the panic and nothing else fails: %v", r.errs)
		}
		if got := w.condition(v1alpha1.PoliciesReadyCondition); !strings.HasPrefix(got, "False PolicyError") {
			t.Errorf("pass %d: %s", passes, got)
		}
		if !r.again {
			if passes != 2 {
				t.Errorf("%d passes", passes)
			}
			break
		}
	}
	w.expect(map[string]string{"3": "a", "4": "a", "6": "a", "7": "a"})
	if n := strings.Count(w.takeEvents(), "DecidingFailed"); n != 1 {
		t.Errorf("%d events of the panic", n)
	}
}

// TestALoneWorkloadWaitsForNothing: it is decided on and written in the pass that sees it.
func TestALoneWorkloadWaitsForNothing(t *testing.T) {
	w := quietWorld(t)
	w.workloads = []*workloadObject{testWorkload("w", 10)}
	if r := w.workspace.reconcile(context.Background(), w.cacheView); r.err() != nil || r.again {
		t.Errorf("%+v", r)
	}
	w.expect(map[string]string{"w": "a"})
}

// TestSlowDecisions: a machine may be slow, as a container that is throttled is, and decides all the same. Only a workspace
// that exceeds the last limit rests, with all that it has still to decide, and is tried again after a while.
func TestSlowDecisions(t *testing.T) {
	if _, err := testPolicies(); err != nil { // outside of the bubble, which waits for what is started in it
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "40")}
		w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
		w.workloads = []*workloadObject{testWorkload("honest", 10), testWorkload("later", 10), testWorkload("stuck", 10)}
		for i, o := range w.workloads {
			o.CreationTimestamp = metav1.NewTime(time.Unix(int64(i), 0))
		}
		ask, asked := w.workspace.ask, ""
		w.workspace.ask = func(ctx context.Context, request engine.Request) (*engine.Decision, error) {
			asked += request.Workload.Name + " "
			if request.Workload.Name == "stuck" {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
			time.Sleep(5 * time.Second)
			return ask(ctx, request)
		}
		w.pass()
		w.expect(map[string]string{"honest": "a", "later": "a"})
		if got := w.condition(v1alpha1.PoliciesReadyCondition); got != "False PolicyError: deciding took longer than 10s and was stopped" {
			t.Error(got)
		}
		w.workloads = append(w.workloads, testWorkload("behind", 10))
		w.sleep(restFor / 2)
		asked = ""
		if r := w.pass(); r.after != restFor/2 || asked != "" {
			t.Errorf("tried again after %s, asked about %q", r.after, asked)
		}
		w.workspace.ask = ask
		w.sleep(restFor / 2)
		w.pass()
		w.expect(map[string]string{"honest": "a", "later": "a", "stuck": "a", "behind": "a"})
	})
}

// TestAFailedStepStopsNoOther: whatever step of a pass fails or panics, the others are made, and the pass reports it.
func TestAFailedStepStopsNoOther(t *testing.T) {
	steps := []string{"conditions of silent", "annotation of cm", "p-0 with 1", "status of p"}
	for i, failing := range steps {
		for _, how := range []string{"fails", "panics"} {
			t.Run(failing+" "+how, func(t *testing.T) {
				w := newWorld(t)
				w.reports("silent", "4", nil)
				w.sleep(time.Hour)
				w.clusters = append(w.clusters, testCluster("a", "4"))
				w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
				w.workloads = []*workloadObject{testWorkload("w", 10)}
				w.configMaps = []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default"}, Data: map[string]string{"a.rego": "package placement.x"}}}
				fault := func() error {
					if how == "panics" {
						panic("out of cheese")
					}
					return errors.New("out of cheese")
				}
				switch a := &w.workspace.actions; i {
				case 0:
					a.writeConditions = func(context.Context, *v1alpha1.ClusterRegistration) (*v1alpha1.ClusterRegistration, error) {
						return nil, fault()
					}
				case 1:
					a.annotate = func(context.Context, *corev1.ConfigMap, string, string) error { return fault() }
				case 2:
					a.writeDecision = func(context.Context, *v1alpha1.PlacementDecision) (*v1alpha1.PlacementDecision, error) {
						return nil, fault()
					}
				case 3:
					a.writeStatus = func(context.Context, *v1alpha1.WorkloadPlacement) (*v1alpha1.WorkloadPlacement, error) {
						return nil, fault()
					}
				}
				if err := w.reconcile(); !strings.Contains(fmt.Sprint(err), "out of cheese") {
					t.Errorf("the pass must report it: %v", err)
				}
				want := slices.Delete(slices.Clone(steps), i, i+1)
				if !slices.Equal(w.writes, want) {
					t.Errorf("written %q, want %q", w.writes, want)
				}
			})
		}
	}
}
