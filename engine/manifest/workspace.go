// Package manifest reads the objects of workspaces from ordinary Kubernetes YAML and Rego, without a server, and
// remembers where each of their fields stands, so that what is wrong can be shown in its place.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kyaml "sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
)

// DefaultWorkspace is the workspace of objects that do not carry the annotation kcp.io/cluster.
const DefaultWorkspace logicalcluster.Name = "default"

// maxObjects bounds the objects of one file: a short text can make many, by aliases.
const maxObjects = 100_000

// Workspace is what one logical cluster holds.
type Workspace struct {
	Name       logicalcluster.Name
	Clusters   []Typed[v1alpha1.ClusterRegistration]
	Placements []Typed[v1alpha1.WorkloadPlacement]
	Decisions  []Typed[v1alpha1.PlacementDecision]
	Workloads  []Workload
	// Modules are the Rego modules by name, of ConfigMaps and of files; suites are among them.
	Modules map[string]Module

	// configMaps that policies are loaded from, by the prefix of their modules' names.
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

// Name of the file that the module is: that of the file, or the key of the ConfigMap.
func Name(module string) string { return module[strings.LastIndexByte(module, '/')+1:] }

// Read reads files of objects, and of Rego, into workspaces by name. A file of Rego is a module of every workspace.
// What is wrong is left out, and told in the order of the files.
func Read(files []*File) ([]*Workspace, []*Error) {
	r := reader{seen: map[string]Position{}}
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
				w.Modules[f.Name] = Module{Text: f.Text, file: f}
			}
		}
	}
	slices.SortFunc(r.workspaces, func(a, b *Workspace) int { return cmp.Compare(a.Name, b.Name) })
	return r.workspaces, r.errs
}

// FromObjects makes a workspace of objects that were not read from files, as those of a server.
func FromObjects(name logicalcluster.Name, objects []*unstructured.Unstructured) (*Workspace, []*Error) {
	r := reader{seen: map[string]Position{}}
	w := r.workspace(name)
	for _, u := range objects {
		r.add(w, &Object{Unstructured: u})
	}
	return w, r.errs
}

type reader struct {
	workspaces []*Workspace
	errs       []*Error
	objects    int
	// seen are the places of objects by workspace, kind and name.
	seen map[string]Position
}

func (r *reader) workspace(name logicalcluster.Name) *Workspace {
	for _, w := range r.workspaces {
		if w.Name == name {
			return w
		}
	}
	w := &Workspace{Name: name, Modules: map[string]Module{}}
	r.workspaces = append(r.workspaces, w)
	return w
}

func (r *reader) fail(p Position, format string, args ...any) {
	r.errs = append(r.errs, &Error{Position: p, Message: fmt.Sprintf(format, args...)})
}

// separator is the line between two documents.
var separator = regexp.MustCompile(`(?m)^---(?:[ \t].*)?\r?$\n?`)

func (r *reader) read(f *File) {
	start := 0
	ends := append(separator.FindAllStringIndex(f.Text, -1), []int{len(f.Text), len(f.Text)})
	r.objects = 0
	for _, end := range ends {
		r.document(f, f.Text[start:end[0]], strings.Count(f.Text[:start], "\n"))
		start = end[1]
	}
}

// line finds the line that an error of the YAML library is about.
var line = regexp.MustCompile(`line (\d+): ?`)

func (r *reader) document(f *File, text string, above int) {
	var node yaml.Node
	wrong := func(err error) {
		message, p := err.Error(), Position{File: f, Line: above + 1, Column: 1}
		for _, prefix := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors:\n  "} {
			message = strings.TrimPrefix(message, prefix)
		}
		if found := line.FindStringSubmatchIndex(message); found != nil {
			n, _ := strconv.Atoi(message[found[2]:found[3]])
			p.Line, message = above+n, message[:found[0]]+message[found[1]:]
		}
		r.fail(p, "%s", message)
	}
	if err := yaml.Unmarshal([]byte(text), &node); err != nil {
		wrong(err)
		return
	}
	if len(node.Content) == 0 {
		return // empty, or comments alone
	}
	asJSON, err := kyaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		wrong(err)
		return
	}
	o := &Object{Unstructured: &unstructured.Unstructured{}, file: f, above: above, node: node.Content[0]}
	if o.node.Kind != yaml.MappingNode {
		if !f.Found {
			r.fail(o.Position(""), "this is no Kubernetes object")
		}
		return
	}
	hasKind, hasVersion := child(o.node, "kind") != nil, child(o.node, "apiVersion") != nil
	if !hasKind && !hasVersion && f.Found {
		return // a folder may hold other YAML
	}
	if !hasKind || !hasVersion {
		r.fail(o.Position(""), "this is no Kubernetes object: it needs an apiVersion and a kind")
		return
	}
	decoded, _, err := unstructured.UnstructuredJSONScheme.Decode(asJSON, nil, nil)
	if err != nil {
		wrong(err)
		return
	}
	switch decoded := decoded.(type) {
	case *unstructured.UnstructuredList:
		items := child(o.node, "items")
		for i := range decoded.Items {
			r.place(&Object{&decoded.Items[i], f, above, child(items, strconv.Itoa(i))})
		}
	case *unstructured.Unstructured:
		o.Unstructured = decoded
		r.place(o)
	}
}

