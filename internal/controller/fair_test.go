package controller

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// TestTurnsOfTeams: red has all, and gives up one workload after the other. What becomes free goes to the team with the lowest share,
// whichever pass comes first, though all teams want it: not to red itself, until red has the lowest.
func TestTurnsOfTeams(t *testing.T) {
	e := newEstate(t, []string{"eu-1", "eu-2"}, map[string]string{"red": "8", "green": "8", "blue": "8"})
	e.deploy("red", 0, 8, 1000)
	e.settle()
	for _, team := range []string{"red", "green", "blue"} {
		e.deploy(team, 8, 16, 1000)
	}
	e.settle()
	for red := int64(7); red > 0; red-- {
		e.now = e.now.Add(time.Minute)
		e.delete("red", slices.Min(slices.Collect(maps.Keys(e.where("red")))))
		e.settle()
		_, to := e.promised()
		others := 8 - max(red, 2)
		if to["red"] != 1000*max(red, 2) || max(to["green"], to["blue"]) != (others+1)/2*1000 || min(to["green"], to["blue"]) != others/2*1000 {
			t.Errorf("red has given up %d: promised %v", 8-red, to)
		}
	}
}
