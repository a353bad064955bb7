package engine_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
)

// TestMovesOfPlans makes workloads whose clusters are chosen together leave some, after clusters have changed. TestDifferential does
// so for workloads whose clusters are chosen one by one.
//
// Invariants:
//   - a cluster to leave is left, or retained if the workload has no other place; for a gain it is left or kept,
//   - leaving a cluster works like leaving one that the placement no longer selects,
//   - no cluster is added or gets more replicas except those that may,
//   - for a gain, what is added or gets more replicas outscores each cluster that is left by minGain, and nothing else changes,
//   - a cluster that is not left for a gain could not be.
func TestMovesOfPlans(t *testing.T) {
	judge := newPlainJudge(t)
	asked, left, retained, gained, refused := 0, 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawPuzzle(t, judge, rapid.Uint64().Draw(t, "seed"))
		p.take(p.decide(t))
		for range 3 {
			for _, name := range slices.Sorted(maps.Keys(p.world.fleet)) {
				if p.oneIn(3) {
					c, drawn := copyOf(p.world.fleet[name]), p.drawCluster(name)
					c.Allocatable, c.Allocated, c.LargestFree = drawn.Allocatable, drawn.Allocated, drawn.LargestFree
					p.set(c)
				}
			}
			if len(p.current) == 0 {
				return
			}
			p.leave, p.into, p.gain = nil, nil, oneOf[int64](p.Rand, 0, 0, 1, 1, 10)
			for i := range p.current {
				if p.oneIn(2) {
					p.leave = append(p.leave, p.current[i].Name)
				}
			}
			if p.oneIn(3) {
				p.into = []string{"unknown", oneOf(p.Rand, differentialClusters...), oneOf(p.Rand, differentialClusters...)}
			}
			state := fmt.Sprintf("%s, leaves %v into %v for %d", p, p.leave, p.into, p.gain)
			d := p.decide(t)
			before := p.world.held[p.workload.Reference]
			before.restoreTo(p.engine, ws, p.workload.Reference) // the requests below are for the state before
			if problem := p.strays(t, d); problem != "" {
				t.Fatalf("%s\n%s\ngot group %q, %d wait, %s", problem, state, d.Group, d.Waiting, describe(d))
			}
			if asked++; len(p.leave) > 0 && p.gain == 0 {
				left, retained = left+len(d.Left), retained+len(d.Retained)
			} else if len(p.leave) > 0 && moves(d) {
				gained++
			} else if len(p.leave) > 0 {
				refused++
			}
			p.take(d)
			if after, holds := p.world.held[p.workload.Reference]; holds {
				after.restoreTo(p.engine, ws, p.workload.Reference)
			} else {
				p.engine.Release(ws, p.workload.Reference)
			}
		}
	})
	t.Logf("%d asked: %d left, %d stood on; %d for a gain, %d stayed", asked, left, retained, gained, refused)
}

// moves reports whether a decision leaves a cluster that it was to leave.
func moves(d *engine.Decision) bool {
	return slices.ContainsFunc(d.Left, func(v engine.Verdict) bool { return v.Rejection.Stage == "Move" })
}

func replicasOn(all []engine.Choice, cluster string) int64 {
	for _, c := range all {
		if c.Name == cluster {
			return max(1, c.Replicas)
		}
	}
	return 0
}

