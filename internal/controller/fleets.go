package controller

import (
	"cmp"
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

// fleets holds the fleets of all workspaces of a controller, and which workspace uses which.
type fleets struct {
	wake func(logicalcluster.Name)
	gone func(context.Context, logicalcluster.Name, types.NamespacedName) (bool, error)
	// at returns the workspace at a path, on behalf of the workspace that asks; by is empty if that one has asked before.
	at func(by logicalcluster.Name, path string) (logicalcluster.Name, error)

	mu sync.Mutex
	// fleets are the fleets of followed workspaces, absent those of other workspaces that have guests.
	fleets, absent map[logicalcluster.Name]*fleet

	states map[logicalcluster.Name]*sharingState
	// naming holds the states that name other workspaces.
	naming map[logicalcluster.Name]*sharingState
	// version grows when these change; waiting counts, by workspace, the workloads that wait for clusters of others.
	version int64
	waiting map[logicalcluster.Name]int
}

// sharingState is what a workspace declares about sharing clusters.
type sharingState struct {
	*sharing.Workspace
	sharingInputs
	// names are the workspaces that its ClusterSets and ClusterSetBindings name.
	names []v1alpha1.WorkspaceReference
}

// sharingInputs are the objects that a sharingState was read from.
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

// registers reports whether the registrations are those of a view. It makes no map, since it runs in each pass.
func (t *sharingInputs) registers(o *cacheView) bool {
	return len(t.registered) == len(o.clusters) && !slices.ContainsFunc(o.clusters, func(r *v1alpha1.ClusterRegistration) bool {
		before, there := t.registered[r.Name]
		return !there || !maps.Equal(before, labelsIn(o, r))
	})
}

// labelsIn returns the labels of a registration by which ClusterSets select; none if there are no sets.
func labelsIn(o *cacheView, r *v1alpha1.ClusterRegistration) labels.Set {
	if len(o.sets) == 0 {
		return nil
	}
	return r.Labels
}

func newFleets() *fleets {
	return &fleets{fleets: map[logicalcluster.Name]*fleet{}, absent: map[logicalcluster.Name]*fleet{}, states: map[logicalcluster.Name]*sharingState{}, naming: map[logicalcluster.Name]*sharingState{}, waiting: map[logicalcluster.Name]int{}}
}

// add makes the fleet of a workspace available to others.
func (f *fleets) add(of *fleet) {
	of.wake, of.gone = f.wake, f.gone
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, before := range []*fleet{f.fleets[of.name], f.absent[of.name]} {
		if before != nil {
			for _, name := range before.guestNames() {
				f.wake(name)
			}
		}
	}
	f.fleets[of.name] = of
	delete(f.absent, of.name)
}

// attach makes a workspace use the clusters of host from now on.
func (f *fleets) attach(w *workspace, host *fleet) {
	w.host, w.actions = host, w.own.keptIn(host, w.name)
	f.mu.Lock()
	defer f.mu.Unlock()
	host.addGuest(w.name)
	switch now := f.known(host.name); now {
	case host:
	case nil:
		f.absent[host.name] = host
	default:
		f.wake(w.name) // to look at that one
	}
}

// forget drops a workspace that is no longer followed. Its guests find that the fleet is not open.
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
		if at := w.host.name; f.absent[at] == w.host && len(w.host.guestNames()) == 0 {
			delete(f.absent, at)
		}
	}
	for _, name := range w.fleet.guestNames() {
		f.wake(name)
	}
	f.wakeNaming(map[logicalcluster.Name]bool{w.name: true})
}

// showHost turns a view into that of a guest: the guest's own decisions are copies, and its own clusters do not count.
func (o *cacheView) showHost(host *fleet, name logicalcluster.Name, grants []engine.Grant) {
	o.copies, o.decisions, o.kept, o.grants = slices.Concat(o.decisions, o.kept), host.kept(name), nil, grants
	o.clusters, o.usages, o.heard, o.scores, o.works, o.keptWorks = nil, nil, nil, nil, nil, nil
}

// known returns the fleet of a workspace that is followed or has guests, nil for any other.
func (f *fleets) known(name logicalcluster.Name) *fleet {
	return cmp.Or(f.fleets[name], f.absent[name])
}

