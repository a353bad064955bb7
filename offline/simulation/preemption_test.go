package simulation_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/offline/simulation"
)

// TestPreemption: a workload of higher priority that no cluster has room for takes the place of as few and as unimportant ones as
// possible, where its placement asks for that; they find another place, if there is one.
func TestPreemption(t *testing.T) {
	urgent := func(policy string) string {
		return placement("urgent", "workloadSelector: {labelSelector: {matchLabels: {tier: urgent}}}, numberOfClusters: 1, priority: 10, clusterSelector: {clusterNames: [a]}, preemption: {policy: "+policy+"}")
	}
	usual := placement("usual", "workloadSelector: {labelSelector: {matchLabels: {tier: usual}}}, numberOfClusters: 1")
	cheap := placement("cheap", "workloadSelector: {labelSelector: {matchLabels: {tier: cheap}}}, numberOfClusters: 1, priority: -5")
	of := func(tier string) string { return ", labels: {tier: " + tier + "}" }
	running := deployment("web", 1, "3", of("usual")) + deployment("batch", 2, "3", of("cheap")) + deployment("report", 3, "3", of("usual"))
	preempts := "PreemptLowerPriority"
	for _, test := range []struct {
		name, policy, new string
		more              string
		budget            disruption.Budget
		want              string
	}{
		{"never, as it is by default", "Never", deployment("now", 9, "2", of("urgent")), "", disruption.Budget{},
			"now:nowhere web:a report:a batch:a"},
		{"the least important goes", preempts, deployment("now", 9, "2", of("urgent")), "", disruption.Budget{},
			"now:a for batch; web:a report:a batch:nowhere by now"},
		{"it goes to another place that it has", preempts, deployment("now", 9, "2", of("urgent")), cluster("b", "3"), disruption.Budget{},
			"now:a for batch; web:a report:a batch:b by now"},
		{"as many as it takes, of two the one that began later", preempts, deployment("now", 9, "5", of("urgent")), "", disruption.Budget{},
			"now:a for report batch; web:a report:nowhere by now; batch:nowhere by now"},
		{"what is too large takes nobody's place", preempts, deployment("now", 9, "10", of("urgent")), "", disruption.Budget{},
			"now:nowhere web:a report:a batch:a"},
		{"nobody goes beyond the budget", preempts, deployment("now", 9, "5", of("urgent")), "", disruption.Budget{Percent: 1, Minimum: 1, Interval: time.Minute},
			"now:nowhere web:a report:a batch:a"},
		{"what is pinned stays", preempts, deployment("now", 9, "2", of("urgent")), "", disruption.Budget{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			fleet, was := cluster("a", "9")+urgent(test.policy)+usual+cheap, running
			if test.want == "" {
				was = strings.ReplaceAll(was, "name: batch", "name: batch, annotations: {tmc.kcp.io/pinned: \"true\"}")
				test.want = "now:a for report; web:a report:nowhere by now; batch:a"
			}
			s := load(t, fleet, was)
			before := run(t, s)
			s.Pace(test.budget)
			if err := s.Load(t.Context(), read(t, fleet+test.more, was+test.new)); err != nil {
				t.Fatal(err)
			}
			after := run(t, s)
			if got := whoGoes(after); !sameWords(got, test.want) {
				t.Errorf("%s, want %s", got, test.want)
			}
			for _, c := range simulation.Compare(before, after).Moves {
				if len(c.PreemptedBy) != 1 || c.PreemptedBy[0].Workload.Name != "now" || c.PreemptedBy[0].Priority != 10 {
					t.Errorf("%s moves for %v", c.Workload, c.PreemptedBy)
				}
			}
		})
	}
}

func whoGoes(r *simulation.Result) (text string) {
	for _, d := range r.Decisions {
		on := "nowhere"
		if len(d.Clusters) > 0 {
			on = d.Clusters[0].Name
		}
		text += fmt.Sprintf("%s:%s ", d.Workload.Name, on)
		for i, p := range d.Preempts {
			text += map[bool]string{true: "for "}[i == 0] + p.Workload.Name + " "
		}
		for i, p := range d.PreemptedBy {
			text += map[bool]string{true: "by "}[i == 0] + p.Workload.Name + " "
		}
	}
	return text
}

func sameWords(a, b string) bool {
	return strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(strings.ReplaceAll(b, ";", "")), " ")
}
