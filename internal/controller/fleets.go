package controller

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/sharing"
)

// fleets are those of all workspaces of a controller, and who looks at which.
type fleets struct {
	wake func(logicalcluster.Name)
	gone func(context.Context, logicalcluster.Name, types.NamespacedName) (bool, error)
	// at returns the workspace at a path that one asks for, nobody where that one has asked before.
	at func(by logicalcluster.Name, path string) (logicalcluster.Name, error)

	mu     sync.Mutex
	fleets map[logicalcluster.Name]*fleet
	states map[logicalcluster.Name]*sharingState
	// naming are those of states that name others.
	naming map[logicalcluster.Name]*sharingState
	// version grows as these change; waiting counts the workloads of workspaces that wait for clusters of others.
	version int64
	waiting map[logicalcluster.Name]int
}

// sharingState is what a workspace says of sharing clusters.
type sharingState struct {
	*sharing.Workspace
	sharingInputs
	// names are the workspaces that its ClusterSets and ClusterSetBindings name.
	names []v1alpha1.WorkspaceReference
}

// sharingInputs are what that was read from.
type sharingInputs struct {
	fleet      logicalcluster.Name
	registered map[string]labels.Set
	// versions of ClusterSets and ClusterSetBindings by UID.
	sets, bindings map[types.UID]int64
}

func (t *sharingInputs) same(o *sharingInputs) bool {
	return t.fleet == o.fleet && maps.Equal(t.sets, o.sets) && maps.Equal(t.bindings, o.bindings) &&
		maps.EqualFunc(t.registered, o.registered, func(a, b labels.Set) bool { return maps.Equal(a, b) })
}

// registers reports whether these are the registrations of a view. No map is made for that in each pass.
func (t *sharingInputs) registers(o *cacheView) bool {
	return len(t.registered) == len(o.clusters) && !slices.ContainsFunc(o.clusters, func(r *v1alpha1.ClusterRegistration) bool {
		before, there := t.registered[r.Name]
		return !there || !maps.Equal(before, labelsIn(o, r))
	})
}

// labelsIn are those of a registration by which ClusterSets select; none where there are no sets.
func labelsIn(o *cacheView, r *v1alpha1.ClusterRegistration) labels.Set {
	if len(o.sets) == 0 {
		return nil
	}
	return r.Labels
}

func newFleets() *fleets {
	return &fleets{fleets: map[logicalcluster.Name]*fleet{}, states: map[logicalcluster.Name]*sharingState{}, naming: map[logicalcluster.Name]*sharingState{}, waiting: map[logicalcluster.Name]int{}}
}

// add has others find the fleet of a workspace.
func (f *fleets) add(of *fleet) {
	of.wake, of.gone = f.wake, f.gone
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.fleets[of.name]
	f.fleets[of.name] = of
	if before != nil {
		for _, name := range before.guestNames() {
			f.wake(name)
		}
	}
}

// forget drops a workspace that is not followed any more. Those that look at its fleet find that it is not open.
func (f *fleets) forget(w *workspace) {
	w.fleet.close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fleets[w.name] == w.fleet {
		delete(f.fleets, w.name)
	}
	delete(f.states, w.name)
	delete(f.naming, w.name)
	delete(f.waiting, w.name)
	f.version++
	if w.host != nil {
		w.host.removeGuest(w.name)
	}
	for _, name := range w.fleet.guestNames() {
		f.wake(name)
	}
	f.wakeNaming(map[logicalcluster.Name]bool{w.name: true})
}

// showHost makes a view that of a workspace which looks at the clusters of another: what it has of decisions itself are copies, and
// clusters of its own do not count.
func (o *cacheView) showHost(host *fleet, name logicalcluster.Name, grants []engine.Grant) {
	o.copies, o.decisions, o.kept, o.grants = slices.Concat(o.decisions, o.kept), host.kept(name), nil, grants
	o.clusters, o.usages, o.heard, o.scores, o.works, o.keptWorks = nil, nil, nil, nil, nil, nil
	if host.works != nil {
		o.works = host.works.shown(name)
	}
}