// find returns the fleet of a workspace. The fleet of a workspace that is not followed is not open, and is kept while it has guests.
func (f *fleets) find(name logicalcluster.Name) *fleet {
	found := f.known(name)
	if found == nil {
		found = newFleet(name, actions{})
		found.wake = f.wake
	}
	return found
}

// hasGuest reports whether a workspace uses the clusters of another one.
func (f *fleets) hasGuest(host, guest logicalcluster.Name) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := f.known(host)
	return of != nil && of.hasGuest(guest)
}

// fleetFor returns the fleet of another workspace that a workspace uses, and the grants through which it does; nil if it uses its own. now
// is the workspace's current state.
//
// Invariant: a workspace stays with a fleet as long as anything is promised to it there, and no other workspace can move it to a different
// one: its own copies of the kept slices show that it was there.
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
				_, _ = f.at(name, named.Path) // so that it is read in this workspace's own turns
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

// workspacesOf returns the workspaces that the grants of a set name.
func workspacesOf(set *v1alpha1.ClusterSet) (all []v1alpha1.WorkspaceReference) {
	for i := range set.Spec.Grants {
		all = append(all, set.Spec.Grants[i].Workspace)
	}
	return all
}

// holds returns the fleet that a workspace is tied to by its decisions, empty if it is not tied.
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

// lookup finds a workspace by its own declarations.
func (f *fleets) lookup(r v1alpha1.WorkspaceReference) *sharing.Workspace {
	if s := f.states[f.means(r)]; s != nil {
		return s.Workspace
	}
	return nil
}

// means returns the workspace that a reference names, empty if that is not known.
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

// moved enqueues the workspaces that name paths which now resolve to other workspaces, and those that name these: the change concerns
// nobody else.
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

// wakeNaming enqueues all other workspaces that name one of the given ones.
func (f *fleets) wakeNaming(some map[logicalcluster.Name]bool) {
	for _, name := range slices.Sorted(maps.Keys(f.naming)) {
		if slices.ContainsFunc(f.naming[name].names, func(r v1alpha1.WorkspaceReference) bool { of := f.means(r); return of != name && some[of] }) {
			f.wake(name)
		}
	}
}

// readableSets returns the ClusterSets. A set whose spec cannot be read in full has no clusters: a quota that is skipped for that reason
// would bound nothing.
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

// specProblems returns the problems in the spec of an object.
func specProblems(all decode.Problems) (spec decode.Problems) {
	for _, p := range all {
		if p.Field == "spec" || strings.HasPrefix(p.Field, "spec.") {
			spec = append(spec, p)
		}
	}
	return spec
}

// said returns the version of what workspaces declare about sharing clusters.
func (f *fleets) said() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

// view returns which fleet a workspace uses and how, according to the latest declarations of all workspaces.
func (f *fleets) view(name logicalcluster.Name) sharing.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[name] == nil {
		return sharing.View{Fleet: name}
	}
	return sharing.ViewOf(f.states[name].Workspace, f.lookup)
}

// sets returns the state of the ClusterSets of a workspace.
func (f *fleets) sets(name logicalcluster.Name, allocatable func(cluster string) capacity.Resources) []sharing.Set {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[name] == nil {
		return nil
	}
	return sharing.SetsOf(f.states[name].Workspace, f.lookup, allocatable)
}

// unresolved returns why the controller cannot know which workspace a reference means. Whether that workspace exists is not disclosed to
// those who are not bound to it.
func (f *fleets) unresolved(r v1alpha1.WorkspaceReference) error {
	if r.Path == "" {
		return nil
	}
	if _, err := f.at("", r.Path); errors.As(err, new(*unreadablePath)) || errors.Is(err, errPathUnread) {
		return err
	}
	return nil
}

// resolving reports whether some of the references have not been resolved yet. Nothing is reported about them until then; otherwise the
// answer would disclose whether anybody has named the same path before.
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

// reportWaiting tells the host of a fleet how many workloads of a guest wait.
func (f *fleets) reportWaiting(of, fleet logicalcluster.Name, waiting int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting[of] = waiting; waiting == 0 {
		delete(f.waiting, of)
	}
	f.wake(fleet)
}

// waitingIn returns how many workloads of a workspace wait.
func (f *fleets) waitingIn(of logicalcluster.Name) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting[of]
}
