package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

// TestPreempt compares the victims, in small random worlds, with the best of all sets of victims: each set is actually removed
// from the clusters, and then the engine is asked whether the workload is placed.
func TestPreempt(t *testing.T) {
	policies := compilePolicies(t).compiler
	rapid.Check(t, func(t *rapid.T) {
		w := newPreemptWorld(t, policies)
		before := w.engine.Snapshot(ws)
		found, err := w.engine.Preempt(context.Background(), w.request, w.candidates(), w.most)
		if err != nil {
			t.Fatal(err)
		}
		if after := w.engine.Snapshot(ws); after.Generation != before.Generation {
			t.Fatal("asking has changed something")
		}
		if found != nil && found.Bounded {
			t.Fatal("a small world is searched in full")
		}
		want := w.best(t)
		if got := describeVictims(found); got != describeBest(want) {
			t.Fatalf("victims %s, want %s", got, describeBest(want))
		}
		if want == nil {
			return
		}
		if len(found.Decision.Clusters) == 0 {
			t.Fatal("victims, and no decision")
		}
		held := rapid.Bool().Draw(t, "held")
		if held {
			w.request.Instead = w.hold(t, found)
			w.othersAsk(t, found)
		}
		w.evict(w.sharesOf(found))
		if held {
			w.othersAsk(t, found)
		}
		fresh, err := w.engine.Decide(context.Background(), w.request)
		if err != nil {
			t.Fatal(err)
		}
		if held { // others have made other clusters better or worse, but have taken nothing that it needs
			if len(fresh.Clusters) == 0 || fresh.Waiting > found.Decision.Waiting {
				t.Fatalf("%s is told to be had and held, and once they are gone it is %s, and %d replicas wait", names(found.Decision), names(fresh), fresh.Waiting)
			}
			return
		}
		if names(fresh) != names(found.Decision) || fresh.Waiting != found.Decision.Waiting {
			t.Fatalf("%s is told to be had, and once they are gone it is %s", names(found.Decision), names(fresh))
		}
	})
}

// hold removes the promises to victims, which clusters still count, and holds what is needed.
func (w *preemptWorld) hold(t *rapid.T, found *engine.Preemption) (holds []engine.Held) {
	hold := func(r engine.Reservation) {
		h, err := w.engine.Hold(ws, r)
		if err != nil {
			t.Fatal(err)
		}
		holds = append(holds, h)
	}
	lost := w.sharesOf(found)
	for i, o := range w.placed {
		rest := []capacity.Share{}
		for j, s := range o.shares {
			if !slices.Contains(lost, preemptShare{i, j}) {
				rest = append(rest, s)
			}
		}
		w.restore(o, rest)
	}
	for _, v := range found.Victims {
		hold(engine.Reservation{Workload: v.Workload, Shares: v.Frees})
	}
	if len(found.Rest) > 0 {
		rest := w.request.Workload.Reference
		rest.UID = ""
		hold(engine.Reservation{Workload: rest, Shares: found.Rest})
	}
	return holds
}

