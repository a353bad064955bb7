package simulation

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/sharing"
	"github.com/kcp-placement/placement/offline/manifest"
)

// share attaches the workspaces to their own fleets, or to those of others, as ClusterSets and ClusterSetBindings determine.
func (s *Simulation) share() error {
	manifests := make([]*manifest.Workspace, len(s.workspaces))
	for i, w := range s.workspaces {
		manifests[i] = w.Workspace
	}
	s.shared, s.lookup = manifest.Shared(manifests)
	holding := map[logicalcluster.Name]bool{}
	for k := range s.assignments {
		holding[k.workspace] = true
	}
	fleets := map[logicalcluster.Name]logicalcluster.Name{}
	var errs []error
	for _, w := range s.workspaces {
		own := s.shared[w.Name]
		switch before, loaded := s.fleets[w.Name]; {
		case s.options.Fresh || loaded && !holding[w.Name]:
			own.Held = ""
		case loaded && before != w.Name:
			own.Held = before
		}
		view := sharing.ViewOf(own, s.lookup)
		fleets[w.Name] = view.Fleet
		if view.Fleet == w.Name {
			s.engine.Unshare(w.Name)
		} else if err := s.engine.Share(w.Name, view.Fleet, view.Grants); err != nil {
			errs = append(errs, fmt.Errorf("the clusters of workspace %s for workspace %s: %w", view.Fleet, w.Name, err))
		}
	}
	s.fleets = fleets
	return errors.Join(errs...)
}

// shows reports whether results are about a workspace.
func (s *Simulation) shows(workspace logicalcluster.Name) bool {
	return s.options.About == "" || s.options.About == workspace
}

// owns reports whether results are about a fleet as its owner sees it.
func (s *Simulation) owns(fleet logicalcluster.Name) bool {
	return s.fleets[fleet] == fleet && s.shows(fleet)
}

// Account is what a workspace has of the clusters of a set. Amounts are by resource.
type Account struct {
	// Fleet is the workspace that has the clusters, and FleetPath its path, if known.
	Fleet     string `json:"fleet"`
	FleetPath string `json:"fleetPath,omitempty"`
	// Set is the ClusterSet; empty for what the workspace of the clusters has itself, and for what others have on clusters that none of
	// their grants covers.
	Set       string `json:"set,omitempty"`
	Workspace string `json:"workspace"`
	// Path of the workspace, if known.
	Path string `json:"path,omitempty"`
	// Grant of the set; empty if it was taken away. Bound: the workspace uses it.
	Grant string `json:"grant,omitempty"`
	Bound bool   `json:"bound"`
	// Used is everything that is promised, Reserved the part of it that the clusters do not report yet.
	Used     map[string]int64 `json:"used"`
	Reserved map[string]int64 `json:"reserved"`
	// Quota is the most that the workspace may have: the quota of the grant, or the sum of guaranteed and borrowingLimit if that is less.
	// Left is what remains of it.
	Quota      map[string]int64 `json:"quota,omitempty"`
	Guaranteed map[string]int64 `json:"guaranteed,omitempty"`
	Left       map[string]int64 `json:"left,omitempty"`
	// DominantShare is the largest share, over all resources, of the capacity of the set's clusters, in thousandths, and Dominant the
	// resource.
	DominantShare int64  `json:"dominantShare"`
	Dominant      string `json:"dominant,omitempty"`
	// Waiting is how many workloads of the workspace wait.
	Waiting int `json:"waiting"`

	// reported is set if the account is taken from the status of the ClusterSet.
	reported bool
}