// find returns the fleet of a workspace. One that is not followed has one that is not open.
func (f *fleets) find(name logicalcluster.Name) *fleet {
	found := f.fleets[name]
	if found == nil {
		found = newFleet(name, actions{})
		found.wake = f.wake
		f.fleets[name] = found
	}
	return found
}

// hasGuest reports whether a workspace looks at the clusters of another one.
func (f *fleets) hasGuest(host, guest logicalcluster.Name) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := f.fleets[host]
	return of != nil && of.hasGuest(guest)
}

// fleetFor returns the fleet of another workspace that a workspace looks at, and through which grants; nil where it looks at its own. now
// is the one that it looks at so far.
//
// Invariant: a workspace stays with a fleet as long as anything is promised to it there, and nobody else has it look at another: that
// it was there is said by its own copies of what is kept.
func (f *fleets) fleetFor(name logicalcluster.Name, o *cacheView, now *workspace) (host *fleet, grants []engine.Grant) {
	t := sharingInputs{sets: map[types.UID]int64{}, bindings: map[types.UID]int64{}}
	for _, s := range o.sets {
		t.sets[s.UID] = s.Generation
	}
	for _, b := range o.setBindings {
		t.bindings[b.UID] = b.Generation
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.fleet = f.holds(name, o, now)
	before := f.states[name]
	if before != nil && before.registers(o) {
		t.registered = before.registered
	} else {
		t.registered = make(map[string]labels.Set, len(o.clusters))
		for _, r := range o.clusters {
			t.registered[r.Name] = labelsIn(o, r)
		}
	}
	if before == nil || !before.same(&t) {
		f.version++
		state := &sharingState{Workspace: sharing.NewWorkspace(name, "", t.registered, o.readableSets(), o.setBindings), sharingInputs: t}
		for _, s := range o.sets {
			state.names = append(state.names, workspacesOf(s)...)
		}
		for _, b := range o.setBindings {
			state.names = append(state.names, b.Spec.Workspace)
		}
		for _, named := range state.names {
			if named.Path != "" {
				_, _ = f.at(name, named.Path) // in its own turns
			}
		}
		state.Held = t.fleet
		f.states[name] = state
		if delete(f.naming, name); len(state.names) > 0 {
			f.naming[name] = state
		}
		f.wakeNaming(map[logicalcluster.Name]bool{name: true})
	}
	v := sharing.ViewOf(f.states[name].Workspace, f.lookup)
	if v.Fleet == name {
		return nil, nil
	}
	return f.find(v.Fleet), v.Grants
}

// workspacesOf are those that the grants of a set name.
func workspacesOf(set *v1alpha1.ClusterSet) (all []v1alpha1.WorkspaceReference) {
	for i := range set.Spec.Grants {
		all = append(all, set.Spec.Grants[i].Workspace)
	}
	return all
}

// holds returns the fleet to which a workspace is tied by what is decided, empty where it is not.
func (f *fleets) holds(name logicalcluster.Name, o *cacheView, now *workspace) logicalcluster.Name {
	visits := now != nil && now.host != nil
	if visits && (now.store != nil && len(now.store.slices) > 0 || len(now.host.kept(name)) > 0) {
		return now.host.name
	}
	own := logicalcluster.Name("")
	for _, d := range o.decisions {
		at := logicalcluster.Name(d.Annotations[v1alpha1.AnnotationCopyOf])
		switch {
		case at == "" && !visits:
			own = name // though its clusters may not be shown yet
		case at == "" || at == name:
		case f.find(at).published.Load() == nil || len(f.find(at).kept(name)) > 0:
			return at
		}
	}
	return own
}

// lookup finds a workspace by what it has said itself.
func (f *fleets) lookup(r v1alpha1.WorkspaceReference) *sharing.Workspace {
	if s := f.states[f.means(r)]; s != nil {
		return s.Workspace
	}
	return nil
}

// means is the workspace that a reference names, empty where that is not known.
func (f *fleets) means(r v1alpha1.WorkspaceReference) logicalcluster.Name {
	if r.Cluster != "" {
		return logicalcluster.Name(r.Cluster)
	}
	name, err := f.at("", r.Path)
	if err != nil {
		return ""
	}
	return name
}

// moved has a pass be made over the workspaces that name paths at which other workspaces are now, and over those that name these: nobody
// else is concerned.
func (f *fleets) moved(paths map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	naming := map[logicalcluster.Name]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.naming)) {
		if slices.ContainsFunc(f.naming[name].names, func(r v1alpha1.WorkspaceReference) bool { return paths[r.Path] }) {
			naming[name] = true
			f.wake(name)
		}
	}
	if len(naming) > 0 {
		f.version++
		f.wakeNaming(naming)
	}
}

