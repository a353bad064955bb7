package rebalance_test

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/rebalance"
)

// small is a world small enough for all of its states to be seen: the reference that plans are compared with knows amounts, which
// clusters each workload may run on, and which do not bear each other, and nothing of the engine.
type small struct {
	clusters  []smallCluster
	workloads []smallWorkload
}

// smallCluster has amounts of cpu and memory; others are what runs there beside our workloads.
type smallCluster struct{ allocatable, others [2]int64 }

type smallWorkload struct {
	asks [2]int64
	// counted is what each cluster that it runs on counts of it at first.
	counted [2]int64
	// may are the clusters that its placement lets it run on, on those that it does; a bit for each. None: it waits.
	may, on uint
	pinned  bool
	// lonely workloads keep each other away from their clusters.
	lonely bool
}

func has(set uint, i int) bool { return set&(1<<i) != 0 }

// position is where the workloads are: a set of clusters for each, and which counts are of the past.
type position struct {
	on string
}

func encode(on []uint) position {
	var b strings.Builder
	for _, set := range on {
		b.WriteByte(byte(set))
	}
	return position{b.String()}
}

func (p position) set(w int) uint { return uint(p.on[w]) }

func (p position) moved(w, from, to int) position {
	b := []byte(p.on)
	b[w] = b[w]&^(1<<from) | 1<<to
	return position{string(b)}
}

// used is what is in use on a cluster. What a cluster counts of a workload counts as long as it has not left; it never returns in the
// reference's count, as in the reports.
func (s *small) used(p position, c int, left map[[2]int]bool) (used [2]int64) {
	used = s.clusters[c].others
	for w := range s.workloads {
		if has(p.set(w), c) {
			for r := range used {
				used[r] += s.taken(w, c, left)[r]
			}
		}
	}
	return used
}

func (s *small) taken(w, c int, left map[[2]int]bool) (taken [2]int64) {
	for r := range taken {
		taken[r] = s.workloads[w].asks[r]
		if has(s.workloads[w].on, c) && !left[[2]int{w, c}] {
			taken[r] = max(taken[r], s.workloads[w].counted[r])
		}
	}
	return taken
}

func (s *small) fits(p position, w, c int, left map[[2]int]bool) bool {
	used := s.used(p, c, left)
	for r := range used {
		if asks := s.workloads[w].asks[r]; asks > 0 && used[r]+asks > s.clusters[c].allocatable[r] {
			return false
		}
	}
	return true
}

func (s *small) admits(p position, w, from, to int, left map[[2]int]bool) bool {
	o := &s.workloads[w]
	if o.pinned || !has(p.set(w), from) || has(p.set(w), to) || !has(o.may, to) || !s.fits(p, w, to, left) {
		return false
	}
	return s.bears(p, w, to)
}

func (s *small) bears(p position, w, to int) bool {
	for other := range s.workloads {
		if s.workloads[w].lonely && other != w && s.workloads[other].lonely && has(p.set(other), to) {
			return false
		}
	}
	return true
}

func (s *small) use(p position, c int, left map[[2]int]bool) (most int64) {
	used := s.used(p, c, left)
	for r := range used {
		if a := s.clusters[c].allocatable[r]; a > 0 {
			most = max(most, used[r]*10_000/a)
		}
	}
	return most
}

// aim is one in the reference.
type aim struct {
	rebalance.Aim
	reached func(p position, left map[[2]int]bool) bool
}

func (s *small) aims() []aim {
	all := []aim{}
	for _, percent := range []int{0, 5, 20} {
		all = append(all, aim{rebalance.Even{Percent: percent}, func(p position, left map[[2]int]bool) bool {
			var uses []int64
			for c := range s.clusters {
				uses = append(uses, s.use(p, c, left))
			}
			return slices.Max(uses)-slices.Min(uses) <= int64(percent)*100
		}})
	}
	all = append(all, aim{rebalance.Free{Cluster: clusterName(0)}, func(p position, _ map[[2]int]bool) bool {
		for w := range s.workloads {
			if has(p.set(w), 0) {
				return false
			}
		}
		return true
	}})
	for w := range s.workloads {
		if s.workloads[w].on == 0 {
			all = append(all, aim{rebalance.MakeRoom{Workload: reference(w)}, func(p position, left map[[2]int]bool) bool {
				for c := range s.clusters {
					if has(s.workloads[w].may, c) && s.fits(p, w, c, left) && s.bears(p, w, c) {
						return true
					}
				}
				return false
			}})
		}
	}
	return all
}

