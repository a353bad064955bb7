package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
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

// Load replaces the loaded workspaces; workloads keep their assignments. It returns the errors in clusters, placements,
// policies and PlacementDecisions. Workloads of a placement or of policies with an error are not decided.
func (s *Simulation) Load(ctx context.Context, workspaces []*manifest.Workspace) error {
	before := s.workspaces
	s.workspaces = nil
	errs := map[logicalcluster.Name][]error{}
	for _, m := range workspaces {
		s.workspaces = append(s.workspaces, &workspace{Workspace: m})
		errs[m.Name] = s.register(m, before)
	}
	// Nothing is decided on a fleet before everything promised there is known.
	all := s.share()
	for _, w := range s.workspaces {
		if before == nil && !s.options.Fresh {
			errs[w.Name] = append(errs[w.Name], s.restore(w.Workspace))
		}
	}
	for _, w := range s.workspaces {
		errs[w.Name] = append(errs[w.Name], w.compile(s.engine))
		if err := s.updatePolicies(ctx, w); err != nil {
			w.policyErr = inFiles(w.Workspace, err)
			errs[w.Name] = append(errs[w.Name], fmt.Errorf("policies of workspace %s: %w", w.Name, w.policyErr))
		}
		s.followRollout(w)
		s.setAffinity(ctx, w)
	}
	for _, w := range s.workspaces {
		if s.shows(w.Name) { // errors in other workspaces belong to their owners
			all = errors.Join(all, errors.Join(errs[w.Name]...))
		}
	}
	return all
}

// register replaces the clusters of a workspace.
func (s *Simulation) register(m *manifest.Workspace, before []*workspace) (errs []error) {
	gone := map[string]bool{}
	for _, w := range before {
		for _, c := range w.Clusters {
			if w.Name == m.Name {
				gone[c.Typed.Name] = true
			}
		}
	}
	for _, c := range m.Clusters {
		cluster := m.Cluster(c.Typed, s.options.Now)
		if cluster.Invalid != "" {
			errs = append(errs, &manifest.Error{Position: c.Position("status"), Object: c.String(), Message: cluster.Invalid})
		}
		if _, err := s.engine.SetCluster(m.Name, cluster); err != nil {
			errs = append(errs, &manifest.Error{Position: c.Position("status"), Object: c.String(), Message: err.Error()})
		}
		delete(gone, c.Typed.Name)
	}
	for name := range gone {
		s.engine.RemoveCluster(m.Name, name)
	}
	return errs
}

// setAffinity gives the engine what it needs for affinity between workloads.
func (s *Simulation) setAffinity(ctx context.Context, w *workspace) {
	var placements []*placement.Placement
	w.affine = s.engine.Relates(w.Name)
	for _, p := range w.placements {
		if p.compiled != nil {
			placements = append(placements, p.compiled)
			w.affine = w.affine || len(p.compiled.Affinity) > 0
		}
	}
	items := w.items()
	s.engine.SetAffinity(w.Name, placements, func(yield func(*workload.Workload, *placement.Placement) bool) {
		for i := range items {
			var scheduled *placement.Placement
			if p := items[i].placement; p != nil && p.compiled != nil && items[i].Err == nil {
				// If the policies fail for a workload, its decision reports it.
				scheduled, _ = s.engine.Scheduled(ctx, engine.Request{Workspace: w.Name, Placement: p.compiled, Workload: items[i].Workload.Workload, Shadow: p.candidate})
			}
			if !yield(items[i].Workload.Workload, scheduled) {
				return
			}
		}
	})
}

// updatePolicies puts the policies of a workspace into force, unless they do not compile or fail for an existing workload.
// In that case the ones in force stay.
func (s *Simulation) updatePolicies(ctx context.Context, w *workspace) error {
	set, err := s.policies.Compile(w.Texts())
	if err != nil {
		return err
	}
	configMaps := make([]*corev1.ConfigMap, len(w.ConfigMaps))
	for i, c := range w.ConfigMaps {
		configMaps[i] = c.Typed
	}
	if set.Digest() != s.engine.PolicyDigest(w.Name) && !set.WasInForce(configMaps) {
		var workloads []policy.Input
		for _, i := range w.items() {
			if i.placement != nil && i.placement.err == nil && i.Err == nil && i.End() == "" {
				workloads = append(workloads, policy.Input{Workspace: w.Name.String(), Placement: i.placement.compiled.Placement, Workload: i.Workload.Workload})
			}
		}
		if _, err := policy.NewTrial(set).Run(ctx, workloads, func() bool { return true }); err != nil {
			return err
		}
	}
	s.engine.SetPolicies(w.Name, set)
	return nil
}

