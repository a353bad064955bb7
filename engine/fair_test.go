package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestWhoGetsRoomFirst: teams in random histories on clusters that they share. Each decides on its own, some workloads at a time, in any
// order, as the controller's passes do; no team sees what others intend. And yet:
//
//   - no workload gets more on a cluster while another team's workload is in line, comes before it by the rules and would fit there;
//   - once no team has anything left to do, no workload waits that has a place: nobody waits for a turn that never comes.
//
// The rules are implemented here a second time, in rational numbers.
func TestWhoGetsRoomFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newSharedFleet(t, engine.Options{})
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"come", "come", "end", "end", "round", "round", "round", "resize", "grant", "rest"}).Draw(t, "step") {
			case "come":
				f.come(t)
			case "end":
				f.end(t)
			case "round":
				f.round(t)
			case "resize":
				f.resize(t)
			case "grant":
				f.grant(t, rapid.SampledFrom(f.teams).Draw(t, "team"))
			case "rest":
				f.rest(t)
			}
		}
		f.rest(t)
	})
}

// sharedFleet is a fleet and the teams on it, with books of their own.
type sharedFleet struct {
	*engine.Engine
	under    map[string]*placement.Placement
	clusters map[string]int64
	teams    []*team
	clock    time.Time
	n        int
	// timed makes requests carry the time.
	timed bool
}

type team struct {
	name      logicalcluster.Name
	terms     engine.Grant
	waiting   []*job
	placed    []*job
	line      []*job
	due       bool
	blind     bool
	undecided []*job
	running   bool
}

type job struct {
	name     string
	selector string
	clusters int
	cpu      int64
	priority int32
	since    time.Time
	on       []string
}

func newSharedFleet(t *rapid.T, options engine.Options) *sharedFleet {
	f := &sharedFleet{Engine: newEngine(t, options), under: map[string]*placement.Placement{}, clusters: map[string]int64{}, clock: time.Unix(1_000_000, 0)}
	for _, zone := range []string{"", "a", "b"} {
		for _, n := range []int{1, 2} {
			spec := v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt(n))}
			if zone != "" {
				spec.ClusterSelector = &v1alpha1.ClusterSelector{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"zone": zone}}}
			}
			f.under[fmt.Sprint(zone, n)] = compile(t, f.Engine, spec)
		}
	}
	f.under["both2"] = compile(t, f.Engine, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt(2)), MinClusters: 2})
	for i := range rapid.IntRange(1, 3).Draw(t, "clusters") {
		f.set(t, fmt.Sprint("c", i), rapid.Int64Range(1, 8).Draw(t, "cpu"))
	}
	for i := range rapid.IntRange(2, 3).Draw(t, "teams") {
		one := &team{name: logicalcluster.Name(fmt.Sprint("root:team", i))}
		f.teams = append(f.teams, one)
		f.grant(t, one)
	}
	return f
}

func zoneOf(cluster string) string {
	if cluster == "c0" {
		return "a"
	}
	return "b"
}

func (f *sharedFleet) set(t *rapid.T, name string, cpu int64) {
	f.clusters[name] = cpu
	if _, err := f.SetCluster(platform, cluster(name, cpu, func(c *snapshot.Cluster) { c.Labels = map[string]string{"zone": zoneOf(name)} })); err != nil {
		t.Fatal(err)
	}
	f.wakeAll()
}

// setInUse makes pods that nobody knows run on a cluster.
func (f *sharedFleet) setInUse(t *rapid.T, name string, cpu int64) {
	if _, err := f.SetCluster(platform, cluster(name, f.clusters[name], func(c *snapshot.Cluster) {
		c.Labels, c.Allocated = map[string]string{"zone": zoneOf(name)}, capacity.Resources{CPU: cpu}
	})); err != nil {
		t.Fatal(err)
	}
}

// resize changes what a cluster has.
func (f *sharedFleet) resize(t *rapid.T) {
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(f.clusters))).Draw(t, "cluster")
	f.set(t, name, rapid.Int64Range(1, 8).Draw(t, "cpu"))
}

// grant sets what a team may have.
func (f *sharedFleet) grant(t *rapid.T, one *team) {
	amounts := func(what string) map[string]int64 {
		if rapid.Bool().Draw(t, what) {
			return map[string]int64{capacity.CPU: rapid.Int64Range(0, 8).Draw(t, what)}
		}
		return nil
	}
	one.terms = engine.Grant{
		Set: "gold", Clusters: slices.Sorted(maps.Keys(f.clusters)), Quota: amounts("quota"), ClusterQuota: amounts("cluster quota"),
		Guaranteed: amounts("guaranteed"), BorrowingLimit: amounts("borrowing limit"), Weight: rapid.Int64Range(1, 2).Draw(t, "weight"),
	}
	if err := f.Share(one.name, platform, []engine.Grant{one.terms}); err != nil {
		t.Fatal(err)
	}
	f.wakeAll()
}

