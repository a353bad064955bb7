// Package sharing determines which fleet each workspace uses, and through which grants: those for which the ClusterSets of one side and the
// ClusterSetBindings of the other agree. It does no I/O: the controller and the command line apply the same rules.
package sharing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/placement"
)

// Workspace is what matters for sharing of one logical cluster. It is immutable.
type Workspace struct {
	Name logicalcluster.Name
	// Path of the workspace, for example root:teams:payments; empty if not known.
	Path string
	// Held is the fleet of another workspace on which decisions of this one hold reservations; empty for none.
	Held logicalcluster.Name

	// registered are the names of its registrations.
	registered []string
	sets       []selected
	bindings   []*v1alpha1.ClusterSetBinding
}

// selected is a ClusterSet and the clusters that it selects.
type selected struct {
	*v1alpha1.ClusterSet
	clusters []string
	// errs are the errors in the selector.
	errs field.ErrorList
}

// NewWorkspace makes a workspace from its ClusterSets and ClusterSetBindings, and its registrations with their labels.
func NewWorkspace(name logicalcluster.Name, path string, registered map[string]labels.Set, sets []*v1alpha1.ClusterSet, bindings []*v1alpha1.ClusterSetBinding) *Workspace {
	w := &Workspace{Name: name, Path: path, registered: slices.Sorted(maps.Keys(registered)), bindings: slices.Clone(bindings)}
	for _, set := range sets {
		s := selected{ClusterSet: set}
		if by := set.Spec.ClusterSelector; by != nil {
			selector, errs := placement.CompileClusters(field.NewPath("spec"), nil, by)
			if s.errs = errs; len(errs) == 0 {
				s.clusters = slices.DeleteFunc(slices.Clone(w.registered), func(name string) bool { return !selector.Select(name, "", registered[name]) })
			}
		}
		w.sets = append(w.sets, s)
	}
	slices.SortFunc(w.sets, func(a, b selected) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(w.bindings, func(a, b *v1alpha1.ClusterSetBinding) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return w
}

// String returns the path of the workspace, or its name if the path is not known.
func (w *Workspace) String() string { return cmp.Or(w.Path, w.Name.String()) }

// isMeant reports whether a reference means the workspace. Which workspace is at a path is up to lookup.
func (w *Workspace) isMeant(by v1alpha1.WorkspaceReference, lookup Lookup) bool {
	if by.Cluster != "" {
		return by.Cluster == w.Name.String()
	}
	found := lookup(by)
	return found != nil && found.Name == w.Name
}

// Lookup finds a workspace; nil if none is known.
type Lookup func(v1alpha1.WorkspaceReference) *Workspace

// Among returns a Lookup among the given workspaces.
func Among(workspaces []*Workspace) Lookup {
	byName, byPath := map[string]*Workspace{}, map[string]*Workspace{}
	for _, w := range workspaces {
		byName[w.Name.String()], byPath[w.Path] = w, w
	}
	return func(r v1alpha1.WorkspaceReference) *Workspace {
		if r.Cluster != "" {
			return byName[r.Cluster]
		}
		if r.Path == "" {
			return nil
		}
		return byPath[r.Path]
	}
}

// View is which fleet a workspace uses, and how.
type View struct {
	// Fleet is the workspace that has the clusters; for a workspace that uses its own clusters, that is itself.
	Fleet logicalcluster.Name
	// Grants by name of the ClusterSet, if the fleet is another workspace's. Without any, what is there stays, and nothing new is placed.
	// A cluster may be in several of them.
	Grants []engine.Grant
	// Bindings of the workspace, the oldest first.
	Bindings []Binding
}

// Reasons why a ClusterSetBinding is, or is not, in use.
const (
	// Bound: the set grants the workspace something, and its clusters are in view.
	Bound = "Bound"
	// NotGranted: no grant of such a set is for the workspace. It does not disclose whether such a workspace or set exists.
	NotGranted = "NotGranted"
	// OwnFleet: the workspace has clusters, or sets of clusters, of its own.
	OwnFleet = "OwnFleet"
	// OtherFleet: the workspace already uses the fleet of another workspace.
	OtherFleet = "OtherFleet"
	// InvalidGrant: the grant, or the selector of the set, cannot be read.
	InvalidGrant = "InvalidGrant"
)

// Binding is a ClusterSetBinding and whether it is in use.
type Binding struct {
	*v1alpha1.ClusterSetBinding
	// Reason is Bound if the binding is in use. Field is a field of the binding.
	Reason, Field, Message string
	// Fleet is the workspace of the set if the set grants this workspace something, in use or not; otherwise empty.
	Fleet logicalcluster.Name
	// Clusters of the set that are in view through it, by name.
	Clusters []string

	grant *engine.Grant
}

// ViewOf returns which fleet a workspace uses, and how.
//
// A workspace uses one fleet: the one where it holds reservations; otherwise its own, if it has clusters or ClusterSets of its own;
// otherwise that of its oldest binding that matches a grant. Several bindings to one fleet form one view of the union of their sets.
func ViewOf(w *Workspace, lookup Lookup) View {
	v := View{Fleet: w.Held, Bindings: make([]Binding, len(w.bindings))}
	own := len(w.registered) > 0 || len(w.sets) > 0
	for i, b := range w.bindings {
		v.Bindings[i] = w.answer(b, lookup)
		if b := &v.Bindings[i]; v.Fleet == "" && !own && b.Reason == Bound {
			v.Fleet = b.Fleet
		}
	}
	v.Fleet = cmp.Or(v.Fleet, w.Name)
	grants := map[string]*engine.Grant{}
	for i := range v.Bindings {
		b := &v.Bindings[i]
		switch {
		case b.Reason != Bound:
		case v.Fleet == w.Name:
			b.Reason, b.Field = OwnFleet, "spec.workspace"
			b.Message = "this workspace has ClusterRegistrations or ClusterSets of its own and places on its own clusters only: delete these, or use another workspace for shared clusters"
		case v.Fleet != b.Fleet:
			b.Reason, b.Field = OtherFleet, "spec.workspace"
			b.Message = fmt.Sprintf("this workspace uses the clusters of %s already, and a workspace uses those of one other at a time: delete the bindings to its sets and what is placed there, or this binding", named(v.Fleet, lookup))
		default:
			grants[b.Spec.ClusterSet] = b.grant
			if own {
				b.Message = "ClusterRegistrations and ClusterSets of this workspace are not used while it has workloads on shared clusters"
			}
		}
	}
	for _, set := range slices.Sorted(maps.Keys(grants)) {
		v.Grants = append(v.Grants, *grants[set])
	}
	for i := range v.Bindings {
		if b := &v.Bindings[i]; b.Reason == Bound {
			b.Clusters = grants[b.Spec.ClusterSet].Clusters
		}
	}
	return v
}

// answer returns the state of a binding as determined by the other side's grants.
func (w *Workspace) answer(b *v1alpha1.ClusterSetBinding, lookup Lookup) Binding {
	answer := Binding{ClusterSetBinding: b, Reason: NotGranted, Field: "spec.clusterSet"}
	owner := lookup(b.Spec.Workspace)
	if owner != nil && owner.Name == w.Name {
		answer.Reason, answer.Field = OwnFleet, "spec.workspace"
		answer.Message = "a workspace needs no binding to its own clusters: name the workspace of the platform team, or delete the binding"
		return answer
	}
	answer.Message = fmt.Sprintf("no ClusterSet %s of workspace %s grants this workspace anything: check both names, and ask its owners for a grant to %s",
		b.Spec.ClusterSet, b.Spec.Workspace, w)
	if owner == nil {
		return answer
	}
	i := slices.IndexFunc(owner.sets, func(s selected) bool { return s.Name == b.Spec.ClusterSet })
	if i < 0 {
		return answer
	}
	set := owner.sets[i]
	grant := slices.IndexFunc(set.Spec.Grants, func(g v1alpha1.ClusterSetGrant) bool { return w.isMeant(g.Workspace, lookup) })
	if grant < 0 {
		return answer
	}
	g, problems := grantOf(&set, grant)
	if len(set.errs) > 0 || slices.ContainsFunc(problems, func(p Problem) bool { return p.Reason == InvalidQuantity }) {
		answer.Reason, answer.Message = InvalidGrant, "the ClusterSet, or its grant to this workspace, has errors that its owners see: nothing new is placed until they mend these"
		return answer
	}
	answer.Reason, answer.Field, answer.Message, answer.Fleet, answer.grant = Bound, "", "", owner.Name, g
	return answer
}

// named returns the name of a workspace for people.
func named(name logicalcluster.Name, lookup Lookup) string {
	if w := lookup(v1alpha1.WorkspaceReference{Cluster: name.String()}); w != nil {
		return w.String()
	}
	return name.String()
}
