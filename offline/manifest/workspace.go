// Package manifest reads the objects of workspaces from ordinary Kubernetes YAML and Rego, without a server, and
// remembers where each of their fields stands, so that what is wrong can be shown in its place.
package manifest

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// DefaultWorkspace is the workspace of objects that do not carry the annotation kcp.io/cluster.
const DefaultWorkspace logicalcluster.Name = "default"

// Workspace is what one logical cluster holds.
type Workspace struct {
	Name       logicalcluster.Name
	Clusters   []Typed[v1alpha1.ClusterRegistration]
	Placements []Typed[v1alpha1.WorkloadPlacement]
	Decisions  []Typed[v1alpha1.PlacementDecision]
	Workloads  []Workload
	// Modules are the Rego modules by name, of ConfigMaps and of files; suites are among them.
	Modules map[string]Module

	// configMaps, with policies or without, by the prefix that their modules' names have.
	configMaps []string
}

// Typed is an object with the places of its fields.
type Typed[T any] struct {
	*Object
	Typed *T
}

// Workload is an object with a pod template.
type Workload struct {
	*Object
	*workload.Workload
	// Err tells why the object cannot be read.
	Err error
}

// String names the workload.
func (w Workload) String() string { return w.Object.String() }

// End tells whether the workload has come to its end.
func (w Workload) End() workload.End { return workload.EndOf(w.Unstructured) }

// Module is a Rego module.
type Module struct {
	Text string
	// object and path are where the module stands in a ConfigMap, file where it is a file of its own.
	object *Object
	path   string
	file   *File
}

// Position returns the place of a row and a column of the module.
func (m Module) Position(row, column int) Position {
	if m.object != nil {
		return m.object.Within(m.path, row, column)
	}
	return Position{File: m.file, Line: row, Column: column}
}

// Texts are the modules' texts, by their names.
func (w *Workspace) Texts() map[string]string {
	texts := make(map[string]string, len(w.Modules))
	for name, m := range w.Modules {
		texts[name] = m.Text
	}
	return texts
}

// ModulePosition returns the place of a row and a column of a module by its name; found is false where the workspace
// has none of that name.
func (w *Workspace) ModulePosition(name string, row, column int) (p Position, found bool) {
	m, found := w.Modules[name]
	if !found {
		return Position{}, false
	}
	return m.Position(row, column), true
}

// Name of the file that the module is: that of the file, or the key of the ConfigMap.
func Name(module string) string { return module[strings.LastIndexByte(module, '/')+1:] }

// Read reads files of objects, and of Rego, into workspaces by name. A file of Rego is a module of every workspace.
// What is wrong is left out, and told in the order of the files.
func Read(files []*File) ([]*Workspace, []*Error) {
	r := newReader()
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".rego") {
			r.read(f)
		}
	}
	if len(r.workspaces) == 0 {
		r.workspace(DefaultWorkspace)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".rego") {
			for _, w := range r.workspaces {
				if _, there := w.Modules[f.Name]; there {
					r.fail(Position{File: f}, "the workspace %s has a module %s in a ConfigMap, too: give the file another name", w.Name, f.Name)
					continue
				}
				w.Modules[f.Name] = Module{Text: f.Text, file: f}
			}
		}
	}
	slices.SortFunc(r.workspaces, func(a, b *Workspace) int { return cmp.Compare(a.Name, b.Name) })
	return r.workspaces, r.errs
}

// FromObjects makes a workspace of objects that were not read from files, as those of a server.
func FromObjects(name logicalcluster.Name, objects []*unstructured.Unstructured) (*Workspace, []*Error) {
	r := newReader()
	w := r.workspace(name)
	for _, u := range objects {
		r.add(w, &Object{Unstructured: u})
	}
	return w, r.errs
}

// Join makes one error of several; nil of none.
func Join(errs []*Error) error {
	joined := make([]error, len(errs))
	for i, e := range errs {
		joined[i] = e
	}
	return errors.Join(joined...)
}
