package engine_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/constraint"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
)

var (
	sharedClusters = []string{"a", "b", "c", "d", "e"}
	sharedTeams    = []logicalcluster.Name{"red", "blue", "green"}
	// sharedSpecs are placements of each kind: chosen one by one, together, and divided.
	sharedSpecs = []v1alpha1.WorkloadPlacementSpec{
		{NumberOfClusters: ptr.To(intstr.FromInt32(1))},
		{NumberOfClusters: ptr.To(intstr.FromInt32(2)), Constraints: []v1alpha1.Constraint{{Name: "c", Expression: `cluster.location == "eu" || capacity.free.cpu >= 3`}}},
		{NumberOfClusters: ptr.To(intstr.FromInt32(3))},
		{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategyRoundRobin}},
		{Strategy: v1alpha1.Strategy{Type: v1alpha1.StrategyBinPack}, NumberOfClusters: ptr.To(intstr.FromInt32(2))},
		{NumberOfClusters: ptr.To(intstr.FromInt32(3)), SpreadConstraints: []v1alpha1.SpreadConstraint{{TopologyKey: v1alpha1.TopologyKeyLocation, MaxSkew: 1}}},
		{NumberOfClusters: ptr.To(intstr.FromInt32(4)), ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideEven, Partial: true}},
		{NumberOfClusters: ptr.To(intstr.FromInt32(4)), ReplicaScheduling: &v1alpha1.ReplicaScheduling{Type: v1alpha1.ReplicasDivided, Division: v1alpha1.DivideAggregated}},
	}
)

// tenancy is a random history of teams on a fleet, with the state that it has led to.
type tenancy struct {
	*rapid.T
	options  engine.Options
	specs    []*placement.Placement
	engine   *engine.Engine
	clusters map[string]*snapshot.Cluster
	grants   map[logicalcluster.Name][]engine.Grant
	// held is what each workload of each team holds, what it was placed by, and what it is.
	held map[logicalcluster.Name]map[string]*tenant
	log  []string
}

type tenant struct {
	*workload.Workload
	spec    int
	current []engine.Choice
}

func (h *tenancy) int(what string, from, to int) int64 {
	return int64(rapid.IntRange(from, to).Draw(h.T, what))
}

func (h *tenancy) drawCluster(name string) *snapshot.Cluster {
	c := cluster(name, h.int("cpu of "+name, 0, 16))
	c.Allocatable.Memory = h.int("memory", 0, 16)
	c.Location = rapid.SampledFrom([]string{"eu", "us"}).Draw(h.T, "location")
	if before := h.clusters[name]; before != nil && rapid.Bool().Draw(h.T, "only a report") {
		copied := *before
		c = &copied
		c.Counted = map[string]capacity.Resources{}
		c.Allocated = capacity.Resources{CPU: h.int("others use", 0, 2)}
		for _, team := range sharedTeams {
			for _, w := range h.held[team] {
				for _, share := range w.current {
					if share.Name == name && rapid.Bool().Draw(h.T, "counted") {
						c.Counted[w.UID] = capacity.Resources{CPU: h.int("counted", 0, int(share.Reserved.CPU)+1), Memory: share.Reserved.Memory}
						c.Allocated = c.Allocated.Add(c.Counted[w.UID])
					}
				}
			}
		}
	}
	return c
}

func (h *tenancy) drawGrants() (all []engine.Grant) {
	amounts := func(what string, most int) map[string]int64 {
		if !rapid.Bool().Draw(h.T, what) {
			return nil
		}
		return map[string]int64{"cpu": h.int("cpu", 0, most), "memory": h.int("memory", 0, most)}
	}
	for _, set := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"gold", "silver", "iron"}), 0, 3, rapid.ID).Draw(h.T, "sets") {
		all = append(all, engine.Grant{
			Set: set, Clusters: rapid.SliceOfNDistinct(rapid.SampledFrom(sharedClusters), 0, 5, rapid.ID).Draw(h.T, "clusters"),
			Quota: amounts("quota", 24), ClusterQuota: amounts("clusterQuota", 8), Weight: 1,
		})
	}
	return all
}

