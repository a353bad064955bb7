package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/disruption"
)

// ways are those in which a placement is suspended, with what its condition says of it. Each suspends, or ends it.
var ways = map[string]struct {
	set  func(w *world, suspend bool)
	says string
}{
	"the placement": {func(w *world, suspend bool) {
		w.edit(func(p *v1alpha1.WorkloadPlacement) { p.Spec.Suspend = suspend })
	}, "True PlacementSuspended: spec.suspend is true: nothing is decided on workloads of this placement. "},
	"the workspace": {func(w *world, suspend bool) {
		w.config = testConfig()
		w.config.ResourceVersion = w.next()
		w.config.Spec.Suspend = suspend
	}, "True WorkspaceSuspended: spec.suspend of the PlacementConfig is true: nothing is decided in this workspace. "},
	"the controller": {func(w *world, suspend bool) { w.workspace.suspendAll(suspend) },
		"True ControllerSuspended: The controller is started with --suspend: nothing is decided. "},
}

func (w *workspace) suspendAll(suspend bool) { w.limits.suspend = suspend }

func testConfig() *v1alpha1.PlacementConfig {
	return &v1alpha1.PlacementConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.PlacementConfigName, UID: "config"}}
}

// TestSuspension: while anything suspends a placement, nothing new is placed, nothing moves that would have to, and nothing that is
// no longer selected is withdrawn; the condition says what would be. A workload that is deleted frees what it holds all the same, a
// restart changes nothing, and once the suspension ends all goes on where it was.
func TestSuspension(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.clusters = []*v1alpha1.ClusterRegistration{testCluster("b", "4")}
			w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(pinned)}
			w.workloads = []*workloadObject{testWorkload("moves", 1000)}
			w.pass()
			w.clusters = append(w.clusters, testCluster("a", "4"))
			w.workloads = append(w.workloads, pin(testWorkload("gone", 1000), "a"), pin(testWorkload("stays", 1000), "a"), pin(testWorkload("leaves", 1000), "b"))
			w.pass()
			w.expect(map[string]string{"gone": "a", "stays": "a", "moves": "b", "leaves": "b"})
			before := w.where()

			way.set(w, true)
			w.taint("b", evict)
			w.workloads = append(w.workloads, testWorkload("new", 1000), testWorkload("huge", 9000))
			w.pass()
			w.expect(before)
			want := way.says + "Would place 1, move 1, withdraw 1: Deployment default/leaves would leave b: b: taint drain:NoExecute is not tolerated; Deployment default/moves would move from b to a: b: taint drain:NoExecute is not tolerated; Deployment default/new would be placed on a"
			if got := w.condition("Suspended"); got != want {
				t.Errorf("condition %s\nwant      %s", got, want)
			}
			if got := w.condition("Scheduled"); !strings.Contains(got, "2 of 6 workloads wait") || !strings.Contains(got, "Deployment default/new: the placement is suspended: Deployment default/new would be placed on a") {
				t.Errorf("what waits: %s", got)
			}
			if got := testutil.ToFloat64(w.workspace.metrics.suspended); got != 1 {
				t.Errorf("%v placements are suspended in the metrics", got)
			}
			if got := testutil.ToFloat64(w.workspace.metrics.supposed.WithLabelValues("place")); got != 1 {
				t.Errorf("%v would be placed in the metrics", got)
			}

			w.workloads = slices.Delete(w.workloads, 1, 2)
			w.writes, w.events = nil, nil
			w.elapse(3 * countsEvery)
			delete(before, "gone")
			w.expect(before)

			w.show()
			w.restart()
			w.workspace.suspendAll(name == "the controller")
			w.writes = nil
			w.pass()
			w.expect(before)
			if got := strings.Join(w.writes, ", "); got != "" {
				t.Errorf("the restart wrote %s", got)
			}

			way.set(w, false)
			w.pass()
			w.expect(map[string]string{"stays": "a", "moves": "a", "new": "a"})
			if got := w.condition("Suspended"); got != "none" {
				t.Errorf("condition %s", got)
			}
			if got := testutil.ToFloat64(w.workspace.metrics.suspended) + testutil.ToFloat64(w.workspace.metrics.supposed.WithLabelValues("place")); got != 0 {
				t.Errorf("the metrics still count %v", got)
			}
		})
	}
}

