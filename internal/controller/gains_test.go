package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// gainWorld is a world with workloads that may move for a gain. The score of a cluster falls as its report says that more is in use;
// nothing makes a workload leave one.
type gainWorld struct {
	*world
	moves []observedMove
	// wake is when the controller wants its next pass.
	wake time.Time
}

type observedMove struct {
	workload, from, to string
	at                 time.Time
}

func newGainWorld(t testing.TB, clusters, workloads int, stability *v1alpha1.Stability) *gainWorld {
	w := &gainWorld{world: newWorld(t)}
	for i := range clusters {
		w.clusters = append(w.clusters, testCluster(string(rune('a'+i)), "1000"))
		w.use(i, 0)
	}
	p := testPlacement(one)
	p.Spec.Stability = stability
	w.placements = []*v1alpha1.WorkloadPlacement{p}
	for i := range workloads {
		w.workloads = append(w.workloads, testWorkload(fmt.Sprintf("w%02d", i), 1000))
	}
	return w
}

// use has a cluster report that so many percent of it are in use.
func (w *gainWorld) use(cluster, percent int) {
	c := w.clusters[cluster].DeepCopy()
	used := resource.MustParse(fmt.Sprint(percent * 10))
	c.Status.Allocatable["memory"] = resource.MustParse("1000")
	c.Status.Allocated = corev1.ResourceList{"cpu": used, "memory": used}
	w.clusters[cluster] = c
}

// step makes a pass, and observes what has moved.
func (w *gainWorld) step() {
	before := w.where()
	r := w.pass()
	w.show()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now := w.where()[name]; now != before[name] {
			w.moves = append(w.moves, observedMove{name, before[name], now, w.clock})
		}
	}
	if w.wake = (time.Time{}); r.after > 0 {
		w.wake = w.clock.Add(r.after)
	}
}

