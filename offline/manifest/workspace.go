// Package manifest reads the objects of workspaces from Kubernetes YAML and Rego files, without a server, and records the
// position of every field, for errors.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery/render"
)

// DefaultWorkspace is the workspace of objects that do not name theirs: see workspaceOf.
const DefaultWorkspace logicalcluster.Name = "default"

// Workspace holds the objects of one logical cluster.
type Workspace struct {
	Name logicalcluster.Name
	// Path of the workspace, if known.
	Path string
	// Held is the workspace on whose clusters PlacementDecisions of this one hold reservations; empty if the clusters are its own.
	Held       logicalcluster.Name
	Clusters   []Typed[v1alpha1.ClusterRegistration]
	Usages     []Typed[v1alpha1.ClusterUsage]
	Scores     []Typed[v1alpha1.ClusterScore]
	Configs    []Typed[v1alpha1.PlacementConfig]
	Placements []Typed[v1alpha1.WorkloadPlacement]
	Decisions  []Typed[v1alpha1.PlacementDecision]
	Works      []Typed[v1alpha1.Work]
	Sets       []Typed[v1alpha1.ClusterSet]
	Bindings   []Typed[v1alpha1.ClusterSetBinding]
	Workloads  []Workload
	// LeftOut are objects that may be meant as workloads and are not placed.
	LeftOut []LeftOut
	// Modules are the Rego modules of ConfigMaps and files by name, suites included.
	Modules map[string]Module

	// ConfigMaps, with or without policies.
	ConfigMaps []Typed[corev1.ConfigMap]
	// Others are objects that can accompany workloads when these are delivered, except ConfigMaps.
	Others []*Object
	// LimitRanges are the ones that workloads of their namespaces are counted with.
	LimitRanges []Typed[corev1.LimitRange]

	objects []*Object
}

// Objects returns the objects of our API, the ConfigMaps, the LimitRanges and the workloads, left out or not, in the order of the
// files.
func (w *Workspace) Objects() []*Object { return w.objects }

// countRequests counts the workloads with the defaults of their namespaces' LimitRanges; if there are no LimitRanges, with the defaults
// recorded in decisions.
func (w *Workspace) countRequests() {
	ranges := make([]*corev1.LimitRange, len(w.LimitRanges))
	for i, r := range w.LimitRanges {
		ranges[i] = r.Typed
	}
	defaults := workload.DefaultRequests(ranges)
	decided := map[workload.Reference]v1alpha1.WorkloadDecision{}
	if len(ranges) == 0 {
		for _, slice := range w.Decisions {
			for _, d := range slice.Typed.Decisions {
				decided[workload.Reference{APIVersion: d.Workload.APIVersion, Kind: d.Workload.Kind, Namespace: slice.GetNamespace(), Name: d.Workload.Name}] = d
			}
		}
	}
	for i := range w.Workloads {
		o := &w.Workloads[i]
		add := defaults[o.GetNamespace()]
		ref := o.Reference
		ref.UID = ""
		if d, found := decided[ref]; found && (o.UID == "" || o.UID == string(d.Workload.UID)) {
			add = d.DefaultRequest
		}
		o.Workload, o.Err = o.read.Count(add)
	}
}

// UsageOf returns the usage of a cluster; the zero value if there is none.
func (w *Workspace) UsageOf(cluster string) Typed[v1alpha1.ClusterUsage] {
	for _, u := range w.Usages {
		if u.Typed.Name == cluster {
			return u
		}
	}
	return Typed[v1alpha1.ClusterUsage]{}
}

// ScoresOf returns the scores that are about a cluster.
func (w *Workspace) ScoresOf(cluster string) (scores []*v1alpha1.ClusterScore) {
	for _, s := range w.Scores {
		if s.Typed.ClusterName == cluster {
			scores = append(scores, s.Typed)
		}
	}
	return scores
}

// Cluster returns a registered cluster as of a point in time.
func (w *Workspace) Cluster(r *v1alpha1.ClusterRegistration, now time.Time) *snapshot.Cluster {
	c := snapshot.FromRegistration(r, w.UsageOf(r.Name).Typed)
	c.Scores, _ = snapshot.ScoresOf(w.ScoresOf(r.Name), now)
	return c
}

// Typed is an object of our API with the positions of its fields.
type Typed[T any] struct {
	*Object
	Typed *T
	// Refused is set if the object has errors because of which the API server would reject it.
	Refused bool
}

// LeaveOutRefused removes the objects that the API server would reject.
func (w *Workspace) LeaveOutRefused() {
	w.Clusters = accepted(w.Clusters)
	w.Usages = accepted(w.Usages)
	w.Scores = accepted(w.Scores)
	w.Configs = accepted(w.Configs)
	w.Placements = accepted(w.Placements)
	w.Decisions = accepted(w.Decisions)
	w.Works = accepted(w.Works)
	w.Sets = accepted(w.Sets)
	w.Bindings = accepted(w.Bindings)
}

func accepted[T any](objects []Typed[T]) []Typed[T] {
	return slices.DeleteFunc(objects, func(o Typed[T]) bool { return o.Refused })
}

// LeftOut is an object that is not placed.
type LeftOut struct {
	*Object
	workspace logicalcluster.Name
	// Err is the reason, prefixed by the field that causes it.
	Err error
}

// Workload is an object of a kind that is placed.
type Workload struct {
	*Object
	*workload.Workload
	// Err is set if the object cannot be read as a workload.
	Err  error
	read *workload.Object
}

// String names the workload.
func (w Workload) String() string { return w.Object.String() }

