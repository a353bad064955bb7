package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
)

// TestReclaim: blue has borrowed what red is guaranteed. Red asks, and blue is to give back as little as makes room, of what it offers.
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

// TestReclaimsOneByOne: of several who are guaranteed more than is free, one at a time gets it back, the one that has waited longest first,
// and what is given up in between for a cluster is not taken by others bit by bit.
func TestReclaimsOneByOne(t *testing.T) {
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