// rest lets time go by in which nothing changes, and makes a pass whenever the controller wants one.
func (w *gainWorld) rest(d time.Duration) {
	for end := w.clock.Add(d); ; {
		next := end
		if !w.wake.IsZero() && w.wake.Before(end) {
			next = w.wake
		}
		w.clock = next
		w.step()
		if !w.clock.Before(end) {
			return
		}
	}
}

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// TestMovesForGain tells what moves a workload for a gain, and what keeps it.
func TestMovesForGain(t *testing.T) {
	const after, cooldown = 5 * time.Minute, time.Hour
	forGain := func(change func(*v1alpha1.Stability)) *v1alpha1.Stability {
		s := &v1alpha1.Stability{Moves: v1alpha1.MovesForGain}
		change(s)
		return s
	}
	asIs := func(*v1alpha1.Stability) {}
	for name, test := range map[string]struct {
		stability *v1alpha1.Stability
		workloads int
		prepare   func(*gainWorld)
		// moved is how many workloads have moved once a gain of 18 points has been there for so long.
		moved map[time.Duration]int
	}{
		"not unless it is asked for":               {nil, 1, nil, map[time.Duration]int{24 * time.Hour: 0}},
		"not where it says never":                  {forGain(func(s *v1alpha1.Stability) { s.Moves = v1alpha1.MovesNever }), 1, nil, map[time.Duration]int{24 * time.Hour: 0}},
		"once the gain has been there for a while": {forGain(asIs), 1, nil, map[time.Duration]int{after - time.Second: 0, after: 1, 24 * time.Hour: 1}},
		"at once":                          {forGain(func(s *v1alpha1.Stability) { s.After = duration(0) }), 1, nil, map[time.Duration]int{0: 1}},
		"not for a gain that is too small": {forGain(func(s *v1alpha1.Stability) { s.MinGain = 19 }), 1, nil, map[time.Duration]int{24 * time.Hour: 0}},
		"for one that is just enough":      {forGain(func(s *v1alpha1.Stability) { s.MinGain = 18 }), 1, nil, map[time.Duration]int{after: 1}},
		"as many as the budget has, and the others an interval later": {forGain(func(s *v1alpha1.Stability) {
			s.Budget = v1alpha1.MoveBudget{Moves: 2, Interval: duration(10 * time.Minute)}
		}), 10, nil, map[time.Duration]int{after: 2, after + 10*time.Minute - time.Second: 2, after + 10*time.Minute: 4, after + 20*time.Minute: 5}},
		"and as many as that of the workspace has": {forGain(asIs), 10, func(w *gainWorld) {
			w.config = &v1alpha1.PlacementConfig{ObjectMeta: metav1.ObjectMeta{Name: "cluster", UID: "c"}, Spec: v1alpha1.PlacementConfigSpec{
				Moves: &v1alpha1.MoveLimits{Budget: v1alpha1.MoveBudget{Moves: 3}},
			}}
		}, map[time.Duration]int{after: 3, after + time.Hour: 5}},
		"not while limits of the workspace are not valid": {forGain(asIs), 1, func(w *gainWorld) {
			w.config = &v1alpha1.PlacementConfig{ObjectMeta: metav1.ObjectMeta{Name: "cluster", UID: "c"}, Spec: v1alpha1.PlacementConfigSpec{
				Moves: &v1alpha1.MoveLimits{Windows: []v1alpha1.MoveWindow{{Schedule: "never"}}},
			}}
		}, map[time.Duration]int{24 * time.Hour: 0}},
		// The clock starts at 13:46:40 UTC, on a Monday.
		"in a window alone": {forGain(func(s *v1alpha1.Stability) {
			s.Windows = []v1alpha1.MoveWindow{{Schedule: "0 16 * * 1", TimeZone: "Europe/Berlin", Duration: *duration(time.Hour)}}
		}), 1, nil, map[time.Duration]int{time.Hour: 0, 73*time.Minute + 19*time.Second: 0, 73*time.Minute + 20*time.Second: 1}},
		"not one whose kind is pinned": {forGain(func(s *v1alpha1.Stability) {
			s.Pinned = []v1alpha1.WorkloadType{{APIVersion: "apps/v1", Kind: "Deployment"}}
		}), 1, nil, map[time.Duration]int{24 * time.Hour: 0}},
		"not one that is pinned": {forGain(asIs), 1, func(w *gainWorld) {
			w.workloads[0].workload.Annotations = map[string]string{v1alpha1.AnnotationPinned: "true"}
		}, map[time.Duration]int{24 * time.Hour: 0}},
		"not one that policies pin": {forGain(asIs), 1, func(w *gainWorld) {
			w.configMaps = append(w.configMaps, configMapOf("p", `package placement
scheduling.stability := {"pinned": true} if input.workload.name == "w00"`))
		}, map[time.Duration]int{24 * time.Hour: 0}},
		"later where policies say so": {forGain(asIs), 1, func(w *gainWorld) {
			w.configMaps = append(w.configMaps, configMapOf("p", `package placement
scheduling.stability := {"minGain": 3, "after": 3600}`))
		}, map[time.Duration]int{time.Hour - time.Second: 0, time.Hour: 1}},
		"not while its placement is suspended": {forGain(asIs), 1, func(w *gainWorld) {
			p := w.placements[0].DeepCopy()
			p.Spec.Suspend = true
			w.placements = []*v1alpha1.WorkloadPlacement{p}
		}, map[time.Duration]int{24 * time.Hour: 0}},
		"not before the cool-down of its last move has ended": {forGain(asIs), 1, func(w *gainWorld) {
			taint := w.clusters[0].DeepCopy()
			taint.Spec.Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectNoExecute}}
			w.clusters = append([]*v1alpha1.ClusterRegistration{taint}, append(w.clusters[1:], testCluster("c", "1000"))...)
			w.step()
			w.moves = nil
		}, map[time.Duration]int{cooldown: 0, cooldown + after - time.Second: 0, cooldown + after: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newGainWorld(t, 2, test.workloads, test.stability)
			w.step()
			if test.prepare != nil {
				test.prepare(w)
			}
			on := slices.IndexFunc(w.clusters, func(c *v1alpha1.ClusterRegistration) bool { return c.Name == w.where()["w00"] })
			w.use(on, 96)
			start := w.clock
			w.step()
			for _, at := range slices.Sorted(maps.Keys(test.moved)) {
				w.rest(start.Add(at).Sub(w.clock))
				if len(w.moves) != test.moved[at] {
					t.Errorf("%d moves after %s, want %d: %v", len(w.moves), at, test.moved[at], w.moves)
				}
			}
			for _, m := range w.moves {
				if changes := w.history(m.workload); !strings.HasPrefix(changes[0], "Gain "+m.from) {
					t.Errorf("%s: %v", m.workload, changes)
				}
			}
		})
	}
}

