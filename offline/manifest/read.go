package manifest

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
)

// maxObjects bounds the objects of one file. Aliases can make many from a short text.
const maxObjects = 100_000

type reader struct {
	workspaces []*Workspace
	byName     map[logicalcluster.Name]*Workspace
	errs       []*Error
	objects    int
	// seen holds the positions of objects by workspace, kind and name.
	seen map[string]Position
}

func newReader() *reader {
	return &reader{byName: map[logicalcluster.Name]*Workspace{}, seen: map[string]Position{}}
}

func (r *reader) workspace(name logicalcluster.Name) *Workspace {
	w, found := r.byName[name]
	if !found {
		w = &Workspace{Name: name, Modules: map[string]Module{}}
		r.byName[name] = w
		r.workspaces = append(r.workspaces, w)
	}
	return w
}

func (r *reader) fail(p Position, format string, args ...any) {
	r.errs = append(r.errs, &Error{Position: p, Message: fmt.Sprintf(format, args...)})
}

// separator is the line between two documents.
var separator = regexp.MustCompile(`(?m)^---[ \t]*(?:#.*)?\r?$\n?`)

func (r *reader) read(f *File) {
	r.objects = 0
	start, above := 0, 0
	for _, end := range append(separator.FindAllStringIndex(f.Text, -1), []int{len(f.Text), len(f.Text)}) {
		r.document(f, f.Text[start:end[0]], above)
		above += strings.Count(f.Text[start:end[1]], "\n")
		start = end[1]
	}
}

// line matches the line number in errors of the YAML library.
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
		if strings.Contains(message, "<document start>") {
			message += ": put --- on a line of its own between two documents"
		}
		r.fail(p, "%s", message)
	}
	documents := yaml.NewDecoder(strings.NewReader(text))
	switch err := documents.Decode(&node); {
	case errors.Is(err, io.EOF) || err == nil && len(node.Content) == 0:
		return // empty, or only comments
	case err != nil:
		wrong(err)
		return
	}
	var second yaml.Node
	if err := documents.Decode(&second); err == nil {
		r.fail(Position{File: f, Line: above + second.Line, Column: second.Column}, "a second document begins here: put --- on a line of its own before it")
		return
	} else if !errors.Is(err, io.EOF) {
		wrong(err)
		return
	}
	asJSON, err := kyaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		wrong(err)
		return
	}
	o := &Object{Unstructured: &unstructured.Unstructured{}, file: f, above: above, node: node.Content[0]}
	if o.node.Kind != yaml.MappingNode {
		if !f.Found {
			r.fail(o.Position(""), "this is not a Kubernetes object")
		}
		return
	}
	hasKind, hasVersion := child(o.node, "kind") != nil, child(o.node, "apiVersion") != nil
	if !hasKind && !hasVersion && f.Found {
		return // a folder may hold other YAML
	}
	if !hasKind || !hasVersion {
		r.fail(o.Position(""), noObject)
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

const noObject = "this is not a Kubernetes object: it needs an apiVersion and a kind"

// place adds an object of a file to its workspace.
func (r *reader) place(o *Object) {
	if r.objects++; r.objects > maxObjects {
		if r.objects == maxObjects+1 {
			r.fail(o.Position(""), "the file has more than %d objects: the rest is left out", maxObjects)
		}
		return
	}
	switch {
	case o.GetKind() == "" || o.GetAPIVersion() == "":
		r.fail(o.Position(""), noObject)
		return
	case !isOurs(o) && !isConfigMap(o) && !isWorkload(o):
		return
	}
	if wrong := metadata(o); len(wrong) > 0 {
		r.errs = append(r.errs, wrong...)
		return
	}
	name := logicalcluster.From(o)
	if name == "" {
		name = DefaultWorkspace
	}
	w := r.workspace(name)
	if o.GetNamespace() == "" && !isClusterScoped(o) {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	key := fmt.Sprintf("%s %s %s", name, o.GroupVersionKind().GroupKind(), o)
	if first, twice := r.seen[key]; twice {
		r.fail(o.Position(""), "%s is defined twice, first at %s", o, first)
		return
	}
	r.seen[key] = o.Position("")
	r.add(w, o)
}

// add adds an object of our API, a ConfigMap with policies, or a workload to a workspace, and skips others.
func (r *reader) add(w *Workspace, o *Object) {
	switch {
	case isOurs(o):
		r.addOurs(w, o)
	case isConfigMap(o):
		configMap, problems := decode.To[corev1.ConfigMap](o.Object)
		if len(problems) > 0 {
			r.errs = append(r.errs, unreadable(o, problems)...)
			return
		}
		w.ConfigMaps = append(w.ConfigMaps, Typed[corev1.ConfigMap]{o, &configMap})
		if !policy.HasModules(&configMap) {
			return
		}
		for key, text := range configMap.Data {
			if strings.HasSuffix(key, ".rego") {
				w.Modules[policy.ModuleName(&configMap, key)] = Module{Text: text, object: o, path: "data[" + key + "]"}
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
		if near := lint.Nearest(o.GetKind(), names); near != "" {
			message += fmt.Sprintf(", did you mean %s of %s?", near, v1alpha1.SchemeGroupVersion)
		}
		r.fail(o.Position("kind"), "%s", message)
		return
	}
	wrong := k.validate(o)
	switch o.GetKind() {
	case "ClusterRegistration":
		take(r, &w.Clusters, o, wrong)
	case "ClusterUsage":
		take(r, &w.Usages, o, wrong)
	case "WorkloadPlacement":
		take(r, &w.Placements, o, wrong)
	case "PlacementDecision":
		take(r, &w.Decisions, o, wrong)
	}
}

// take adds an object, even with errors if it can be decoded, so that later checks find its other errors, too.
func take[T any](r *reader, into *[]Typed[T], o *Object, wrong []*Error) {
	typed, problems := decode.To[T](o.Object)
	if len(problems) == 0 {
		*into = append(*into, Typed[T]{o, &typed})
	}
	for _, e := range unreadable(o, problems) {
		if !slices.ContainsFunc(wrong, func(w *Error) bool { return w.Field == e.Field }) {
			wrong = append(wrong, e)
		}
	}
	r.errs = append(r.errs, wrong...)
}

func unreadable(o *Object, problems decode.Problems) (errs []*Error) {
	for _, p := range problems {
		errs = append(errs, &Error{Position: o.Position(p.Field), Object: o.String(), Field: p.Field, Message: p.Message})
	}
	return errs
}

func isOurs(o *Object) bool { return o.GroupVersionKind().Group == v1alpha1.SchemeGroupVersion.Group }

func isClusterScoped(o *Object) bool {
	return isOurs(o) && (o.GetKind() == "ClusterRegistration" || o.GetKind() == "ClusterUsage")
}

func isConfigMap(o *Object) bool { return o.GetAPIVersion() == "v1" && o.GetKind() == "ConfigMap" }

// isWorkload reports whether an object is placed: it has a pod template, or its kind requires one. An object with a
// controller, such as a ReplicaSet of a Deployment, is placed with that.
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
