package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// TestReclaim: blue has borrowed what red is guaranteed. Red asks for it, and blue is to give back as little of what it offers as makes
// room.
func TestReclaim(t *testing.T) {
	cpu := func(amount int64) map[string]int64 { return map[string]int64{capacity.CPU: amount} }
	start := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		why               string
		guaranteed, blues int64
		offered           []int64 // the sizes of blue's workloads, by age; negative ones are not offered
		asks              int64
		want              string
	}{
		{"the last to come go first, and no more than have to", 6, 0, []int64{2, 2, 2, 4}, 3, "[w3]"},
		{"those stay that can", 6, 0, []int64{2, 4, 3, 1}, 3, "[w2]"},
		{"what is not offered stays", 6, 0, []int64{2, -2, 2, -4}, 2, "[w2]"},
		{"nobody gives back what it is guaranteed itself", 4, 7, []int64{2, 2, 2, 4}, 3, "[]"},
		{"all that it has borrowed it gives back", 4, 6, []int64{2, 2, 2, 4}, 4, "[w3]"},
		{"who asks for more than is guaranteed waits", 2, 0, []int64{2, 2, 2, 4}, 3, "[]"},
	} {
		t.Run(test.why, func(t *testing.T) {
			s := newShared(t, cluster("a", 10))
			s.grant("red", engine.Grant{Set: "gold", Clusters: []string{"a"}, Guaranteed: cpu(test.guaranteed)})
			s.grant("blue", engine.Grant{Set: "gold", Clusters: []string{"a"}, Guaranteed: cpu(test.blues)})
			var offers []engine.Candidate
			for i, size := range test.offered {
				name := fmt.Sprint("w", i)
				s.decide("blue", name, max(size, -size))
				if size > 0 {
					offers = append(offers, engine.Candidate{Workload: workloadOf(name, size).Reference, Since: start.Add(time.Duration(i) * time.Hour)})
				}
			}
			s.SetOffers("blue", offers)
			waits := s.request("red", "db", test.asks)
			call, _ := s.SetLine(t.Context(), "red", []engine.Request{waits})
			asked := s.Reclaimed("blue")
			var names []string
			for _, v := range asked {
				names = append(names, v.Workload.Name)
				if fmt.Sprint(v.Clusters) != "[a]" {
					t.Errorf("%s is to leave %v", v.Workload.Name, v.Clusters)
				}
			}
			if got := fmt.Sprint(names); got != test.want || (len(call) > 0) != (len(names) > 0) {
				t.Fatalf("blue is asked for %s and %v is called, want %s", got, call, test.want)
			}
			if len(asked) == 0 {
				return
			}
			t.Log("What is given up is red's: blue does not get it back, though it would fit.")
			for _, v := range asked {
				s.Release("blue", v.Workload)
			}
			if d := s.decide("blue", "again", 1); len(d.Clusters) > 0 {
				t.Errorf("blue is on %s", d.Clusters[0].Name)
			}
			if d := s.decide("red", "db", test.asks); len(d.Clusters) == 0 {
				t.Errorf("red waits: %s", d.Summary())
			}
			s.SetLine(t.Context(), "red", nil)
			if asked := s.Reclaimed("blue"); len(asked) > 0 {
				t.Errorf("blue is still asked for %v", asked)
			}
		})
	}
}

// TestReclaimsInTurn: of two workspaces that are guaranteed more than is free on the only cluster, one at a time gets it back, the one
// that has waited longest first. What is given up meanwhile for a cluster is not taken by others bit by bit.
func TestReclaimsInTurn(t *testing.T) {
	s := newShared(t, cluster("a", 10))
	all := map[logicalcluster.Name]int64{"red": 4, "green": 4, "blue": 0}
	for team, guaranteed := range all {
		s.grant(team, engine.Grant{Set: "gold", Clusters: []string{"a"}, Guaranteed: map[string]int64{capacity.CPU: guaranteed}})
	}
	var offers []engine.Candidate
	for i := range 5 {
		name := fmt.Sprint("w", i)
		s.decide("blue", name, 2)
		offers = append(offers, engine.Candidate{Workload: workloadOf(name, 2).Reference})
	}
	s.SetOffers("blue", offers)
	line := func(team logicalcluster.Name, since int64) {
		r := s.request(team, "db", 4)
		r.Since = time.Unix(since, 0)
		s.SetLine(t.Context(), team, []engine.Request{r})
	}
	line("green", 2)
	line("red", 1)
	asked := s.Reclaimed("blue")
	if len(asked) != 2 {
		t.Fatalf("blue is asked for %v", asked)
	}
	held, err := s.Hold("blue", engine.Reservation{Workload: asked[0].Workload, Shares: share("a", 2)})
	if err != nil {
		t.Fatal(err)
	}
	s.Release("blue", asked[0].Workload)
	line("red", 1)
	if asked := s.Reclaimed("blue"); len(asked) != 1 {
		t.Errorf("blue is asked for %v, what one has given up is held still", asked)
	}
	s.ReleaseHeld("blue", held)
	for team := range all {
		if d := s.decide(team, "small", 2); len(d.Clusters) > 0 {
			t.Errorf("%s takes the first half", team)
		}
	}
	line("red", 1)
	if asked := s.Reclaimed("blue"); len(asked) != 1 {
		t.Errorf("blue is asked for %v, one has gone", asked)
	}
}