// TestGainsAreSteady has the scores of clusters change as often and as much as can be, with restarts in between.
//
// Invariants: no workload moves for a gain more often than its cool-down lets it; no budget is exceeded; nothing moves outside of the
// windows; no third move undoes the first. And once scores rest, no gain is left that could be had.
func TestGainsAreSteady(t *testing.T) {
	total := 0
	rapid.Check(t, func(rt *rapid.T) {
		sampled := func(what string, of ...time.Duration) time.Duration { return rapid.SampledFrom(of).Draw(rt, what) }
		s := &v1alpha1.Stability{
			Moves: v1alpha1.MovesForGain, MinGain: int32(rapid.IntRange(1, 20).Draw(rt, "gain")),
			After:    duration(sampled("after", 0, time.Second, 10*time.Second, time.Minute)),
			Cooldown: duration(sampled("cooldown", time.Second, 20*time.Second, 3*time.Minute)),
			Budget: v1alpha1.MoveBudget{
				Moves: int32(rapid.IntRange(1, 4).Draw(rt, "moves")), Interval: duration(sampled("interval", time.Second, time.Minute, 10*time.Minute)),
			},
		}
		if rapid.Bool().Draw(rt, "windows") {
			s.Windows = []v1alpha1.MoveWindow{{Schedule: "*/5 * * * *", Duration: *duration(2 * time.Minute)}}
		}
		w := newGainWorld(t, 2+rapid.IntRange(0, 3).Draw(rt, "clusters"), rapid.IntRange(1, 6).Draw(rt, "workloads"), s)
		w.step()
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			for i := range w.clusters {
				w.use(i, rapid.SampledFrom([]int{0, 0, 60, 85, 96}).Draw(rt, "in use"))
			}
			w.clock = w.clock.Add(sampled("time", time.Second, time.Second, 7*time.Second, time.Minute, 2*time.Minute))
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				w.restart()
			}
			w.step()
		}
		w.rest(11*s.Cooldown.Duration + s.After.Duration + 6*s.Budget.Interval.Duration + time.Hour)
		checkSteady(rt, w, s)
		total += len(w.moves)
	})
	t.Logf("%d moves", total)
}

func checkSteady(t rapid.TB, w *gainWorld, s *v1alpha1.Stability) {
	for i, m := range w.moves {
		within := 1
		var left []string // in its last moves
		for _, before := range slices.Backward(w.moves[:i]) {
			age := m.at.Sub(before.at)
			if age < s.Budget.Interval.Duration {
				within++
			}
			if before.workload != m.workload {
				continue
			}
			if age < s.Cooldown.Duration {
				t.Fatalf("%s moves %s after it has moved, its cool-down is %s: %v", m.workload, age, s.Cooldown.Duration, w.moves)
			}
			if len(left) < 2 && age < 10*s.Cooldown.Duration {
				left = append(left, before.from)
			}
		}
		if within > int(s.Budget.Moves) {
			t.Fatalf("%d moves within %s, the budget is %d: %v", within, s.Budget.Interval.Duration, s.Budget.Moves, w.moves)
		}
		if slices.Contains(left, m.to) {
			t.Fatalf("%s returns to %s: %v", m.workload, m.to, w.moves)
		}
		if len(s.Windows) > 0 && m.at.Minute()%5 >= 2 {
			t.Fatalf("%s moves at %s, outside of the windows", m.workload, m.at)
		}
	}
	for key, item := range w.workspace.index.items {
		p := w.workspace.newPass(nil, &result{})
		r := p.request(item)
		for _, c := range r.Current {
			m := &move{leave: []string{c.Name}, minGain: int64(s.MinGain), reason: v1alpha1.ChangeGain}
			ask := r
			m.ask(&ask)
			d, err := w.workspace.engine.Explain(context.Background(), ask)
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Left) > 0 {
				t.Fatalf("%s would still gain where nothing changes any more: %s; %v", key.name, d.Gain(c.Name), w.moves)
			}
		}
	}
}