// inFiles sets the positions of policy errors to those in the files that the policies were read from.
func inFiles(m *manifest.Workspace, err error) error {
	var errs policy.Errors
	if !errors.As(err, &errs) {
		return err
	}
	errs = slices.Clone(errs)
	for i := range errs {
		if p, found := m.At(errs[i].File, errs[i].Row, errs[i].Col); found && p.File != nil {
			errs[i].File, errs[i].Row, errs[i].Col = p.File.Name, p.Line, p.Column
			if errs[i].Message = p.Within(errs[i].Message); p.Field != "" {
				errs[i].Message = fmt.Sprintf("%s: %s: %s", p.Object, p.Field, errs[i].Message)
			}
		}
	}
	return errs
}

func (w *workspace) compile(e *engine.Engine) error {
	var errs []error
	objects := slices.Clone(w.Placements)
	slices.SortFunc(objects, func(a, b manifest.Typed[v1alpha1.WorkloadPlacement]) int { return placement.ByAge(a.Typed, b.Typed) })
	for _, o := range objects {
		p := &placementState{
			name: o.Typed.Name, namespace: o.Typed.Namespace, priority: o.Typed.Spec.Priority, preempts: o.Typed.Preempts(), reclaimable: o.Typed.Spec.Preemption.Reclaimable,
			queue: o.Typed.Status.Queue, unlimited: o.Typed.DisruptsAtOnce(), suspended: o.Typed.Spec.Suspend, uid: o.Typed.UID,
		}
		if asked := o.Typed.Spec.Headroom; asked != nil {
			p.survive = snapshot.TopologyKey(asked.Survive.TopologyKey)
		}
		selector, _ := placement.CompileSelector(o.Typed) // Compile returns its error as well
		if p.compiled, p.err = e.CompilePlacement(o.Typed); p.err != nil {
			p.err = &manifest.Error{Position: o.Position("spec"), Object: o.String(), Message: p.err.Error()}
			errs = append(errs, p.err)
		}
		w.placements, w.selectors = append(w.placements, p), append(w.selectors, selector)
	}
	return errors.Join(errs...)
}

// restore assigns workloads to the clusters in their PlacementDecisions. What is reserved for a workload that is not among
// the objects stays reserved.
func (s *Simulation) restore(m *manifest.Workspace) error {
	var errs []error
	for _, slice := range m.Decisions {
		name := types.NamespacedName{Namespace: slice.Typed.Namespace, Name: slice.Typed.PlacementName}
		for _, d := range slice.Typed.Decisions {
			r, err := engine.ReservationOf(name, &d)
			ref := r.Workload
			if err != nil {
				errs = append(errs, &manifest.Error{
					Position: slice.Position("decisions"), Object: slice.String(), Message: fmt.Sprintf("decision on %s: %v", ref, err),
				})
				continue
			}
			if _, twice := s.assignments[keyOf(m.Name, ref)]; twice {
				errs = append(errs, &manifest.Error{
					Position: slice.Position("decisions"), Object: slice.String(), Message: fmt.Sprintf("%s has another decision already", ref),
				})
				continue
			}
			a := assignment{uid: string(d.Workload.UID), placement: name, since: d.DecidedAt.Time, group: d.Group, inputsDigest: d.InputsDigest, history: d.History}
			for i, c := range d.Clusters {
				a.clusters = append(a.clusters, engine.Choice{
					Name: c.Name, Replicas: int64(c.Replicas), Score: int64(c.Score), Reason: c.Reason, Reserved: r.Shares[i].Amount, Expired: r.Shares[i].Expired,
				})
			}
			_ = s.engine.Restore(m.Name, r) // what can be read is valid
			s.assignments[keyOf(m.Name, ref)] = a
		}
	}
	return errors.Join(errs...)
}
