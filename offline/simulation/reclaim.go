package simulation

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
)

// GivenBack is the other side where a workload loses a cluster so that another workspace has what it is guaranteed. Invariant: who looks from
// one workspace reads neither of which other one that is, nor which workload, nor how many there are.
type GivenBack struct {
	Cluster string `json:"cluster"`
	// Workspace, Workload and Placement are those of the other side, empty where results are about one workspace.
	Workspace string    `json:"workspace,omitempty"`
	Workload  *Workload `json:"workload,omitempty"`
	Placement string    `json:"placement,omitempty"`
}

// String is for example "Deployment default/web of workspace root:ml, on eu".
func (g GivenBack) String() string {
	if g.Workload == nil {
		return "others, on " + g.Cluster
	}
	return fmt.Sprintf("%s of workspace %s, on %s", g.Workload, g.Workspace, g.Cluster)
}

// side is one side of what is given back, as those see it whom results are about.
func (s *Simulation) side(cluster string, k key, placement string) GivenBack {
	if s.options.About != "" {
		return GivenBack{Cluster: cluster}
	}
	name := nameOf(k.Reference)
	return GivenBack{Cluster: cluster, Workspace: k.workspace.String(), Workload: &name, Placement: placement}
}

func added(all []GivenBack, one GivenBack) []GivenBack {
	if one.Workload == nil && slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

// mayGiveBack reports whether a workload may lose clusters so that others have what they are guaranteed.
func (s *Simulation) mayGiveBack(i item) bool {
	_, assigned := s.current(i)
	return assigned && s.fleets[i.workspace.Name] != i.workspace.Name && !i.workspace.affine && i.placement.reclaimable && i.End() == "" && i.err() == nil &&
		!i.placement.suspended && !v1alpha1.IsPinned(i.GetAnnotations())
}

// offer says which workloads may lose clusters so that others have what they are guaranteed, the least important first.
func (s *Simulation) offer() {
	for _, w := range s.workspaces {
		if s.fleets[w.Name] == w.Name {
			continue
		}
		var all []engine.Candidate
		for _, i := range w.items() {
			if s.mayGiveBack(i) {
				current, _ := s.current(i)
				all = append(all, engine.Candidate{Workload: s.request(i, current).Workload.Reference, Priority: i.placement.priority, Since: current.since})
			}
		}
		slices.SortFunc(all, func(a, b engine.Candidate) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), b.Since.Compare(a.Since), cmp.Compare(a.Workload.String(), b.Workload.String()))
		})
		s.engine.SetOffers(w.Name, all)
	}
}

// giveBack has workloads make room for those of other workspaces that wait within what they are guaranteed, as far as the budgets of disruptions
// allow it, and places these. It returns those that have lost clusters.
func (s *Simulation) giveBack(ctx context.Context, items []item, decisions []Decision, placed func(int)) (given []int, err error) {
	at := make(map[key]int, len(decisions))
	for i := range decisions {
		at[keyOf(items[i].workspace.Name, items[i].Reference)] = i
	}
	for _, owner := range s.workspaces {
		tried := map[key]bool{}
		for again := true; again; {
			again = false
			for _, r := range s.engine.Reclaims(owner.Name) {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				of := keyOf(r.Workspace, r.Workload)
				i, there := at[of]
				if !there || tried[of] {
					continue
				}
				tried[of], again = true, true
				lost, all := s.makeRoom(r, at, items, of)
				given = append(given, lost...)
				if s.placeAgain(ctx, items[i], &decisions[i]); len(decisions[i].Clusters) == 0 {
					if !all {
						decisions[i].Error += "; others make room for it once their disruption budgets let them"
					}
					continue
				}
				for _, v := range lost {
					decisions[i].Reclaims = added(decisions[i].Reclaims, s.side(r.Cluster, keyOf(items[v].workspace.Name, items[v].Reference), items[v].placement.name))
				}
				placed(i)
			}
		}
	}
	return given, nil
}

// makeRoom takes what is to be given back for a workload off a cluster. It returns who has lost it, and whether that is all who are to.
func (s *Simulation) makeRoom(r engine.Reclaim, at map[key]int, items []item, of key) (lost []int, all bool) {
	all = true
	for _, workspace := range slices.Sorted(maps.Keys(r.Victims)) {
		for _, v := range r.Victims[workspace] {
			k := keyOf(workspace, v.Workload)
			i, there := at[k]
			if _, assigned := s.assignments[k]; !there || !assigned || !s.disrupt(items[i].workspace, items[i].placement) {
				all = false
				continue
			}
			s.gaveBack[k] = added(s.gaveBack[k], s.side(r.Cluster, of, items[at[of]].placement.name))
			s.takeOff(k, v)
			lost = append(lost, i)
		}
	}
	return lost, all
}
