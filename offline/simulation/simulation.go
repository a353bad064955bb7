// Package simulation places the workloads of whole workspaces as the controller would, with nothing but their objects:
// the same engine, the same order, the same reasons to stay or to move.
package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Options of a Simulation; the zero value is good.
type Options struct {
	// Fresh leaves PlacementDecisions out of account, as if nothing had been placed yet.
	Fresh bool
	// Rejected asks for the clusters that were rejected, with the reasons.
	Rejected bool
	// Queue asks Top for the workloads that wait, and for what.
	Queue bool
	// Progress is told how many of the workloads have been placed, or looked at by Top.
	Progress func(done, total int)
}

// Simulation is what stands in the simulated workspaces. It is not safe for concurrent use.
type Simulation struct {
	options    Options
	engine     *engine.Engine
	policies   *policy.Compiler
	workspaces []*workspace
	// stands is where workloads run, by workspace and name.
	stands map[key]stand
}

type workspace struct {
	*manifest.Workspace
	placements []*placementState
	selectors  []placement.Selector
	// policyErr is why the policies are not in force.
	policyErr error
}

type placementState struct {
	name     string
	priority int32
	compiled *placement.Placement
	err      error
}

type key struct {
	workspace logicalcluster.Name
	workload.Reference
}

func keyOf(workspace logicalcluster.Name, ref workload.Reference) key {
	ref.UID = ""
	return key{workspace, ref}
}

// stand is where a workload runs, and for which inputs that was decided.
type stand struct {
	uid          string
	placement    types.NamespacedName
	clusters     []engine.Choice
	inputsDigest string
}

// New makes a simulation without workspaces.
func New(options Options) (*Simulation, error) {
	policies, err := policy.NewCompiler(policy.Options{Timeout: policy.PatientTimeout})
	if err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Options{Policies: policies})
	if err != nil {
		return nil, err
	}
	return &Simulation{options: options, engine: e, policies: policies, stands: map[key]stand{}}, nil
}

// Load puts workspaces in the place of those that were loaded before; workloads stay where they stand. It returns
// what is wrong with placements and policies: their workloads are not decided.
func (s *Simulation) Load(workspaces []*manifest.Workspace) error {
	first := len(s.workspaces) == 0
	s.workspaces = nil
	var errs []error
	for _, m := range workspaces {
		w := &workspace{Workspace: m}
		s.workspaces = append(s.workspaces, w)
		gone := map[string]bool{}
		for _, row := range s.engine.Snapshot(m.Name).Rows() {
			gone[row.Name] = true
		}
		for _, c := range m.Clusters {
			cluster := snapshot.FromRegistration(c.Typed)
			if cluster.Invalid != "" {
				errs = append(errs, &manifest.Error{Position: c.Position("status"), Object: c.String(), Message: cluster.Invalid})
			}
			s.engine.SetCluster(m.Name, cluster)
			delete(gone, c.Typed.Name)
		}
		for name := range gone {
			s.engine.RemoveCluster(m.Name, name)
		}
		var set *policy.Set
		if set, w.policyErr = s.policies.Compile(m.Texts()); w.policyErr == nil {
			s.engine.SetPolicies(m.Name, set)
		} else {
			w.policyErr = inFiles(m, w.policyErr)
			errs = append(errs, fmt.Errorf("policies of workspace %s: %w", m.Name, w.policyErr))
		}
		errs = append(errs, w.compile(s.engine))
		if first && !s.options.Fresh {
			errs = append(errs, s.restore(m))
		}
	}
	return errors.Join(errs...)
}

// inFiles tells errors of policies by their places in the files that they were read from.
func inFiles(m *manifest.Workspace, err error) error {
	var errs policy.Errors
	if !errors.As(err, &errs) {
		return err
	}
	errs = slices.Clone(errs)
	for i := range errs {
		if p, found := m.ModulePosition(errs[i].File, errs[i].Row, errs[i].Col); found && p.File != nil {
			errs[i].File, errs[i].Row, errs[i].Col = p.File.Name, p.Line, p.Column
		}
	}
	return errs
}

