package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/engine/filter"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/offline/description"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

// find returns the one workload of a kind, namespace and name.
func (v *view) find(w *manifest.Workspace, kind, namespace, name string) (*simulation.WorkloadStatus, error) {
	kind, group, _ := strings.Cut(kind, ".")
	var found *simulation.WorkloadStatus
	for i := range v.statuses {
		s := &v.statuses[i]
		if s.Workspace != w.Name.String() || s.GetNamespace() != namespace || s.GetName() != name || !strings.EqualFold(s.GetKind(), kind) ||
			group != "" && group != s.GroupVersionKind().Group {
			continue
		}
		if found != nil {
			return nil, &failure{http.StatusConflict, fmt.Sprintf("%s %s/%s is of several API groups: name one, as in %s.%s", kind, namespace, name, kind, s.GroupVersionKind().Group)}
		}
		found = s
	}
	if found == nil {
		return nil, &failure{http.StatusNotFound, fmt.Sprintf("there is no workload %s %s/%s in workspace %s: it may have been deleted", kind, namespace, name, w.Name)}
	}
	return found, nil
}

// decide places the workloads up to one, as kubectl placement explain does.
func (v *view) decide(ctx context.Context, s *simulation.WorkloadStatus) (*simulation.Decision, error) {
	sim, err := simulation.New(simulation.Options{Now: v.at, About: v.about})
	if err != nil {
		return nil, err
	}
	_ = sim.Load(ctx, v.workspaces) // v.problems has what is wrong
	workload, workspace := s.Name(), s.Workspace
	result, err := sim.RunUntil(ctx, func(d *simulation.Decision) bool { return d.Workspace == workspace && d.Workload == workload })
	if err != nil {
		return nil, err
	}
	return &result.Decisions[len(result.Decisions)-1], nil
}

// why explains a decision.
func (v *view) why(w *manifest.Workspace, d *simulation.Decision) *Why {
	way := description.Of(w, d)
	answer := &Why{
		Shown: v.shown(w), Explanation: simulation.Explain(d), Stages: []Stage{}, Chain: way.Chain, Delivered: way.Clusters, Wrong: way.Wrong,
	}
	answer.Stages = funnel(answer.Verdicts)
	answer.Suspended = v.suspended(d.Workspace, d.Workload.Namespace, d.Placement)
	for i := range v.top.Headroom {
		if h := &v.top.Headroom[i]; h.Workspace == d.Workspace && h.Namespace == d.Workload.Namespace && h.Placement == d.Placement {
			answer.Headroom = h
		}
	}
	for _, p := range w.Placements {
		if p.Typed.Namespace == d.Workload.Namespace && p.Typed.Name == d.Placement {
			for _, c := range placement.EachConstraint(p.Typed) {
				answer.Constraints = append(answer.Constraints, Constraint{c.Name, c.Expression, c.Message})
			}
		}
	}
	for i := range v.top.Queue {
		if q := &v.top.Queue[i]; q.Workspace == d.Workspace && q.Workload == d.Workload {
			answer.Queue = newQueued(q)
		}
	}
	if len(d.Clusters) == 0 {
		answer.Remedies = remedies(answer)
	}
	return answer
}

// funnel counts the clusters that each stage rejects.
func funnel(verdicts []simulation.Verdict) []Stage {
	rejected := map[string]int{}
	for i := range verdicts {
		if o := verdicts[i].Obstacles; len(o) > 0 {
			rejected[o[0].Stage]++
		}
	}
	stages, left := []Stage{}, len(verdicts)
	add := func(name string) {
		if n := rejected[name]; n > 0 {
			left -= n
			stages = append(stages, Stage{name, n, left})
			delete(rejected, name)
		}
	}
	for _, stage := range filter.Stages() {
		add(string(stage))
	}
	for i := range verdicts { // what rejects beside the filter
		if o := verdicts[i].Obstacles; len(o) > 0 {
			add(o[0].Stage)
		}
	}
	return stages
}

// remedies are what each rejected cluster lacks, that with the fewest obstacles first.
func remedies(why *Why) (all []Remedy) {
	for i := range why.Verdicts {
		verdict := &why.Verdicts[i]
		if verdict.Feasible {
			continue
		}
		r := Remedy{Cluster: verdict.Cluster, Needs: []string{}}
		for _, o := range verdict.Obstacles {
			r.Needs = append(r.Needs, cmp.Or(o.Needs, o.Message))
		}
		all = append(all, r)
	}
	nearest := ""
	if why.Queue != nil {
		nearest = why.Queue.Nearest
	}
	slices.SortStableFunc(all, func(a, b Remedy) int {
		if a.Cluster == nearest || b.Cluster == nearest {
			return cmp.Or(map[bool]int{true: -1}[a.Cluster == nearest], map[bool]int{true: 1}[b.Cluster == nearest])
		}
		return cmp.Compare(len(a.Needs), len(b.Needs))
	})
	return all
}