// place puts an object of a file where it belongs.
func (r *reader) place(o *Object) {
	if r.objects++; r.objects > maxObjects {
		if r.objects == maxObjects+1 {
			r.fail(o.Position(""), "the file has more than %d objects: the rest is left out", maxObjects)
		}
		return
	}
	if wrong := metadata(o); wrong != nil {
		r.errs = append(r.errs, wrong)
		return
	}
	name := logicalcluster.From(o)
	if name == "" {
		name = DefaultWorkspace
	}
	w := r.workspace(name)
	if o.GetName() == "" {
		r.fail(o.Position("metadata"), "%s: metadata.name is missing", o.GetKind())
		return
	}
	if o.GetNamespace() == "" && o.GetKind() != "ClusterRegistration" {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	key := fmt.Sprintf("%s %s %s", name, o.GroupVersionKind().GroupKind(), o)
	if first, twice := r.seen[key]; twice {
		r.fail(o.Position(""), "%s is there twice, first at %s", o, first)
		return
	}
	r.seen[key] = o.Position("")
	r.add(w, o)
}

// metadata finds names, labels and annotations that are no strings, which the accessors would pass over in silence.
func metadata(o *Object) *Error {
	fields, _, err := unstructured.NestedMap(o.Object, "metadata")
	if err != nil {
		return &Error{Position: o.Position("metadata"), Object: o.GetKind(), Field: "metadata", Message: "must be an object"}
	}
	check := func(path string, value any) *Error {
		var kind string
		switch value.(type) {
		case nil, string:
			return nil
		case bool:
			kind = "a boolean: put it in quotes"
		case int64, float64:
			kind = "a number: put it in quotes"
		default:
			kind = "a list or an object"
		}
		return &Error{Position: o.Position(path), Object: o.GetKind(), Field: path, Message: "must be a string, is " + kind}
	}
	for _, field := range []string{"name", "namespace", "uid", "creationTimestamp"} {
		if wrong := check("metadata."+field, fields[field]); wrong != nil {
			return wrong
		}
	}
	for _, field := range []string{"labels", "annotations"} {
		if fields[field] == nil {
			continue
		}
		entries, ok := fields[field].(map[string]any)
		if !ok {
			return &Error{Position: o.Position("metadata." + field), Object: o.GetKind(), Field: "metadata." + field, Message: "must be an object"}
		}
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			if wrong := check("metadata."+field+"["+key+"]", entries[key]); wrong != nil {
				return wrong
			}
		}
	}
	if text, ok := fields["creationTimestamp"].(string); ok {
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			return &Error{Position: o.Position("metadata.creationTimestamp"), Object: o.GetKind(), Field: "metadata.creationTimestamp", Message: "is no time as in 2026-01-01T00:00:00Z"}
		}
	}
	return nil
}

// add takes an object in: one of ours, a ConfigMap with policies, or a workload. Others are passed over.
func (r *reader) add(w *Workspace, o *Object) {
	switch {
	case o.GroupVersionKind().Group == v1alpha1.SchemeGroupVersion.Group:
		r.addOurs(w, o)
	case o.GetAPIVersion() == "v1" && o.GetKind() == "ConfigMap":
		configMap := new(corev1.ConfigMap)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, configMap); err != nil {
			r.errs = append(r.errs, &Error{Position: o.Position(""), Object: o.String(), Message: err.Error()})
			return
		}
		if !policy.HasModules(configMap) {
			return
		}
		w.configMaps = append(w.configMaps, policy.ModuleName(configMap, ""))
		for key, text := range configMap.Data {
			if strings.HasSuffix(key, ".rego") {
				w.Modules[policy.ModuleName(configMap, key)] = Module{Text: text, object: o, path: "data[" + key + "]"}
			}
		}
	case isWorkload(o):
		read, err := workload.FromObject(o.Unstructured)
		w.Workloads = append(w.Workloads, Workload{o, read, err})
	}
}

func (r *reader) addOurs(w *Workspace, o *Object) {
	known, err := kinds()
	if err != nil {
		panic(err) // the manifests are part of the program
	}
	k, found := known[o.GetKind()]
	if !found || o.GetAPIVersion() != v1alpha1.SchemeGroupVersion.String() {
		message := fmt.Sprintf("there is no %s in %s", o.GetKind(), o.GetAPIVersion())
		names := make([]string, 0, len(known))
		for name := range known {
			names = append(names, name)
		}
		slices.Sort(names)
		if near := Nearest(o.GetKind(), names); near != "" {
			message += fmt.Sprintf(", did you mean %s of %s?", near, v1alpha1.SchemeGroupVersion)
		}
		r.fail(o.Position("kind"), "%s", message)
		return
	}
	wrong := k.validate(o)
	switch o.GetKind() {
	case "ClusterRegistration":
		take(r, &w.Clusters, o, wrong)
	case "WorkloadPlacement":
		take(r, &w.Placements, o, wrong)
	case "PlacementDecision":
		take(r, &w.Decisions, o, wrong)
	}
}

// take takes in an object, also one with which something is wrong where it can be read all the same, so that all that
// is wrong with it can be told at once.
func take[T any](r *reader, into *[]Typed[T], o *Object, wrong []*Error) {
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed); err == nil {
		*into = append(*into, Typed[T]{o, typed})
	} else if len(wrong) == 0 {
		wrong = append(wrong, &Error{Position: o.Position(""), Object: o.String(), Message: err.Error()})
	}
	r.errs = append(r.errs, wrong...)
}

// isWorkload tells whether an object is to be placed: it has a pod template, or its kind should have one. What another
// object controls, as a Deployment its ReplicaSets, is placed with that.
func isWorkload(o *Object) bool {
	if metav1.GetControllerOfNoCopy(o) != nil {
		return false
	}
	switch o.GetKind() {
	case "Deployment", "StatefulSet", "Job":
		return true
	}
	_, found, err := unstructured.NestedMap(o.Object, "spec", "template", "spec")
	return found && err == nil
}

// Join makes one error of several; nil of none.
func Join(errs []*Error) error {
	joined := make([]error, len(errs))
	for i, e := range errs {
		joined[i] = e
	}
	return errors.Join(joined...)
}