// giving is a random history of teams on shared clusters, each with workloads of one size.
type giving struct {
	*shared
	size       int64
	guaranteed map[logicalcluster.Name]int64
	waiting    map[logicalcluster.Name][]string
	placed     map[logicalcluster.Name]map[string]string // the cluster of each
	held       []heldFor
	named      int
}

type heldFor struct {
	team logicalcluster.Name
	held engine.Held
}

func (g *giving) want(team logicalcluster.Name) {
	g.named++
	g.waiting[team] = append(g.waiting[team], fmt.Sprintf("w%03d", g.named))
}

// look is a pass over a team: it decides on what waits, offers everything that it has, and sets its line. It returns whether it was given
// anything.
func (g *giving) look(team logicalcluster.Name) (placed bool) {
	request := func(name string) engine.Request {
		r := g.request(team, name, g.size)
		n := int64(0)
		_, _ = fmt.Sscanf(name, "w%d", &n)
		r.Since = time.Unix(n, 0)
		return r
	}
	var left []string
	var line []engine.Request
	for _, name := range g.waiting[team] {
		d, err := g.Decide(g.Context(), request(name))
		if err != nil {
			g.Fatal(err)
		}
		if len(d.Clusters) == 0 {
			left, line = append(left, name), append(line, request(name))
			continue
		}
		g.placed[team][name], placed = d.Clusters[0].Name, true
	}
	g.waiting[team] = left
	var offers []engine.Candidate
	for _, name := range slices.Sorted(maps.Keys(g.placed[team])) {
		offers = append(offers, engine.Candidate{Workload: workloadOf(name, g.size).Reference})
	}
	g.SetOffers(team, offers)
	g.SetLine(g.Context(), team, line)
	return placed
}

// give makes a team give up the first thing that it is asked for. What it gives up is held, and its workload waits.
func (g *giving) give(team logicalcluster.Name) (given bool) {
	for _, v := range g.Reclaimed(team) {
		name := v.Workload.Name
		on, there := g.placed[team][name]
		if !there {
			continue // it has given it up, and no team has had a pass since
		}
		held, err := g.Hold(team, engine.Reservation{Workload: v.Workload, Shares: share(on, g.size)})
		if err != nil || fmt.Sprint(v.Clusters) != fmt.Sprint([]string{on}) {
			g.Fatalf("%s is on %s and is to leave %v: %v", name, on, v.Clusters, err)
		}
		g.Release(team, v.Workload)
		g.held = append(g.held, heldFor{team, held})
		delete(g.placed[team], name)
		g.waiting[team] = append(g.waiting[team], name)
		return true
	}
	return false
}

func (g *giving) durable() {
	if len(g.held) > 0 {
		g.ReleaseHeld(g.held[0].team, g.held[0].held)
		g.held = g.held[1:]
	}
}

// check verifies that nobody is asked for what it is guaranteed, and that nothing is asked for on behalf of two.
func (g *giving) check(t *rapid.T) {
	clusters, claimants, asked := map[string]bool{}, map[logicalcluster.Name]bool{}, map[logicalcluster.Name]int64{}
	for _, r := range g.Reclaims(platform) {
		if clusters[r.Cluster] || claimants[r.Workspace] {
			t.Fatalf("two are given something back on %s, or two of %s", r.Cluster, r.Workspace)
		}
		clusters[r.Cluster], claimants[r.Workspace] = true, true
		for team, victims := range r.Victims {
			for _, v := range victims {
				if g.placed[team][v.Workload.Name] == r.Cluster {
					asked[team] += g.size
				}
			}
		}
	}
	for team, amount := range asked {
		if has := int64(len(g.placed[team])) * g.size; has-amount < g.guaranteed[team] {
			t.Fatalf("%s has %d and is asked for %d, though it is guaranteed %d", team, has, amount, g.guaranteed[team])
		}
	}
}