// wakeAll makes all teams decide again, as when more is free.
func (f *sharedFleet) wakeAll() {
	for _, one := range f.teams {
		one.due = true
	}
}

// come adds a workload that a team wants.
func (f *sharedFleet) come(t *rapid.T) {
	one := rapid.SampledFrom(f.teams).Draw(t, "team")
	f.n++
	f.clock = f.clock.Add(time.Second)
	one.waiting = append(one.waiting, &job{
		name: fmt.Sprint("w", f.n), selector: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "selector"), clusters: rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "number"),
		cpu: rapid.Int64Range(1, 5).Draw(t, "cpu"), priority: rapid.Int32Range(0, 1).Draw(t, "priority"), since: f.clock,
	})
	slices.SortStableFunc(one.waiting, func(a, b *job) int { return cmp.Compare(b.priority, a.priority) })
	one.due = true
}

// end ends something that runs.
func (f *sharedFleet) end(t *rapid.T) {
	one := rapid.SampledFrom(f.teams).Draw(t, "team")
	if len(one.placed) == 0 {
		return
	}
	i := rapid.IntRange(0, len(one.placed)-1).Draw(t, "ends")
	if !f.Release(one.name, workloadOf(one.placed[i].name, 1).Reference) {
		t.Fatalf("%s had nothing reserved", one.placed[i].name)
	}
	one.placed = slices.Delete(one.placed, i, i+1)
	f.wakeAll()
}

// round makes a team that is due continue its round by one workload.
func (f *sharedFleet) round(t *rapid.T) (any bool) {
	var due []*team
	for _, one := range f.teams {
		if one.due || one.running {
			due = append(due, one)
		}
	}
	if len(due) == 0 {
		return false
	}
	one := rapid.SampledFrom(due).Draw(t, "goes on")
	if !one.running {
		one.running, one.due = true, false
		one.undecided = slices.Clone(one.waiting)
	}
	if len(one.undecided) > 0 {
		j := one.undecided[0]
		one.undecided = one.undecided[1:]
		f.decide(t, one, j)
		return true
	}
	one.running = false
	one.line = f.inLine(one)
	var requests []engine.Request
	for _, j := range one.waiting {
		requests = append(requests, f.request(one, j))
	}
	var call []logicalcluster.Name
	call, one.blind = f.SetLine(context.Background(), one.name, requests)
	for _, name := range call {
		f.teams[slices.IndexFunc(f.teams, func(o *team) bool { return o.name == name })].due = true
	}
	return true
}

// inLine returns the workloads of a team in line: the first 8, with those first that could ever have a place.
func (f *sharedFleet) inLine(one *team) []*job {
	idle := &sharedFleet{clusters: f.clusters}
	could := func(j *job) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(f.clusters)), func(c string) bool { return idle.fits(&team{terms: one.terms}, j, c) })
	}
	line := slices.DeleteFunc(slices.Clone(one.waiting), func(j *job) bool { return !could(j) })
	for _, j := range one.waiting {
		if !could(j) {
			line = append(line, j)
		}
	}
	return line[:min(len(line), 8)]
}

func (f *sharedFleet) request(one *team, j *job) engine.Request {
	r := engine.Request{
		Workspace: one.name, Placement: f.under[fmt.Sprint(j.selector, j.clusters)], Workload: workloadOf(j.name, j.cpu), Priority: j.priority, Since: j.since,
	}
	if f.timed {
		r.Now = f.clock
	}
	return r
}

func (f *sharedFleet) decide(t *rapid.T, one *team, j *job) {
	d, err := f.Decide(context.Background(), f.request(one, j))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range d.Clusters {
		for _, o := range f.teams {
			for _, other := range o.line {
				if !f.timed && o != one && len(other.on) == 0 && f.fits(o, other, c.Name) && f.before(o, other, one, j) {
					t.Fatalf("%s of %s gets %s, where %s of %s comes first: %s", j.name, one.name, c.Name, other.name, o.name, f)
				}
			}
		}
	}
	for _, c := range d.Clusters {
		j.on = append(j.on, c.Name)
	}
	if len(j.on) > 0 {
		one.waiting = slices.DeleteFunc(one.waiting, func(o *job) bool { return o == j })
		one.placed = append(one.placed, j)
	}
}

// has returns what a team is promised, on one cluster or on all.
func (o *team) has(cluster string) (sum int64) {
	for _, j := range o.placed {
		for _, c := range j.on {
			if cluster == "" || c == cluster {
				sum += j.cpu
			}
		}
	}
	return sum
}