// othersAsk makes the victims request what is free, as others would.
func (w *preemptWorld) othersAsk(t *rapid.T, found *engine.Preemption) {
	plain, err := w.engine.CompilePlacement(&v1alpha1.WorkloadPlacement{
		ObjectMeta: metav1.ObjectMeta{Name: "again", Namespace: "default"}, Spec: v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found.Victims {
		again := workloadOf("again-"+v.Workload.Name, int64(rapid.IntRange(1, 6).Draw(t, "asks again")))
		again.UID = v.Workload.UID // its pods are those of the victim: what a promise to it reserves is less by them
		if _, err := w.engine.Decide(context.Background(), engine.Request{Workspace: ws, Placement: plain, Workload: again}); err != nil {
			t.Fatal(err)
		}
	}
}

// preemptWorld is a fleet with placed workloads, and one of higher priority that waits.
type preemptWorld struct {
	engine  *engine.Engine
	request engine.Request
	most    int
	placed  []*preemptPlaced
	// support are pairs of workloads: the first has to be near the second, on the same cluster.
	needs map[string]string
}

type preemptPlaced struct {
	*workload.Workload
	priority int32
	pinned   bool
	since    time.Time
	shares   []capacity.Share
}

// preemptShare is the share of a placed workload on a cluster.
type preemptShare struct{ placed, share int }

func newPreemptWorld(t *rapid.T, sets *policy.Compiler) *preemptWorld {
	e, err := engine.New(engine.Options{Policies: sets})
	if err != nil {
		t.Fatal(err)
	}
	w := &preemptWorld{engine: e, most: rapid.SampledFrom([]int{1, 2, 10, 10}).Draw(t, "most"), needs: map[string]string{}}
	counting := rapid.Bool().Draw(t, "counting")
	var clusters []*snapshot.Cluster
	for i := range rapid.IntRange(1, 3).Draw(t, "clusters") {
		c := cluster(fmt.Sprintf("c%d", i), 10, func(c *snapshot.Cluster) { c.Location = fmt.Sprintf("l%d", i%2) })
		c.Counted = map[string]capacity.Resources{}
		clusters = append(clusters, c)
	}
	var placements []*placement.Placement
	var workloads []*workload.Workload
	var under []*placement.Placement
	place := func(spec v1alpha1.WorkloadPlacementSpec, name string) *placement.Placement {
		spec.WorkloadSelector.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"of": name}}
		p, err := e.CompilePlacement(&v1alpha1.WorkloadPlacement{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		placements = append(placements, p)
		return p
	}
	n := rapid.IntRange(1, 5).Draw(t, "placed")
	for i := range n {
		one := workloadOf(fmt.Sprintf("w%d", i), int64(rapid.IntRange(1, 6).Draw(t, "cpu")))
		one.UID, one.Labels = "u"+one.Name, map[string]string{"of": one.Name, "app": one.Name}
		o := &preemptPlaced{Workload: one, priority: rapid.SampledFrom([]int32{math.MinInt32, -1, 0, 0, 3, 5}).Draw(t, "priority"), pinned: rapid.IntRange(0, 4).Draw(t, "pinned") == 0}
		o.since = time.Unix(int64(rapid.IntRange(0, 2).Draw(t, "since")), 0)
		for j, c := range clusters {
			if rapid.IntRange(0, 2).Draw(t, "on") > 0 && (j == len(clusters)-1 || len(o.shares) < 2) {
				o.shares = append(o.shares, capacity.Share{Cluster: c.Name, Amount: one.Requests})
				if counting && rapid.Bool().Draw(t, "counted") {
					runs := capacity.Resources{CPU: max(0, one.Requests.CPU+int64(rapid.IntRange(-1, 2).Draw(t, "more")))}
					c.Counted[one.UID], c.Allocated = runs, c.Allocated.Add(runs)
				}
			}
		}
		spec := v1alpha1.WorkloadPlacementSpec{}
		if other := rapid.IntRange(0, n*3).Draw(t, "needs"); other < n && other != i && len(o.shares) > 0 {
			w.needs[one.Name] = fmt.Sprintf("w%d", other)
			spec.WorkloadAffinity = []v1alpha1.WorkloadAffinityTerm{{
				Type: v1alpha1.WorkloadsAttract, Required: true, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": w.needs[one.Name]}},
			}}
		} else if rapid.IntRange(0, 3).Draw(t, "repels") == 0 {
			spec.WorkloadAffinity = []v1alpha1.WorkloadAffinityTerm{{
				Type: v1alpha1.WorkloadsRepel, Required: true, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "high"}},
				TopologyKey: rapid.SampledFrom([]string{"cluster", "location"}).Draw(t, "key"),
			}}
		}
		workloads, under = append(workloads, one), append(under, place(spec, one.Name))
		if len(o.shares) > 0 {
			w.placed = append(w.placed, o)
		}
	}
	for _, c := range clusters {
		if counting && rapid.IntRange(0, 2).Draw(t, "its own pods run there") == 0 {
			own := capacity.Resources{CPU: int64(rapid.IntRange(1, 3).Draw(t, "own"))}
			c.Counted["uhigh"], c.Allocated = own, c.Allocated.Add(own)
		}
		if _, err := e.SetCluster(ws, c); err != nil {
			t.Fatal(err)
		}
	}
	high := workloadOf("high", int64(rapid.IntRange(1, 12).Draw(t, "asks")))
	high.UID, high.Labels = "uhigh", map[string]string{"of": "high", "app": "high"}
	spec := v1alpha1.WorkloadPlacementSpec{}
	switch rapid.SampledFrom([]string{"plain", "plain", "two", "spread", "divided", "partial", "near"}).Draw(t, "kind") {
	case "two":
		spec.MinClusters = 2
	case "spread":
		spec.MinClusters, spec.SpreadConstraints = 2, []v1alpha1.SpreadConstraint{{TopologyKey: "location", MaxSkew: 1}}
	case "divided", "partial":
		high.Divisible = true
		high.Replicas = int64(rapid.IntRange(2, 4).Draw(t, "replicas"))
		one := capacity.Resources{CPU: int64(rapid.IntRange(1, 4).Draw(t, "each"))}
		high.Requests, _ = one.Mul(high.Replicas)
		spec.ReplicaScheduling = &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Partial: rapid.Bool().Draw(t, "partial"), MinPerCluster: int32(rapid.IntRange(1, 2).Draw(t, "least"))}
	case "near":
		spec.WorkloadAffinity = []v1alpha1.WorkloadAffinityTerm{{
			Type: v1alpha1.WorkloadsAttract, Required: true, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "w0"}},
		}}
	}
	if rapid.Bool().Draw(t, "one cluster") && spec.MinClusters < 2 {
		spec.NumberOfClusters = ptr.To(intstr.FromInt32(1))
	}
	w.request = engine.Request{Workspace: ws, Placement: place(spec, "high"), Workload: high}
	for _, o := range w.placed {
		w.restore(o, o.shares)
	}
	e.SetAffinity(ws, placements, pairs(workloads, under))
	return w
}