// explain returns what is decided for a request that differs from the puzzle's.
func (p *puzzle) explain(t rapid.TB, leave, into []string) *engine.Decision {
	r := p.request()
	r.Leave, r.Into, r.MinGain = leaving(leave), into, 0
	d, err := p.engine.Explain(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// strays returns which invariant of moves a decision breaks.
func (p *puzzle) strays(t rapid.TB, d *engine.Decision) string {
	divided := d.Divides()
	for _, c := range d.Clusters {
		before, now := replicasOn(p.current, c.Name), replicasOn(d.Clusters, c.Name)
		if p.into != nil && !slices.Contains(p.into, c.Name) && (before == 0 || divided && now > before) {
			return fmt.Sprintf("%s has %d after %d, and may not", c.Name, now, before)
		}
	}
	stands := func(name string) bool {
		return slices.ContainsFunc(d.Retained, func(v engine.Verdict) bool { return v.Cluster == name })
	}
	if p.gain == 0 {
		for _, name := range p.leave {
			if now := replicasOn(d.Clusters, name); now > 0 && !stands(name) && (!divided || now >= replicasOn(p.current, name)) {
				return fmt.Sprintf("%s is neither left nor stood on", name)
			}
		}
		return p.unlikeUnselected(t, d)
	}
	stay := p.explain(t, nil, p.into)
	if !moves(d) {
		if diff := differ(describeAll(stay), describeAll(d)); diff != "" {
			return "it leaves nothing for a gain, and decides otherwise than where it has nothing to leave -+\n" + diff
		}
		return p.misses(t, stay)
	}
	if moves(stay) || len(stay.Left)+len(stay.Retained) > 0 || stay.Changes() && len(stay.Clusters) != len(p.current) {
		return "it moves for a gain where something else changes"
	}
	if len(d.Retained) > 0 || d.Waiting > stay.Waiting {
		return "for a gain it stands or waits"
	}
	worth := map[string]int64{}
	for _, v := range stay.Verdicts() {
		worth[v.Cluster] = v.Score.Total + v.Points
	}
	outscored, err := p.engine.Outscored(context.Background(), p.request())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range d.Left {
		if !slices.Contains(outscored, v.Cluster) {
			return fmt.Sprintf("%s is left, and none is known to score more: %v", v.Cluster, outscored)
		}
		if !slices.Contains(p.leave, v.Cluster) {
			return fmt.Sprintf("%s is left", v.Cluster)
		}
		for _, c := range d.Clusters {
			before, old := replicasOn(p.current, c.Name), slices.IndexFunc(stay.Clusters, func(o engine.Choice) bool { return o.Name == v.Cluster })
			if (before == 0 || divided && c.Replicas > before) && (c.Score < stay.Clusters[old].Score+p.gain) {
				return fmt.Sprintf("%s has %d points, %s, which is left, %d", c.Name, c.Score, v.Cluster, stay.Clusters[old].Score)
			}
		}
	}
	return ""
}

// unlikeUnselected returns how a decision differs from that for a placement that no longer selects the clusters to leave. It
// ignores which domains spread constraints are about, and the group of a workload whose replicas overflow.
func (p *puzzle) unlikeUnselected(t rapid.TB, d *engine.Decision) string {
	overflows := p.object.Spec.ReplicaScheduling != nil && p.object.Spec.ReplicaScheduling.Division == v1alpha1.DivideOverflow
	if len(p.leave) == 0 || len(p.object.Spec.SpreadConstraints) > 0 || overflows || len(p.object.Spec.Fallback) > 0 {
		return ""
	}
	narrowed := p.object.DeepCopy()
	for i, name := range p.leave {
		narrowed.Spec.Constraints = append(narrowed.Spec.Constraints, v1alpha1.Constraint{Name: fmt.Sprintf("not%d", i), Expression: fmt.Sprintf("cluster.name != %q", name)})
	}
	compiled, err := p.engine.CompilePlacement(narrowed)
	if err != nil {
		t.Fatal(err)
	}
	p.engine.SetAffinity(ws, []*placement.Placement{compiled}, unscheduled(p.placed))
	defer p.engine.SetAffinity(ws, []*placement.Placement{p.compiled}, unscheduled(p.placed))
	r := p.request()
	r.Placement, r.Leave = compiled, nil
	want, err := p.engine.Explain(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	outcome := func(d *engine.Decision) string {
		var left, retained []string
		for _, v := range d.Left {
			left = append(left, v.Cluster)
		}
		for _, v := range d.Retained {
			retained = append(retained, v.Cluster)
		}
		return fmt.Sprintf("%+v leaves %v stands on %v, %d wait", d.Clusters, left, retained, d.Waiting)
	}
	if outcome(want) != outcome(d) {
		return fmt.Sprintf("without them selected it is\n%s, to leave them\n%s", outcome(want), outcome(d))
	}
	return ""
}

// misses states that the worst cluster to leave could be left for a gain.
func (p *puzzle) misses(t rapid.TB, stay *engine.Decision) string {
	soft := slices.ContainsFunc(p.object.Spec.SpreadConstraints, func(c v1alpha1.SpreadConstraint) bool { return c.Weight > 0 })
	overflows := p.object.Spec.ReplicaScheduling != nil && p.object.Spec.ReplicaScheduling.Division == v1alpha1.DivideOverflow
	if len(p.leave) == 0 || soft || overflows || len(stay.Left)+len(stay.Retained) > 0 || stay.Group != p.group {
		return ""
	}
	for _, c := range p.current {
		if replicasOn(stay.Clusters, c.Name) != max(1, c.Replicas) && stay.Divides() {
			return ""
		}
	}
	if len(stay.Clusters) != len(p.current) {
		return ""
	}
	points, score := map[string]int64{}, map[string]int64{}
	verdicts := stay.Verdicts()
	for _, v := range verdicts {
		points[v.Cluster] = v.Points
	}
	for _, c := range stay.Clusters {
		score[c.Name] = c.Score
	}
	for _, leave := range p.leave {
		into := []string{"unknown"}
		for _, v := range verdicts {
			total := v.Score.Total
			if v.Chosen {
				total = score[v.Cluster]
			} else if v.Rejection != nil {
				continue
			}
			if total >= score[leave]+p.gain && total+v.Points >= score[leave]+points[leave]+p.gain && (p.into == nil || slices.Contains(p.into, v.Cluster)) {
				into = append(into, v.Cluster)
			}
		}
		moved := p.explain(t, []string{leave}, into)
		if len(moved.Left) == 1 && len(moved.Retained) == 0 && moved.Left[0].Cluster == leave && moved.Waiting <= stay.Waiting && moved.Group == stay.Group && worst(p.leave, score, points, leave) {
			return fmt.Sprintf("%s could be left for a gain: %+v", leave, moved.Clusters)
		}
	}
	return ""
}

// worst reports whether none of the clusters is worth less than one of them.
func worst(all []string, score, points map[string]int64, one string) bool {
	return !slices.ContainsFunc(all, func(o string) bool {
		a, b := score[o]+points[o], score[one]+points[one]
		return a < b || a == b && o < one
	})
}

// TestLeave: what becomes of clusters that a workload is to leave.
func TestLeave(t *testing.T) {
	// The capacity score falls as use grows: with requests of 1000, free 10000 or more is 100, 5000 80, 2000 60, 1000 40.
	fleet := map[string]int64{"full": 1000, "half": 2500, "roomy": 6000, "vast": 20000}
	for name, test := range map[string]struct {
		number       int
		on, leave    []string
		into         []string
		gain         int64
		then, stands []string
	}{
		"it leaves a cluster for the best other one": {1, []string{"full"}, []string{"full"}, nil, 0, []string{"vast"}, nil},
		"though that be worse":                       {1, []string{"vast"}, []string{"vast"}, nil, 0, []string{"roomy"}, nil},
		"it stands where it has nowhere to go":       {4, []string{"full", "half", "roomy", "vast"}, []string{"half"}, nil, 0, []string{"vast", "roomy", "full", "half"}, []string{"half"}},
		"only into some":                             {1, []string{"full"}, []string{"full"}, []string{"half"}, 0, []string{"half"}, nil},
		"it stands where none of these has room":     {1, []string{"half"}, []string{"half"}, []string{"elsewhere"}, 0, []string{"half"}, []string{"half"}},
		"for a gain of 3":                            {1, []string{"roomy"}, []string{"roomy"}, nil, 3, []string{"vast"}, nil},
		"not for one where it may not go":            {1, []string{"roomy"}, []string{"roomy"}, []string{"half", "full"}, 3, []string{"roomy"}, nil},
		"not for a gain that is too small":           {1, []string{"roomy"}, []string{"roomy"}, nil, 4, []string{"roomy"}, nil},
		"what gains is the worst; the others stay":   {2, []string{"full", "roomy"}, []string{"full", "roomy"}, nil, 3, []string{"vast", "roomy"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, engine.Options{})
			for name, free := range fleet {
				c := cluster(name, 40000)
				c.Allocated = capacity.Resources{CPU: 40000 - free}
				if _, err := e.SetCluster(ws, c); err != nil {
					t.Fatal(err)
				}
			}
			spec := v1alpha1.WorkloadPlacementSpec{}
			spec.NumberOfClusters = ptr.To(intstr.FromInt(test.number))
			r := engine.Request{Workspace: ws, Placement: compile(t, e, spec), Workload: workloadOf("w", 1000), Leave: leaving(test.leave), Into: test.into, MinGain: test.gain}
			for _, name := range test.on {
				r.Current = append(r.Current, engine.Choice{Name: name, Replicas: 1})
			}
			d, err := e.Decide(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			var then, stands []string
			for _, c := range d.Clusters {
				then = append(then, c.Name)
			}
			for _, v := range d.Retained {
				stands = append(stands, v.Cluster)
			}
			if !slices.Equal(then, test.then) || !slices.Equal(stands, test.stands) {
				t.Errorf("runs on %v, stands on %v: %s", then, stands, describe(d))
			}
		})
	}
}