// accounts returns the accounts of the workspaces that share clusters, by fleet, set and workspace. Results about a guest show only its
// own.
func (s *Simulation) accounts(waiting map[logicalcluster.Name]int) (all []Account) {
	for _, owner := range s.workspaces {
		if s.fleets[owner.Name] != owner.Name {
			continue
		}
		allocatable := map[string]capacity.Resources{}
		var whole capacity.Resources
		for _, row := range s.engine.Snapshot(owner.Name).Rows() {
			allocatable[row.Name], whole = row.Allocatable, whole.Add(row.Allocatable)
		}
		type member struct{ set, workspace string }
		granted, reported := map[member]*Account{}, map[string]bool{}
		size := map[string]capacity.Resources{"": whole}
		var of []*Account
		sets := sharing.SetsOf(s.shared[owner.Name], s.lookup, func(name string) capacity.Resources { return allocatable[name] })
		for i := range sets {
			set := &sets[i]
			for _, name := range set.Clusters {
				size[set.Name] = size[set.Name].Add(allocatable[name])
			}
			for j, g := range set.Grants {
				spec := &set.Spec.Grants[j]
				a := &Account{Fleet: owner.Name.String(), Set: set.Name, Grant: spec.Name, Bound: g.Bound, Path: spec.Workspace.Path, Workspace: spec.Workspace.String(), Used: map[string]int64{}, Reserved: map[string]int64{}}
				a.Quota, a.Guaranteed = g.Limits, sharing.Amounts(spec.Guaranteed)
				a.Left = a.Quota
				if g.Workspace != nil {
					a.Workspace, a.Path = g.Workspace.Name.String(), g.Workspace.Path
					if of := (member{set.Name, a.Workspace}); granted[of] == nil {
						granted[of] = a
					}
				}
				if g.Workspace == nil && a.takeStatus(set.ClusterSet, spec.Name, size[set.Name]) {
					reported[a.Workspace] = true
				}
				of = append(of, a)
				if outside := a.outside(set.ClusterSet, whole); outside != nil {
					of = append(of, outside)
				}
			}
		}
		for _, e := range s.engine.Accounts(owner.Name) {
			a := granted[member{e.Set, e.Workspace.String()}]
			if reported[e.Workspace.String()] {
				continue
			}
			if a == nil {
				if e.Promised.IsZero() && e.Reserved.IsZero() {
					continue
				}
				a = &Account{Fleet: owner.Name.String(), Set: e.Set, Workspace: e.Workspace.String()}
				if w := s.shared[e.Workspace]; w != nil {
					a.Path = w.Path
				}
				of = append(of, a)
			}
			a.Used, a.Reserved = amounts(e.Promised), amounts(e.Reserved)
			if e.Quota != nil {
				a.Left = e.Left
			}
			a.DominantShare, a.Dominant = sharing.DominantShare(e.Promised, size[e.Set])
		}
		if len(sets) == 0 && len(of) < 2 {
			continue // nothing is shared
		}
		for _, a := range of {
			if name := logicalcluster.Name(a.Workspace); s.owns(owner.Name) || s.shows(name) {
				if !a.reported {
					a.Waiting = waiting[name]
				}
				a.FleetPath = s.shared[owner.Name].Path
				all = append(all, *a)
			}
		}
	}
	return all
}

// takeStatus takes over what the status reports of a workspace that is not in the input, and reports whether there is anything.
func (a *Account) takeStatus(set *v1alpha1.ClusterSet, grant string, has capacity.Resources) bool {
	i := slices.IndexFunc(set.Status.Grants, func(g v1alpha1.ClusterSetGrantStatus) bool { return g.Name == grant && g.Cluster != "" })
	if i < 0 {
		return false
	}
	g := &set.Status.Grants[i]
	a.reported, a.Workspace, a.Bound, a.Waiting = true, g.Cluster, g.Bound, int(g.Waiting)
	a.Used, a.Reserved = sharing.Amounts(g.Used), sharing.Amounts(g.Reserved)
	if a.Quota != nil {
		a.Left = make(map[string]int64, len(a.Quota))
		for name, quota := range a.Quota {
			a.Left[name] = quota - a.Used[name]
		}
	}
	var used capacity.Resources
	for name, amount := range a.Used {
		used = used.Add(capacity.Of(name, amount))
	}
	a.DominantShare, a.Dominant = sharing.DominantShare(used, has)
	return true
}

// outside returns what the status reports that a workspace which is not in the input has on clusters that have left its sets; nil if nothing.
func (a *Account) outside(set *v1alpha1.ClusterSet, whole capacity.Resources) *Account {
	i := slices.IndexFunc(set.Status.Grants, func(g v1alpha1.ClusterSetGrantStatus) bool { return g.Name == a.Grant && len(g.Outside) > 0 })
	if !a.reported || i < 0 {
		return nil
	}
	o := &Account{Fleet: a.Fleet, Workspace: a.Workspace, Path: a.Path, Used: sharing.Amounts(set.Status.Grants[i].Outside), Reserved: map[string]int64{}, reported: true}
	var used capacity.Resources
	for name, amount := range o.Used {
		used = used.Add(capacity.Of(name, amount))
	}
	o.DominantShare, o.Dominant = sharing.DominantShare(used, whole)
	return o
}

// shown returns the elements of a list that results are about.
func shown[T any](s *Simulation, all []T, workspace func(*T) string) []T {
	return slices.DeleteFunc(all, func(one T) bool { return !s.shows(logicalcluster.Name(workspace(&one))) })
}