func pairs(workloads []*workload.Workload, under []*placement.Placement) iter.Seq2[*workload.Workload, *placement.Placement] {
	return func(yield func(*workload.Workload, *placement.Placement) bool) {
		for i := range workloads {
			if !yield(workloads[i], under[i]) {
				return
			}
		}
	}
}

func (w *preemptWorld) restore(o *preemptPlaced, shares []capacity.Share) {
	if len(shares) == 0 {
		w.engine.Release(ws, o.Reference)
		return
	}
	if err := w.engine.Restore(ws, engine.Reservation{Workload: o.Reference, Placement: types.NamespacedName{Namespace: "default", Name: o.Name}, Shares: shares}); err != nil {
		panic(err)
	}
}

// candidates are the workloads that are not pinned and less important than the waiting workload, whose priority is 4.
func (w *preemptWorld) candidates() (all []engine.Candidate) {
	for _, o := range w.placed {
		if o.priority < 4 && !o.pinned {
			all = append(all, engine.Candidate{Workload: o.Reference, Priority: o.priority, Since: o.since})
		}
	}
	return all
}

// sharesOf returns what victims lose.
func (w *preemptWorld) sharesOf(p *engine.Preemption) (shares []preemptShare) {
	for _, v := range p.Victims {
		for i, o := range w.placed {
			for j, s := range o.shares {
				if o.Reference == v.Workload && slices.Contains(v.Clusters, s.Cluster) {
					shares = append(shares, preemptShare{i, j})
				}
			}
		}
	}
	return shares
}