// fits reports whether a cluster has room for a workload, and its team's quota.
func (f *sharedFleet) fits(o *team, j *job, cluster string) bool {
	free := f.clusters[cluster]
	for _, one := range f.teams {
		free -= one.has(cluster)
	}
	within := func(limit map[string]int64, plus, has int64) bool {
		most, bounded := limit[capacity.CPU]
		return !bounded || has+j.cpu <= most+plus
	}
	return (j.selector == "" || j.selector == zoneOf(cluster)) && j.cpu <= free &&
		within(o.terms.Quota, 0, o.has("")) && within(o.terms.ClusterQuota, 0, o.has(cluster)) && within(o.terms.BorrowingLimit, o.terms.Guaranteed[capacity.CPU], o.has(""))
}

// before reports whether a workload of one team comes before one of another.
func (f *sharedFleet) before(a *team, x *job, b *team, y *job) bool {
	var all int64
	for _, cpu := range f.clusters {
		all += cpu
	}
	guaranteed := func(o *team, j *job) int { // first: 0
		if o.has("")+j.cpu <= o.terms.Guaranteed[capacity.CPU] {
			return 0
		}
		return 1
	}
	share := func(o *team) *big.Rat { return big.NewRat(o.has(""), all*o.terms.Weight) }
	rules := []int{cmp.Compare(y.priority, x.priority), share(a).Cmp(share(b))}
	if guaranteed(a, x) == 1 {
		slices.Reverse(rules)
	}
	return cmp.Or(cmp.Compare(guaranteed(a, x), guaranteed(b, y)), rules[0], rules[1], x.since.Compare(y.since)) < 0
}

// rest lets all teams go on until none is due.
func (f *sharedFleet) rest(t *rapid.T) {
	for range 10_000 {
		if !f.round(t) {
			for _, one := range f.teams {
				for _, j := range one.waiting {
					for c := range f.clusters {
						if f.fits(one, j, c) {
							t.Fatalf("all is at rest, and %s of %s waits, which fits on %s: %s", j.name, one.name, c, f)
						}
					}
				}
			}
			return
		}
	}
	t.Fatalf("it does not come to rest: %s", f)
}

func (f *sharedFleet) String() (all string) {
	for _, name := range slices.Sorted(maps.Keys(f.clusters)) {
		all += fmt.Sprintf("\n%s: %d", name, f.clusters[name])
	}
	for _, one := range f.teams {
		all += fmt.Sprintf("\n%s: %+v", one.name, one.terms)
		for _, j := range slices.Concat(one.placed, one.waiting) {
			all += fmt.Sprintf("\n  %+v", *j)
		}
	}
	return all
}

