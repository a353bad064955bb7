package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestNobodyWaitsForEver: small workloads arrive without end, take what is free, and end; by all other rules they come first. A workload
// that needs an empty cluster, or two at once, still gets that once it has waited long enough, and workloads of several teams get it one
// after the other. This holds whatever else waits before it: for what daemons have, which never goes away, for more than there is, or for
// what others never give up.
func TestNobodyWaitsForEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const after, lasts = 10, 5
		f := newSharedFleet(t, engine.Options{GatherAfter: after * time.Minute})
		f.timed = true
		all := slices.Sorted(maps.Keys(f.clusters))
		room := maps.Clone(f.clusters)
		for _, name := range all {
			if daemons := rapid.Int64Range(0, f.clusters[name]-1).Draw(t, "daemons"); daemons > 0 {
				room[name] -= daemons
				f.setInUse(t, name, daemons)
			}
		}
		for _, one := range f.teams {
			if err := f.Share(one.name, platform, []engine.Grant{{Set: "gold", Clusters: all, Weight: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		ends := map[*job]int{}
		keeps := func(one *team, name string) {
			j := &job{name: "eternal", clusters: 1, cpu: 1, since: f.clock, selector: zoneOf(name)}
			if f.decide(t, one, j); len(j.on) > 0 {
				ends[j] = 1 << 30
				for _, on := range j.on {
					room[on]--
				}
			}
		}
		inVain := 0
		if rapid.Bool().Draw(t, "somebody never ends") {
			keeps(f.teams[0], rapid.SampledFrom(all).Draw(t, "on"))
		}
		most := slices.Max(slices.Collect(maps.Values(room)))
		var giants []*job
		come := func(one *team, what string, j job) *job {
			f.n++
			j.name, j.since, j.priority = fmt.Sprint(what, f.n), f.clock, -1
			one.waiting = append(one.waiting, &j)
			return &j
		}
		for _, one := range f.teams {
			for range rapid.SampledFrom([]int{0, 1, 9}).Draw(t, "want more than there ever is") {
				come(one, "never", job{clusters: 1, cpu: most + 1 + rapid.Int64Range(1, 3).Draw(t, "more")})
			}
			if rapid.Bool().Draw(t, "wants what is never given up") {
				inVain++
				come(one, "vain", job{clusters: 1, cpu: most + 1})
			}
			if rapid.Bool().Draw(t, "wants a whole cluster") {
				giants = append(giants, come(one, "giant", job{clusters: 1, cpu: most}))
			}
			if len(all) > 1 && rapid.Bool().Draw(t, "wants two clusters") {
				sizes := slices.Sorted(maps.Values(room))
				if two := sizes[len(sizes)-2]; two > 0 {
					giants = append(giants, come(one, "pair", job{selector: "both", clusters: 2, cpu: two}))
				}
			}
		}
		within := after + (len(giants)+1+len(f.teams))*(lasts+2) // a team may look only after another's attempt has begun
		if len(ends) > 0 {                                       // attempts may be in vain, first of all that wait, then some twice as long
			within += 5 * after * (4*len(f.teams) + inVain + len(giants))
		}
		waits := func(j *job) bool { return len(j.on) == 0 }
		for minute := 0; minute < within && slices.ContainsFunc(giants, waits); minute++ {
			f.clock = f.clock.Add(time.Minute)
			for _, one := range f.teams {
				one.due = one.due || one.blind
				for _, j := range slices.Clone(one.placed) {
					if _, known := ends[j]; !known {
						ends[j] = minute + rapid.IntRange(1, lasts).Draw(t, "lasts")
					}
					if ends[j] <= minute {
						f.Release(one.name, workloadOf(j.name, 1).Reference)
						one.placed = slices.DeleteFunc(one.placed, func(o *job) bool { return o == j })
						f.wakeAll()
					}
				}
				for small := 0; small < 4; small++ {
					if len(one.waiting) > small && strings.HasPrefix(one.waiting[small].name, "w") {
						continue
					}
					f.n++
					one.waiting = slices.Insert(one.waiting, 0, &job{name: fmt.Sprint("w", f.n), clusters: 1, cpu: 1, priority: 1, since: f.clock})
					one.due = true
				}
			}
			for rounds := 0; f.round(t); rounds++ {
				if rounds > 10_000 {
					t.Fatalf("it does not come to rest: %s", f)
				}
			}
		}
		for _, giant := range giants {
			if waits(giant) {
				t.Fatalf("after %d minutes %s still waits: %s", within, giant.name, f)
			}
		}
	})
}

// gatherers is a fleet on which time passes, and the workloads that teams want on it.
type gatherers struct {
	*shared
	now   time.Time
	specs map[string]v1alpha1.WorkloadPlacementSpec
	// since is when each began to wait, according to the controller.
	since map[string]time.Time
}

func newGatherers(t *testing.T, clusters ...*snapshot.Cluster) *gatherers {
	g := &gatherers{newShared(t, clusters...), time.Unix(1_000_000, 0), map[string]v1alpha1.WorkloadPlacementSpec{}, map[string]time.Time{}}
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
	}
	for _, team := range []logicalcluster.Name{"blue", "red"} {
		g.grant(team, engine.Grant{Set: "gold", Clusters: names})
	}
	return g
}

