package manifest

import (
	"encoding/binary"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	kyaml "sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/decode"
	"github.com/kcp-placement/placement/internal/spelling"
)

// maxGenerateName is how many characters of a generateName the API server uses.
const maxGenerateName = 58

// maxObjects bounds the objects of one file: aliases can turn a short text into many.
const maxObjects = 100_000

type reader struct {
	kinds      *workload.Table
	workspaces []*Workspace
	byName     map[logicalcluster.Name]*Workspace
	errs       []*Error
	objects    int
	// seen holds objects by workspace, kind and name, for their positions.
	seen map[string]*Object
	// generated counts the names made from each generateName.
	generated map[string]int
	// unknown are the objects of kinds that are not placed.
	unknown []LeftOut
	// calledAt is where the path of a workspace is given.
	calledAt map[*Workspace]Position
	// before are the objects of an earlier reading, to be reused for the same text.
	before map[string]*Object
}

func newReader(kinds *workload.Table) *reader {
	return &reader{kinds: kinds, byName: map[logicalcluster.Name]*Workspace{}, seen: map[string]*Object{}, generated: map[string]int{}, calledAt: map[*Workspace]Position{}}
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

// separator matches the line between two documents.
var separator = regexp.MustCompile(`(?m)^---[ \t]*(?:#.*)?\r?$\n?`)

func (r *reader) read(f *File) {
	if f.Err != nil {
		r.fail(Position{File: f}, "%v", f.Err)
		return
	}
	r.objects = 0
	f.Text = asUTF8(f.Text)
	start, above := 0, 0
	for _, end := range append(separator.FindAllStringIndex(f.Text, -1), []int{len(f.Text), len(f.Text)}) {
		document := f.Text[start:end[0]]
		for len(document) > 0 {
			n := firstOfStream(document)
			r.document(f, document[:n], above)
			above += strings.Count(document[:n], "\n")
			document = document[n:]
		}
		above += strings.Count(f.Text[end[0]:end[1]], "\n")
		start = end[1]
	}
}

// asUTF8 converts a text from UTF-16, which some shells write.
func asUTF8(text string) string {
	var order binary.ByteOrder
	switch {
	case strings.HasPrefix(text, "\xff\xfe"):
		order = binary.LittleEndian
	case strings.HasPrefix(text, "\xfe\xff"):
		order = binary.BigEndian
	default:
		return text
	}
	units := make([]uint16, 0, len(text)/2)
	for i := 2; i+1 < len(text); i += 2 {
		units = append(units, order.Uint16([]byte(text[i:i+2])))
	}
	return string(utf16.Decode(units))
}

// firstOfStream returns the length of the first of several consecutive JSON values; for any other text, that of the text.
func firstOfStream(text string) int {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return len(text)
	}
	stream := stdjson.NewDecoder(strings.NewReader(text))
	var value stdjson.RawMessage
	if err := stream.Decode(&value); err != nil {
		return len(text)
	}
	n := int(stream.InputOffset())
	if rest := strings.TrimSpace(text[n:]); !strings.HasPrefix(rest, "{") {
		return len(text)
	}
	return n
}

// line matches the line number in errors of the YAML library.
var line = regexp.MustCompile(`line (\d+): ?`)

// hints explain errors of the YAML library further.
var hints = map[string]string{
	"<document start>":               ": put --- on a line of its own between two documents",
	"cannot start any token":         ": indent with spaces, quote what begins with a special character",
	"mapping values are not allowed": ": quote the value if it contains a colon and a blank",
}

// looksLikeObject matches a line of a document that is meant to be a Kubernetes object.
var looksLikeObject = regexp.MustCompile(`(?m)^[ \t]*"?apiVersion"?[ \t]*:`)