func (w *workspace) compile(e *engine.Engine) error {
	var errs []error
	objects := slices.Clone(w.Placements)
	slices.SortFunc(objects, func(a, b manifest.Typed[v1alpha1.WorkloadPlacement]) int { return placement.ByAge(a.Typed, b.Typed) })
	for _, o := range objects {
		p := &placementState{name: o.Typed.Name, priority: o.Typed.Spec.Priority}
		selector, _ := placement.CompileSelector(o.Typed) // what is wrong with it is in err
		if p.compiled, p.err = e.CompilePlacement(o.Typed); p.err != nil {
			p.err = &manifest.Error{Position: o.Position("spec"), Object: o.String(), Message: p.err.Error()}
			errs = append(errs, p.err)
		}
		w.placements, w.selectors = append(w.placements, p), append(w.selectors, selector)
	}
	return errors.Join(errs...)
}

// restore puts workloads where PlacementDecisions say that they run. What these promise to workloads that are not
// there stays reserved.
func (s *Simulation) restore(m *manifest.Workspace) error {
	var errs []error
	for _, slice := range m.Decisions {
		name := types.NamespacedName{Namespace: slice.Typed.Namespace, Name: slice.Typed.PlacementName}
		for _, d := range slice.Typed.Decisions {
			r, err := engine.ReservationOf(name, &d)
			ref := r.Workload
			if err != nil {
				errs = append(errs, &manifest.Error{
					Position: slice.Position("decisions"), Object: slice.String(), Message: fmt.Sprintf("reserved for %s: %v", ref, err),
				})
				continue
			}
			if _, twice := s.stands[keyOf(m.Name, ref)]; twice {
				errs = append(errs, &manifest.Error{
					Position: slice.Position("decisions"), Object: slice.String(), Message: fmt.Sprintf("%s has another decision already", ref),
				})
				continue
			}
			st := stand{uid: string(d.Workload.UID), placement: name, inputsDigest: d.InputsDigest}
			for _, c := range d.Clusters {
				st.clusters = append(st.clusters, engine.Choice{Name: c.Name, Replicas: int64(c.Replicas), Score: int64(c.Score), Reason: c.Reason})
			}
			s.engine.Restore(m.Name, r)
			s.stands[keyOf(m.Name, ref)] = st
		}
	}
	return errors.Join(errs...)
}

// item is a workload that is to be placed.
type item struct {
	workspace *workspace
	manifest.Workload
	// placement that the workload belongs to; nil where there is none.
	placement *placementState
}

func (i item) turn() placement.Turn {
	t := placement.Turn{Workload: i.Object, Kind: i.Kind, APIVersion: i.APIVersion}
	if i.placement != nil {
		t.Priority = i.placement.priority
	}
	return t
}

// name of the workload.
func (i item) name() Workload { return Workload{i.APIVersion, i.Kind, i.Namespace, i.Name} }

// items are all workloads in order of their turns, then of their workspaces.
func (s *Simulation) items() []item {
	var items []item
	for _, w := range s.workspaces {
		for _, o := range w.Workloads {
			i := item{workspace: w, Workload: o}
			if owner, _ := placement.Owner(w.selectors, o.Workload); owner >= 0 {
				i.placement = w.placements[owner]
			}
			items = append(items, i)
		}
	}
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(a.turn().Compare(b.turn()), cmp.Compare(a.workspace.Name, b.workspace.Name))
	})
	return items
}

// stand is where a workload stands; found is false where that is for another workload of its name, or for another
// placement.
func (s *Simulation) stand(i item) (at stand, found bool) {
	at, found = s.stands[keyOf(i.workspace.Name, i.Reference)]
	if found && (i.placement == nil || i.placement.name != at.placement.Name || i.UID != "" && at.uid != "" && at.uid != i.UID) {
		return stand{}, false
	}
	return at, found
}

// wrong is why a workload that belongs to a placement cannot be decided.
func (i item) wrong() error { return cmp.Or(i.Err, i.placement.err, i.workspace.policyErr) }