func (g *gatherers) ask(team logicalcluster.Name, name string, cpu int64) engine.Request {
	r := g.request(team, name, cpu)
	if spec, known := g.specs[name]; known {
		r.Placement = compile(g, g.Engine, spec)
	}
	if _, known := g.since[name]; !known {
		g.since[name] = g.now
	}
	r.Now, r.Since, r.Workload.UID = g.now, g.since[name], name
	return r
}

func (g *gatherers) line(team logicalcluster.Name, waiting ...engine.Request) {
	g.SetLine(g.Context(), team, waiting)
}

// small returns the clusters on which a small workload of blue finds a place now.
func (g *gatherers) small(on ...string) (free string) {
	g.Helper()
	for _, cluster := range on {
		r := g.ask("blue", "small", 1)
		r.Into = []string{cluster}
		d, err := g.Explain(g.Context(), r)
		if err != nil {
			g.Fatal(err)
		}
		free += names(d)
	}
	return free
}

func (g *gatherers) place(team logicalcluster.Name, name string, cpu int64, on string) {
	g.Helper()
	r := g.ask(team, name, cpu)
	r.Into = []string{on}
	if d, err := g.Decide(g.Context(), r); err != nil || names(d) != on {
		g.Fatalf("%s of %s is on %q: %v", name, team, names(d), err)
	}
}

// TestGatheringCountsOnWhatMayGo: what daemons and unknown pods use never becomes free, so no cluster gathers room for a workload that
// would need it; what known workloads have may become free.
func TestGatheringCountsOnWhatMayGo(t *testing.T) {
	inUse := func(cpu int64, counted map[string]int64, node int64) func(*snapshot.Cluster) {
		return func(c *snapshot.Cluster) {
			c.Allocated.CPU, c.Counted = cpu, map[string]capacity.Resources{}
			for uid, amount := range counted {
				c.Counted[uid] = capacity.Resources{CPU: amount}
			}
			if node > 0 {
				c.LargestFree = &capacity.Resources{CPU: node, Memory: 10}
			}
		}
	}
	for _, test := range []struct {
		why  string
		in   func(*snapshot.Cluster)
		asks int64
		want string
	}{
		{"daemons have some of it", inUse(2, nil, 0), 19, "a"},
		{"beside daemons there is room once all else is gone", inUse(2, nil, 0), 18, ""},
		{"what runs and is known may go, too", inUse(8, map[string]int64{"web": 6}, 0), 18, ""},
		{"pods of nobody's are daemons to all", inUse(8, map[string]int64{"unknown": 6}, 0), 13, "a"},
		{"known workloads may all be on one node", inUse(8, map[string]int64{"web": 6}, 1), 7, ""},
		{"daemons are not", inUse(8, map[string]int64{"web": 6}, 1), 8, "a"},
	} {
		g := newGatherers(t, cluster("a", 20))
		g.place("blue", "web", 6, "a")
		g.set(cluster("a", 20, test.in))
		g.line("red", g.ask("red", "giant", test.asks))
		g.now = g.now.Add(engine.DefaultGatherAfter)
		g.line("red", g.ask("red", "giant", test.asks))
		if free := g.small("a"); free != test.want {
			t.Errorf("%s: small workloads have a place on %q, want %q", test.why, free, test.want)
		}
	}
}

// TestGatheringTakesTurns: an attempt to gather room lasts an hour, and each further attempt of the same workload twice as long as the one
// before. In between, others may use what is free for as long as the attempt took, and others that wait gather.
func TestGatheringTakesTurns(t *testing.T) {
	g := newGatherers(t, cluster("a", 10), cluster("b", 10))
	g.place("blue", "never ends", 1, "a")
	g.place("blue", "ends late", 1, "b")
	zone := func(name string) v1alpha1.WorkloadPlacementSpec {
		return v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1)), ClusterSelector: &v1alpha1.ClusterSelector{ClusterNames: []string{name}}}
	}
	g.specs["in vain"], g.specs["patient"] = zone("a"), zone("b")
	waiting := []engine.Request{g.ask("blue", "patient", 10)}
	step := func(minutes int, want string) {
		t.Helper()
		g.now = g.now.Add(time.Duration(minutes) * time.Minute)
		g.line("red", g.ask("red", "in vain", 10))
		for i := range waiting {
			waiting[i].Now = g.now
		}
		g.line("blue", waiting...)
		small := g.ask("green", "small", 1)
		got := ""
		for _, on := range []string{"a", "b"} {
			small.Into = []string{on}
			if d, err := g.Explain(t.Context(), small); err != nil {
				t.Fatal(err)
			} else if len(d.Clusters) == 0 {
				got += on
			}
		}
		if got != want {
			t.Errorf("%q gathers, want %q", got, want)
		}
	}
	g.grant("green", engine.Grant{Set: "gold", Clusters: []string{"a", "b"}})
	step(0, "")
	step(59, "")
	step(1, "a")
	step(59, "a")
	step(1, "b")
	step(59, "b")
	step(1, "a") // for two hours
	step(119, "a")
	step(1, "b")
	step(119, "b")
	step(1, "a") // for four
	waiting = nil
	step(239, "a")
	step(1, "")
	step(239, "")
	step(1, "a")
}