func (r *reader) document(f *File, text string, above int) {
	wrong := func(err error) {
		if f.Found && !looksLikeObject.MatchString(text) {
			return // a folder may hold other YAML, or files that are not YAML
		}
		message, p := err.Error(), Position{File: f, Line: above + 1, Column: 1}
		for _, prefix := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors:\n  "} {
			message = strings.TrimPrefix(message, prefix)
		}
		if found := line.FindStringSubmatchIndex(message); found != nil {
			n, _ := strconv.Atoi(message[found[2]:found[3]])
			p.Line, message = above+n, message[:found[0]]+message[found[1]:]
		}
		for part, hint := range hints {
			if strings.Contains(message, part) {
				message += hint
			}
		}
		if before, _, isTemplate := strings.Cut(text, "{{"); isTemplate {
			p.Line, message = above+1+strings.Count(before, "\n"), "this is a template: render it first, for example with helm template"
		}
		r.fail(p, "%s", message)
	}
	if same := r.before[text]; same != nil {
		if o := same.movedTo(f, above, text); !r.full(o) {
			r.place(o)
		}
		return
	}
	var node, second yaml.Node
	documents := yaml.NewDecoder(strings.NewReader(text))
	switch err := documents.Decode(&node); {
	case errors.Is(err, io.EOF) || err == nil && len(node.Content) == 0:
		return // empty, or only comments
	case err != nil:
		wrong(err)
		return
	}
	if err := documents.Decode(&second); err == nil {
		r.fail(Position{File: f, Line: above + second.Line, Column: second.Column}, "a second document begins here: put --- on a line of its own before it")
		return
	} else if !errors.Is(err, io.EOF) {
		wrong(err)
		return
	}
	if f.Found && isForeign(node.Content[0]) {
		return
	}
	asJSON, err := kyaml.YAMLToJSON([]byte(text))
	if err != nil {
		wrong(err)
		return
	}
	var content any
	if err := json.Unmarshal(asJSON, &content); err != nil {
		wrong(err)
		return
	}
	r.item(&Object{file: f, above: above, document: &document{text: text}}, node.Content[0], content, schema.GroupVersionKind{})
}

// isForeign reports whether a document is not a Kubernetes object but, for example, a Chart.yaml, values or a workflow.
func isForeign(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return true
	}
	has := func(name string) bool { return child(n, name) != nil }
	kind, apiVersion := has("kind"), has("apiVersion")
	content := has("metadata") || has("spec") || has("items")
	return (!kind || !apiVersion) && (!kind && !apiVersion || !content)
}

const noObject = "this is not a Kubernetes object: it needs an apiVersion and a kind"

// item adds a document, or an item of a list in one, to its workspace. The items of a typed list may omit their kind.
func (r *reader) item(o *Object, node *yaml.Node, content any, kind schema.GroupVersionKind) {
	fields, ok := content.(map[string]any)
	switch {
	case r.full(o):
		return
	case !ok:
		r.fail(o.Position(""), "this is not a Kubernetes object")
		return
	}
	o.whole = &unstructured.Unstructured{Object: fields}
	o.Object, o.apiVersion, o.kind = o.whole, o.whole.GetAPIVersion(), o.whole.GetKind()
	if key := repeated(node); key != nil {
		r.errs = append(r.errs, &Error{Position: o.position(key), Object: o.String(), Message: fmt.Sprintf("key %q already set in map", key.Value)})
		return
	}
	if !kind.Empty() && fields["kind"] == nil && fields["apiVersion"] == nil {
		o.whole.SetGroupVersionKind(kind)
		o.apiVersion, o.kind = o.whole.GetAPIVersion(), o.whole.GetKind()
	}
	items, isList := fields["items"]
	of, named := strings.CutSuffix(o.GetKind(), "List")
	if isList = named && (isList || of == "") && o.GetAPIVersion() != ""; !isList {
		r.place(o)
		return
	}
	all, ok := items.([]any)
	if !ok && items != nil {
		r.fail(o.Position("items"), "must be a list")
		return
	}
	kind = schema.GroupVersionKind{}
	if of != "" {
		kind = o.GroupVersionKind()
		kind.Kind = of
	}
	nodes := child(node, "items")
	for i, item := range all {
		at := fmt.Sprintf("%s.items[%d]", o.at, i)
		r.item(&Object{file: o.file, above: o.above, document: o.document, at: at}, child(nodes, strconv.Itoa(i)), item, kind)
	}
}

// repeated returns a key that occurs twice in an object, not counting the items of lists; nil if there is none.
func repeated(n *yaml.Node) *yaml.Node {
	if n == nil {
		return nil
	}
	known := map[string]bool{}
	for i, inner := range n.Content {
		isKey := n.Kind == yaml.MappingNode && i%2 == 0
		if isKey && inner.Tag != "!!merge" {
			if known[inner.Value] && inner.Kind == yaml.ScalarNode {
				return inner
			}
			known[inner.Value] = true
		}
		if isItems := n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "items" && n.Content[i-1].Column == n.Column; isItems {
			continue
		}
		if key := repeated(inner); key != nil {
			return key
		}
	}
	return nil
}

// full reports whether the file has too many objects, and adds an error once.
func (r *reader) full(o *Object) bool {
	if r.objects++; r.objects == maxObjects+1 {
		r.fail(o.Position(""), "the file has more than %d objects: the rest is left out", maxObjects)
	}
	return r.objects > maxObjects
}

