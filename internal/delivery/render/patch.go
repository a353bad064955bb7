package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
)

// patch is a compiled ManifestPatch.
type patch struct {
	*v1alpha1.ManifestPatch
	operations jsonpatch.Patch
	// size of all values.
	size int
}

var pointer = regexp.MustCompile(`^(/([^~/]|~[01])*)+$`)

func compilePatch(path *field.Path, spec *v1alpha1.ManifestPatch) (*patch, field.ErrorList) {
	p := &patch{ManifestPatch: spec}
	var errs field.ErrorList
	if len(spec.Operations) == 0 {
		errs = append(errs, field.Required(path.Child("operations"), "a patch without operations changes nothing"))
	}
	for i, o := range spec.Operations {
		at := path.Child("operations").Index(i)
		operation := jsonpatch.Operation{"op": raw(o.Op), "path": raw(o.Path)}
		switch o.Op {
		case "add", "replace":
			if o.Value == nil {
				errs = append(errs, field.Required(at.Child("value"), "what to "+o.Op+", which cannot be null: op remove removes what is there"))
				continue
			}
			value := json.RawMessage(o.Value.Raw)
			if !json.Valid(value) {
				errs = append(errs, field.Invalid(at.Child("value"), field.OmitValueType{}, "must be JSON"))
			}
			operation["value"], p.size = &value, p.size+len(value)
		case "remove":
		default:
			errs = append(errs, field.NotSupported(at.Child("op"), o.Op, []string{"add", "remove", "replace"}))
		}
		if why := forbidden(o.Path, spec.Kind == ""); why != "" {
			errs = append(errs, field.Invalid(at.Child("path"), o.Path, why))
		}
		p.operations = append(p.operations, operation)
	}
	return p, errs
}

func raw(text string) *json.RawMessage {
	content, _ := json.Marshal(text) // a string always encodes
	return (*json.RawMessage)(&content)
}

// forbidden returns why nothing may be changed at a path; empty if it may.
func forbidden(path string, workload bool) string {
	if !pointer.MatchString(path) {
		return "must be a JSON pointer, for example /spec/template/spec/priorityClassName, with ~1 for a slash and ~0 for a tilde in a name"
	}
	names := strings.Split(path[1:], "/")
	for i, name := range names {
		names[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
	}
	switch {
	case names[0] == "apiVersion" || names[0] == "kind":
		return "is what identifies the object, and has to stay"
	case names[0] == "status":
		return "is not delivered: the cluster writes it"
	case names[0] == "metadata" && (len(names) < 3 || names[1] != "labels" && names[1] != "annotations"):
		return "must be of one label or annotation: the rest of metadata identifies the object, or is the server's"
	case ofKcp(names[len(names)-1]):
		return "keys of the domain kcp.io are delivery's own: choose another"
	case workload && len(names) == 1 && names[0] == "spec":
		return "must be of a field in spec, which the workload cannot do without"
	case workload && len(names) == 2 && names[0] == "spec" && names[1] == "replicas":
		return "is decided: change it in the workload, or replicaScheduling of the placement"
	}
	return ""
}

// patches reports whether the patch applies to an object.
func (p *patch) patches(object changed) bool {
	if p.Kind == "" {
		return object.kinds != nil
	}
	return p.Kind == object.GetKind() && (p.Name == "" || p.Name == object.GetName())
}

// apply patches an object. An error comes with the field of the patch.
func (p *patch) apply(object changed) (field string, err error) {
	before, err := object.fixed()
	if err != nil {
		return "operations", err
	}
	content, err := json.Marshal(object.Object)
	if err != nil {
		return "operations", err
	}
	after, err := attempt(p.operations, content, object, before)
	if err != nil {
		// Retry one by one to find the operation that fails.
		for i := range p.operations {
			if _, err := attempt(p.operations[:i+1], content, object, before); err != nil {
				return fmt.Sprintf("operations[%d]", i), fmt.Errorf("%s %s: %w", p.Operations[i].Op, p.Operations[i].Path, err)
			}
		}
		return "operations", err
	}
	object.Object = after
	return "", nil
}

// attempt applies operations to the content of an object, and verifies what must not change.
func attempt(operations jsonpatch.Patch, content []byte, of changed, before *fixed) (after map[string]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			after, err = nil, fmt.Errorf("the patch cannot be carried out: %v", p)
		}
	}()
	patched, err := operations.Apply(content)
	if err != nil {
		return nil, fmt.Errorf("%w; kubectl placement render shows what is there", err)
	}
	if len(patched) > maxPatchedBytes {
		return nil, fmt.Errorf("makes the object larger than %d KiB", maxPatchedBytes>>10)
	}
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(patched); err != nil {
		return nil, err
	}
	of.Unstructured = &object
	now, err := of.fixed()
	if err != nil {
		return nil, err
	}
	return object.Object, before.compare(now)
}

// maxPatchedBytes bounds the size of an object between two patches.
const maxPatchedBytes = 2 << 20

// fixed is what patches must not change.
type fixed struct {
	key
	apiVersion string
	workload   *workload.Workload
	// numbers are the divided ones, by path.
	numbers map[string]int64
}

func (c changed) fixed() (*fixed, error) {
	f := &fixed{key: keyOf(c.Unstructured), apiVersion: c.GetAPIVersion()}
	if c.kinds == nil {
		return f, nil
	}
	d, err := c.kinds.Find(f.apiVersion, f.Kind)
	if err != nil {
		return nil, err
	}
	f.numbers = map[string]int64{}
	for _, path := range d.Divided() {
		n, found, err := number(c.Object, path)
		if err != nil {
			return nil, err
		}
		if found {
			f.numbers[path] = n
		}
	}
	f.workload, err = c.kinds.FromObject(c.Unstructured)
	return f, err
}

func (f *fixed) compare(now *fixed) error {
	switch {
	case f.key != now.key || f.apiVersion != now.apiVersion:
		return errors.New("changes what identifies the object, which has to stay")
	case f.workload == nil:
		return nil
	case !maps.Equal(f.numbers, now.numbers) || f.workload.Replicas != now.workload.Replicas:
		return errors.New("changes how many replicas there are, which is decided: change it in the workload")
	case !f.workload.Requests.Equal(now.workload.Requests) || !f.workload.Pod.Equal(now.workload.Pod):
		return errors.New("changes what the pods request, for which capacity is reserved: change it in the workload")
	}
	return nil
}