// evict removes shares from their clusters, in the engine and in the clusters' reports.
func (w *preemptWorld) evict(shares []preemptShare) {
	for i, o := range w.placed {
		rest := []capacity.Share{}
		for j, s := range o.shares {
			if !slices.Contains(shares, preemptShare{i, j}) {
				rest = append(rest, s)
				continue
			}
			c := *w.engine.Snapshot(ws).Row(s.Cluster).Cluster
			if counted, found := c.Counted[o.UID]; found {
				c.Counted = maps.Clone(c.Counted)
				delete(c.Counted, o.UID)
				c.Allocated = c.Allocated.Sub(counted)
				if _, err := w.engine.SetCluster(ws, &c); err != nil {
					panic(err)
				}
			}
		}
		w.restore(o, rest)
	}
}

// bestVictims is a set of victims with what orders it.
type bestVictims struct {
	shares   []preemptShare
	highest  int32
	sum      int64
	start    time.Time
	names    []string
	clusters []string
}

func (w *preemptWorld) best(t *rapid.T) (best *bestVictims) {
	var all []preemptShare
	for i, o := range w.placed {
		for j := range o.shares {
			all = append(all, preemptShare{i, j})
		}
	}
	clusters := map[string]*snapshot.Cluster{}
	for _, row := range w.engine.Snapshot(ws).Rows() {
		clusters[row.Name] = row.Cluster
	}
	for set := range 1 << len(all) {
		var shares []preemptShare
		for k, s := range all {
			if set&(1<<k) != 0 {
				shares = append(shares, s)
			}
		}
		if !w.allowed(shares) {
			continue
		}
		w.evict(shares)
		d, err := w.engine.Explain(context.Background(), w.request)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range clusters {
			if _, err := w.engine.SetCluster(ws, c); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range w.placed {
			w.restore(o, o.shares)
		}
		if len(d.Clusters) == 0 {
			continue
		}
		if set == 0 {
			return nil // it fits without victims
		}
		if one := w.weigh(shares); best == nil || one.compare(best) < 0 {
			best = one
		}
	}
	return best
}

// allowed returns, by the sentences of the API, which workloads may go.
func (w *preemptWorld) allowed(shares []preemptShare) bool {
	goes := func(name, cluster string) bool {
		return slices.ContainsFunc(shares, func(s preemptShare) bool {
			return w.placed[s.placed].Name == name && w.placed[s.placed].shares[s.share].Cluster == cluster
		})
	}
	on := func(name, cluster string) bool {
		return slices.ContainsFunc(w.placed, func(o *preemptPlaced) bool {
			return o.Name == name && slices.ContainsFunc(o.shares, func(s capacity.Share) bool { return s.Cluster == cluster })
		})
	}
	victims := map[int]bool{}
	for _, s := range shares {
		victims[s.placed] = true
		o := w.placed[s.placed]
		near := len(w.request.Placement.Affinity) > 0 && o.Name == "w0"
		if o.priority >= 4 || o.pinned || near {
			return false
		}
	}
	for dependent, needs := range w.needs {
		for _, o := range w.placed {
			if o.Name != dependent {
				continue
			}
			for _, s := range o.shares {
				if on(needs, s.Cluster) && goes(needs, s.Cluster) && !goes(dependent, s.Cluster) {
					return false
				}
			}
		}
	}
	return len(victims) <= w.most
}

func (w *preemptWorld) weigh(shares []preemptShare) *bestVictims {
	v, seen := &bestVictims{shares: shares, highest: math.MinInt32}, map[int]bool{}
	for _, s := range shares {
		o := w.placed[s.placed]
		v.clusters = append(v.clusters, o.Name+"/"+o.shares[s.share].Cluster)
		if seen[s.placed] {
			continue
		}
		seen[s.placed] = true
		v.names, v.sum, v.highest = append(v.names, o.String()), v.sum+int64(o.priority)-math.MinInt32, max(v.highest, o.priority)
	}
	for i := range seen {
		if o := w.placed[i]; o.priority == v.highest && (v.start.IsZero() || o.since.Before(v.start)) {
			v.start = o.since
		}
	}
	slices.Sort(v.names)
	slices.Sort(v.clusters)
	return v
}

func (v *bestVictims) compare(o *bestVictims) int {
	return cmp.Or(cmp.Compare(v.highest, o.highest), cmp.Compare(v.sum, o.sum), cmp.Compare(len(v.names), len(o.names)), o.start.Compare(v.start),
		slices.Compare(v.names, o.names), cmp.Compare(len(v.clusters), len(o.clusters)))
}

func describeBest(v *bestVictims) string {
	if v == nil {
		return "none"
	}
	return fmt.Sprintf("%v on %d", v.names, len(v.clusters))
}

func describeVictims(p *engine.Preemption) string {
	if p == nil {
		return "none"
	}
	var names []string
	clusters := 0
	for _, v := range p.Victims {
		names, clusters = append(names, v.Workload.String()), clusters+len(v.Clusters)
	}
	slices.Sort(names)
	return fmt.Sprintf("%v on %d", names, clusters)
}

// TestInstead: what is held for a workload belongs to nobody else, and becomes its own in the step in which it is placed, or stays held.
func TestInstead(t *testing.T) {
	ctx, e := context.Background(), newEngine(t, engine.Options{})
	e.SetCluster(ws, cluster("c", 10))
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))})
	ask := func(name string, cpu int64, instead ...engine.Held) string {
		t.Helper()
		d, err := e.Decide(ctx, engine.Request{Workspace: ws, Placement: p, Workload: workloadOf(name, cpu), Instead: instead})
		if err != nil {
			t.Fatal(err)
		}
		return names(d)
	}
	held, err := e.Hold(ws, engine.Reservation{Workload: workloadOf("victim", 8).Reference, Shares: []capacity.Share{{Cluster: "c", Amount: capacity.Resources{CPU: 8}}}})
	if err != nil {
		t.Fatal(err)
	}
	if on := ask("other", 5); on != "" {
		t.Fatalf("another workload gets what is held: %s", on)
	}
	if on := ask("huge", 11, held); on != "" {
		t.Fatalf("placed on %s, which is too small", on)
	}
	if reserved := e.Snapshot(ws).Row("c").Reserved.CPU; reserved != 8 {
		t.Fatalf("nobody is placed in its place, and %d is held", reserved)
	}
	if on := ask("high", 9, held); on != "c" {
		t.Fatalf("placed on %q in place of what is held", on)
	}
	if reserved := e.Snapshot(ws).Row("c").Reserved.CPU; reserved != 9 {
		t.Fatalf("%d is reserved", reserved)
	}
	if e.ReleaseHeld(ws, held) {
		t.Fatal("it is held on")
	}
}