// least is the least number of moves that reach an aim, found by looking at all states; -1 where none do.
func (s *small) least(a aim) int {
	type state struct {
		position
		left string
	}
	start := make([]uint, len(s.workloads))
	for w := range s.workloads {
		start[w] = s.workloads[w].on
	}
	first := state{encode(start), ""}
	parse := func(text string) map[[2]int]bool {
		left := map[[2]int]bool{}
		for i := 0; i < len(text); i += 2 {
			left[[2]int{int(text[i]), int(text[i+1])}] = true
		}
		return left
	}
	seen, level := map[state]bool{first: true}, []state{first}
	for n := 0; len(level) > 0; n++ {
		var next []state
		for _, here := range level {
			left := parse(here.left)
			if a.reached(here.position, left) {
				return n
			}
			for w := range s.workloads {
				for from := range s.clusters {
					for to := range s.clusters {
						if !s.admits(here.position, w, from, to, left) {
							continue
						}
						then := state{here.moved(w, from, to), here.left}
						if has(s.workloads[w].on, from) && !left[[2]int{w, from}] {
							pairs := strings.Split(here.left, "")
							all := []string{string([]byte{byte(w), byte(from)})}
							for i := 0; i+1 < len(pairs); i += 2 {
								all = append(all, pairs[i]+pairs[i+1])
							}
							slices.Sort(all)
							then.left = strings.Join(all, "")
						}
						if !seen[then] {
							seen[then] = true
							next = append(next, then)
						}
					}
				}
			}
		}
		level = next
	}
	return -1
}

func clusterName(i int) string { return fmt.Sprintf("c%d", i) }

func reference(w int) workload.Reference {
	name := fmt.Sprintf("w%d", w)
	return workload.Reference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: name, UID: "uid-" + name}
}

func drawSmall(t *rapid.T) *small {
	s := &small{clusters: make([]smallCluster, rapid.IntRange(2, 3).Draw(t, "clusters"))}
	for c := range s.clusters {
		for r := range 2 {
			s.clusters[c].allocatable[r] = rapid.Int64Range(4, 12).Draw(t, "allocatable")
			s.clusters[c].others[r] = rapid.Int64Range(0, 2).Draw(t, "others")
		}
	}
	used := make([][2]int64, len(s.clusters))
	for range rapid.IntRange(1, 6).Draw(t, "workloads") {
		w := smallWorkload{may: rapid.SampledFrom([]uint{7, 7, 7, 3, 5, 6, 1}).Draw(t, "may")}
		w.pinned, w.lonely = rapid.IntRange(0, 9).Draw(t, "pinned") == 0, rapid.IntRange(0, 3).Draw(t, "lonely") == 0
		for r := range 2 {
			w.asks[r] = rapid.Int64Range(0, 4).Draw(t, "asks")
		}
		if rapid.Bool().Draw(t, "is counted") {
			for r := range 2 {
				w.counted[r] = max(0, w.asks[r]+rapid.Int64Range(-1, 1).Draw(t, "counted"))
			}
		}
		number := rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2}).Draw(t, "number")
		for c := range s.clusters {
			room := true
			for r := range 2 {
				takes := max(w.asks[r], w.counted[r])
				room = room && s.clusters[c].others[r]+used[c][r]+takes <= s.clusters[c].allocatable[r]
			}
			if bits.OnesCount(w.on) < number && room && has(w.may, c) && rapid.IntRange(0, 2).Draw(t, "there") > 0 {
				w.on |= 1 << c
				for r := range 2 {
					used[c][r] += max(w.asks[r], w.counted[r])
				}
			}
		}
		w.pinned = w.pinned && w.on != 0
		s.workloads = append(s.workloads, w)
	}
	return s
}

