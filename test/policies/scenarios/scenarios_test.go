package scenarios

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/report"
)

// TestScenarios runs a fleet, policies, a request, and the explained decision in plain text. `go test ./test/policies/scenarios -rewrite`
// updates the answers.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newScenario(t)
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string {
			answer, err := s.run(d)
			if err != nil {
				return answer + "error: " + strings.TrimRight(err.Error(), "\n") + "\n"
			}
			return answer
		})
	})
}

// platform is the workspace of the clusters, and of all else unless a command names another one.
const platform = logicalcluster.Name("root:scenario")

// scenario is the state that the commands of one file work on.
type scenario struct {
	engine   *engine.Engine
	policies *policy.Compiler
	// team is that of the workspace which commands are about.
	*team
	teams map[logicalcluster.Name]*team
	now   time.Time
	// waits counts those that were in line: each has waited less long than those before.
	waits int
	// fleet is the clusters without scores, scores those of ClusterScores.
	fleet  map[string]*snapshot.Cluster
	scores []*v1alpha1.ClusterScore
}

// team is what a workspace has but for clusters.
type team struct {
	workspace  logicalcluster.Name
	placements []*placement.Placement
	workloads  map[string]*workload.Workload
	// decisions are the latest.
	decisions map[string]*engine.Decision
}

// in has the commands that follow be about a workspace.
func (s *scenario) in(workspace logicalcluster.Name) {
	if s.team = s.teams[workspace]; s.team == nil {
		s.team = &team{workspace: workspace, workloads: map[string]*workload.Workload{}, decisions: map[string]*engine.Decision{}}
		s.teams[workspace] = s.team
	}
}

func newScenario(t *testing.T) *scenario {
	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Options{Policies: policies})
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{engine: e, policies: policies, teams: map[logicalcluster.Name]*team{}, fleet: map[string]*snapshot.Cluster{}}
	s.in(platform)
	return s
}