// TestPreemptInALargeFleet: with many candidates on many clusters the search is bounded, and reports when it is cut short.
func TestPreemptInALargeFleet(t *testing.T) {
	const clusters, each = 200, 20
	e := newEngine(t, engine.Options{})
	p := compile(t, e, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))})
	var candidates []engine.Candidate
	for i := range clusters {
		e.SetCluster(ws, cluster(fmt.Sprintf("c%03d", i), each))
		for j := range each {
			one := workloadOf(fmt.Sprintf("w%d-%d", i, j), 1)
			if err := e.Restore(ws, engine.Reservation{Workload: one.Reference, Shares: []capacity.Share{{Cluster: fmt.Sprintf("c%03d", i), Amount: one.Requests}}}); err != nil {
				t.Fatal(err)
			}
			candidates = append(candidates, engine.Candidate{Workload: one.Reference, Priority: int32(j % 3), Since: time.Unix(int64(i), 0)})
		}
	}
	start := time.Now()
	found, err := e.Preempt(context.Background(), engine.Request{Workspace: ws, Placement: p, Workload: workloadOf("high", 5)}, candidates, 100)
	if err != nil || found == nil {
		t.Fatal(found, err)
	}
	t.Logf("%s, bounded %t", time.Since(start), found.Bounded)
	if len(found.Victims) != 5 || found.Victims[0].Priority != 0 {
		t.Errorf("victims %v", found.Victims)
	}
}
