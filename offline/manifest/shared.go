package manifest

import (
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/sharing"
)

// annotationPath is the annotation in which kcp stores the path of a workspace.
const annotationPath = "kcp.io/path"

// workspaceOf returns the workspace that an object names: by annotation kcp.io/cluster, a logical cluster or a path, or by kcp.io/path.
func workspaceOf(o *Object) logicalcluster.Name {
	if name := logicalcluster.From(o); name != "" {
		return name
	}
	if path := o.GetAnnotations()[annotationPath]; path != "" {
		return logicalcluster.Name(path)
	}
	return DefaultWorkspace
}

// called records the path of an object's workspace, if the object gives it.
func (r *reader) called(o *Object) {
	w := r.workspace(workspaceOf(o))
	path := o.GetAnnotations()[annotationPath]
	if path == "" && strings.Contains(w.Name.String(), ":") {
		path = w.Name.String()
	}
	switch {
	case path == "" || path == w.Path:
	case w.Path != "":
		r.fail(o.Position("metadata.annotations["+annotationPath+"]"), "%s: workspace %s has the path %s already: give all its objects one path", o, w.Name, w.Path)
	default:
		w.Path = path
		r.calledAt[w] = o.Position("metadata.annotations")
	}
}

// nameByPath reports an error for two workspaces with the same path: they are meant to be one.
func (r *reader) nameByPath() {
	first := map[string]*Workspace{}
	for _, w := range r.workspaces {
		if other := first[w.Path]; w.Path != "" && other != nil {
			r.fail(r.calledAt[w], "workspace %s is named %s and %s: give all its objects the same annotation %s", w.Path, other.Name, w.Name, logicalcluster.AnnotationKey)
			continue
		}
		first[w.Path] = w
	}
}

// distribute moves each PlacementDecision that is kept next to the registrations to the workspace of its placement. What that workspace has
// itself are copies, which count only if there is nothing else.
func (r *reader) distribute() {
	kept := map[*Workspace][]Typed[v1alpha1.PlacementDecision]{}
	for _, w := range r.workspaces {
		var own []Typed[v1alpha1.PlacementDecision]
		for _, d := range w.Decisions {
			source := d.Typed.Source
			if source == nil || source.Workspace == w.Name.String() {
				if of := logicalcluster.Name(d.GetAnnotations()[v1alpha1.AnnotationCopyOf]); of != "" && of != w.Name && w.Held == "" {
					w.Held = of
				}
				own = append(own, d)
				continue
			}
			typed := d.Typed.DeepCopy()
			typed.Namespace, typed.Source = source.Namespace, nil
			of := r.workspace(logicalcluster.Name(source.Workspace))
			of.Held = w.Name
			kept[of] = append(kept[of], Typed[v1alpha1.PlacementDecision]{Object: d.Object, Typed: typed, Refused: d.Refused})
		}
		w.Decisions = own
	}
	for w, decisions := range kept {
		w.Decisions = decisions
	}
}

// Shared returns workspaces in the form in which they share clusters, by name, and a lookup of references between them.
func Shared(workspaces []*Workspace) (map[logicalcluster.Name]*sharing.Workspace, sharing.Lookup) {
	byName, all := make(map[logicalcluster.Name]*sharing.Workspace, len(workspaces)), make([]*sharing.Workspace, len(workspaces))
	for i, w := range workspaces {
		registered := make(map[string]labels.Set, len(w.Clusters))
		for _, c := range w.Clusters {
			registered[c.Typed.Name] = c.Typed.Labels
		}
		all[i] = sharing.NewWorkspace(w.Name, w.Path, registered, typed(w.Sets), typed(w.Bindings))
		all[i].Held = w.Held
		byName[w.Name] = all[i]
	}
	return byName, sharing.Among(all)
}

func typed[T any](objects []Typed[T]) []*T {
	all := make([]*T, len(objects))
	for i, o := range objects {
		all[i] = o.Typed
	}
	return all
}

// SharingWith returns the workspaces that may share clusters with one, including itself: those that its bindings name, and those that bind
// sets of these or its own.
func SharingWith(workspaces []*Workspace, name logicalcluster.Name) (with []*Workspace) {
	shared, lookup := Shared(workspaces)
	owners := func(w *Workspace) map[logicalcluster.Name]bool {
		all := map[logicalcluster.Name]bool{w.Name: len(w.Sets) > 0 || w.Name == name, w.Held: w.Held != ""}
		for _, b := range w.Bindings {
			if owner := lookup(b.Typed.Spec.Workspace); owner != nil {
				all[owner.Name] = true
			}
		}
		return all
	}
	if shared[name] == nil {
		return nil
	}
	var own map[logicalcluster.Name]bool
	for _, w := range workspaces {
		if w.Name == name {
			own = owners(w)
		}
	}
	for _, w := range workspaces {
		for owner, is := range owners(w) {
			if is && own[owner] {
				with = append(with, w)
				break
			}
		}
	}
	return with
}
