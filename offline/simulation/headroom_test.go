package simulation_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/offline/simulation"
)

// lost is a cluster that has been silent for too long.
func lost(cluster string) string {
	return strings.Replace(cluster, `status: "True"`, `status: "False", reason: ClusterLost`, 1)
}

// TestFailover: workloads of lost clusters are placed anew in the order of the controller: by priority, before others, the largest first.
func TestFailover(t *testing.T) {
	owner := func(name string) string { return ", annotations: {tmc.kcp.io/placement: " + name + "}" }
	fleet := func(cpu string) []string {
		return []string{cluster("a", cpu), placement("low", one), placement("high", one+", priority: 1")}
	}
	s := load(t, append(fleet("8"), deployment("small", 3, "1", owner("low")), deployment("large", 4, "3", owner("low")))...)
	run(t, s)
	objects := append(fleet("8"), cluster("b", "4"), deployment("small", 3, "1", owner("low")), deployment("large", 4, "3", owner("low")),
		deployment("waits", 1, "1", owner("low")), deployment("urgent", 5, "1", owner("high")))
	objects[0] = lost(objects[0])
	if err := s.Load(t.Context(), read(t, objects...)); err != nil {
		t.Fatal(err)
	}
	rejected := " 0 of 2 clusters are feasible: 1 rejected by Ready, 1 rejected by Capacity"
	want := "urgent: b\nlarge: b\nsmall:" + rejected + "\nwaits:" + rejected
	if got := where(run(t, s)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestHeadroomForetells: what top says of the loss of a domain is what comes of it when the domain is lost. It places nothing.
func TestHeadroomForetells(t *testing.T) {
	locations := []string{"eu", "us", "asia"}
	rapid.Check(t, func(r *rapid.T) {
		type drawn struct{ text, location string }
		var clusters []drawn
		for i := range rapid.IntRange(1, 5).Draw(r, "clusters") {
			location := rapid.SampledFrom(locations).Draw(r, "location")
			text := cluster(fmt.Sprintf("c%d", i), fmt.Sprint(rapid.IntRange(1, 8).Draw(r, "cpu")))
			clusters = append(clusters, drawn{strings.Replace(text, "location: eu", "location: "+location, 1), location})
		}
		fleet := func(without string) (objects []string) {
			for _, c := range clusters {
				if c.location == without {
					c.text = lost(c.text)
				}
				objects = append(objects, c.text)
			}
			return append(objects, placement("asks", one+", headroom: {survive: {topologyKey: location}}"), placement("other", one+", priority: 1"))
		}
		workloads := map[string]string{}
		for i := range rapid.IntRange(0, 8).Draw(r, "workloads") {
			name := fmt.Sprintf("w%d", i)
			owner := fmt.Sprintf(", annotations: {tmc.kcp.io/placement: %s}", rapid.SampledFrom([]string{"asks", "other"}).Draw(r, "owner"))
			workloads[name] = deployment(name, i, fmt.Sprintf("%dm", rapid.IntRange(0, 3000).Draw(r, "request")), owner)
		}
		reload := func(s *simulation.Simulation, objects []string) {
			if err := s.Load(t.Context(), read(t, objects...)); err != nil {
				r.Fatal(err)
			}
		}
		placed := func() (*simulation.Simulation, []string) {
			objects := fleet("")
			for _, text := range workloads {
				objects = append(objects, text)
			}
			s, err := simulation.New(simulation.Options{Headroom: true})
			if err != nil {
				r.Fatal(err)
			}
			reload(s, objects)
			result, err := s.Run(t.Context())
			if err != nil {
				r.Fatal(err)
			}
			var texts []string // those that wait would take room first
			for _, d := range result.Decisions {
				if len(d.Clusters) > 0 {
					texts = append(texts, workloads[d.Workload.Name])
				}
			}
			reload(s, append(fleet(""), texts...))
			return s, texts
		}
		s, texts := placed()
		top, err := s.Top(t.Context())
		if err != nil || len(top.Headroom) != 1 {
			r.Fatal(top, err)
		}
		worst, hurt := 0, 0
		for _, location := range locations {
			s, _ := placed()
			reload(s, append(fleet(location), texts...))
			result, err := s.Run(t.Context())
			if err != nil {
				r.Fatal(err)
			}
			waiting := 0
			for _, d := range result.Decisions {
				if d.Placement == "asks" && len(d.Clusters) == 0 {
					waiting++
				}
			}
			worst = max(worst, waiting)
			if waiting > 0 {
				hurt++
			}
			if location == top.Headroom[0].WorstDomain && waiting != top.Headroom[0].Waiting {
				r.Errorf("%d wait: %+v", waiting, top.Headroom[0])
			}
		}
		if h := top.Headroom[0]; h.Waiting != worst || h.Survives != (worst == 0) || !h.Survives && h.OtherDomains != hurt-1 {
			r.Errorf("%d wait at worst, %d losses hurt: %+v", worst, hurt, h)
		}
		if again, err := s.Top(t.Context()); err != nil || fmt.Sprint(again.Headroom, again.Clusters) != fmt.Sprint(top.Headroom, top.Clusters) {
			r.Errorf("it has changed: %v, %v", again, err)
		}
	})
}