// End reports whether the workload has ended, and how.
func (w Workload) End() workload.End { return w.Workload.End }

// Module is a Rego module.
type Module struct {
	Text string
	// Set is the policy set of its ConfigMap: empty for the policies in force, see policy.SetOf.
	Set string
	// object and path locate the module in a ConfigMap; file is set for a file of its own.
	object *Object
	path   string
	file   *File
}

// Place is the location of a row and column of a module.
type Place struct {
	Position
	// Object is the ConfigMap, for example "ConfigMap default/policies", and Field its key, for example data[scoring.rego]; empty
	// for a file of Rego.
	Object, Field string
	// Rows is for example "row 3, column 5" if the rows of the module are not lines of the file, and empty otherwise.
	Rows string
}

// Within returns a message about the place, including the row of the module if the position in the file does not show it.
func (p Place) Within(message string) string {
	if p.Rows == "" {
		return message
	}
	return p.Rows + ": " + message
}

// At returns the location of a row and column of the module.
func (m Module) At(row, column int) Place {
	if m.object == nil {
		return Place{Position: Position{File: m.file, Line: row, Column: column}}
	}
	p, plain := m.object.within(m.path, row, column)
	place := Place{Position: p, Object: m.object.String(), Field: m.path}
	if !plain && row > 0 {
		place.Rows = fmt.Sprintf("row %d, column %d", row, column)
	}
	return place
}

// Texts returns the texts of the modules in force by name.
func (w *Workspace) Texts() map[string]string { return w.TextsOf("") }

// TextsOf returns the texts of the modules of a set by name.
func (w *Workspace) TextsOf(set string) map[string]string {
	texts := make(map[string]string, len(w.Modules))
	for name, m := range w.Modules {
		if m.Set == set {
			texts[name] = m.Text
		}
	}
	return texts
}

// Shadowed returns the workspace as it would be with its shadow policies in force instead of the current ones; nil if it has none.
func (w *Workspace) Shadowed() *Workspace {
	modules := map[string]Module{}
	for name, m := range w.Modules {
		if m.Set == v1alpha1.PolicySetShadow {
			m.Set = ""
			modules[name] = m
		}
	}
	if len(modules) == 0 {
		return nil
	}
	shadowed := *w
	shadowed.Modules = modules
	return &shadowed
}

// At is Module.At for a module by name; found is false if the workspace has none of that name.
func (w *Workspace) At(module string, row, column int) (p Place, found bool) {
	m, found := w.Modules[module]
	if !found {
		return p, false
	}
	return m.At(row, column), true
}

// Name returns the file name of a module: the base name of its file, or its key in a ConfigMap.
func Name(module string) string { return module[strings.LastIndexByte(module, '/')+1:] }

// Read is Reader.Read with the built-in workload kinds.
func Read(files []*File) ([]*Workspace, []*Error) { return Reader{Kinds: workload.Kinds()}.Read(files) }

// Reader reads objects.
type Reader struct {
	// Kinds are the workload kinds.
	Kinds *workload.Table
	// Before is the result of an earlier reading with the same kinds: unchanged objects are not read again, but shared.
	Before []*Workspace
}

// Read reads files of objects and of Rego into workspaces, sorted by name. A Rego file is a module of every workspace.
// Objects with errors may be left out; those that are not are marked as Refused. Errors are in the order of the files.
func (by Reader) Read(files []*File) ([]*Workspace, []*Error) {
	r := newReader(by.Kinds)
	r.before = map[string]*Object{}
	for _, w := range by.Before {
		for _, o := range w.objects {
			if o.known != nil && o.document != nil && o.at == "" {
				r.before[o.document.text] = o
			}
		}
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".rego") {
			r.read(f)
		}
	}
	r.leaveOut()
	r.nameByPath()
	for _, u := range r.unknown {
		if w := r.byName[u.workspace]; w != nil && render.CanGo(u.whole) {
			if u.GetNamespace() == "" {
				u.SetNamespace(metav1.NamespaceDefault)
			}
			w.Others = append(w.Others, u.Object)
		}
	}
	r.distribute()
	for _, w := range r.workspaces {
		w.countRequests()
	}
	if len(r.workspaces) == 0 {
		r.workspace(DefaultWorkspace)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name, ".rego") {
			if f.Err != nil {
				r.fail(Position{File: f}, "%v", f.Err)
				continue
			}
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

// Live is the content of one workspace on a server.
type Live struct {
	Name logicalcluster.Name
	// Path of the workspace.
	Path    string
	Objects []*unstructured.Unstructured
}

// FromObjects returns workspaces, sorted by name, made from objects without files, such as those of a server.
func (by Reader) FromObjects(live ...Live) ([]*Workspace, []*Error) {
	r := newReader(by.Kinds)
	for _, l := range live {
		w := r.workspace(l.Name)
		w.Path = l.Path
		for _, u := range l.Objects {
			if o := NewObject(u); r.isUnknown(o) == nil {
				r.add(w, o)
			} else {
				w.Others = append(w.Others, o)
			}
		}
	}
	r.distribute()
	for _, w := range r.workspaces {
		w.countRequests()
	}
	slices.SortFunc(r.workspaces, func(a, b *Workspace) int { return cmp.Compare(a.Name, b.Name) })
	return r.workspaces, r.errs
}

// Join joins errors; nil if there are none.
func Join(errs []*Error) error {
	joined := make([]error, len(errs))
	for i, e := range errs {
		joined[i] = e
	}
	return errors.Join(joined...)
}
