// Package decodetest has what tests need to try decoding: the types that are read, and the worst values for each place in them.
package decodetest

import (
	"encoding/json"
	"reflect"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// Type is a type that is read, with what decodes it.
type Type struct {
	reflect.Type
	Decode func(any) (any, decode.Problems)
}

func typeOf[T any]() Type {
	return Type{reflect.TypeFor[T](), func(content any) (any, decode.Problems) {
		result, problems := decode.To[T](content)
		return &result, problems
	}}
}

// Types are those that are read from what others write. The tests of the controller fail where one is watched and not among them.
var Types = []Type{
	typeOf[v1alpha1.ClusterRegistration](), typeOf[v1alpha1.ClusterUsage](), typeOf[v1alpha1.ClusterScore](), typeOf[v1alpha1.PlacementConfig](),
	typeOf[v1alpha1.WorkloadPlacement](), typeOf[v1alpha1.PlacementDecision](), typeOf[v1alpha1.RebalancePlan](), typeOf[v1alpha1.ClusterSet](),
	typeOf[v1alpha1.ClusterSetBinding](), typeOf[v1alpha1.Work](),
	typeOf[corev1.ConfigMap](), typeOf[corev1.LimitRange](), typeOf[corev1.PodTemplateSpec](), typeOf[coordinationv1.Lease](), typeOf[apisv1alpha2.APIBinding](),
}

// Place is the position of a value of some type in an API type. At returns an object with nothing but a value there.
type Place struct {
	Path string
	Of   reflect.Type
	At   func(any) any
}

// Places finds all values in a type by reflection: a field that is added to the API is found without anybody's doing.
func Places(t reflect.Type) []Place {
	var found []Place
	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	var walk func(path string, t reflect.Type, at func(any) any)
	walk = func(path string, t reflect.Type, at func(any) any) {
		if path != "" {
			found = append(found, Place{path, t, at})
		}
		switch {
		case reflect.PointerTo(t).Implements(unmarshaler):
		case t.Kind() == reflect.Pointer:
			found = found[:max(0, len(found)-1)] // what it points to is in the same place
			walk(path, t.Elem(), at)
		case t.Kind() == reflect.Struct:
			for i := range t.NumField() {
				f := t.Field(i)
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous && strings.Contains(options, "inline") {
					for _, inner := range Places(f.Type) {
						found = append(found, Place{strings.TrimPrefix(path+"."+inner.Path, "."), inner.Of, func(v any) any { return at(inner.At(v)) }})
					}
				} else {
					walk(strings.TrimPrefix(path+"."+name, "."), f.Type, func(v any) any { return at(map[string]any{name: v}) })
				}
			}
		case t.Kind() == reflect.Map:
			walk(path+".k", t.Elem(), func(v any) any { return at(map[string]any{"k": v}) })
		case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
			walk(path+"[0]", t.Elem(), func(v any) any { return at([]any{v}) })
		}
	}
	walk("", t, func(v any) any { return v })
	return found
}

// Wrong are values that cannot be read into a type, the worst that anybody could think of first.
func Wrong(t reflect.Type) []any {
	shapes := []any{map[string]any{"a": "b"}, []any{"a"}, "a", true, 1.5, int64(1) << 40}
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return append([]any{"1e-99999999", "1e99999999", "1E+00099999999", "1e-0099999999", strings.Repeat("9", 1<<20), "nonsense", ""}, shapes[:4]...)
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		return append([]any{"2026-01-01T00:00:00ZTwhatever", "2016-12-31T23:59:60Z", "2026-01-01T00:00:00+99:99", strings.Repeat("2", 1<<20), ""}, shapes...)
	case reflect.TypeFor[metav1.Duration]():
		return append([]any{"soon", "10", "1e9h", "99999999999999h", strings.Repeat("1h", 1<<19) + "x", ""}, shapes[0], true, 1.5)
	case reflect.TypeFor[metav1.FieldsV1](), reflect.TypeFor[runtime.RawExtension](), reflect.TypeFor[apiextensionsv1.JSON]():
		return nil // they take anything, and look at nothing
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		shapes = shapes[1:]
		if t.Name() == "IntOrString" {
			shapes = []any{map[string]any{}, []any{}, true, 1.5}
		}
	case reflect.Slice:
		shapes = append(shapes[:1], shapes[3:]...)
		if t.Elem().Kind() != reflect.Uint8 {
			shapes = append(shapes, "a")
		}
	case reflect.String:
		shapes = append(shapes[:2], shapes[3:]...)
	case reflect.Bool:
		shapes = append(shapes[:3], shapes[4:]...)
	case reflect.Int64:
		shapes = shapes[:5]
	}
	return shapes
}
