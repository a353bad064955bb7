package simulation

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/headroom"
	"github.com/kcp-placement/placement/engine/snapshot"
)

// Headroom is whether the workloads of a placement survive the loss that it asks to survive.
type Headroom struct {
	Workspace string `json:"workspace"`
	Namespace string `json:"namespace"`
	Placement string `json:"placement"`
	// TopologyKey divides the clusters into Domains.
	TopologyKey string `json:"topologyKey"`
	Domains     int    `json:"domains"`
	// Survives: none of its workloads would wait if any one domain were lost.
	Survives bool `json:"survives"`
	// WorstDomain is the domain whose loss would make most workloads wait, Waiting of the Affected ones there; empty if it survives.
	WorstDomain string `json:"worstDomain,omitempty"`
	Affected    int    `json:"affected,omitempty"`
	Waiting     int    `json:"waiting,omitempty"`
	// OtherDomains is how many other domains there are whose loss would make some wait.
	OtherDomains int `json:"otherDomains,omitempty"`
	// Message summarizes that in one line, as the controller does, and adds what would help.
	Message string `json:"message"`
}

// headroom rehearses the loss of each domain for each placement that asks for it, oldest placement first.
func (s *Simulation) headroom(ctx context.Context) (all []Headroom, err error) {
	for _, w := range s.workspaces {
		if !s.shows(w.Name) {
			continue
		}
		outlooks, rehearsed := map[*placementState]*headroom.Outlook{}, map[snapshot.TopologyKey]bool{}
		for _, p := range w.placements {
			if p.survive == "" || p.err != nil || rehearsed[p.survive] {
				continue
			}
			rehearsed[p.survive] = true
			if err := s.rehearse(ctx, w, p.survive, outlooks); err != nil {
				return nil, err
			}
		}
		for _, p := range w.placements {
			if o := outlooks[p]; o != nil {
				all = append(all, Headroom{
					Workspace: w.Name.String(), Namespace: p.namespace, Placement: p.name, TopologyKey: string(p.survive), Domains: o.Domains,
					Survives: o.Survives(), WorstDomain: o.Worst.Domain, Affected: o.Worst.Affected, Waiting: o.Worst.Waiting, OtherDomains: o.Others,
					Message: o.Describe(p.survive),
				})
			}
		}
	}
	return all, nil
}

// rehearse determines what the loss of each domain of a key would do to the placements of a workspace that ask to survive it.
func (s *Simulation) rehearse(ctx context.Context, w *workspace, key snapshot.TopologyKey, outlooks map[*placementState]*headroom.Outlook) error {
	rows := s.engine.Snapshot(w.Name).Rows()
	domains := headroom.Domains(rows, key)
	for _, p := range w.placements {
		if p.survive == key && p.err == nil {
			outlooks[p] = &headroom.Outlook{Domains: len(domains)}
		}
	}
	items := slices.DeleteFunc(w.items(), func(i item) bool {
		_, assigned := s.current(i)
		return !assigned || i.err() != nil || i.End() != ""
	})
	for done, d := range domains {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.options.Progress != nil {
			s.options.Progress(done, len(domains))
		}
		displaced := s.displaced(items, &loss{sets.New(d.Clusters...), headroom.Rest(rows, d.Clusters...)})
		if !slices.ContainsFunc(displaced, func(i item) bool { return i.placement.survive == key }) {
			continue
		}
		losses := map[*placementState]*headroom.Loss{}
		rehearsal := s.engine.Rehearse(w.Name, d.Clusters)
		for _, i := range displaced {
			current, _ := s.current(i)
			decision, err := rehearsal.Decide(ctx, s.request(i, current))
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil || i.placement.survive != key: // if they cannot be decided on, that is reported elsewhere
				continue
			case losses[i.placement] == nil:
				losses[i.placement] = &headroom.Loss{Domain: d.Name}
			}
			losses[i.placement].Add(i.name(), decision)
		}
		for p, loss := range losses {
			outlooks[p].Add(*loss)
		}
	}
	return nil
}

// displaced returns the items that are on lost clusters, in the order of failover.
func (s *Simulation) displaced(items []item, l *loss) (displaced []item) {
	for _, i := range items {
		if i.displacedBy(l, s.assignments[keyOf(i.workspace.Name, i.Reference)]); i.displaced {
			displaced = append(displaced, i)
		}
	}
	slices.SortFunc(displaced, func(a, b item) int { return a.turn().Compare(b.turn()) })
	return displaced
}

// loss is the lost clusters, and the capacity of all others.
type loss struct {
	clusters sets.Set[string]
	rest     capacity.Resources
}

// lossOf returns the present losses of a workspace.
func (s *Simulation) lossOf(w *workspace) *loss {
	rows := s.engine.Snapshot(w.Name).Rows()
	l := &loss{sets.New[string](), headroom.Rest(rows)}
	for _, row := range rows {
		if row.Lost() {
			l.clusters.Insert(row.Name)
		}
	}
	return l
}

// displacedBy determines whether a workload is on a cluster that is lost, and how large it is, as the controller does.
func (i *item) displacedBy(l *loss, at assignment) {
	i.displaced = i.placement != nil && slices.ContainsFunc(at.clusters, func(c engine.Choice) bool { return l.clusters.Has(c.Name) })
	if i.displaced {
		i.size = headroom.Size(i.Requests, l.rest)
	}
}