// place adds an object of a file to its workspace.
func (r *reader) place(o *Object) {
	switch {
	case o.GetKind() == "" || o.GetAPIVersion() == "":
		r.fail(o.Position(""), noObject)
		return
	}
	if o.GetKind() == "LogicalCluster" && o.GroupVersionKind().Group == "core.kcp.io" { // it only gives the path of a workspace
		r.workspace(workspaceOf(o))
		r.called(o)
		return
	}
	if err := r.isUnknown(o); err != nil {
		r.unknown = append(r.unknown, LeftOut{o, workspaceOf(o), err})
		return
	}
	generated := false
	if o.known == nil {
		if prefix := o.GetGenerateName(); prefix != "" && o.GetName() == "" {
			// The API server's suffixes contain no 0, so no other object has the name.
			r.generated[prefix]++
			o.SetName(fmt.Sprintf("%s%05d", prefix[:min(len(prefix), maxGenerateName)], r.generated[prefix]))
			generated = true
		}
		meta, wrong := metadata(o)
		if len(wrong) > 0 {
			r.errs = append(r.errs, wrong...)
			return
		}
		if meta.Namespace == "" && !isClusterScoped(o) {
			meta.Namespace = metav1.NamespaceDefault
			o.SetNamespace(metav1.NamespaceDefault)
		}
		o.Object = meta
	}
	name := workspaceOf(o)
	w := r.workspace(name)
	key := fmt.Sprintf("%s %s %s", name, o.GroupVersionKind().GroupKind(), o)
	if first, twice := r.seen[key]; twice {
		r.fail(o.Position(""), "%s is defined twice, first at %s", o, first.Position(""))
		return
	}
	r.seen[key] = o
	r.called(o)
	r.add(w, o)
	if generated { // its name depends on what else there is
		o.known = nil
	}
	if !isConfigMap(o) { // those accompany workloads
		o.compact()
	}
}

// add adds an object of our API, a ConfigMap, a LimitRange or a workload to a workspace. Workloads are counted later, when all
// LimitRanges are known.
func (r *reader) add(w *Workspace, o *Object) {
	w.objects = append(w.objects, o)
	switch {
	case isOurs(o):
		r.addOurs(w, o)
	case isConfigMap(o):
		configMap, problems := decoded[corev1.ConfigMap](o)
		if len(problems) > 0 {
			r.errs = append(r.errs, unreadable(o, problems)...)
			return
		}
		o.known = configMap
		w.ConfigMaps = append(w.ConfigMaps, Typed[corev1.ConfigMap]{Object: o, Typed: configMap})
		if !policy.HasModules(configMap) {
			return
		}
		for key, text := range configMap.Data {
			if strings.HasSuffix(key, ".rego") {
				w.Modules[policy.ModuleName(configMap, key)] = Module{Text: text, Set: policy.SetOf(configMap), object: o, path: "data[" + key + "]"}
			}
		}
	case isLimitRange(o):
		take(r, &w.LimitRanges, o, nil)
	default:
		read, same := o.known.(*workload.Object)
		if !same {
			read = r.kinds.Read(o.whole)
			o.known = read
		}
		if known := read.Known(); known.Controller != "" {
			w.LeftOut = append(w.LeftOut, LeftOut{o, w.Name, errors.New("metadata.ownerReferences: " + known.WhyNot())})
			return
		}
		if o.file != nil && !same { // a server has dropped them, or knows them
			for _, f := range lint.UnknownFields(o.whole) {
				r.errs = append(r.errs, &Error{Position: o.PositionOfKey(f.Field), Object: f.Object, Field: f.Field, Message: f.Message})
				o.known = nil
			}
		}
		w.Workloads = append(w.Workloads, Workload{Object: o, Workload: read.Known(), read: read})
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
		if near := spelling.Nearest(o.GetKind(), names); near != "" {
			message += fmt.Sprintf(", did you mean %s of %s?", near, v1alpha1.SchemeGroupVersion)
		}
		r.fail(o.Position("kind"), "%s", message)
		return
	}
	var wrong []*Error
	if o.known == nil {
		wrong = k.validate(o)
	}
	switch o.GetKind() {
	case "ClusterRegistration":
		take(r, &w.Clusters, o, wrong)
	case "ClusterUsage":
		take(r, &w.Usages, o, wrong)
	case "ClusterScore":
		take(r, &w.Scores, o, wrong)
	case "PlacementConfig":
		take(r, &w.Configs, o, wrong)
	case "WorkloadPlacement":
		take(r, &w.Placements, o, wrong)
	case "PlacementDecision":
		take(r, &w.Decisions, o, wrong)
	case "Work":
		take(r, &w.Works, o, wrong)
	case "ClusterSet":
		take(r, &w.Sets, o, wrong)
	case "ClusterSetBinding":
		take(r, &w.Bindings, o, wrong)
	case "RebalancePlan": // it is checked, but only the controller carries it out
		take(r, new([]Typed[v1alpha1.RebalancePlan]), o, wrong)
	}
}

