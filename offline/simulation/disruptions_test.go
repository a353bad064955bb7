package simulation_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kcp-placement/placement/engine/disruption"
	"github.com/kcp-placement/placement/offline/simulation"
)

// TestHeld: of what candidates move, only as many workloads go as the controller lets go at once. The others stay, and say where
// they go later and why. A workload that nothing selects any more is held, too, unless the annotation lifts the brake.
func TestHeld(t *testing.T) {
	a, b := cluster("a", "64"), cluster("b", "64")
	var workloads []string
	for i := range 40 {
		workloads = append(workloads, deployment(fmt.Sprintf("w%02d", i), 1, "1"))
	}
	drained := cluster("a", "64", ", taints: [{key: x, effect: NoExecute}]")
	lifted := strings.Replace(placement("p", "workloadSelector: {labelSelector: {matchLabels: {no: such}}}"), "name: p", `name: p, annotations: {tmc.kcp.io/disruptions: unlimited}`, 1)
	for _, test := range []struct {
		name       string
		candidate  string
		budget     disruption.Budget
		moved      int
		held       int
		later, why string
	}{
		{"a drained cluster", drained + b + placement("p", one), disruption.Default, 10, 30, "b", "a: Taint: taint x:NoExecute is not tolerated"},
		{"a deleted cluster", b + placement("p", one), disruption.Default, 10, 30, "b", "a: Registration: the cluster is not registered any more"},
		{"a typo in the selector", a + b + placement("p", "workloadSelector: {labelSelector: {matchLabels: {no: such}}}"), disruption.Default, 10, 30, "", "no WorkloadPlacement selects it any more"},
		{"the brake is lifted", a + b + lifted, disruption.Default, 40, 0, "", ""},
		{"a budget for all", drained + b + placement("p", one), disruption.Budget{Percent: 100, Minimum: 1, Interval: time.Minute}, 40, 0, "", ""},
		{"nothing changes", a + b + placement("p", one), disruption.Default, 0, 0, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := strings.Join(workloads, "")
			s := load(t, a, placement("p", one), all)
			before := run(t, s)
			s.Pace(test.budget)
			if err := s.Load(t.Context(), read(t, test.candidate, all)); err != nil {
				t.Fatal(err)
			}
			after := run(t, s)
			diff := simulation.Compare(before, after)
			if diff.Summary.Moved != test.moved || diff.Summary.Held != test.held || after.Summary.Held != test.held {
				t.Fatalf("%+v, want %d moved and %d held", diff.Summary, test.moved, test.held)
			}
			for _, held := range diff.Held {
				later := ""
				for _, c := range held.After {
					later += c.Name
				}
				if held.Before[0].Name != "a" || later != test.later || held.Error != test.why {
					t.Fatalf("%s from %v to %q: %s", held.Workload, held.Before, later, held.Error)
				}
			}
			// Each Run is another interval.
			if again := run(t, s); test.held == 30 && again.Summary.Held != 20 {
				t.Errorf("%d are held in the next interval", again.Summary.Held)
			}
		})
	}
}