// world puts it into an engine.
func (s *small) world(t rapid.TB) rebalance.World {
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	world := rebalance.World{Engine: e, Workspace: "w"}
	for c, o := range s.clusters {
		cluster := &snapshot.Cluster{
			Name: clusterName(c), Allocatable: amounts(o.allocatable), Allocated: amounts(o.others), Counted: map[string]capacity.Resources{},
			Conditions: []snapshot.Condition{{Type: snapshot.ReadyCondition, Status: "True"}},
		}
		for w, o := range s.workloads {
			if has(o.on, c) {
				cluster.Counted[reference(w).UID] = amounts(o.counted)
				cluster.Allocated = cluster.Allocated.Add(amounts(o.counted))
			}
		}
		if _, err := e.SetCluster("w", cluster); err != nil {
			t.Fatal(err)
		}
	}
	for w, o := range s.workloads {
		var names []string
		for c := range s.clusters {
			if has(o.may, c) {
				names = append(names, clusterName(c))
			}
		}
		object := &v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", w), Namespace: "default", UID: types.UID(fmt.Sprintf("p%d", w))}}
		object.Spec.Strategy = v1alpha1.Strategy{Type: v1alpha1.StrategySpread}
		object.Spec.NumberOfClusters = ptr.To(intstr.FromInt(max(1, bits.OnesCount(o.on))))
		object.Spec.ClusterSelector = &v1alpha1.ClusterSelector{ClusterNames: names}
		if o.lonely {
			object.Spec.WorkloadAffinity = []v1alpha1.WorkloadAffinityTerm{{
				Type: v1alpha1.WorkloadsRepel, Required: true, TopologyKey: "cluster", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"lonely": "true"}},
			}}
		}
		p, err := e.CompilePlacement(object)
		if err != nil {
			t.Fatal(err)
		}
		one := rebalance.Workload{Request: engine.Request{Workspace: "w", Placement: p, Workload: &workload.Workload{
			Reference: reference(w), Replicas: 1, Requests: amounts(o.asks), Labels: map[string]string{"lonely": fmt.Sprint(o.lonely)},
		}}}
		if o.pinned {
			one.Fixed = "it is pinned"
		}
		for c := range s.clusters {
			if has(o.on, c) {
				one.Current = append(one.Current, engine.Choice{Name: clusterName(c), Replicas: 1, Reserved: amounts(o.asks)})
			}
		}
		if len(one.Current) > 0 {
			r := engine.Reservation{Workload: one.Workload.Reference, Placement: p.NamespacedName()}
			for _, c := range one.Current {
				r.Shares = append(r.Shares, capacity.Share{Cluster: c.Name, Amount: c.Reserved})
			}
			if err := e.Restore("w", r); err != nil {
				t.Fatal(err)
			}
		}
		world.Workloads = append(world.Workloads, one)
	}
	s.setAffinity(&world)
	return world
}

// setAffinity tells the engine of the workloads that are placed, as the controller does after a restart.
func (s *small) setAffinity(world *rebalance.World) {
	compiled := make([]*placement.Placement, 0, len(world.Workloads))
	for i := range world.Workloads {
		compiled = append(compiled, world.Workloads[i].Placement)
	}
	world.Engine.SetAffinity("w", compiled, func(yield func(*workload.Workload, *placement.Placement) bool) {
		for i := range world.Workloads {
			if !yield(world.Workloads[i].Workload, world.Workloads[i].Placement) {
				return
			}
		}
	})
}

func amounts(a [2]int64) capacity.Resources { return capacity.Resources{CPU: a[0], Memory: a[1]} }

