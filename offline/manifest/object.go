package manifest

import (
	"strconv"
	"strings"
	"sync"
	"weak"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
)

// Object is an object with the positions of its fields. Without a file the positions are empty.
type Object struct {
	metav1.Object

	apiVersion, kind string
	// whole is the entire object; if it is nil, json is: fields as maps take ten times the space, and most are never needed again.
	whole *unstructured.Unstructured
	json  string
	// known is the typed value of an object without errors: it is the same for the same text.
	known any

	file *File
	// above is the number of lines before the document, at the path of the object in it, as in items[3]; empty if it is the document.
	above    int
	document *document
	at       string
}

// document is the text of an object, or of a list of objects. Its nodes take many times the space of the text, and most are never needed
// again.
type document struct {
	text string
	mu   sync.Mutex
	root weak.Pointer[yaml.Node]
}

// NewObject returns an object that does not come from a file.
func NewObject(content *unstructured.Unstructured) *Object {
	return &Object{Object: content, whole: content, apiVersion: content.GetAPIVersion(), kind: content.GetKind()}
}

// movedTo returns the object as part of a file that contains the same text.
func (o *Object) movedTo(f *File, above int, text string) *Object {
	moved := *o
	moved.file, moved.above, moved.document = f, above, &document{text: text}
	return &moved
}

// GetAPIVersion returns the API version of the object.
func (o *Object) GetAPIVersion() string { return o.apiVersion }

// GetKind returns the kind of the object.
func (o *Object) GetKind() string { return o.kind }

// GroupVersionKind returns the kind of the object with its group and version.
func (o *Object) GroupVersionKind() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(o.apiVersion, o.kind)
}

// Unstructured returns the entire object. The caller must not modify it.
func (o *Object) Unstructured() *unstructured.Unstructured {
	if o.whole != nil {
		return o.whole
	}
	content := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(o.json), &content.Object); err != nil {
		panic(err) // compact has written it
	}
	return content
}

// compact stores the object as text.
func (o *Object) compact() {
	if o.whole == nil {
		return
	}
	if text, err := json.Marshal(o.whole.Object); err == nil { // otherwise it stays as it is
		o.json, o.whole = string(text), nil
	}
}

// File returns the file that the object is from; nil if it is from none.
func (o *Object) File() *File { return o.file }

// node returns the root of the object; nil if it is not from a file.
func (o *Object) node() *yaml.Node {
	if o.document == nil {
		return nil
	}
	return descend(o.document.node(), split(o.at))
}

// node returns the root of the document, parsing it again if it has been freed.
func (d *document) node() *yaml.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	if root := d.root.Value(); root != nil {
		return root
	}
	var parsed yaml.Node
	if yaml.Unmarshal([]byte(d.text), &parsed) != nil || len(parsed.Content) == 0 { // as it was when the file was read
		return nil
	}
	d.root = weak.Make(parsed.Content[0])
	return parsed.Content[0]
}

// String returns for example "WorkloadPlacement default/web".
func (o *Object) String() string {
	name := o.GetName()
	if namespace := o.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	return strings.TrimSpace(o.GetKind() + " " + name)
}

// Position returns the position of the field at a path such as spec.constraints[0].expression: of its value, or of its
// name if the value is a block on the next lines. If the field is missing, it is that of the innermost parent.
func (o *Object) Position(path string) Position {
	n := o.find(path)
	if n != nil && n.Style&yaml.FlowStyle == 0 && (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) {
		if key := o.key(path); key != nil {
			n = key
		}
	}
	return o.position(n)
}

// PositionOfKey returns the position of the name of a field.
func (o *Object) PositionOfKey(path string) Position {
	if key := o.key(path); key != nil {
		return o.position(key)
	}
	return o.Position(path)
}

// key returns the node of the name of a field; nil if the field is missing.
func (o *Object) key(path string) *yaml.Node {
	elements := split(path)
	if len(elements) == 0 {
		return nil
	}
	parent, last := o.descend(elements[:len(elements)-1]), elements[len(elements)-1]
	if parent == nil || parent.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(parent.Content); i += 2 {
		if parent.Content[i].Value == last {
			return parent.Content[i]
		}
	}
	return nil
}

func (o *Object) position(n *yaml.Node) Position {
	if n == nil {
		return Position{File: o.file}
	}
	return Position{File: o.file, Line: o.above + n.Line, Column: n.Column}
}

// find returns the node of a path, or its innermost parent if it is missing.
func (o *Object) find(path string) *yaml.Node { return o.descend(split(path)) }

func (o *Object) descend(elements []string) *yaml.Node { return descend(o.node(), elements) }

// descend returns the node of a path below another, or its innermost parent if it is missing.
func descend(n *yaml.Node, elements []string) *yaml.Node {
	for _, element := range elements {
		next := child(n, element)
		if next == nil {
			break
		}
		n = next
	}
	return n
}

func child(n *yaml.Node, element string) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		var merged *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == element {
				return n.Content[i+1]
			}
			if n.Content[i].Tag == "!!merge" && n.Content[i+1].Kind == yaml.AliasNode {
				merged = n.Content[i+1]
			}
		}
		return child(merged, element)
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(element); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
		for _, named := range n.Content { // as in containers[main]
			if name := child(named, "name"); name != nil && name.Value == element {
				return named
			}
		}
	}
	return nil
}

// split splits a path: a.b[0].c[x.y/z] has the elements a, b, 0, c and x.y/z.
func split(path string) (elements []string) {
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			element, rest, _ := strings.Cut(path[1:], "]")
			elements, path = append(elements, strings.Trim(element, `"`)), rest
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			elements, path = append(elements, path[:end]), path[end:]
		}
	}
	return elements
}