// TestTurns: what a team is told, and which workloads never wait for a turn.
func TestTurns(t *testing.T) {
	s := newShared(t, cluster("a", 10))
	gold := engine.Grant{Set: "gold", Clusters: []string{"a"}}
	s.grant("red", gold)
	s.grant("blue", gold)
	now := time.Unix(1_000_000, 0)
	at := func(team logicalcluster.Name, name string, cpu int64, current ...string) engine.Request {
		r := s.request(team, name, cpu, current...)
		r.Now = now
		return r
	}
	decide := func(r engine.Request) *engine.Decision {
		t.Helper()
		d, err := s.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	line := func(team logicalcluster.Name, want string, waiting ...engine.Request) {
		t.Helper()
		call, blind := s.SetLine(t.Context(), team, waiting)
		if got := fmt.Sprint(call, blind); got != want {
			t.Errorf("after %s has looked: %s, want %s", team, got, want)
		}
	}
	decide(at("blue", "web", 6))
	decide(at(platform, "own", 1))
	waits := at("red", "db", 4)
	line("red", "[] false", waits)
	s.Release(platform, workloadOf("own", 1).Reference)

	t.Log("A cpu has become free, on which red's workload has a place. Until red has looked, blue gets nothing of it, is told why, and not for whom.")
	d := decide(at("blue", "job", 1))
	if got, want := d.Summary(), "0 of 1 clusters are feasible: 1 rejected by Turn"; len(d.Clusters) > 0 || got != want {
		t.Errorf("blue is on %q: %s, want %s", names(d), got, want)
	}
	if got, want := d.Verdicts()[0].Rejection.String(), "Turn: another workload comes first for what is free there"; got != want {
		t.Errorf("blue is told %q, want %q", got, want)
	}
	if cluster, obstacles := d.Nearest(); cluster != "a" || len(obstacles) != 1 || obstacles[0].Stage != engine.Turn {
		t.Errorf("it waits for %v on %q", obstacles, cluster)
	}
	if feasible, err := s.Feasible(t.Context(), at("blue", "job", 1)); feasible || err != nil {
		t.Errorf("it is feasible for blue: %v, %v", feasible, err)
	}
	for _, d := range s.DecideBatch(t.Context(), []engine.Request{at("blue", "job", 1)}) {
		if d.Err != nil || len(d.Decision.Clusters) > 0 {
			t.Errorf("in a batch, blue is on %q: %v", names(d.Decision), d.Err)
		}
	}
	if d := decide(at("blue", "web", 7, "a")); d.Clusters[0].Reserved.CPU != 6 || len(d.Retained) != 1 || d.Retained[0].Rejection.Stage != engine.Turn {
		t.Errorf("what runs gets nothing more of it: %+v, stands on %v", d.Clusters, d.Retained)
	}
	t.Log("What asks for no more than it has, or for nothing, waits for nobody. Nor does the workspace whose clusters they are.")
	if d := decide(at("blue", "web", 6, "a")); names(d) != "a" || d.Changes() {
		t.Error("blue's workload does not stay as it is")
	}
	if d := decide(at("blue", "idle", 0)); names(d) != "a" {
		t.Error("what asks for nothing waits")
	}
	if d := decide(at(platform, "own", 1)); names(d) != "a" {
		t.Error("the platform's own workload waits")
	}
	s.Release(platform, workloadOf("own", 1).Reference)

	t.Log("Blue's round ends: red is called, once.")
	line("blue", "[red] true", at("blue", "job", 1))
	line("blue", "[] true", at("blue", "job", 1))

	t.Log("Red does not look. After a while blue gets what is free all the same.")
	now = now.Add(engine.TurnWithin + time.Second)
	if d := decide(at("blue", "job", 1)); names(d) != "a" {
		t.Errorf("blue waits for red for ever: %s", d.Summary())
	}
	s.Release("blue", workloadOf("job", 1).Reference)

	t.Log("Red looks again, is told to decide, and does not take it, as if its budget did not allow that. It has had its turn for that.")
	line("red", "[blue red] false", waits)
	if d := decide(at("blue", "job", 1)); names(d) != "" {
		t.Error("red's turn is blue's")
	}
	line("blue", "[] true", at("blue", "job", 1))
	line("red", "[blue] false", waits)
	if d := decide(at("blue", "job", 1)); names(d) != "a" {
		t.Errorf("blue waits for red, which has had its turn: %s", d.Summary())
	}
	line("blue", "[] false")

	t.Log("A team that has nothing in line, or looks elsewhere, keeps nobody waiting.")
	s.Release("blue", workloadOf("job", 1).Reference)
	line("red", "[] false")
	if d := decide(at("blue", "job", 1)); names(d) != "a" {
		t.Errorf("blue waits for nobody: %s", d.Summary())
	}
	s.Release("blue", workloadOf("job", 1).Reference)
	line("red", "[red] false", waits)
	s.Unshare("red")
	if d := decide(at("blue", "job", 1)); names(d) != "a" {
		t.Errorf("blue waits for one that has left: %s", d.Summary())
	}
}

// TestTurnsFollowShares: the order follows from what teams have now, not from what they had when it was last computed.
func TestTurnsFollowShares(t *testing.T) {
	s := newShared(t, cluster("a", 10), cluster("b", 10))
	for _, team := range []logicalcluster.Name{"red", "blue"} {
		s.grant(team, engine.Grant{Set: "gold", Clusters: []string{"a", "b"}})
	}
	decide := func(team logicalcluster.Name, name string, cpu int64, into, want string) {
		t.Helper()
		r := s.request(team, name, cpu)
		r.Into = []string{into}
		d, err := s.Decide(t.Context(), r)
		if err != nil || names(d) != want {
			t.Errorf("%s of %s is on %q, want %q: %v", name, team, names(d), want, err)
		}
	}
	decide("blue", "web", 6, "a", "a")
	decide(platform, "own", 1, "a", "a")
	decide(platform, "full", 10, "b", "b")
	s.SetLine(t.Context(), "red", []engine.Request{s.request("red", "db", 4)})
	s.Release(platform, workloadOf("own", 1).Reference)
	decide("blue", "job", 1, "a", "") // red has nothing, and comes first
	s.Release(platform, workloadOf("full", 10).Reference)
	decide("red", "big", 8, "b", "b")
	decide("blue", "job", 1, "a", "a") // red has more than blue

	s.Release("blue", workloadOf("job", 1).Reference)
	s.Release("red", workloadOf("big", 8).Reference)
	decide("blue", "job", 1, "a", "")
	kept := engine.Reservation{Workload: workloadOf("kept", 8).Reference, Shares: []capacity.Share{{Cluster: "b", Amount: capacity.Resources{CPU: 8}}}}
	if err := s.Reserve("red", kept); err != nil {
		t.Fatal(err)
	}
	decide("blue", "job", 1, "a", "a") // also if that was not decided here
}
