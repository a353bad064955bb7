package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// large is a fleet of 200 clusters: most are in a location that is not selected, a few are too small, and 50 are feasible.
func large(t *testing.T) *engine.Decision {
	t.Helper()
	var text strings.Builder
	for i := range 200 {
		location, cpu := "us", 64
		switch {
		case i < 50:
			location, cpu = "eu", 8+i
		case i < 90:
			location, cpu = "eu", i%4
		}
		if i == 199 { // needs more than the others of its group
			cpu = 2
		}
		fmt.Fprintf(&text, `
apiVersion: tmc.kcp.io/v1alpha1
kind: ClusterRegistration
metadata: {name: c%03d}
spec: {location: %s}
status:
  allocatable: {cpu: "%d", memory: 64Gi}
  conditions: [{type: Ready, status: "True", reason: Test, lastTransitionTime: "2026-01-01T00:00:00Z"}]
---`, i, location, cpu)
	}
	text.WriteString(`
apiVersion: tmc.kcp.io/v1alpha1
kind: WorkloadPlacement
metadata: {name: p, namespace: default}
spec: {workloadSelector: {}, locationSelector: {matchLabels: {location: eu}}, numberOfClusters: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  template:
    spec:
      containers: [{name: main, image: none, resources: {requests: {cpu: "4", memory: 1Gi}}}]
`)
	workspaces, errs := manifest.Read([]*manifest.File{{Name: "fleet.yaml", Text: text.String()}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s, err := simulation.New(simulation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), workspaces); err != nil {
		t.Fatal(err)
	}
	result, err := s.RunUntil(t.Context(), func(*simulation.Decision) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return result.Decisions[0].Explained
}

// TestExplanationOfALargeFleet: nobody reads 200 rows. The best clusters have one, the rejected ones are counted by reason, and
// whoever wants them all asks for them.
func TestExplanationOfALargeFleet(t *testing.T) {
	d := large(t)
	print := func(view View) string {
		var out bytes.Buffer
		Explanation(&out, d, view)
		return out.String()
	}
	lines := func(text string) int { return strings.Count(text, "\n") }

	short := print(View{})
	for _, want := range []string{
		"and 30 more that are feasible, with totals from ",
		"CLUSTERS   REJECTED BY   BECAUSE",
		`     110   Location      location "us" is not selected by locationSelector "location=eu"`,
		"c090: location=eu  ",
		"      40   Capacity      c050: asks for 4 cpu, 2 free",
		"c050, c051, c052, 37 more",
	} {
		if !strings.Contains(short, want) {
			t.Errorf("there is no %q in\n%s", want, short)
		}
	}
	if n := lines(short); n > 40 {
		t.Errorf("%d lines", n)
	}
	if n := lines(print(View{All: true})); n < 200 {
		t.Errorf("all are in %d lines", n)
	}
	for _, test := range []struct {
		view    View
		in, out []string
		atLeast int
		atMost  int
	}{
		{view: View{Top: 3}, in: []string{"and 47 more"}, atMost: 25},
		{view: View{Top: 500}, out: []string{"more that are feasible"}, atLeast: 50},
		{view: View{Only: []string{Chosen}}, in: []string{" chosen "}, out: []string{" feasible  ", "REJECTED"}, atMost: 12},
		{view: View{Only: []string{Feasible}}, in: []string{" chosen ", " feasible "}, out: []string{"REJECTED"}},
		{view: View{Only: []string{Rejected}}, in: []string{"REJECTED"}, out: []string{"VERDICT"}},
		{view: View{Only: []string{"c150", "c040"}}, in: []string{"\nc040      feasible", "\nc040: ", "\nc150      Location"}, out: []string{"c041"}, atMost: 12},
	} {
		got := print(test.view)
		for _, want := range test.in {
			if !strings.Contains(got, want) {
				t.Errorf("%+v: there is no %q in\n%s", test.view, want, got)
			}
		}
		for _, not := range test.out {
			if strings.Contains(got, not) {
				t.Errorf("%+v: there is %q in\n%s", test.view, not, got)
			}
		}
		if n := lines(got); n < test.atLeast || test.atMost > 0 && n > test.atMost {
			t.Errorf("%+v: %d lines\n%s", test.view, n, got)
		}
	}
}
