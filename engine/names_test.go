package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
)

// TestNamesOfOthersChangeNothing: two fleets with the same history, on which the teams and their workloads have different names. What each
// gets, waits for and gives back does not depend on any name of another: it is the same on both, team by team and workload by workload.
func TestNamesOfOthersChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const teams, clusters = 3, 2
		type want struct {
			number, cpu int64
			priority    int32
			since       time.Time
			on          []engine.Choice
		}
		type world struct {
			*engine.Engine
			under *placement.Placement
			// team and workload map to names; within a team the order of names is the same everywhere.
			team     func(i int) logicalcluster.Name
			workload func(team int, number int64) string
			has      [teams][]*want
			said     strings.Builder
		}
		worlds := []*world{
			{team: func(i int) logicalcluster.Name { return logicalcluster.Name(fmt.Sprint("root:a", i)) }, workload: func(i int, n int64) string { return fmt.Sprintf("a%d-%02d", i, n) }},
			{team: func(i int) logicalcluster.Name { return logicalcluster.Name(fmt.Sprint("root:z", teams-i)) }, workload: func(i int, n int64) string { return fmt.Sprintf("z%d-%02d", teams-i, n) }},
		}
		on := []string{"c0", "c1"}
		var sizes [clusters]int64
		var grants [teams]engine.Grant
		for i := range sizes {
			sizes[i] = rapid.Int64Range(2, 6).Draw(t, "cpu")
		}
		for i := range grants {
			grants[i] = engine.Grant{Set: "gold", Clusters: on, Weight: 1}
			if rapid.Bool().Draw(t, "is guaranteed something") {
				grants[i].Guaranteed = map[string]int64{capacity.CPU: rapid.Int64Range(1, 4).Draw(t, "cpu")}
			}
		}
		for _, w := range worlds {
			w.Engine = newEngine(t, engine.Options{GatherAfter: 10 * time.Minute})
			w.under = compile(t, w.Engine, v1alpha1.WorkloadPlacementSpec{NumberOfClusters: ptr.To(intstr.FromInt32(1))})
			for i, name := range on {
				if _, err := w.SetCluster(platform, cluster(name, sizes[i])); err != nil {
					t.Fatal(err)
				}
			}
			for i := range grants {
				if err := w.Share(w.team(i), platform, []engine.Grant{grants[i]}); err != nil {
					t.Fatal(err)
				}
			}
		}
		now := time.Unix(1_000_000, 0)
		for n := range int64(rapid.IntRange(1, 40).Draw(t, "steps")) {
			step := rapid.SampledFrom([]string{"want", "want", "end", "look", "look", "look", "later"}).Draw(t, "step")
			team, k := rapid.IntRange(0, teams-1).Draw(t, "team"), rapid.IntRange(0, 9).Draw(t, "which")
			one := want{number: n, cpu: rapid.Int64Range(1, 4).Draw(t, "asks"), priority: rapid.Int32Range(0, 1).Draw(t, "priority"), since: now}
			if step == "later" {
				now = now.Add(time.Duration(k) * time.Minute)
			}
			for _, w := range worlds {
				request := func(o *want) engine.Request {
					return engine.Request{
						Workspace: w.team(team), Placement: w.under, Workload: workloadOf(w.workload(team, o.number), o.cpu),
						Priority: o.priority, Since: o.since, Now: now, Current: o.on,
					}
				}
				switch all := w.has[team]; step {
				case "want":
					wants := one
					w.has[team] = append(all, &wants)
				case "end":
					if len(all) > 0 {
						w.Release(w.team(team), request(all[k%len(all)]).Workload.Reference)
						w.has[team] = slices.Delete(all, k%len(all), k%len(all)+1)
					}
				case "look":
					var waiting []engine.Request
					var offers []engine.Candidate
					for _, o := range all {
						d, err := w.Decide(t.Context(), request(o))
						if err != nil {
							t.Fatal(err)
						}
						o.on = d.Clusters
						fmt.Fprintf(&w.said, "%d of %d: %q %s\n", o.number, team, names(d), d.Summary())
						if len(d.Clusters) == 0 {
							waiting = append(waiting, request(o))
						} else {
							offers = append(offers, engine.Candidate{Workload: request(o).Workload.Reference, Priority: o.priority, Since: o.since})
						}
					}
					index := func(called []logicalcluster.Name) (all []int) {
						for i := range teams {
							if slices.Contains(called, w.team(i)) {
								all = append(all, i)
							}
						}
						return all
					}
					offered := w.SetOffers(w.team(team), offers)
					called, blind := w.SetLine(t.Context(), w.team(team), waiting)
					fmt.Fprintln(&w.said, "calls", index(offered), index(called), blind)
					for i := range teams {
						for _, v := range w.Reclaimed(w.team(i)) {
							number := slices.IndexFunc(w.has[i], func(o *want) bool { return w.workload(i, o.number) == v.Workload.Name })
							fmt.Fprintln(&w.said, i, "gives up", number, v.Clusters)
						}
					}
				}
			}
			if one, other := worlds[0].said.String(), worlds[1].said.String(); one != other {
				t.Fatalf("it is told\n%s\nor\n%s", one, other)
			}
		}
	})
}