// take adds an object, even with errors if it can be decoded, so that later checks find its other errors as well.
func take[T any](r *reader, into *[]Typed[T], o *Object, wrong []*Error) {
	typed, problems := decoded[T](o)
	if len(problems) == 0 {
		*into = append(*into, Typed[T]{o, typed, len(wrong) > 0})
	}
	for _, e := range unreadable(o, problems) {
		if !slices.ContainsFunc(wrong, func(w *Error) bool { return w.Field == e.Field }) {
			wrong = append(wrong, e)
		}
	}
	if len(wrong) == 0 {
		o.known = typed
	}
	r.errs = append(r.errs, wrong...)
}

// decoded returns an object converted to its type.
func decoded[T any](o *Object) (*T, decode.Problems) {
	if known, same := o.known.(*T); same {
		return known, nil
	}
	typed, problems := decode.To[T](o.whole.Object)
	return &typed, problems
}

func unreadable(o *Object, problems decode.Problems) (errs []*Error) {
	for _, p := range problems {
		errs = append(errs, &Error{Position: o.Position(p.Field), Object: o.String(), Field: p.Field, Message: p.Message})
	}
	return errs
}

func isOurs(o *Object) bool { return o.GroupVersionKind().Group == v1alpha1.SchemeGroupVersion.Group }

func isClusterScoped(o *Object) bool {
	return isOurs(o) && slices.Contains([]string{"ClusterRegistration", "ClusterUsage", "ClusterScore", "PlacementConfig", "RebalancePlan", "ClusterSet", "ClusterSetBinding"}, o.GetKind())
}

func isConfigMap(o *Object) bool { return o.GetAPIVersion() == "v1" && o.GetKind() == "ConfigMap" }

func isLimitRange(o *Object) bool { return o.GetAPIVersion() == "v1" && o.GetKind() == "LimitRange" }

// isUnknown returns an error if an object is of a kind that is neither read nor placed.
func (r *reader) isUnknown(o *Object) error {
	if isOurs(o) || isConfigMap(o) || isLimitRange(o) {
		return nil
	}
	if _, err := r.kinds.Find(o.GetAPIVersion(), o.GetKind()); err != nil {
		return fmt.Errorf("kind: %w", err)
	}
	return nil
}

// leaveOut reports the objects of unknown kinds that may be meant as workloads: a placement names their kind, a workload kind of
// another version or group has the same name, or they contain what looks like a pod template. Others, such as Services, are not
// reported.
func (r *reader) leaveOut() {
	for _, u := range r.unknown {
		near := r.kinds.Nearest(u.GetAPIVersion(), u.GetKind())
		if near != nil && near.Kind == u.GetKind() || r.isNamed(u) || hasPods(u.whole.Object, "") {
			w := r.workspace(u.workspace)
			w.LeftOut = append(w.LeftOut, u)
		}
	}
}

// isNamed reports whether a placement of an object's workspace names its kind.
func (r *reader) isNamed(u LeftOut) bool {
	w, found := r.byName[u.workspace]
	return found && slices.ContainsFunc(w.Placements, func(p Typed[v1alpha1.WorkloadPlacement]) bool {
		return slices.ContainsFunc(p.Typed.Spec.WorkloadSelector.WorkloadTypes, func(t v1alpha1.WorkloadType) bool {
			return t.Kind == u.GetKind() && t.APIVersion == u.GetAPIVersion()
		})
	})
}

// hasPods reports whether a value has a list of containers anywhere, or a template with a spec.
func hasPods(value any, name string) bool {
	switch value := value.(type) {
	case map[string]any:
		_, hasSpec := value["spec"].(map[string]any)
		return name == "template" && hasSpec || slices.ContainsFunc(slices.Collect(maps.Keys(value)), func(name string) bool {
			return hasPods(value[name], name)
		})
	case []any:
		for _, element := range value {
			if _, isObject := element.(map[string]any); isObject && name == "containers" || hasPods(element, "") {
				return true
			}
		}
	}
	return false
}