// share sets the grants of all teams in an engine.
func (h *tenancy) share(e *engine.Engine, team logicalcluster.Name) {
	if err := e.Share(team, platform, h.grants[team]); err != nil {
		h.Fatal(err)
	}
}

// fresh returns an engine that knows only the current state.
func (h *tenancy) fresh(t *testing.T) *engine.Engine {
	e := newEngine(t, h.options)
	for _, c := range h.clusters {
		if _, err := e.SetCluster(platform, c); err != nil {
			h.Fatal(err)
		}
	}
	for _, team := range sharedTeams {
		h.share(e, team)
		for _, w := range h.held[team] {
			if len(w.current) == 0 {
				continue
			}
			r := engine.Reservation{Workload: w.Reference, Placement: h.specs[w.spec].NamespacedName()}
			for _, c := range w.current {
				r.Shares = append(r.Shares, capacity.Share{Cluster: c.Name, Amount: c.Reserved})
			}
			if err := e.Restore(team, r); err != nil {
				h.Fatal(err)
			}
		}
	}
	return e
}

// tenancyOptions makes engines share compilers, so that everything is compiled once.
func tenancyOptions(t *testing.T) (engine.Options, []*placement.Placement) {
	var o engine.Options
	var err error
	if o.Policies, err = policy.NewCompiler(policy.Options{}); err != nil {
		t.Fatal(err)
	}
	if o.Constraints, err = constraint.NewCompiler(constraint.Options{}); err != nil {
		t.Fatal(err)
	}
	compiled := make([]*placement.Placement, len(sharedSpecs))
	for i, spec := range sharedSpecs {
		compiled[i], err = newEngine(t, o).CompilePlacement(&v1alpha1.WorkloadPlacement{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: "default"}, Spec: spec,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return o, compiled
}

// promised returns what a team is promised on some clusters.
func (h *tenancy) promised(team logicalcluster.Name, some func(cluster string) bool) (all capacity.Resources) {
	for _, w := range h.held[team] {
		for _, c := range w.current {
			if some(c.Name) {
				all = all.Add(c.Reserved)
			}
		}
	}
	return all
}

// granted returns the sets by which a team sees a cluster: what it is promised there counts in all of them. A cluster in no set is in the
// set without a name.
func (h *tenancy) granted(team logicalcluster.Name, cluster string) (sets []string) {
	for _, g := range h.grants[team] {
		if slices.Contains(g.Clusters, cluster) {
			sets = append(sets, g.Set)
		}
	}
	if len(sets) == 0 {
		return []string{""}
	}
	return sets
}

func (h *tenancy) in(team logicalcluster.Name, set string) func(cluster string) bool {
	return func(cluster string) bool { return slices.Contains(h.granted(team, cluster), set) }
}

// decide decides for a workload, and checks the decision.
func (h *tenancy) decide(t *testing.T, team logicalcluster.Name) {
	name := rapid.SampledFrom([]string{"u", "v", "w"}).Draw(h.T, "workload")
	w := h.held[team][name]
	if w == nil {
		w = &tenant{Workload: workloadOf(name, 0), spec: int(h.int("spec", 0, len(sharedSpecs)-1))}
		w.UID = fmt.Sprintf("%s-%s-%d", team, name, len(h.log))
	}
	if len(w.current) == 0 || rapid.Bool().Draw(h.T, "edit") {
		edited := *w.Workload
		edited.Replicas, edited.Divisible = h.int("replicas", 1, 6), true
		edited.Requests = capacity.Resources{CPU: h.int("cpu", 0, 9), Memory: h.int("memory", 0, 2)}
		w.Workload = &edited
	}
	request := engine.Request{Workspace: team, Placement: h.specs[w.spec], Workload: w.Workload, Current: w.current}
	want, err := h.fresh(t).Explain(t.Context(), request)
	if err != nil {
		h.Fatal(err)
	}
	got, err := h.engine.Decide(t.Context(), request)
	if err != nil {
		h.Fatalf("%s: %v", h, err)
	}
	if got, want := told(got, false), told(want, false); got != want {
		h.Fatalf("%s: of what is kept, %s decides\n%s\nand anew\n%s", h, team, got, want)
	}
	before := map[string]capacity.Resources{}
	sum := func(key string, some func(string) bool) { before[key] = h.promised(team, some) }
	sets := map[string]bool{}
	for _, c := range sharedClusters {
		sum("cluster "+c, func(o string) bool { return o == c })
		for _, set := range h.granted(team, c) {
			sets[set] = true
		}
	}
	for set := range sets {
		sum("set "+set, h.in(team, set))
	}
	had := w.current
	w.current = got.Clusters
	h.held[team][name] = w
	h.log = append(h.log, fmt.Sprintf("%s %s asks for %v and is on %v", team, name, w.Requests, got.Clusters))

	for _, c := range sharedClusters {
		grown := h.promised(team, func(o string) bool { return o == c }).MoreThan(before["cluster "+c])
		if !grown.IsZero() && h.clusters[c] == nil {
			h.Fatalf("%s: something new is on %s, which is not there", h, c)
		}
		added := slices.ContainsFunc(got.Clusters, func(o engine.Choice) bool { return o.Name == c }) && !slices.ContainsFunc(had, func(o engine.Choice) bool { return o.Name == c })
		if (added || !grown.IsZero()) && h.in(team, "")(c) {
			h.Fatalf("%s: something new is on %s, which is not granted", h, c)
		}
		free := h.free(c)
		for name, more := range grown.Each {
			if more > 0 && free.Get(name) < 0 {
				h.Fatalf("%s: more %s is promised on %s than there is: %v", h, name, c, free)
			}
		}
	}
	if by := sharedSpecs[w.spec].ReplicaScheduling; by != nil && !by.Partial && len(had) == 0 && len(w.current) > 0 {
		replicas := int64(0)
		for _, c := range w.current {
			replicas += c.Replicas
		}
		if replicas != w.Replicas {
			h.Fatalf("%s: %d of %d replicas have a place, and all need one", h, replicas, w.Replicas)
		}
	}
	for _, g := range h.grants[team] {
		within := func(key string, limits map[string]int64, some func(string) bool) {
			now := h.promised(team, some)
			for name, limit := range limits {
				if now.Get(name) > limit && now.Get(name) > before[key].Get(name) {
					h.Fatalf("%s: %s is promised %d %s of %s, whose quota is %d", h, team, now.Get(name), name, key, limit)
				}
			}
		}
		within("set "+g.Set, g.Quota, h.in(team, g.Set))
		for _, c := range g.Clusters {
			within("cluster "+c, g.ClusterQuota, func(o string) bool { return o == c })
		}
	}
}

// free computes what is free on a cluster by adding up everything that is promised.
func (h *tenancy) free(name string) capacity.Resources {
	c := h.clusters[name]
	if c == nil {
		return capacity.Resources{}
	}
	free := c.Allocatable.Sub(c.Allocated)
	for _, team := range sharedTeams {
		for _, w := range h.held[team] {
			for _, share := range w.current {
				if share.Name == name {
					free = free.Sub(share.Reserved.Without(c.Counted[w.UID]))
				}
			}
		}
	}
	return free
}

// check compares what the engine reports with the expected state.
func (h *tenancy) check() {
	for _, row := range h.engine.Snapshot(platform).Rows() {
		if want := h.free(row.Name); !row.Free.Equal(want) {
			h.Fatalf("%s: %v are free on %s, want %v", h, row.Free, row.Name, want)
		}
	}
	for _, a := range h.engine.Accounts(platform) {
		want := h.promised(a.Workspace, h.in(a.Workspace, a.Set))
		if !a.Promised.Equal(want) {
			h.Fatalf("%s: %s is promised %v of %q, want %v", h, a.Workspace, a.Promised, a.Set, want)
		}
	}
}

// drawTenancy begins a history with all clusters, and with teams that hold nothing yet.
func drawTenancy(t *testing.T, r *rapid.T, options engine.Options, specs []*placement.Placement) *tenancy {
	h := &tenancy{
		T: r, options: options, specs: specs, engine: newEngine(t, options), clusters: map[string]*snapshot.Cluster{},
		grants: map[logicalcluster.Name][]engine.Grant{}, held: map[logicalcluster.Name]map[string]*tenant{},
	}
	for _, name := range sharedClusters {
		h.set(name)
	}
	for _, team := range sharedTeams {
		h.held[team] = map[string]*tenant{}
		h.grants[team] = h.drawGrants()
		h.share(h.engine, team)
	}
	return h
}

func (h *tenancy) String() string { return strings.Join(h.log, "\n") }

// TestTenancy drives random histories of teams on a fleet: clusters come, go and report, grants and quotas change, workloads are edited
// and go. Each decision is that of an engine that knows only the current state, and is within what is free and within the quotas.
func TestTenancy(t *testing.T) {
	options, specs := tenancyOptions(t)
	rapid.Check(t, func(r *rapid.T) {
		h := drawTenancy(t, r, options, specs)
		for range 20 {
			team := rapid.SampledFrom(sharedTeams).Draw(r, "team")
			name := rapid.SampledFrom(sharedClusters).Draw(r, "cluster")
			switch rapid.SampledFrom([]string{"decide", "decide", "decide", "decide", "set", "remove", "grant", "release"}).Draw(r, "step") {
			case "decide":
				h.decide(t, team)
			case "set":
				h.set(name)
			case "remove":
				delete(h.clusters, name)
				h.engine.RemoveCluster(platform, name)
				h.log = append(h.log, "remove "+name)
			case "grant":
				h.grants[team] = h.drawGrants()
				h.share(h.engine, team)
				h.log = append(h.log, fmt.Sprintf("%s gets %+v", team, h.grants[team]))
			case "release":
				for _, w := range h.held[team] {
					h.engine.Release(team, w.Reference)
					delete(h.held[team], w.Name)
					h.log = append(h.log, fmt.Sprintf("release %s %s", team, w.Name))
					break
				}
			}
			h.check()
		}
	})
}

func (h *tenancy) set(name string) {
	c := h.drawCluster(name)
	if _, err := h.engine.SetCluster(platform, c); err != nil {
		h.Fatal(err)
	}
	h.clusters[name] = c
	h.log = append(h.log, fmt.Sprintf("%s has %v, uses %v, counts %v", name, c.Allocatable, c.Allocated, c.Counted))
}

// told is everything that a decision reports to anybody, with the generations if requested.
func told(d *engine.Decision, generations bool) string {
	text := struct {
		Clusters                       []engine.Choice
		Asked                          int
		Waiting                        int64
		Left, Standing, Verdicts       []engine.Verdict
		Summary, NoBetterPlace, Digest string
		Notes                          []string
		Nearest                        string
		Obstacles                      any
		Generation, Revision           int64
		Peers                          string
		Blockers                       any
	}{
		Clusters: d.Clusters, Asked: d.Asked, Waiting: d.Waiting, Left: d.Left, Standing: d.Retained, Verdicts: d.Ranked(),
		Summary: d.Summary(), NoBetterPlace: d.NoBetterPlace(), Digest: d.InputsDigest, Notes: d.Notes(), Peers: d.Peers(), Blockers: d.Blockers(),
	}
	text.Nearest, text.Obstacles = d.Nearest()
	if generations {
		text.Generation, text.Revision = d.Generation, d.Revision
	}
	all, err := json.MarshalIndent(text, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(all)
}

// TestInformationFlow: nothing that a workspace is told depends on who the others are, how many there are, how what they have is divided
// among them, or whether they run or only have it reserved: two fleets that differ only in these give it the same answers, byte for
// byte.
func TestInformationFlow(t *testing.T) {
	options, specs := tenancyOptions(t)
	rapid.Check(t, func(r *rapid.T) {
		number := func(what string, from, to int) int64 { return int64(rapid.IntRange(from, to).Draw(r, what)) }
		h := &tenancy{T: r}
		grants := h.drawGrants()
		engines := []*engine.Engine{newEngine(t, options), newEngine(t, options)}
		said := make([]strings.Builder, 2)
		say := func(i int, of any) {
			text, err := json.Marshal(of)
			if err != nil {
				r.Fatal(err)
			}
			said[i].Write(append(text, '\n'))
		}
		current := map[string][]engine.Choice{}
		base := map[string]capacity.Resources{}
		for _, name := range sharedClusters {
			base[name] = capacity.Resources{CPU: number("cpu", 0, 16), Memory: 16}
		}
		for round := range 6 {
			used := map[string]int64{}
			for _, name := range sharedClusters {
				used[name] = number("used", 0, 8)
			}
			for i, e := range engines {
				others := []logicalcluster.Name{"blue"}
				if i == 1 {
					others = rapid.SliceOfNDistinct(rapid.SampledFrom([]logicalcluster.Name{"green", "hidden", "rest"}), 1, 3, rapid.ID).Draw(r, "others")
					if _, err := e.SetCluster(platform, cluster("elsewhere", number("elsewhere", 0, 9))); err != nil {
						r.Fatal(err)
					}
				}
				for _, other := range []logicalcluster.Name{"blue", "green", "hidden", "rest"} {
					e.ReleaseAll(other, platform)
				}
				for _, name := range sharedClusters {
					c := cluster(name, 0, func(c *snapshot.Cluster) { c.Allocatable = base[name] })
					left := used[name]
					for k := 0; i == 1 && left > 0; k++ {
						part, other := number("part", 1, int(left)), rapid.SampledFrom(others).Draw(r, "other")
						ref := workload.Reference{Kind: "Deployment", Namespace: "secret", Name: fmt.Sprint(name, k), UID: fmt.Sprint(other, name, k)}
						if err := e.Share(other, platform, []engine.Grant{{Set: "other", Clusters: sharedClusters, Weight: number("weight", 1, 9)}}); err != nil {
							r.Fatal(err)
						}
						if err := e.Restore(other, engine.Reservation{Workload: ref, Shares: []capacity.Share{{Cluster: name, Amount: capacity.Resources{CPU: part}}}}); err != nil {
							r.Fatal(err)
						}
						if rapid.Bool().Draw(r, "runs") {
							c.Allocated.CPU += part
							if c.Counted == nil {
								c.Counted = map[string]capacity.Resources{}
							}
							c.Counted[ref.UID] = capacity.Resources{CPU: part}
							c.Conditions[0].Message = "runs " + ref.Name
						}
						left -= part
					}
					if i == 0 {
						c.Allocated.CPU = left
					}
					if _, err := e.SetCluster(platform, c); err != nil {
						r.Fatal(err)
					}
				}
				if round == 0 {
					if err := e.Share("red", platform, grants); err != nil {
						r.Fatal(err)
					}
				}
			}
			name, spec := rapid.SampledFrom([]string{"u", "v"}).Draw(r, "workload"), rapid.IntRange(0, len(sharedSpecs)-1).Draw(r, "spec")
			w := workloadOf(name, number("asks", 0, 9))
			w.UID, w.Replicas, w.Divisible = name, number("replicas", 1, 5), true
			var next []engine.Choice
			for i, e := range engines {
				say(i, e.Snapshot("red").Rows())
				say(i, e.Room("red"))
				request := engine.Request{Workspace: "red", Placement: specs[spec], Workload: w, Current: current[name]}
				feasible, err := e.Feasible(t.Context(), request)
				say(i, []any{feasible, err, e.InputsDigest(request), e.Revision("red")})
				d, err := e.Decide(t.Context(), request)
				if err != nil {
					r.Fatal(err)
				}
				said[i].WriteString(told(d, true))
				next = d.Clusters
				say(i, e.AccountsOf("red"))
				say(i, e.Revision("red"))
				if s, err := e.Suggest(t.Context(), request); err != nil {
					r.Fatal(err)
				} else {
					say(i, s)
				}
				lost, err := e.Rehearse("red", []string{"a"}).Decide(t.Context(), request)
				if err != nil {
					r.Fatal(err)
				}
				said[i].WriteString(told(lost, true))
			}
			current[name] = next
			if said[0].String() != said[1].String() {
				one, other := strings.Split(said[0].String(), "\n"), strings.Split(said[1].String(), "\n")
				for k := range one {
					if k >= len(other) || one[k] != other[k] {
						r.Fatalf("in round %d, it is told\n%s\nor\n%s", round, one[k], other[min(k, len(other)-1)])
					}
				}
			}
		}
	})
}

// TestABatchOfATeamIsALoop: a batch of a team decides as one call for each of its workloads does, even if a workload is in it twice.
func TestABatchOfATeamIsALoop(t *testing.T) {
	options, specs := tenancyOptions(t)
	rapid.Check(t, func(r *rapid.T) {
		draw := func(what string, from, to int) int64 { return int64(rapid.IntRange(from, to).Draw(r, what)) }
		h := drawTenancy(t, r, options, specs)
		loop, team, of := h.fresh(t), sharedTeams[0], specs[draw("spec", 0, len(specs)-1)]
		for range 2 {
			requests := make([]engine.Request, draw("workloads", 1, 12))
			for i := range requests {
				w := workloadOf(fmt.Sprint("w", draw("name", 0, 8)), draw("cpu", 1, 2))
				w.Replicas, w.Divisible = 2, true
				requests[i] = engine.Request{Workspace: team, Placement: of, Workload: w}
			}
			for i, got := range h.engine.DecideBatch(t.Context(), requests) {
				want, err := loop.Decide(t.Context(), requests[i])
				if err != nil || got.Err != nil {
					r.Fatal(err, got.Err)
				}
				if got, want := told(got.Decision, false), told(want, false); got != want {
					r.Fatalf("%s: request %d of a batch is told\n%s\nand alone\n%s", h, i, got, want)
				}
			}
			for _, who := range append([]logicalcluster.Name{platform}, sharedTeams...) {
				batch, alone := h.engine.Snapshot(who).Rows(), loop.Snapshot(who).Rows()
				for i := range alone {
					if !batch[i].Free.Equal(alone[i].Free) || !batch[i].Reserved.Equal(alone[i].Reserved) {
						r.Fatalf("%s: after a batch, %s sees %+v, otherwise %+v", h, who, batch[i], alone[i])
					}
				}
			}
		}
	})
}

// TestQuotasAtOnce: teams that decide concurrently, while clusters report and quotas change, get no more than their quotas and no
// more than there is. With quotas that leave less than there is, they get all of their quotas.
func TestQuotasAtOnce(t *testing.T) {
	s := newShared(t, cluster("a", 100), cluster("b", 100), cluster("c", 100))
	var teams []logicalcluster.Name
	for i := range 6 {
		teams = append(teams, logicalcluster.Name(fmt.Sprint("team-", i)))
		s.grant(teams[i], gold("a,b,c", 10*int64(i+1), 15))
	}
	var wg sync.WaitGroup
	for i, team := range teams {
		requests := make([]engine.Request, 80)
		for k := range requests {
			requests[k] = s.request(team, fmt.Sprint(k), 1)
		}
		wg.Go(func() {
			for _, r := range s.DecideBatch(t.Context(), requests) {
				if r.Err != nil {
					t.Error(r.Err)
				}
			}
		})
		wg.Go(func() {
			s.set(cluster("a", 100, func(c *snapshot.Cluster) { c.Labels = map[string]string{"round": fmt.Sprint(i)} }))
			s.grant(team, gold("a,b,c", 10*int64(i+1), 15))
			s.Snapshot(team)
			s.Accounts(platform)
		})
	}
	wg.Wait()
	for _, a := range s.Accounts(platform) {
		if want := min(45, a.Quota[capacity.CPU]); a.Promised.CPU != want {
			t.Errorf("%s is promised %d of %d", a.Workspace, a.Promised.CPU, want)
		}
	}
	if got := s.sees(platform); !strings.HasPrefix(got, "a ") || strings.Contains(got, "-") {
		t.Errorf("platform sees %s", got)
	}
}