// TestReclaimsTogether: several teams get back what they are guaranteed at the same time, each on a cluster. However requests, giving up and
// taking interleave, nobody is asked for what it is guaranteed itself, and in the end each has what it is guaranteed, as far as it wants
// that much and no more is guaranteed than there is.
func TestReclaimsTogether(t *testing.T) {
	teams := []logicalcluster.Name{"red", "green", "blue", "gray"}
	several := 0
	rapid.Check(t, func(rt *rapid.T) {
		g := &giving{
			shared: newShared(t, cluster("a", 10), cluster("b", 10), cluster("c", 10)), size: rapid.SampledFrom([]int64{1, 2, 5}).Draw(rt, "size"),
			guaranteed: map[logicalcluster.Name]int64{}, waiting: map[logicalcluster.Name][]string{}, placed: map[logicalcluster.Name]map[string]string{},
		}
		overcommitted := rapid.Bool().Draw(rt, "overcommitted")
		left := 30 / g.size
		if overcommitted {
			left *= 2
		}
		for _, team := range teams {
			n := rapid.Int64Range(0, min(left, 30/g.size)).Draw(rt, "guaranteed")
			left -= n
			g.guaranteed[team], g.placed[team] = n*g.size, map[string]string{}
			g.grant(team, engine.Grant{Set: "gold", Clusters: []string{"a", "b", "c"}, Guaranteed: map[string]int64{capacity.CPU: n * g.size}})
		}
		for borrower := teams[rapid.IntRange(2, 3).Draw(rt, "borrower")]; ; {
			if g.want(borrower); !g.look(borrower) {
				break
			}
		}
		drawn := func(t *rapid.T) logicalcluster.Name { return rapid.SampledFrom(teams).Draw(t, "team") }
		rt.Repeat(map[string]func(*rapid.T){
			"want":    func(t *rapid.T) { g.want(drawn(t)) },
			"look":    func(t *rapid.T) { g.look(drawn(t)) },
			"give":    func(t *rapid.T) { g.give(drawn(t)) },
			"durable": func(*rapid.T) { g.durable() },
			"":        g.check,
		})
		for idle, rounds := 0, 0; idle < 2; rounds++ {
			moves := false
			if rounds > 500 {
				rt.Fatal("it does not come to rest")
			}
			for _, team := range teams {
				moves = g.look(team) || moves
				several += max(0, len(g.Reclaims(platform))-1)
				moves = g.give(team) || moves
				g.check(rt)
			}
			for len(g.held) > 0 {
				g.durable()
				moves = true
			}
			if idle++; moves {
				idle = 0
			}
		}
		for _, team := range teams {
			if has := int64(len(g.placed[team])) * g.size; !overcommitted && has < g.guaranteed[team] && len(g.waiting[team]) > 0 {
				rt.Fatalf("%s has %d of the %d that it is guaranteed, and wants more: %+v", team, has, g.guaranteed[team], g.Reclaims(platform))
			}
		}
	})
	if several == 0 {
		t.Error("nobody was given anything back beside another")
	}
}

// TestNothingIsReclaimedInVain: sets and grants change between the pass that finds victims and the pass that makes them give something up.
// Nobody loses anything that is no longer owed.
func TestNothingIsReclaimedInVain(t *testing.T) {
	grant := func(guaranteed int64, clusters ...string) engine.Grant {
		return engine.Grant{Set: "gold", Clusters: clusters, Guaranteed: map[string]int64{capacity.CPU: guaranteed}}
	}
	for why, change := range map[string]func(s *shared){
		"the cluster has left the set":               func(s *shared) { s.grant("blue", grant(0)); s.grant("red", grant(4)) },
		"who has borrowed is guaranteed what it has": func(s *shared) { s.grant("blue", grant(10, "a")) },
		"who waits is guaranteed less":               func(s *shared) { s.grant("red", grant(1, "a")) },
		"who waits looks at other clusters":          func(s *shared) { s.Unshare("red") },
		"who waits does not wait any more":           func(s *shared) { s.SetLine(t.Context(), "red", nil) },
		"another workload of the name has its place": func(s *shared) {
			r := engine.Reservation{Workload: workloadOf("w", 10).Reference, Shares: share("a", 10)}
			r.Workload.UID = "another"
			if err := s.Restore("blue", r); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(why, func(t *testing.T) {
			s := newShared(t, cluster("a", 10))
			s.grant("red", grant(4, "a"))
			s.grant("blue", grant(0, "a"))
			s.decide("blue", "w", 10)
			s.SetOffers("blue", []engine.Candidate{{Workload: workloadOf("w", 10).Reference}})
			s.SetLine(t.Context(), "red", []engine.Request{s.request("red", "db", 4)})
			if asked := s.Reclaimed("blue"); len(asked) != 1 {
				t.Fatalf("blue is asked for %v", asked)
			}
			change(s)
			if asked := s.Reclaimed("blue"); len(asked) > 0 {
				t.Errorf("blue is asked for %v", asked)
			}
		})
	}
}
