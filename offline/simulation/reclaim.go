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

// GivenBack is the other side if a workload loses a cluster so that another workspace gets what it is guaranteed. Invariant: results about
// one workspace disclose neither which other workspace it is, nor which workload, nor how many there are.
type GivenBack struct {
	Cluster string `json:"cluster"`
	// Workspace, Workload and Placement are those of the other side, empty if results are about one workspace.
	Workspace string    `json:"workspace,omitempty"`
	Workload  *Workload `json:"workload,omitempty"`
	Placement string    `json:"placement,omitempty"`
}

// String returns for example "Deployment default/web of workspace root:ml, on eu".
func (g GivenBack) String() string {
	if g.Workload == nil {
		return "others, on " + g.Cluster
	}
	return fmt.Sprintf("%s of workspace %s, on %s", g.Workload, g.Workspace, g.Cluster)
}

// side returns one side of what is given back, as visible to those whom results are for.
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

// mayGiveBack reports whether a workload may lose clusters so that others get what they are guaranteed.
func (s *Simulation) mayGiveBack(i item) bool {
	_, assigned := s.current(i)
	return assigned && s.fleets[i.workspace.Name] != i.workspace.Name && !i.workspace.affine && i.placement.reclaimable && i.End() == "" && i.err() == nil &&
		!i.placement.suspended && !v1alpha1.IsPinned(i.GetAnnotations())
}

// offer submits the workloads that may lose clusters so that others get what they are guaranteed, least important first.
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

// giveBack makes workloads give up room for those of other workspaces that wait within their guarantees, as far as the disruption budgets
// allow, and places the latter. It returns the workloads that have lost clusters.
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

// makeRoom takes the victims of a reclaim off a cluster. It returns those that have lost it, and whether these are all.
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