// TestSuspendedPlacementKeepsWhatItNoLongerSelects: an edit while a placement is suspended withdraws nothing, and says what it would
// withdraw. To delete the placement is another thing: kcp deletes its decisions with it.
func TestSuspendedPlacementKeepsWhatItNoLongerSelects(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	w.pass()
	w.edit(func(p *v1alpha1.WorkloadPlacement) {
		p.Spec.Suspend = true
		p.Spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "typo"}}
	})
	w.pass()
	w.expect(map[string]string{"w": "a"})
	if got, want := w.condition("Suspended"), "Would withdraw 1: Deployment default/w would leave a: the placement does not select it any more"; !strings.HasSuffix(got, want) {
		t.Errorf("condition %s", got)
	}
	w.placements = nil
	w.pass()
	w.expect(map[string]string{})
}

// TestSuspensionIsBounded: what is said of a thousand workloads is as short as of three, and found out in passes of a bounded size.
func TestSuspensionIsBounded(t *testing.T) {
	w := newWorld(t)
	w.workspace.batchSize = 10
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4000")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.placements[0].Spec.Suspend = true
	for i := range 35 {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%02d", i), 1000))
	}
	if r := w.workspace.reconcile(t.Context(), w.cacheView); !r.again || len(w.workspace.looked()) != 10 {
		t.Errorf("the first pass looks at %d workloads, and another is asked for: %t", len(w.workspace.looked()), r.again)
	}
	if got := w.condition("Suspended"); !strings.Contains(got, "Would place 10, decide on 25 that have not been looked at yet: ") {
		t.Errorf("condition %s", got)
	}
	w.pass()
	w.sleep(countsEvery)
	w.pass()
	if got := w.condition("Suspended"); !strings.Contains(got, "Would place 35: ") || !strings.HasSuffix(got, "; and 32 more") {
		t.Errorf("condition %s", got)
	}
	w.sleep(time.Minute)
	before := w.workspace.looked()
	w.pass()
	if !maps.Equal(before, w.workspace.looked()) {
		t.Error("nothing has changed, and it is looked at again")
	}
}

// looked is what has been found out about workloads of placements that are suspended.
func (w *workspace) looked() map[workloadKey]*supposed {
	all := map[workloadKey]*supposed{}
	for key, item := range w.index.items {
		if item.supposed != nil {
			all[key] = item.supposed
		}
	}
	return all
}

// TestSuspendedWaitsForNoTurn: the brake says nothing of what does not move anyway.
func TestSuspendedWaitsForNoTurn(t *testing.T) {
	w := withBrake(t)
	w.workspace.brake.Budget = disruption.Default
	w.edit(func(p *v1alpha1.WorkloadPlacement) { p.Spec.Suspend = true })
	w.taint("a", evict)
	w.pass()
	w.on("40 0")
	if got := w.condition("DisruptionAllowed"); got != "none" {
		t.Errorf("condition %s", got)
	}
	if got := w.condition("Suspended"); !strings.Contains(got, "Would move 40: ") {
		t.Errorf("condition %s", got)
	}
	w.edit(func(p *v1alpha1.WorkloadPlacement) { p.Spec.Suspend = false })
	w.pass()
	w.on("30 10") // at the pace of the brake
}

// TestConfigThatIsNotShown: a suspension ends when the server says that its object is gone, and not because a list falls short.
func TestConfigThatIsNotShown(t *testing.T) {
	w := newWorld(t)
	w.clusters = []*v1alpha1.ClusterRegistration{testCluster("a", "4")}
	w.placements = []*v1alpha1.WorkloadPlacement{testPlacement(one)}
	w.workloads = []*workloadObject{testWorkload("w", 1000)}
	ways["the workspace"].set(w, true)
	w.pass()
	if got := conditions.Get(w.config, v1alpha1.SuspendedCondition); got == nil || !strings.HasSuffix(got.Message, "Would place 1: Deployment default/w would be placed on a") {
		t.Errorf("the config says %v", got)
	}
	shown := w.config
	w.config, w.invisible = nil, map[types.NamespacedName]types.UID{{Name: shown.Name}: "1"}
	w.pass()
	w.expect(map[string]string{})
	w.lookErr = errors.New("the server is away")
	if err := w.reconcile(); err == nil || !strings.Contains(err.Error(), "PlacementConfig") {
		t.Errorf("error %v", err)
	}
	w.expect(map[string]string{})
	w.lookErr, w.invisible = nil, nil
	w.pass()
	w.expect(map[string]string{"w": "a"})
}