// run runs one command:
//
//	clusters                 YAML: a map from name to {location, labels, allocatable, ...}; null removes a cluster
//	scores                   YAML: a list of {name, clusterName, scores, validUntil}, which replaces the earlier one
//	placement NAME           YAML: the spec of a WorkloadPlacement in namespace default, unless it is NAMESPACE/NAME; later ones come
//	                         first, in place of those of the same name
//	policies                 YAML: a map from file name to Rego; replaces earlier policies
//	workload KIND NAME       YAML: {requests, replicas, labels, annotations, namespace, pod}; pod is more of the template's spec
//	decide NAME...           decides for workloads and prints their clusters
//	again NAME...            the same for workloads that run as was decided before
//	return NAME GROUP        the same for one that is to return to a fallback group
//	explain NAME             prints the explained decision without reserving
//	stays NAME CLUSTER...    prints whether a workload stays on clusters, and where it is if it leaves one
//	now TIME                 what the time is for the commands that follow
//	release NAME...          releases the reservations of workloads
//	free                     prints what is free in every cluster
//	share WORKSPACE          YAML: a list of {set, clusters, quota, clusterQuota, guaranteed, borrowingLimit, weight}: through which grants
//	                         the workspace looks at the clusters
//	in WORKSPACE             has the commands that follow be about another workspace, but for clusters and scores
//	accounts                 prints what each workspace has of each set
//	line NAME...             has workloads of the workspace wait in line, in place of those before, and prints which workspaces look again
//	offer NAME...            has the workspace offer workloads for what others are guaranteed, the least important first
//	reclaims                 prints who is to give back what, and for whom
func (s *scenario) run(d *datadriven.TestData) (string, error) {
	var out strings.Builder
	switch d.Cmd {
	case "clusters":
		return s.clusters(d.Input)
	case "scores":
		scores, err := Scores(d.Input)
		if err != nil {
			return "", err
		}
		s.scores = scores
		s.setClusters()
	case "placement":
		p, err := Placement(d.CmdArgs[0].Key, d.Input)
		if err != nil {
			return "", err
		}
		compiled, err := s.engine.CompilePlacement(p)
		if err != nil {
			return "", err
		}
		s.placements = slices.DeleteFunc(s.placements, func(p *placement.Placement) bool { return p.NamespacedName() == compiled.NamespacedName() })
		s.placements = append([]*placement.Placement{compiled}, s.placements...)
		s.setAffinity()
		return "", nil
	case "policies":
		modules, err := Policies(d.Input)
		if err != nil {
			return "", err
		}
		set, err := s.policies.Compile(modules)
		if err != nil {
			return "", err
		}
		s.engine.SetPolicies(s.workspace, set)
		s.setAffinity()
		return "", nil
	case "workload":
		return "", s.workload(d.CmdArgs[0].Key, d.CmdArgs[1].Key, d.Input)
	case "decide":
		for _, arg := range d.CmdArgs {
			request, err := s.request(arg.Key)
			if err != nil {
				return out.String(), err
			}
			if err := s.decide(&out, arg.Key, request); err != nil {
				return out.String(), err
			}
		}
	case "again", "return":
		names := d.CmdArgs
		if d.Cmd == "return" {
			names = names[:1]
		}
		for _, arg := range names {
			request, err := s.request(arg.Key)
			if err != nil {
				return out.String(), err
			}
			if before := s.decisions[arg.Key]; before != nil {
				request.Current, request.Group = before.Clusters, before.Group
			}
			if d.Cmd == "return" {
				request.Return = d.CmdArgs[1].Key
			}
			if err := s.decide(&out, arg.Key, request); err != nil {
				return out.String(), err
			}
		}
	case "explain":
		request, err := s.request(d.CmdArgs[0].Key)
		if err != nil {
			return "", err
		}
		decision, err := s.engine.Explain(context.Background(), request)
		if err != nil {
			return "", err
		}
		report.Explanation(&out, decision, report.View{})
	case "stays":
		request, err := s.request(d.CmdArgs[0].Key)
		if err != nil {
			return "", err
		}
		for _, arg := range d.CmdArgs[1:] {
			request.Current = append(request.Current, engine.Choice{Name: arg.Key, Replicas: request.Workload.Replicas})
		}
		decision, err := s.engine.Review(context.Background(), request)
		if err != nil {
			return "", err
		}
		if decision != nil {
			for _, v := range decision.Left {
				fmt.Fprintf(&out, "leaves %s: %s\n", v.Cluster, v.Rejection)
			}
			for _, v := range decision.Retained {
				fmt.Fprintf(&out, "should leave %s: %s\n", v.Cluster, v.Rejection)
			}
			if len(decision.Left) > 0 {
				out.WriteString("then it is on:")
				for _, c := range decision.Clusters {
					fmt.Fprintf(&out, " %s", c.Name)
				}
				if len(decision.Clusters) == 0 {
					out.WriteString(" nothing")
				}
				out.WriteString("\n")
			}
		}
		if out.Len() == 0 {
			return "yes\n", nil
		}
	case "now":
		var err error
		s.now, err = time.Parse(time.RFC3339, d.CmdArgs[0].Key)
		s.setClusters()
		return "", err
	case "release":
		for _, arg := range d.CmdArgs {
			fmt.Fprintf(&out, "%s had a reservation: %v\n", arg.Key, s.engine.Release(s.workspace, s.workloads[arg.Key].Reference))
		}
	case "free":
		for _, row := range s.engine.Snapshot(s.workspace).Rows() {
			free, err := yaml.Marshal(row.Free.ResourceList())
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "%s: %s\n", row.Name, strings.Join(strings.Split(strings.TrimSpace(string(free)), "\n"), ", "))
		}
	case "share":
		grants, err := Grants(d.Input)
		if err != nil {
			return "", err
		}
		return "", s.engine.Share(logicalcluster.Name(d.CmdArgs[0].Key), platform, grants)
	case "in":
		s.in(logicalcluster.Name(d.CmdArgs[0].Key))
	case "accounts":
		for _, a := range s.engine.Accounts(platform) {
			fmt.Fprintf(&out, "%s %s: %s cpu", a.Workspace, a.Set, capacity.Format(capacity.CPU, a.Promised.CPU, true))
			if quota, bounded := a.Quota[capacity.CPU]; bounded {
				fmt.Fprintf(&out, " of %s", capacity.Format(capacity.CPU, quota, false))
			}
			out.WriteString("\n")
		}
	case "line":
		var waiting []engine.Request
		for _, arg := range d.CmdArgs {
			request, err := s.request(arg.Key)
			if err != nil {
				return "", err
			}
			s.waits++
			request.Since = time.Unix(int64(s.waits), 0)
			waiting = append(waiting, request)
		}
		call, _ := s.engine.SetLine(context.Background(), s.workspace, waiting)
		for _, name := range call {
			fmt.Fprintf(&out, "%s looks again\n", name)
		}
	case "offer":
		var offers []engine.Candidate
		for _, arg := range d.CmdArgs {
			offers = append(offers, engine.Candidate{Workload: s.workloads[arg.Key].Reference})
		}
		s.engine.SetOffers(s.workspace, offers)
	case "reclaims":
		for _, r := range s.engine.Reclaims(platform) {
			fmt.Fprintf(&out, "%s %s, on %s:\n", r.Workspace, r.Workload, r.Cluster)
			for _, name := range slices.Sorted(maps.Keys(r.Victims)) {
				for _, v := range r.Victims[name] {
					fmt.Fprintf(&out, "  %s gives up %s\n", name, v.Workload)
				}
			}
		}
	default:
		return "", fmt.Errorf("there is no command %q", d.Cmd)
	}
	return out.String(), nil
}

