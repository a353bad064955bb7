package simulation

import (
	"context"
	"maps"
	"slices"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
)

// inLine reports whether a workload waits for room on clusters of another workspace. Workloads of all workspaces then take turns.
func (s *Simulation) inLine(i item) bool {
	_, assigned := s.current(i)
	return s.fleets[i.workspace.Name] != i.workspace.Name && !assigned && i.placement != nil && i.err() == nil && i.End() == ""
}

// takeTurns places the workloads that are in line, as the controller does if all wait at once: as long as it is its turn, each workspace
// places its own, in turn.
func (s *Simulation) takeTurns(ctx context.Context, items []item, decisions []Decision) error {
	lines := map[logicalcluster.Name][]int{}
	for i := range decisions {
		if s.inLine(items[i]) {
			lines[items[i].workspace.Name] = append(lines[items[i].workspace.Name], i)
		}
	}
	names := slices.Sorted(maps.Keys(lines))
	defer func() { // later callers ask about a single workload
		for _, name := range names {
			s.engine.SetLine(ctx, name, nil)
		}
	}()
	setLine := func(name logicalcluster.Name) {
		requests := make([]engine.Request, len(lines[name]))
		for j, i := range lines[name] {
			requests[j] = s.request(items[i], assignment{})
		}
		s.engine.SetLine(ctx, name, requests)
	}
	placedSince := map[logicalcluster.Name]int{}
	renew := func(name logicalcluster.Name, left []int) {
		if placedSince[name]++; placedSince[name]%engine.MaxInLineEach == 0 { // the line of those that held its place is used up: now others get in
			rest := lines[name]
			lines[name] = slices.Sorted(slices.Values(slices.Concat(left, rest)))
			s.engine.SetLine(ctx, name, nil) // they have not looked yet
			setLine(name)
			lines[name] = rest
		}
	}
	for idle := 0; idle < 2 && len(names) > 0; idle++ {
		s.offer()
		for _, name := range names {
			setLine(name)
		}
		given, err := s.giveBack(ctx, items, decisions, func(i int) {
			name := items[i].workspace.Name
			lines[name] = slices.DeleteFunc(lines[name], func(o int) bool { return o == i })
			setLine(name)
		})
		if err != nil {
			return err
		}
		for _, i := range given { // they wait in turn with the others
			name := items[i].workspace.Name
			lines[name] = slices.Compact(slices.Sorted(slices.Values(append(lines[name], i))))
			idle = 0
		}
		names = slices.Sorted(maps.Keys(lines))
		left := map[logicalcluster.Name][]int{}
		for placed := true; placed; {
			placed = false
			for _, name := range names {
				for len(lines[name]) > 0 {
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					i := lines[name][0]
					s.placeAgain(ctx, items[i], &decisions[i])
					d := &decisions[i]
					if d.waitsForTurn {
						break
					}
					lines[name] = lines[name][1:]
					if len(d.Clusters) == 0 {
						left[name] = append(left[name], i)
						continue
					}
					placed, idle = true, -1
					renew(name, left[name])
				}
			}
		}
		for _, name := range names {
			lines[name] = append(left[name], lines[name]...)
		}
	}
	return nil
}
