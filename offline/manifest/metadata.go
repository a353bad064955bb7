package manifest

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// metadata validates an object's metadata as the API server does. Without it, the accessors of unstructured objects
// silently drop what is of the wrong type: a workload would lose all its labels.
func metadata(o *Object) (meta *metav1.ObjectMeta, errs []*Error) {
	fail := func(path, format string, args ...any) {
		errs = append(errs, &Error{Position: o.Position(path), Object: o.String(), Field: path, Message: fmt.Sprintf(format, args...)})
	}
	fields, found, err := unstructured.NestedMap(o.whole.Object, "metadata")
	if err != nil || !found {
		fail("metadata", "must be an object with a name")
		return nil, errs
	}
	text := func(path string, value any) {
		switch value.(type) {
		case nil, string:
		case bool:
			fail(path, "must be a string, is a boolean: put it in quotes")
		case int64, float64:
			fail(path, "must be a string, is a number: put it in quotes")
		default:
			fail(path, "must be a string")
		}
	}
	for _, name := range []string{"name", "namespace", "uid", "creationTimestamp"} {
		text("metadata."+name, fields[name])
	}
	for _, name := range []string{"labels", "annotations"} {
		path := "metadata." + name
		entries, ok := fields[name].(map[string]any)
		if !ok && fields[name] != nil {
			fail(path, "must be an object")
		}
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			text(path+"["+key+"]", entries[key])
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	meta = &metav1.ObjectMeta{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, meta, true); err != nil {
		fail("metadata", "%v", err)
		return nil, errs
	}
	if meta.Name == "" {
		fail("metadata.name", "is missing")
		return nil, errs
	}
	for _, message := range validation.IsDNS1123Subdomain(meta.Name) {
		fail("metadata.name", "%s", message)
	}
	if meta.Namespace != "" {
		for _, message := range validation.IsDNS1123Label(meta.Namespace) {
			fail("metadata.namespace", "%s", message)
		}
		if isClusterScoped(o) {
			fail("metadata.namespace", "a %s has no namespace", o.GetKind())
		}
	}
	for _, wrong := range metav1validation.ValidateLabels(meta.Labels, field.NewPath("metadata", "labels")) {
		fail(wrong.Field, "%s", wrong.ErrorBody())
	}
	meta.ManagedFields = nil
	return meta, errs
}