// decide decides for a workload and prints its clusters, with the replicas there where they are divided, and notes.
func (s *scenario) decide(out *strings.Builder, name string, request engine.Request) error {
	decision, err := s.engine.Decide(context.Background(), request)
	if err != nil {
		return err
	}
	s.decisions[name] = decision
	fmt.Fprintf(out, "%s:", name)
	for _, c := range decision.Clusters {
		if fmt.Fprintf(out, " %s (%d %s)", c.Name, c.Score, c.Reason); request.Placement.Division != nil {
			fmt.Fprintf(out, " x%d", c.Replicas)
		}
	}
	if len(decision.Clusters) == 0 {
		out.WriteString(" waits, " + decision.Summary())
	}
	out.WriteString("\n")
	for _, v := range decision.Left {
		fmt.Fprintf(out, "  leaves %s: %s\n", v.Cluster, v.Rejection)
	}
	if message := decision.NoBetterPlace(); message != "" {
		fmt.Fprintf(out, "  %s\n", message)
	}
	for _, note := range decision.Notes() {
		fmt.Fprintf(out, "  %s\n", note)
	}
	return nil
}

func (s *scenario) request(name string) (engine.Request, error) {
	w, found := s.workloads[name]
	if !found {
		return engine.Request{}, fmt.Errorf("there is no workload %q", name)
	}
	for _, p := range s.placements {
		if p.Selects(w) {
			return engine.Request{Workspace: s.workspace, Placement: p, Workload: w, Now: s.now}, nil
		}
	}
	return engine.Request{}, fmt.Errorf("no placement selects %s", w)
}

// clusters sets or removes clusters.
func (s *scenario) clusters(input string) (string, error) {
	clusters, err := Clusters(input)
	if err != nil {
		return "", err
	}
	for name, c := range clusters {
		if c == nil {
			s.engine.RemoveCluster(platform, name)
			delete(s.fleet, name)
			continue
		}
		s.fleet[name] = snapshot.FromRegistration(c.ClusterRegistration, c.Usage)
	}
	s.setClusters()
	return "", nil
}

// setClusters gives the engine the clusters with the scores that they have now.
func (s *scenario) setClusters() {
	for name, c := range s.fleet {
		var of []*v1alpha1.ClusterScore
		for _, score := range s.scores {
			if score.ClusterName == name {
				of = append(of, score)
			}
		}
		scored := *c
		scored.Scores, _ = snapshot.ScoresOf(of, s.now)
		s.engine.SetCluster(platform, &scored)
	}
}

func (s *scenario) workload(kind, name, input string) error {
	object, err := Workload(kind, name, input)
	if err != nil {
		return err
	}
	w, err := workload.FromObject(object)
	if err != nil {
		return err
	}
	s.workloads[name] = w
	s.setAffinity()
	return nil
}

// setAffinity tells the engine of the placements and workloads, as the controller does before it decides.
func (s *scenario) setAffinity() {
	selectors := make([]placement.Selector, len(s.placements))
	for i, p := range s.placements {
		selectors[i] = p.Selector
	}
	s.engine.SetAffinity(s.workspace, s.placements, func(yield func(*workload.Workload, *placement.Placement) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.workloads)) {
			var scheduled *placement.Placement
			if owner, _ := placement.Owner(selectors, s.workloads[name]); owner >= 0 {
				// Where the policies fail for it, deciding says so.
				scheduled, _ = s.engine.Scheduled(context.Background(), engine.Request{Workspace: s.workspace, Placement: s.placements[owner], Workload: s.workloads[name]})
			}
			if !yield(s.workloads[name], scheduled) {
				return
			}
		}
	})
}