// Run places all workloads, by their placements' priority, creation time, then name. It fails only as ctx ends: what goes
// wrong with a workload is told in its decision.
func (s *Simulation) Run(ctx context.Context) (*Result, error) {
	return s.RunUntil(ctx, nil)
}

// RunUntil is Run, up to and including the first workload for which last is true; last may be nil.
func (s *Simulation) RunUntil(ctx context.Context, last func(*Decision) bool) (*Result, error) {
	items := s.items()
	start := time.Now()
	result := &Result{Decisions: make([]Decision, 0, len(items)), Clusters: []Cluster{}}
	for i, item := range items {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if s.options.Progress != nil {
			s.options.Progress(i, len(items))
		}
		d := s.place(ctx, item)
		result.Decisions = append(result.Decisions, d)
		if last != nil && last(&d) {
			break
		}
	}
	result.Summary = summarize(result.Decisions, time.Since(start))
	for _, w := range s.workspaces {
		for _, row := range s.engine.Snapshot(w.Name).Rows() {
			result.Clusters = append(result.Clusters, newCluster(w.Name.String(), row))
		}
	}
	return result, nil
}

// place decides for one workload, unless it may stay where it stands.
func (s *Simulation) place(ctx context.Context, item item) Decision {
	w, ref := item.workspace, item.Reference
	d := Decision{
		Workspace: w.Name.String(),
		Workload:  item.name(),
		Clusters:  []engine.Choice{},
	}
	if s.options.Rejected {
		d.Rejected = []Rejection{}
	}
	k := keyOf(w.Name, ref)
	leave := func(format string, args ...any) Decision {
		s.engine.Release(w.Name, ref)
		delete(s.stands, k)
		d.Error = fmt.Sprintf(format, args...)
		return d
	}
	p := item.placement
	if p == nil {
		return leave("no WorkloadPlacement of namespace %s selects this workload", ref.Namespace)
	}
	d.Placement = p.name
	at, stands := s.stand(item)
	if !stands {
		if end := item.End(); end != "" {
			return leave("%s", end)
		}
		s.engine.Release(w.Name, ref)
		delete(s.stands, k)
	}
	fail := func(err error) Decision {
		// As in the controller: nothing new is decided, and nothing undone.
		d.failed, d.Error = true, inFiles(w.Workspace, err).Error()
		if d.Kept = stands; stands {
			d.Clusters = at.clusters
		}
		return d
	}
	if err := item.wrong(); err != nil {
		return fail(err)
	}
	request := engine.Request{Workspace: w.Name, Placement: p.compiled, Workload: item.Workload.Workload}
	decide := s.engine.Decide
	switch end := item.End(); {
	case end == workload.HasFinished:
		s.engine.Restore(w.Name, engine.Reservation{Workload: ref, Placement: at.placement, Clusters: names(at.clusters)})
		fallthrough
	case end != "":
		decide, d.Kept = s.engine.Explain, true
	case stands:
		reason, err := s.engine.ReasonToMove(ctx, request, names(at.clusters), at.inputsDigest, true)
		if err != nil {
			return fail(err)
		}
		if reason == "" {
			decide, d.Kept = s.engine.Explain, true
		}
	}
	decision, err := decide(ctx, request)
	if err != nil {
		return fail(err)
	}
	d.Explained = decision
	if s.options.Rejected {
		d.Rejected = rejections(decision)
	}
	if d.Kept {
		d.Clusters = at.clusters
		return d
	}
	if len(decision.Clusters) == 0 {
		return leave("%s", decision.Summary())
	}
	d.Clusters = decision.Clusters
	s.stands[k] = stand{
		uid: ref.UID, placement: p.compiled.NamespacedName(), clusters: d.Clusters, inputsDigest: decision.InputsDigest,
	}
	return d
}

func names(clusters []engine.Choice) []string {
	all := make([]string, len(clusters))
	for i, c := range clusters {
		all[i] = c.Name
	}
	return all
}
