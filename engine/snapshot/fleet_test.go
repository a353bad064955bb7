package snapshot_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// TestFleet drives random changes of a fleet. Every snapshot ever taken stays the same, and reports what has changed
// since an earlier one.
func TestFleet(t *testing.T) {
	type taken struct {
		snapshot.Snapshot
		rows []*snapshot.Row
	}
	rapid.Check(t, func(t *rapid.T) {
		var fleet snapshot.Fleet
		model := map[string]*snapshot.Cluster{}
		reserved := map[string]capacity.Resources{}
		var history []taken
		name := rapid.Map(rapid.IntRange(0, 40), func(i int) string { return fmt.Sprintf("c%02d", i) })
		set := func(t *rapid.T, name string) {
			c := &snapshot.Cluster{
				Name: name, Location: rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "location"),
				Allocatable: capacity.Resources{CPU: rapid.Int64Range(0, 2).Draw(t, "cpu")},
			}
			if cost := rapid.SampledFrom([]string{"", "1", "2.5", "3", "dear", "1e3"}).Draw(t, "cost"); cost != "" {
				c.Labels = map[string]string{v1alpha1.LabelCost: cost}
			}
			before := model[name]
			if changed := fleet.Set(c, reserved[name]); changed != !cmp.Equal(before, c) {
				t.Fatalf("%s: changed %v, from %v to %v", name, changed, before, c)
			}
			model[name] = c
		}
		actions := map[string]func(*rapid.T){
			"set": func(t *rapid.T) { set(t, name.Draw(t, "name")) },
			"set many times": func(t *rapid.T) {
				for range rapid.IntRange(0, 400).Draw(t, "times") {
					for _, name := range slices.Sorted(maps.Keys(model)) {
						set(t, name)
						break
					}
				}
			},
			"remove": func(t *rapid.T) {
				name := name.Draw(t, "name")
				fleet.Remove(name)
				delete(model, name)
				delete(reserved, name)
			},
			"reserve": func(t *rapid.T) {
				name := name.Draw(t, "name")
				if model[name] != nil {
					reserved[name] = capacity.Resources{CPU: rapid.Int64Range(0, 2).Draw(t, "reserved")}
				}
				fleet.Reserve(name, reserved[name])
			},
			"": func(t *rapid.T) {
				s := fleet.Snapshot()
				if rapid.Bool().Draw(t, "whole") {
					s = fleet.Whole()
				}
				if s.Len() != len(model) || fleet.Len() != len(model) {
					t.Fatalf("%d clusters, want %d", s.Len(), len(model))
				}
				rows := s.Rows()
				for i, name := range slices.Sorted(maps.Keys(model)) {
					row := rows[i]
					want := snapshot.NewRow(model[name], reserved[name])
					want.CostScore = costScore(model, name)
					if diff := cmp.Diff(want, row, cmpopts.IgnoreFields(snapshot.Row{}, "Version"), cmpopts.IgnoreFields(snapshot.Basis{}, "Facts")); diff != "" {
						t.Fatal(diff)
					}
					if at, known := fleet.Position(name); !known || at != i || fleet.Row(i) != row || s.Row(name) != row {
						t.Fatalf("%s is not where it is", name)
					}
				}
				history = append(history, taken{s, rows})
				before := history[rapid.IntRange(0, len(history)-1).Draw(t, "earlier")]
				if !slices.Equal(before.Rows(), before.rows) {
					t.Fatal("a snapshot has changed")
				}
				changes, known := s.Since(before.Generation)
				if before.Layout() != s.Layout() || !known {
					return
				}
				patched := slices.Clone(before.rows)
				for _, c := range changes {
					if same := patched[c.Position].Facts == c.Row.Facts; same != (patched[c.Position].Location == c.Row.Location) && same {
						t.Fatal("other facts must be told apart")
					}
					patched[c.Position] = c.Row
				}
				if !slices.Equal(patched, rows) {
					t.Fatal("the changes do not lead from one to the other")
				}
			},
		}
		t.Repeat(actions)
	})
}

// costScore returns where a cluster is between the cheapest one, 100, and the most expensive one, 0; 50 if its cost is not a
// decimal number.
func costScore(fleet map[string]*snapshot.Cluster, name string) int64 {
	costs := map[string]float64{"1": 1, "2.5": 2.5, "3": 3}
	least, most := 10.0, 0.0
	for _, c := range fleet {
		if cost, known := costs[c.Labels[v1alpha1.LabelCost]]; known {
			least, most = min(least, cost), max(most, cost)
		}
	}
	switch cost, known := costs[fleet[name].Labels[v1alpha1.LabelCost]]; {
	case !known:
		return 50
	case least == most:
		return 100
	default:
		return int64(100*(most-cost)/(most-least) + 0.5)
	}
}