// TestGatheringWaitsUntilItIsSeen: the wait of a workload counts from when it is first in line. An old workload that is to be placed here
// only now makes a cluster gather room after an hour; leaving the line for a moment makes no difference.
func TestGatheringWaitsUntilItIsSeen(t *testing.T) {
	g := newGatherers(t, cluster("a", 10))
	g.place("blue", "web", 5, "a")
	g.since["old"] = g.now.Add(-100 * time.Hour)
	at := func(minutes int, want string) {
		t.Helper()
		g.now = g.now.Add(time.Duration(minutes) * time.Minute)
		g.line("red", g.ask("red", "old", 10))
		if free := g.small("a"); free != want {
			t.Errorf("small workloads have a place on %q, want %q", free, want)
		}
	}
	at(0, "a")
	at(30, "a")
	g.line("red")
	at(29, "a")
	at(1, "")
	g.since["old"] = g.now // it has been placed elsewhere meanwhile, according to the controller
	at(1, "a")
}

// TestGatheringOnSeveral: for a workload that needs several clusters at once, as many clusters gather room together: those that lack least,
// within its placement. The other clusters do not gather.
func TestGatheringOnSeveral(t *testing.T) {
	location := func(name string) string { return map[bool]string{true: "eu", false: "us"}[name < "c"] }
	for _, test := range []struct {
		why  string
		spec v1alpha1.WorkloadPlacementSpec
		asks int64
		want string
	}{
		{"as many as it has to have", v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(2)), MinClusters: 2}, 10, "cd"},
		{"all of them", v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(4)), MinClusters: 4}, 10, ""},
		{"one is enough", v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))}, 10, "bcd"},
		{"over locations", v1alpha1.WorkloadPlacementSpec{
			NumberOfClusters: ptr.To(intstr.FromInt32(2)), MinClusters: 2,
			SpreadConstraints: []v1alpha1.SpreadConstraint{{TopologyKey: v1alpha1.TopologyKeyLocation, MaxSkew: 1}},
		}, 10, "bd"},
		{"for all of its replicas", v1alpha1.WorkloadPlacementSpec{
			NumberOfClusters: ptr.To(intstr.FromInt32(2)), ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideAggregated},
		}, 20, "cd"},
		{"more than there is", v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(5)), MinClusters: 5}, 10, "abcd"},
	} {
		var clusters []*snapshot.Cluster
		for _, name := range []string{"a", "b", "c", "d"} {
			clusters = append(clusters, cluster(name, 10, func(c *snapshot.Cluster) { c.Location = location(name) }))
		}
		g := newGatherers(t, clusters...)
		for i, name := range []string{"a", "b", "c", "d"} { // a lacks least, d most
			g.place("blue", "web-"+name, int64(2+i), name)
		}
		g.specs["wide"] = test.spec
		for range 2 {
			g.now = g.now.Add(engine.DefaultGatherAfter)
			r := g.ask("red", "wide", test.asks)
			if test.spec.ReplicaScheduling != nil {
				r.Workload.Replicas, r.Workload.Divisible = 20, true
			}
			g.line("red", r)
		}
		if free := g.small("a", "b", "c", "d"); free != test.want {
			t.Errorf("%s: small workloads have a place on %q, want %q", test.why, free, test.want)
		}
	}
}

// TestLineBehindWhatNeverFits: up to 8 workloads of a placement are in line, and workloads that could never have a place, whoever goes, are
// in it only if others leave places.
func TestLineBehindWhatNeverFits(t *testing.T) {
	for _, test := range []struct {
		why   string
		ahead int64 // how many
		asks  int64 // and how much each
		want  string
	}{
		{"larger than the cluster", 100, 11, ""},
		{"larger than what daemons leave", 100, 10, ""},
		{"larger than the quota", 100, 9, ""},
		{"seven that may have a place some day", 7, 8, ""},
		{"eight of them", 8, 8, "a"},
	} {
		g := newGatherers(t, cluster("a", 10, func(c *snapshot.Cluster) { c.Allocated.CPU = 1 }))
		g.grant("red", engine.Grant{Set: "gold", Clusters: []string{"a"}, Quota: map[string]int64{capacity.CPU: 8}})
		g.place("red", "own", 2, "a")
		g.place("blue", "web", 6, "a")
		g.place(platform, "rest", 1, "a")
		var waiting []engine.Request
		for i := range test.ahead {
			waiting = append(waiting, g.ask("red", fmt.Sprint("ahead", i), test.asks))
		}
		g.line("red", append(waiting, g.ask("red", "small", 1))...)
		g.Release(platform, workloadOf("rest", 1).Reference)
		if free := g.small("a"); free != test.want {
			t.Errorf("behind what is %s: others have a place on %q, want %q", test.why, free, test.want)
		}
	}
}