// wakeNaming has a pass be made over all other workspaces that name one of some.
func (f *fleets) wakeNaming(some map[logicalcluster.Name]bool) {
	for _, name := range slices.Sorted(maps.Keys(f.naming)) {
		if slices.ContainsFunc(f.naming[name].names, func(r v1alpha1.WorkspaceReference) bool { of := f.means(r); return of != name && some[of] }) {
			f.wake(name)
		}
	}
}

// readableSets returns the ClusterSets. One whose spec cannot be read in full has no clusters: a quota that is left out for that would
// bound nothing.
func (o *cacheView) readableSets() []*v1alpha1.ClusterSet {
	sets := slices.Clone(o.sets)
	for i, set := range sets {
		if len(specProblems(o.unreadable[set.UID])) > 0 {
			sets[i] = set.DeepCopy()
			sets[i].Spec.ClusterSelector = nil
		}
	}
	return sets
}

// specProblems are those with the spec of an object.
func specProblems(all decode.Problems) (spec decode.Problems) {
	for _, p := range all {
		if p.Field == "spec" || strings.HasPrefix(p.Field, "spec.") {
			spec = append(spec, p)
		}
	}
	return spec
}

// said identifies what workspaces say of sharing clusters.
func (f *fleets) said() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

// view returns how a workspace looks at which fleet, as it and others have said last.
func (f *fleets) view(name logicalcluster.Name) sharing.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[name] == nil {
		return sharing.View{Fleet: name}
	}
	return sharing.ViewOf(f.states[name].Workspace, f.lookup)
}

// sets returns how the ClusterSets of a workspace stand.
func (f *fleets) sets(name logicalcluster.Name, allocatable func(cluster string) capacity.Resources) []sharing.Set {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[name] == nil {
		return nil
	}
	return sharing.SetsOf(f.states[name].Workspace, f.lookup, allocatable)
}

// unresolved returns why the controller cannot know which workspace a reference means. Whether there is one is nobody's to know who is
// not bound to it.
func (f *fleets) unresolved(r v1alpha1.WorkspaceReference) error {
	if r.Path == "" {
		return nil
	}
	if _, err := f.at("", r.Path); errors.As(err, new(*unreadablePath)) || errors.Is(err, errPathUnread) {
		return err
	}
	return nil
}

// resolving reports whether it is about to be read which workspaces some references mean. Nothing is said of them until then, or who names a
// path would be told by that whether others have named it before.
func (f *fleets) resolving(references ...v1alpha1.WorkspaceReference) bool {
	return slices.ContainsFunc(references, func(r v1alpha1.WorkspaceReference) bool {
		if r.Path == "" {
			return false
		}
		_, err := f.at("", r.Path)
		return errors.Is(err, errPathUntried)
	})
}

// notOpen returns why nothing is decided on a fleet yet.
func (f *fleets) notOpen(name logicalcluster.Name) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.find(name).published.Load() == nil {
		return errNotOpen{name}
	}
	return nil
}

// reportWaiting has the workspace of a fleet know how many workloads of another one wait.
func (f *fleets) reportWaiting(of, fleet logicalcluster.Name, waiting int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting[of] = waiting; waiting == 0 {
		delete(f.waiting, of)
	}
	f.wake(fleet)
}

// waitingIn is how many workloads of a workspace wait.
func (f *fleets) waitingIn(of logicalcluster.Name) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting[of]
}