// TestLeastMoves: a plan reaches its aim with as few moves as any sequence of admissible ones, or none does. Each of its moves is
// admissible at its turn, and while a wave is carried out, its old places and its new ones fit together. The engine is as it was
// afterwards.
func TestLeastMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSmall(t)
		world := s.world(t)
		for _, a := range s.aims() {
			before := uses(world)
			plan, err := rebalance.Compute(t.Context(), world, a, rebalance.Options{})
			if err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			if after := uses(world); !maps.Equal(before, after) {
				t.Fatalf("%s: the engine has %v, before %v", a, after, before)
			}
			want := s.least(a)
			switch {
			case plan.Exhausted:
				t.Fatalf("%s: the search of %d workloads on %d clusters has ended at its bound", a, len(s.workloads), len(s.clusters))
			case want < 0 && plan.Reached:
				t.Fatalf("%s: reached by %v, and no moves reach it", a, plan.Moves)
			case want < 0 && len(plan.Stuck) == 0:
				t.Fatalf("%s: not reached, and nothing is in the way", a)
			case want >= 0 && (!plan.Reached || len(plan.Moves) != want || !plan.Exact()):
				t.Fatalf("%s: %d moves reach it, got %+v", a, want, plan)
			}
			s.replay(t, a, plan)

			// With less work or fewer moves than it takes, a plan says no more than is known.
			short, err := rebalance.Compute(t.Context(), world, a, rebalance.Options{
				Work: rapid.IntRange(1, 30).Draw(t, "work"), MaxMoves: rapid.IntRange(1, 3).Draw(t, "most moves"),
			})
			if err != nil {
				t.Fatalf("%s: %v", a, err)
			}
			switch {
			case !maps.Equal(before, uses(world)):
				t.Fatalf("%s: the engine is not as it was", a)
			case want < 0 && short.Reached, want >= 0 && !short.Reached && !short.Exhausted:
				t.Fatalf("%s: %d moves reach it, cut short it says %+v", a, want, short)
			case want >= 0 && (short.Reached && len(short.Moves) < want || short.AtLeast > want):
				t.Fatalf("%s: %d moves reach it, cut short it says that it takes at least %d, by %v", a, want, short.AtLeast, short.Moves)
			}
			s.replay(t, a, short)
		}
	})
}

// replay makes the moves of a plan in the reference.
func (s *small) replay(t *rapid.T, a aim, plan *rebalance.Plan) {
	on := make([]uint, len(s.workloads))
	for w := range s.workloads {
		on[w] = s.workloads[w].on
	}
	p, left := encode(on), map[[2]int]bool{}
	for wave := 1; wave <= plan.Waves; wave++ {
		both := make([][2]int64, len(s.clusters))
		for c := range s.clusters {
			both[c] = s.used(p, c, left)
		}
		start := p
		startLeft := maps.Clone(left)
		for _, m := range plan.Moves {
			if m.Wave != wave {
				continue
			}
			w, from, to := number(m.Workload.Name), number(m.From), number(m.To)
			if !s.admits(p, w, from, to, left) || !s.admits(start, w, from, to, startLeft) {
				t.Fatalf("%s: %s cannot move from %s to %s in wave %d of %+v", a, m.Workload, m.From, m.To, wave, plan.Moves)
			}
			for r := range 2 {
				if both[to][r] += s.workloads[w].asks[r]; s.workloads[w].asks[r] > 0 && both[to][r] > s.clusters[to].allocatable[r] {
					t.Fatalf("%s: %s is oversubscribed in wave %d of %+v", a, m.To, wave, plan.Moves)
				}
			}
			p, left[[2]int{w, from}] = p.moved(w, from, to), true
		}
	}
	if a.reached(p, left) != plan.Reached {
		t.Fatalf("%s: reached %t after %+v", a, !plan.Reached, plan.Moves)
	}
}

func number(name string) int { return int(name[1] - '0') }

func uses(world rebalance.World) map[string]string {
	all := map[string]string{}
	for _, row := range world.Engine.Snapshot("w").Rows() {
		all[row.Name] = fmt.Sprint(row.Allocated, row.Reserved, row.Free, row.Counted)
	}
	return all
}
